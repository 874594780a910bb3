// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/crc"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/store"
)

// more says how many other files there are.
func more(n int) string {
	if n == 1 {
		return " (and one file more cannot be stored)"
	}
	return fmt.Sprintf(" (and %d files more cannot be stored)", n)
}

// marker stores the empty object of an empty directory.
func (p *pusher) marker(e entry, done func(size int64, sum uint64)) error {
	key := p.prefix + e.key
	if err := p.abortOld(key); err != nil {
		return err
	}
	there := p.isKnown(key, 0)
	if !there {
		if _, err := p.To.Put(p.ctx, key, store.Source{Name: p.display(e), File: bytes.NewReader(nil)}, store.Meta{}); err != nil {
			return err
		}
	}
	p.Meter.Done(!there)
	done(0, 0)
	return nil
}

// small stores a file in one request.
func (p *pusher) small(e entry, done func(size int64, sum uint64)) error {
	key := p.prefix + e.key
	f, err := p.open(e)
	if err != nil {
		p.refused(err)
		return nil
	}
	defer f.Close()
	if err := p.abortOld(key); err != nil {
		return err
	}
	size := e.info.Size()
	sum, err := p.sum(f, size)
	if err != nil {
		p.refused(fault.OfFile(p.display(e), err))
		return nil
	}
	there, err := p.isThere(key, f, size, sum, true)
	if err != nil {
		return err
	}
	if there {
		p.Meter.Present(size)
	} else {
		m := store.Meta{Mode: e.info.Mode(), Time: e.info.ModTime(), CRC: sum, HasCRC: true}
		sent, err := p.To.Put(p.ctx, key, store.Source{Name: p.display(e), File: f, Size: size}, m)
		if err != nil {
			return p.sorted(err)
		}
		if sent != sum || changed(f, e.info) {
			p.refused(store.ChangedFile(p.display(e)))
			return nil
		}
		p.Meter.Add(size)
	}
	p.Meter.Done(!there)
	done(size, sum)
	return nil
}

// sorted notes an error of a file, so that others are stored, and returns one of the store.
func (p *pusher) sorted(err error) error {
	e := fault.As(err)
	if e.Kind == fault.Local || e.Kind == fault.Name || e.Kind == fault.Changed && e.Class == agentapi.Permanent {
		p.refused(err)
		return nil
	}
	return err
}

// open opens a file that is what the walk has seen.
func (p *pusher) open(e entry) (*os.File, error) {
	f, err := p.root.Open(e.name)
	if err != nil {
		return nil, fault.OfFile(p.display(e), err)
	}
	if info, err := f.Stat(); err != nil || !os.SameFile(info, e.info) || info.Size() != e.info.Size() {
		f.Close()
		return nil, store.ChangedFile(p.display(e))
	}
	return f, nil
}

// changed tells whether a file is no longer as the walk has seen it.
func changed(f *os.File, seen fs.FileInfo) bool {
	info, err := f.Stat()
	return err != nil || info.Size() != seen.Size() || !info.ModTime().Equal(seen.ModTime())
}

// sum returns the checksum of a file.
func (p *pusher) sum(f *os.File, size int64) (uint64, error) {
	buf := p.buffers.Get().(*[bufferBytes]byte) //nolint:forcetypeassert // the pool has no other
	defer p.buffers.Put(buf)
	return store.Sum(f, size, buf[:])
}

// isThere tells whether the object has the file's contents already. sum is the file's checksum, if hasSum.
func (p *pusher) isThere(key string, f *os.File, size int64, sum uint64, hasSum bool) (bool, error) {
	if !p.isKnown(key, size) {
		return false, nil
	}
	i, err := p.To.Find(p.ctx, key)
	if fault.Is(err, fault.NoObject) || fault.Is(err, fault.Denied) {
		return false, nil
	}
	if err != nil || i.Size != size {
		return false, err
	}
	if hasSum && i.HasCRC {
		return sum == i.CRC, nil
	}
	buf := p.buffers.Get().(*[bufferBytes]byte) //nolint:forcetypeassert // the pool has no other
	defer p.buffers.Put(buf)
	return store.Same(f, size, i, buf[:])
}

