// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/push"
)

// Command is a command that has ended.
type Command struct {
	Succeeded bool
	// StateDir is the directory with its streams, agentapi.StdoutFile and StderrFile.
	StateDir string
}

// Store uploads the streams, and the outputs if the command succeeded or c.OnFailure is set. Everything is
// tried; the result has the first permanent error, else the first one.
func Store(ctx context.Context, c agentapi.Outputs, ended Command, report Reporter) agentapi.Result {
	return (&agent{report: report, stateDir: ended.StateDir}).store(ctx, c, ended.Succeeded)
}

func (a *agent) store(ctx context.Context, c agentapi.Outputs, succeeded bool) agentapi.Result {
	o := &outputs{agent: a, limits: a.limits(c.Limits, storeNoProgress), digest: push.NewDigest()}
	o.stream(ctx, c.Stdout, agentapi.StdoutFile)
	o.stream(ctx, c.Stderr, agentapi.StderrFile)
	if succeeded || c.OnFailure {
		for _, out := range c.Outputs {
			o.output(ctx, out)
		}
	}
	r := result(o.err, o.meters...)
	if o.err == nil {
		r.Digest = o.digest.String()
	}
	return r
}

// outputs is the state of one stage-out.
type outputs struct {
	*agent

	limits limits
	digest *push.Digest
	meters []*meter.Meter
	err    error
}

// failed notes the error that is reported.
func (o *outputs) failed(field string, err error) {
	if err == nil {
		return
	}
	e := fault.At(field, err)
	if o.err == nil || fault.As(o.err).Class != agentapi.Permanent && e.Class == agentapi.Permanent {
		o.err = e
	}
}

// options starts a phase, and returns the options and the phase's end.
func (o *outputs) options(field string, s agentapi.Store) (push.Options, func(), error) {
	client, err := o.client(field, s, o.limits)
	if err != nil {
		return push.Options{}, nil, err
	}
	m := &meter.Meter{}
	o.meters = append(o.meters, m)
	return push.Options{To: client, Workers: o.limits.Workers, PartBytes: o.limits.PartBytes, Meter: m, Digest: o.digest}, o.phase(field, m), nil
}

// stream uploads one of the command's streams, if the command was started.
func (o *outputs) stream(ctx context.Context, to *agentapi.Redirect, name string) {
	if to == nil {
		return
	}
	name = filepath.Join(o.stateDir, name)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return
	}
	options, end, err := o.options(to.Field, to.Store)
	if err == nil {
		options.Shown = filepath.Base(name)
		err = push.File(ctx, name, to.Key, options)
		end()
	}
	o.failed(to.Field, err)
}

// output uploads a directory.
func (o *outputs) output(ctx context.Context, out agentapi.Output) {
	options, end, err := o.options(out.Field, out.Store)
	if err == nil {
		options.Shown = out.Path
		err = push.Dir(ctx, out.Source, out.Prefix, options)
		end()
	}
	o.failed(out.Field, err)
}
