// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// Store is where objects are stored.
type Store interface {
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
	Uploads(ctx context.Context, prefix string) iter.Seq2[store.Upload, error]
	Find(ctx context.Context, key string) (store.Info, error)
	Put(ctx context.Context, key string, s store.Source, m store.Meta) (uint64, error)
	Begin(ctx context.Context, key string, m store.Meta) (id string, other bool, err error)
	PutPart(ctx context.Context, key, id string, number int, s store.Source) (store.Part, error)
	Complete(ctx context.Context, key, id string, parts []store.Part, size int64) error
	Abort(ctx context.Context, key, id string) error
	AbortOthers(ctx context.Context, key, keep string) error
}

// Options are those of Dir and File.
type Options struct {
	To Store
	// Workers is how many objects or parts are sent at once; larger files than PartBytes are sent in parts
	// of that size, or of a larger one if there would be more than 10,000.
	Workers   int
	PartBytes int64
	Meter     *meter.Meter
	// Shown is what errors call the directory or the file, and where the absolute links in it lead: the command
	// knows it by another path than the agent. Empty means its name.
	Shown string
	// Digest gets what is stored, in the order of the keys; nil means that nobody needs it.
	Digest *Digest
}

// Bounds.
const (
	// maxKnown is how many objects that are there already are remembered; if there are more, each is asked for.
	maxKnown = 200_000
	// maxParts is how many parts S3 allows.
	maxParts = 10_000
	// maxBad is how many files are named that cannot be stored.
	maxBad = 3
	// bufferBytes is the size of a buffer for checksums.
	bufferBytes = 128 << 10
)

// AbortTime is how long it may take at most to abort the uploads of a transfer that has failed or was stopped.
const AbortTime = 5 * time.Second

// Dir copies the files below a directory to objects under a prefix, which is empty or ends with /. Files that
// are there with the same contents are not sent again, and uploads of the same keys that an earlier run did
// not end are aborted. So are those of this run if it fails or its ctx ends, within AbortTime. A file that cannot be an object is an error at the end, and the others are stored.
func Dir(ctx context.Context, dir, prefix string, o Options) error {
	o.Shown = filepath.Clean(cmp.Or(o.Shown, dir))
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Final(fault.Local, o.Shown, "the directory does not exist", "have the command create it").Because(err)
	}
	if err != nil {
		return fault.OfFile(o.Shown, err)
	}
	defer root.Close()
	above, err := root.Stat(".")
	if err != nil {
		return fault.OfFile(o.Shown, err)
	}
	p := newPusher(ctx, root, prefix, o)
	defer p.cancel(nil)
	if err := p.look(prefix); err != nil {
		return err
	}
	w := &walker{
		root: root, name: o.Shown, prefix: prefix, visit: p.visit, bad: p.refused,
		skipped: func() { o.Meter.Skipped.Add(1) },
	}
	_ = w.walk(".", "", []fs.FileInfo{above}) // the pusher has the error
	return p.wait()
}

// File copies one file to an object.
func File(ctx context.Context, name, key string, o Options) error {
	o.Shown = cmp.Or(o.Shown, name)
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fault.OfFile(o.Shown, err)
	}
	defer root.Close()
	info, err := root.Stat(filepath.Base(name))
	if err != nil {
		return fault.OfFile(o.Shown, err)
	}
	o.Shown = filepath.Dir(o.Shown)
	p := newPusher(ctx, root, "", o)
	defer p.cancel(nil)
	p.known = nil // other objects may start with the key
	if err := p.lookUploads(key); err != nil {
		return err
	}
	_ = p.visit(entry{key: key, name: filepath.Base(name), info: info}) // the pusher has the error
	return p.wait()
}

// pusher is the state of one run.
type pusher struct {
	Options

	ctx    context.Context //nolint:containedctx // of one run
	cancel context.CancelCauseFunc
	root   *os.Root
	prefix string
	// slots has an element for each request that may be in flight.
	slots   chan struct{}
	running sync.WaitGroup
	buffers sync.Pool

	// known are the sizes of objects that are there, by the hash of the key; nil if all must be asked for.
	known map[uint64]int64
	seed  maphash.Seed
	// uploads are those of an earlier run, by key.
	uploads map[string][]string

	mu   sync.Mutex
	err  error
	bad  []error
	nBad int
	// unfinished are the uploads that were started and not completed; see leaves.
	unfinished []store.Upload
}

func newPusher(ctx context.Context, root *os.Root, prefix string, o Options) *pusher {
	ctx, cancel := context.WithCancelCause(ctx)
	return &pusher{
		Options: o, ctx: ctx, cancel: cancel, root: root, prefix: prefix, slots: make(chan struct{}, max(1, o.Workers)),
		buffers: sync.Pool{New: func() any { return new([bufferBytes]byte) }},
		known:   map[uint64]int64{}, seed: maphash.MakeSeed(), uploads: map[string][]string{},
	}
}