// upload is a file that is sent in parts, by several workers.
type upload struct {
	p    *pusher
	e    entry
	key  string
	id   string
	f    *os.File
	done func(size int64, sum uint64)

	mu     sync.Mutex
	left   int
	failed bool
	parts  []store.Part
}

// large starts to send a file in parts. It returns when all are started, so that at most one large file more
// than there are slots is open.
func (p *pusher) large(e entry, done func(size int64, sum uint64)) error {
	var u *upload
	ready := make(chan struct{})
	err := p.start(func() (err error) {
		defer close(ready)
		u, err = p.begin(e, done)
		return err
	})
	if err != nil {
		return err
	}
	<-ready
	if u == nil {
		return p.ctx.Err() // nil if it was there already, or cannot be read
	}
	partBytes, size := p.partBytes(e.info.Size()), e.info.Size()
	for n := range u.parts {
		offset := int64(n) * partBytes
		s := store.Source{Name: p.display(e), File: u.f, Offset: offset, Size: min(partBytes, size-offset)}
		if err := p.start(func() error { return u.send(n, s) }); err != nil {
			u.skip(len(u.parts) - n)
			return err
		}
	}
	return nil
}

// begin opens a file and starts its upload; nil if there is nothing to be done.
func (p *pusher) begin(e entry, done func(size int64, sum uint64)) (*upload, error) {
	key, size := p.prefix+e.key, e.info.Size()
	f, err := p.open(e)
	if err != nil {
		p.refused(err)
		return nil, nil //nolint:nilnil // it is noted
	}
	u := &upload{p: p, e: e, key: key, f: f, done: done}
	if err := p.abortOldOf(key); err != nil {
		u.close()
		return nil, err
	}
	there, err := p.isThere(key, f, size, 0, false)
	if err == nil && there {
		defer u.close()
		sum, err := p.sum(f, size)
		if err != nil {
			return nil, fault.OfFile(p.display(e), err)
		}
		p.Meter.Present(size)
		p.Meter.Done(false)
		done(size, sum)
		return nil, nil //nolint:nilnil // it is there
	}
	partBytes := p.partBytes(size)
	if err == nil {
		var other bool
		u.id, other, err = p.To.Begin(p.ctx, key, store.Meta{Mode: e.info.Mode(), Time: e.info.ModTime(), PartBytes: partBytes})
		if err == nil && other {
			err = p.To.AbortOthers(p.ctx, key, u.id)
		}
		if err != nil { // only the answer may be missing
			p.leaves(key, u.id)
		}
	}
	if err != nil {
		u.close()
		return nil, err
	}
	u.parts = make([]store.Part, (size+partBytes-1)/partBytes)
	u.left = len(u.parts)
	return u, nil
}

// send sends a part. The worker that ends last completes the upload.
func (u *upload) send(n int, s store.Source) error {
	part, err := u.p.To.PutPart(u.p.ctx, u.key, u.id, n+1, s)
	if err == nil {
		u.p.Meter.Add(s.Size)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts[n] = part
	u.failed = u.failed || err != nil
	u.left--
	if u.left == 0 && !u.failed {
		err = u.complete()
		u.failed = err != nil
	}
	u.closeLast()
	return err
}

// skip says that parts are not sent.
func (u *upload) skip(parts int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed = true
	u.left -= parts
	u.closeLast()
}

// closeLast closes an upload of which no part is in flight anymore, and has it aborted if it is not completed.
func (u *upload) closeLast() {
	if u.left > 0 {
		return
	}
	if u.failed {
		u.p.leaves(u.key, u.id)
	}
	u.close()
}

// complete makes the object, unless the file has changed.
func (u *upload) complete() error {
	p, size := u.p, u.e.info.Size()
	if changed(u.f, u.e.info) {
		p.refused(store.ChangedFile(p.display(u.e)))
		return p.To.Abort(p.ctx, u.key, u.id)
	}
	if err := p.To.Complete(p.ctx, u.key, u.id, u.parts, size); err != nil {
		return err
	}
	var sum uint64
	partBytes := p.partBytes(size)
	for i, part := range u.parts {
		sum = crc.Combine(sum, part.CRC, min(partBytes, size-int64(i)*partBytes))
	}
	p.Meter.Done(true)
	u.done(size, sum)
	return nil
}

func (u *upload) close() {
	u.f.Close()
}
