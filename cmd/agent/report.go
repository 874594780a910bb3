// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging"
	"batchcompute.dev/operator/internal/staging/fault"
)

// exitCode is that of stage and outputs.
func exitCode(r agentapi.Result) int {
	switch r.Class {
	case "":
		return 0
	case agentapi.Transient:
		return agentapi.ExitTransient
	}
	return agentapi.ExitPermanent
}

// refuse reports a configuration that cannot be used.
func (a *agent) refuse(err error) int {
	a.finish(agentapi.Result{Class: agentapi.Permanent, Message: err.Error()}, 0)
	return agentapi.ExitUsage
}

// finish reports a result to the log as well, and returns its exit code.
func (a *agent) finish(r agentapi.Result, limit int) int {
	if r.Message != "" {
		fmt.Fprintln(os.Stderr, "agent:", r.Message)
	}
	a.report(r, limit)
	return exitCode(r)
}

// report writes the termination message. That it cannot be written is only logged: that must not hide
// the exit code.
func (a *agent) report(r agentapi.Result, limit int) {
	f, err := os.OpenFile(a.terminationLog, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o600)
	if err == nil {
		_, err = f.Write(agentapi.EncodeResult(r, limit))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent: writing the termination message:", err)
	}
}

// ownMessage returns what the command itself wrote as the termination message, which report replaces.
func (a *agent) ownMessage() string {
	f, err := os.OpenFile(a.terminationLog, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, agentapi.MaxResultMessage+1))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(text), "\uFFFD"))
}

// join returns two texts, of which either may be empty, as one.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// progress writes how far a transfer is to a log.
type progress struct{ w io.Writer }

// Progress implements staging.Reporter.
func (p progress) Progress(at staging.Progress) {
	files, size := fmt.Sprintf("%d files", at.Files), fault.FormatBytes(at.Bytes)
	if at.TotalFiles > 0 {
		files = fmt.Sprintf("%d of %d files", at.Files, at.TotalFiles)
	}
	if at.TotalBytes > 0 {
		size += " of " + fault.FormatBytes(at.TotalBytes)
	}
	fmt.Fprintf(p.w, "agent: %s: %s, %s\n", at.Phase, files, size)
}

// Retrying implements staging.Reporter.
func (p progress) Retrying(reason string) { fmt.Fprintf(p.w, "agent: trying again: %s\n", reason) }