// look notes what is there under a prefix. A key that may only write gets everything sent.
func (p *pusher) look(prefix string) error {
	for o, err := range p.To.List(p.ctx, prefix) {
		if fault.Is(err, fault.Denied) {
			break
		}
		if err != nil {
			return err
		}
		if len(p.known) == maxKnown {
			p.known = nil
			break
		}
		p.known[maphash.String(p.seed, o.Key)] = o.Size
	}
	return p.lookUploads(prefix)
}

// lookUploads notes what an earlier run did not end.
func (p *pusher) lookUploads(prefix string) error {
	return p.eachUpload(prefix, func(u store.Upload) { p.uploads[u.Key] = append(p.uploads[u.Key], u.ID) })
}

// eachUpload calls f for the uploads under a prefix, if the store lists them.
func (p *pusher) eachUpload(prefix string, f func(store.Upload)) error {
	for u, err := range p.To.Uploads(p.ctx, prefix) {
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.Refused) {
			break // not every store lists them
		}
		if err != nil {
			return err
		}
		f(u)
	}
	return nil
}

// failed notes the first error, and stops the others.
func (p *pusher) failed(err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		p.cancel(err)
	}
}

// leaves notes an upload that is not completed, so that it is aborted in the end. Without an id it is not known whether
// the store has any of the key.
func (p *pusher) leaves(key, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unfinished = append(p.unfinished, store.Upload{Key: key, ID: id})
}

// refused notes a file that cannot be stored.
func (p *pusher) refused(err error) {
	p.Digest.Break()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nBad++; len(p.bad) < maxBad {
		p.bad = append(p.bad, err)
	}
}

// wait waits for everything, and returns the error.
func (p *pusher) wait() error {
	p.running.Wait()
	p.abortUnfinished()
	if p.err == nil && p.ctx.Err() != nil {
		p.err = fault.OfFile("", p.ctx.Err())
	}
	if p.err != nil || p.nBad == 0 {
		return p.err
	}
	return several(p.bad, p.nBad)
}

// acquire waits for a slot.
func (p *pusher) acquire() error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// start calls f in a slot, and notes its error.
func (p *pusher) start(f func() error) error {
	if err := p.acquire(); err != nil {
		return err
	}
	p.running.Go(func() {
		defer func() { <-p.slots }()
		p.failed(f())
	})
	return nil
}

// visit sends a file, or starts to.
func (p *pusher) visit(e entry) error {
	p.Meter.TotalFiles.Add(1)
	done := p.Digest.Expect(p.prefix + e.key)
	if e.info.IsDir() {
		return p.start(func() error { return p.marker(e, done) })
	}
	p.Meter.TotalBytes.Add(e.info.Size())
	if e.info.Size() > max(1, p.PartBytes) {
		return p.large(e, done)
	}
	return p.start(func() error { return p.small(e, done) })
}

// abortOld ends what an earlier run left of a key.
func (p *pusher) abortOld(key string) error { return p.abort(key, p.uploads[key]) }

// abortOldOf ends what an earlier run left of the key of a large file. It asks for this key: MinIO lists no uploads for
// a prefix that is not a whole key, and with a large file one request more does not count.
func (p *pusher) abortOldOf(key string) error {
	var ids []string
	err := p.eachUpload(key, func(u store.Upload) {
		if u.Key == key {
			ids = append(ids, u.ID)
		}
	})
	if err != nil {
		return err
	}
	return p.abort(key, ids)
}

func (p *pusher) abort(key string, ids []string) error {
	for _, id := range ids {
		if err := p.To.Abort(p.ctx, key, id); err != nil && !fault.Is(err, fault.Denied) {
			return err
		}
	}
	return nil
}

// abortUnfinished removes from the store what was sent of files that are not stored, as well as it can: the transfer may
// have failed since the store does not answer, and little time is left if the Pod is being stopped.
func (p *pusher) abortUnfinished() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), AbortTime)
	defer cancel()
	var running sync.WaitGroup
	slots := make(chan struct{}, cap(p.slots))
	for _, u := range p.unfinished {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if u.ID == "" {
				_ = p.To.AbortOthers(ctx, u.Key, "") // best effort: the next run aborts it, or the store's lifecycle rule
				return
			}
			_ = p.To.Abort(ctx, u.Key, u.ID) // likewise
		})
	}
	running.Wait()
}

// isKnown tells whether an object of a key and size may be there.
func (p *pusher) isKnown(key string, size int64) bool {
	if p.known == nil {
		return true
	}
	known, ok := p.known[maphash.String(p.seed, key)]
	return ok && known == size
}

// display returns an entry's path for errors.
func (p *pusher) display(e entry) string { return path.Join(p.Shown, e.name) }

// partBytes returns the size of the parts of a file.
func (p *pusher) partBytes(size int64) int64 {
	const mib = 1 << 20
	if least := (size + maxParts - 1) / maxParts; least > p.PartBytes {
		return (least + mib - 1) / mib * mib
	}
	return p.PartBytes
}

// several returns one error of several files.
func several(errs []error, n int) error {
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	first := *fault.As(errs[0])
	if n > 1 {
		first.Reason += more(n - 1)
	}
	return &first
}
