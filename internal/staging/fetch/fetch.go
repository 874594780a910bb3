// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"cmp"
	"context"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// leastBuffer and mostBuffer bound the size of a worker's buffer.
const (
	leastBuffer = 4 << 10
	mostBuffer  = 128 << 10
)

// rounds is how often an object is tried that changes while it is read.
const rounds = 3

// Reader reads objects.
type Reader interface {
	Get(ctx context.Context, r store.Range, w io.Writer, buf []byte) (store.Info, error)
	Stat(ctx context.Context, key string) (store.Info, error)
}

// Options are those of Run.
type Options struct {
	From Reader
	To   *localdir.Dir
	// Workers is how many objects or parts are read at once; larger objects than PartBytes are read in
	// parts of that size.
	Workers   int
	PartBytes int64
	Meter     *meter.Meter
}

// Present returns how many bytes of a plan seem to be there already: files of the right size.
func (p *Plan) Present(dir *localdir.Dir) (bytes int64) {
	for _, o := range p.objects {
		if info := dir.Lstat(p.local(o)); info != nil && info.Mode().IsRegular() && info.Size() == o.Size {
			bytes += o.Size
		}
	}
	return bytes
}

// local returns the path of an object below the directory.
func (p *Plan) local(o store.Object) string {
	return path.Clean(strings.TrimPrefix(o.Key, p.prefix))
}

// Run copies what is planned. A file that is there already with the same contents is left alone. An object
// that has changed since it was listed is tried again as it is now. After an error the directory has whole
// files only, and Run can be called again.
func (p *Plan) Run(ctx context.Context, o Options) error {
	todo := p.objects
	for round := 1; ; round++ {
		again, err := p.run(ctx, o, todo)
		if err != nil {
			return err
		}
		if len(again) == 0 {
			return o.To.Finish()
		}
		if round == rounds {
			return again[0].err
		}
		todo = todo[:0:0]
		for _, c := range again {
			info, err := o.From.Stat(ctx, c.object.Key)
			if err != nil {
				return err
			}
			o.Meter.TotalBytes.Add(info.Size - c.object.Size)
			todo = append(todo, store.Object{Key: c.object.Key, Size: info.Size, ETag: info.ETag})
		}
		if err := o.To.CheckSpace(total(todo)); err != nil {
			return err
		}
	}
}

func total(objects []store.Object) (bytes int64) {
	for _, o := range objects {
		bytes += o.Size
	}
	return bytes
}

// change is an object that was not as it was listed, and the error.
type change struct {
	object store.Object
	err    error
}

// run copies objects, and returns those that have changed.
func (p *Plan) run(ctx context.Context, o Options, objects []store.Object) ([]change, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{plan: p, Options: o, cancel: cancel}
	pieces := make(chan piece)
	var workers sync.WaitGroup
	size := buffer(objects)
	for range max(1, o.Workers) {
		workers.Go(func() {
			buf := make([]byte, size)
			for piece := range pieces {
				if ctx.Err() == nil {
					r.failed(piece.do(ctx, r, buf))
				}
			}
		})
	}
	for _, object := range objects {
		for _, piece := range cut(object, max(1, o.PartBytes)) {
			select {
			case pieces <- piece:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(pieces)
	workers.Wait()
	if ctx.Err() != nil && r.err == nil {
		r.failed(fault.OfFile("", ctx.Err()))
	}
	slices.SortFunc(r.changed, func(a, b change) int { return cmp.Compare(a.object.Key, b.object.Key) })
	return r.changed, r.err
}

// buffer returns the size of a buffer: that of the largest object, within bounds.
func buffer(objects []store.Object) int64 {
	size := int64(leastBuffer)
	for _, o := range objects {
		size = max(size, o.Size)
	}
	return min(size, mostBuffer)
}

// run is the state of one run.
type run struct {
	Options

	plan   *Plan
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	err     error
	changed []change
}

// failed notes the first error, and stops the others.
func (r *run) failed(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		r.cancel(err)
	}
}

// again notes an object that has changed.
func (r *run) again(c change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = append(r.changed, c)
}
