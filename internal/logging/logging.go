// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package logging sets up the logs of the programs.
package logging

import (
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/term"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Set sends all logs, those of the libraries too, to out: as text when it is a
// terminal, else as JSON, one object a line.
func Set(out *os.File, verbosity int) {
	opts := &slog.HandlerOptions{Level: slog.Level(-verbosity), ReplaceAttr: nameLevel}
	var h slog.Handler = slog.NewJSONHandler(out, opts)
	if term.IsTerminal(int(out.Fd())) {
		h = slog.NewTextHandler(out, opts)
	}
	slog.SetDefault(slog.New(h)) // takes over package log, which net/http writes to
	logger := logr.FromSlogHandler(h)
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
}

// nameLevel writes the levels of logr, which slog has no names for: info for 0, v1 for
// 1 and so on.
func nameLevel(groups []string, a slog.Attr) slog.Attr {
	level, ok := a.Value.Any().(slog.Level)
	if len(groups) > 0 || a.Key != slog.LevelKey || !ok {
		return a
	}
	name := strings.ToLower(level.String())
	if level < slog.LevelInfo {
		name = "v" + strconv.Itoa(-int(level))
	}
	return slog.String(slog.LevelKey, name)
}
