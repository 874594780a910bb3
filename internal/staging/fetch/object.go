// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"strings"
	"sync"

	"batchcompute.dev/operator/internal/staging/crc"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/store"
)

// piece is the part of an object that one worker reads.
type piece struct {
	of     *object
	number int
}

// object is an object that is being copied, by one or more workers.
type object struct {
	store.Object

	partBytes int64
	parts     int

	start sync.Once
	file  *localdir.File // nil if there is nothing to be done

	mu   sync.Mutex
	left int
	err  error
	sums []uint64
	info store.Info
}

// cut returns the pieces of an object; at least one.
func cut(o store.Object, partBytes int64) []piece {
	parts := max(1, int((o.Size+partBytes-1)/partBytes))
	of := &object{Object: o, partBytes: partBytes, parts: parts, left: parts, sums: make([]uint64, parts)}
	pieces := make([]piece, parts)
	for i := range pieces {
		pieces[i] = piece{of: of, number: i}
	}
	return pieces
}

// do copies a piece. The worker that starts first opens the file, and the one that ends last commits it. The
// error is one that ends everything.
func (p piece) do(ctx context.Context, r *run, buf []byte) error {
	o := p.of
	o.start.Do(func() { o.err = o.begin(ctx, r, buf) })
	o.mu.Lock()
	file, err := o.file, o.err
	o.mu.Unlock()
	if file != nil && err == nil {
		err = p.read(ctx, r, file, buf)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = errors.Join(o.err, err)
	if o.left--; o.left > 0 {
		return nil
	}
	return o.end(r)
}

// begin makes a directory, leaves alone what is there already, or creates the file.
func (o *object) begin(ctx context.Context, r *run, buf []byte) (err error) {
	name := r.plan.local(o.Object)
	if strings.HasSuffix(o.Key, "/") {
		return withKey(o.Key, r.To.Mkdir(name))
	}
	if info := r.To.Lstat(name); info != nil {
		if info.IsDir() {
			return fault.Final(fault.Conflict, o.Key, "there is a directory where the file has to be", "delete it, or map to another directory")
		}
		same, err := o.isThere(ctx, r, name, buf)
		if err != nil {
			return err
		}
		if same {
			r.Meter.Present(o.Size)
			r.Meter.Done(false)
			return nil
		}
	}
	o.file, err = r.To.Create(name)
	return withKey(o.Key, err)
}

// withKey returns a local error with the key, where a name is the problem.
func withKey(key string, err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && (e.Kind == fault.Conflict || e.Kind == fault.Name) {
		named := *e
		named.Key = key
		return &named
	}
	return err
}

// isThere tells whether a local file has the size and the checksum of the object.
func (o *object) isThere(ctx context.Context, r *run, name string, buf []byte) (bool, error) {
	local := r.To.Lstat(name)
	if !local.Mode().IsRegular() || local.Size() != o.Size {
		return false, nil
	}
	remote, err := r.From.Stat(ctx, o.Key)
	if err != nil {
		return false, err
	}
	if remote.ETag != o.ETag || remote.Size != o.Size {
		return false, nil
	}
	f, err := r.To.Read(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return store.Same(f, o.Size, remote, buf)
}

// read copies the bytes of a piece.
func (p piece) read(ctx context.Context, r *run, file *localdir.File, buf []byte) error {
	o := p.of
	offset := int64(p.number) * o.partBytes
	length := min(o.partBytes, o.Size-offset)
	w := &sink{file: file, offset: offset, run: r}
	info, err := r.From.Get(ctx, store.Range{
		Key: o.Key, ETag: o.ETag, Size: o.Size, Offset: offset, Length: length, Told: func(i store.Info) { w.check = i.HasCRC },
	}, w, buf)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sums[p.number], o.info = w.sum, info
	return err
}

// sink writes a piece into the file.
type sink struct {
	file   *localdir.File
	offset int64
	run    *run
	// check says that the checksum is needed.
	check bool
	sum   uint64
}

// Write writes the next bytes.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.offset)
	s.offset += int64(n)
	if s.check {
		s.sum = crc.Update(s.sum, p[:n])
	}
	s.run.Meter.Add(int64(n))
	return n, err
}

// end puts the file in its place, or discards it.
func (o *object) end(r *run) error {
	if o.file == nil {
		return o.err
	}
	if o.err == nil && o.info.HasCRC && o.sum() != o.info.CRC {
		o.err = fault.Temporary(fault.Corrupt, o.Key, "the checksum differs from the one that is stored with the object", "store it again")
	}
	if o.err != nil {
		o.file.Discard()
		if fault.Is(o.err, fault.Changed) || fault.Is(o.err, fault.Corrupt) {
			r.again(change{o.Object, o.err})
			return nil
		}
		return o.err
	}
	if err := o.file.Commit(o.info.Mode, o.info.Time); err != nil {
		return withKey(o.Key, err)
	}
	r.Meter.Done(true)
	return nil
}

// sum returns the checksum of all pieces.
func (o *object) sum() (all uint64) {
	for i, sum := range o.sums {
		all = crc.Combine(all, sum, min(o.partBytes, o.Size-int64(i)*o.partBytes))
	}
	return all
}
