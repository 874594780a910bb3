// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/archive"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/fetch"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// Stage copies the inputs and unpacks the package. All inputs are listed before the first byte is copied. The
// result's class is empty for success.
func Stage(ctx context.Context, c agentapi.Stage, report Reporter) agentapi.Result {
	return (&agent{report: report}).stage(ctx, c)
}

func (a *agent) stage(ctx context.Context, c agentapi.Stage) agentapi.Result {
	s := &staging{agent: a, limits: a.limits(c.Limits, stageNoProgress)}
	defer s.close()
	err := s.inputs(ctx, c.Inputs)
	if err == nil && c.Package != nil {
		err = s.unpack(ctx, c.Package)
	}
	return result(err, s.meters...)
}

// staging is the state of one stage-in.
type staging struct {
	*agent

	limits  limits
	meters  []*meter.Meter
	planned []*input
	// bytes and files are the sums of the inputs.
	bytes int64
	files int
}

// input is an input that is planned.
type input struct {
	agentapi.Input

	client *store.Client
	dir    *localdir.Dir
	plan   *fetch.Plan
	// need is what is not there yet, in bytes.
	need int64
}

func (s *staging) close() {
	for _, in := range s.planned {
		in.dir.Close()
	}
}

// inputs plans all inputs, checks that they fit, and copies them.
func (s *staging) inputs(ctx context.Context, inputs []agentapi.Input) error {
	for _, in := range inputs {
		if err := s.planInput(ctx, in); err != nil {
			return fault.At(in.Field, err)
		}
	}
	for i := range s.planned {
		if err := s.fits(i); err != nil {
			return fault.At(s.planned[i].Field, err)
		}
	}
	for _, in := range s.planned {
		if err := s.copy(ctx, in); err != nil {
			return fault.At(in.Field, err)
		}
	}
	return nil
}

// planInput lists an input.
func (s *staging) planInput(ctx context.Context, in agentapi.Input) error {
	client, err := s.client(in.Field, in.Store, s.limits)
	if err != nil {
		return err
	}
	dir, err := localdir.Open(in.Destination, cmp.Or(in.Path, in.Destination), s.step)
	if err != nil {
		return err
	}
	p := &input{Input: in, client: client, dir: dir}
	s.planned = append(s.planned, p)
	left := fetch.Limits{Files: max(1, s.limits.MaxFiles-s.files)}
	left.Bytes, left.Field = s.room()
	if p.plan, err = fetch.List(ctx, client, in.Prefix, left); err != nil {
		return err
	}
	p.need = p.plan.Bytes - p.plan.Present(dir)
	s.bytes += p.plan.Bytes
	s.files += p.plan.Files
	return nil
}

// room returns how much may still be stored, 0 for any size, and what limits it.
func (s *staging) room() (bytes int64, field string) {
	if s.limits.MaxBytes == 0 {
		return 0, ""
	}
	field = cmp.Or(s.limits.MaxBytesField, "the Pod")
	if s.bytes > 0 {
		field += fmt.Sprintf(" (%s) less what other data take (%s)", fault.FormatBytes(s.limits.MaxBytes), fault.FormatBytes(s.bytes))
	}
	return max(1, s.limits.MaxBytes-s.bytes), field
}

// fits checks that an input, with those before it on the same file system, fits on the disk.
func (s *staging) fits(i int) error {
	in := s.planned[i]
	var need int64
	for _, other := range s.planned[:i+1] {
		if in.dir.SameDisk(other.dir) {
			need += other.need
		}
	}
	return in.dir.CheckSpace(need)
}

// copy copies an input.
func (s *staging) copy(ctx context.Context, in *input) error {
	m := &meter.Meter{}
	s.meters = append(s.meters, m)
	m.TotalFiles.Store(int64(in.plan.Files))
	m.TotalBytes.Store(in.plan.Bytes)
	defer s.phase(in.Field, m)()
	return in.plan.Run(ctx, fetch.Options{
		From: in.client, To: in.dir, Workers: s.limits.Workers, PartBytes: s.limits.PartBytes, Meter: m,
	})
}

// unpack unpacks the package.
func (s *staging) unpack(ctx context.Context, p *agentapi.Package) error {
	source, err := s.source(p)
	if err != nil {
		return fault.At(p.Field, err)
	}
	dir, err := localdir.Open(p.Destination, "", s.step) // errors have the names in the archive
	if err != nil {
		return fault.At(p.Field, err)
	}
	defer dir.Close()
	bounds := archive.Limits{Files: max(1, s.limits.MaxFiles-s.files)}
	bounds.Bytes, bounds.Field = s.room()
	m := &meter.Meter{}
	s.meters = append(s.meters, m)
	defer s.phase(p.Field, m)()
	in := archive.Stream(ctx, source)
	defer in.Close()
	if err := archive.Unpack(ctx, in, dir, bounds, m); err != nil {
		return fault.At(p.Field, err)
	}
	return nil
}

// source returns where a package comes from.
func (s *staging) source(p *agentapi.Package) (archive.Source, error) {
	if p.Store == nil {
		transport, err := store.Transport(store.TransportOptions{})
		if err != nil {
			return nil, err
		}
		var wrapped http.RoundTripper = transport
		if s.wrap != nil {
			wrapped = s.wrap(transport)
		}
		return archive.Web(&http.Client{Transport: wrapped}, p.Source, s.policyOf(p.Field, s.limits)), nil
	}
	client, err := s.client(p.Field, *p.Store, s.limits)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, w io.Writer) error {
		i, err := client.Stat(ctx, p.Key)
		if err != nil {
			return err
		}
		_, err = client.Get(ctx, store.Range{Key: p.Key, ETag: i.ETag, Size: i.Size, Length: i.Size}, w, make([]byte, packageBuffer))
		return err
	}, nil
}

// packageBuffer is the size of the buffer that a package is read with.
const packageBuffer = 128 << 10
