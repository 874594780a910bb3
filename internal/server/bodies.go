// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Sizes of the pieces that a body is read in. Pieces grow with the body, so that what is held
// is at most twice what has arrived, and minPiece.
const minPiece, maxPiece = 1 << 10, 256 << 10

// errTooLarge says that a body is larger than any that is legal.
var errTooLarge = errors.New("the request's body is larger than any legal one")

// errEvicted says that a body had to give way.
var errEvicted = errors.New("the request gave way to those of other clients")

// bodyBudget bounds the bytes that all bodies of a server hold together, those that are being
// read and those that wait to be decoded. It counts memory that was taken for bytes that
// arrived, never what a header promises.
type bodyBudget struct {
	limit int64 // bytes, at least maxPiece

	mu      sync.Mutex
	used    int64
	peak    int64 // the most that was ever used, for tests
	sources map[netip.Addr]*bodySource
}

// bodySource is what the bodies of one client address hold.
type bodySource struct {
	held   int64
	bodies map[*body]struct{}
}

func newBodyBudget(limit int64) *bodyBudget {
	return &bodyBudget{limit: limit, sources: map[netip.Addr]*bodySource{}}
}

// body is a request's body in pieces. It is an io.Reader of what was read; the budget gets its
// bytes back when the last of them was handed out.
type body struct {
	budget *bodyBudget
	source netip.Addr
	stop   func() // makes whoever works on the body stop; may be called with the lock held

	// Guarded by budget.mu.
	pieces   [][]byte
	held     int64
	length   int64
	progress time.Time
	evicted  bool
}

// read reads a request's body of at most limit bytes. The body must be closed. It ends with
// errTooLarge or errEvicted, or with the error of the connection; stop is called when the body
// has to give way, now or later, and must make the read of r end.
func (b *bodyBudget) read(r *http.Request, source netip.Addr, limit int64, stop func()) (*body, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	bd := &body{budget: b, source: source, stop: stop, progress: time.Now()}
	b.mu.Lock()
	s := b.sources[source]
	if s == nil {
		s = &bodySource{bodies: map[*body]struct{}{}}
		b.sources[source] = s
	}
	s.bodies[bd] = struct{}{}
	b.mu.Unlock()
	if err := bd.fill(r.Body, limit); err != nil {
		bd.close()
		return nil, err
	}
	return bd, nil
}

// fill reads all there is.
func (bd *body) fill(r io.Reader, limit int64) error {
	for {
		// One byte more than the limit shows that there are more.
		want := min(max(bd.length, minPiece), maxPiece, limit+1-bd.length)
		if want <= 0 {
			return errTooLarge
		}
		piece, err := bd.take(want)
		if err != nil {
			return err
		}
		for n := 0; n < len(piece); {
			m, err := r.Read(piece[n:])
			n += m
			if m > 0 {
				bd.advance(int64(m), n)
			}
			switch {
			case bd.isEvicted():
				return errEvicted
			case errors.Is(err, io.EOF):
				if bd.length > limit {
					return errTooLarge
				}
				return nil
			case err != nil:
				return err
			}
		}
	}
}

// take gets memory for the next piece, from others if need be.
func (bd *body) take(n int64) ([]byte, error) {
	b := bd.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	for !bd.evicted && b.used+n > b.limit {
		b.evict()
	}
	if bd.evicted {
		return nil, errEvicted
	}
	b.used += n
	b.peak = max(b.peak, b.used)
	b.sources[bd.source].held += n
	bd.held += n
	piece := make([]byte, n)
	bd.pieces = append(bd.pieces, piece[:0])
	return piece, nil
}

// advance notes that m more bytes came into the last piece, which has n now.
func (bd *body) advance(m int64, n int) {
	bd.budget.mu.Lock()
	defer bd.budget.mu.Unlock()
	if bd.evicted {
		return
	}
	last := len(bd.pieces) - 1
	bd.pieces[last] = bd.pieces[last][:n]
	bd.length += m
	bd.progress = time.Now()
}

func (bd *body) isEvicted() bool {
	bd.budget.mu.Lock()
	defer bd.budget.mu.Unlock()
	return bd.evicted
}

// evict ends the body without progress for the longest time, of the address that holds the
// most. There must be one that holds something. The caller holds the lock.
func (b *bodyBudget) evict() {
	var largest *bodySource
	for _, s := range b.sources {
		if largest == nil || s.held > largest.held {
			largest = s
		}
	}
	var victim *body
	for bd := range largest.bodies {
		if bd.held > 0 && (victim == nil || bd.progress.Before(victim.progress)) {
			victim = bd
		}
	}
	victim.evicted = true
	victim.release()
	victim.stop()
}

// release gives back all that the body holds. The caller holds the lock.
func (bd *body) release() {
	b := bd.budget
	b.used -= bd.held
	bd.pieces = nil
	s := b.sources[bd.source]
	if s == nil {
		return
	}
	s.held -= bd.held
	bd.held = 0
	if delete(s.bodies, bd); len(s.bodies) == 0 {
		delete(b.sources, bd.source)
	}
}

// close gives back all that the body holds.
func (bd *body) close() {
	bd.budget.mu.Lock()
	defer bd.budget.mu.Unlock()
	bd.release()
}

// Read hands out the body's bytes, once.
func (bd *body) Read(p []byte) (int, error) {
	b := bd.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if bd.evicted {
		return 0, errEvicted
	}
	for len(bd.pieces) > 0 && len(bd.pieces[0]) == 0 {
		bd.pieces = bd.pieces[1:]
	}
	if len(bd.pieces) == 0 {
		bd.release()
		return 0, io.EOF
	}
	n := copy(p, bd.pieces[0])
	bd.pieces[0] = bd.pieces[0][n:]
	return n, nil
}

// Close is for io.ReadCloser.
func (bd *body) Close() error {
	bd.close()
	return nil
}

// weigh returns how much memory decoding the body may take; see weights.
func (bd *body) weigh() (weight int64, err error) {
	bd.budget.mu.Lock()
	defer bd.budget.mu.Unlock()
	if bd.evicted {
		return 0, errEvicted
	}
	var s scanner
	for _, p := range bd.pieces {
		s.scan(p)
	}
	return s.weight(bd.length)
}

// Weights of what a body is decoded to. Unit: bytes.
const (
	reviewWeight = 64 << 10 // of any review: its goroutine, its objects of fixed size, its answer
	byteWeight   = 6        // of each byte: the whole body, the objects in it, their strings
	objectWeight = 1 << 10  // of each JSON object: the largest structure of our kinds, in a slice that grows
	valueWeight  = 64       // of each further value in an object or array: a string, or an entry of a map

	// maxObjects is how many JSON objects a body may hold. The least that a legal spec of 1 MiB has
	// for one is 24 bytes, {"name":"a","value":"b"}, so its old and its new form, and what their
	// statuses have, are less.
	maxObjects = 128 << 10
	// maxElements is how many of them may be in one array: more than such a spec can hold. An
	// array of our largest structures, which may be 5,000 long, takes much more while it grows.
	maxElements = 48 << 10
	// maxDepth is how deep objects and arrays may be in each other. Ours are 12 deep, those of
	// managed fields somewhat more.
	maxDepth = 100
)

// scanner counts what a JSON text is made of, without decoding it. Of a text that is not JSON it
// returns some numbers.
type scanner struct {
	inString, escaped bool
	objects, commas   int64
	depth             int
	elements          [maxDepth]int // objects in each array that is open, by depth
	tooLarge          bool
}

func (s *scanner) scan(p []byte) {
	for _, c := range p {
		switch {
		case s.escaped:
			s.escaped = false
		case c == '\\':
			s.escaped = s.inString
		case c == '"':
			s.inString = !s.inString
		case s.inString:
		case c == '{' || c == '[':
			s.open(c)
		case c == '}' || c == ']':
			s.depth = max(s.depth-1, 0)
		case c == ',':
			s.commas++
		}
	}
}

// open begins an object or an array.
func (s *scanner) open(c byte) {
	if c == '{' {
		s.objects++
		s.elements[s.depth]++
	}
	s.tooLarge = s.tooLarge || s.objects > maxObjects || s.elements[s.depth] > maxElements || s.depth == maxDepth-1
	s.depth = min(s.depth+1, maxDepth-1)
	s.elements[s.depth] = 0
}

func (s *scanner) weight(length int64) (int64, error) {
	if s.tooLarge {
		return 0, errTooLarge
	}
	return reviewWeight + byteWeight*length + objectWeight*s.objects + valueWeight*s.commas, nil
}

// turns bounds the memory that is used for decoding and validating at any time, and gives it
// to the client addresses that wait for it in turn.
type turns struct {
	limit int64 // bytes

	mu      sync.Mutex
	free    int64
	waiting map[netip.Addr][]*turn
	order   []netip.Addr // those in waiting, the next one first
}

// turn is one that waits.
type turn struct {
	weight int64
	ready  chan struct{} // closed when it is its turn
}

func newTurns(limit int64) *turns {
	return &turns{limit: limit, free: limit, waiting: map[netip.Addr][]*turn{}}
}

// acquire waits for weight bytes, or for the end of ctx. More than there is counts as all.
func (t *turns) acquire(ctx context.Context, source netip.Addr, weight int64) (release func(), err error) {
	w := &turn{weight: min(weight, t.limit), ready: make(chan struct{})}
	t.mu.Lock()
	if len(t.waiting[source]) == 0 {
		t.order = append(t.order, source)
	}
	t.waiting[source] = append(t.waiting[source], w)
	t.grant()
	t.mu.Unlock()
	select {
	case <-w.ready:
		return func() { t.give(w) }, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.ready: // it came just now
		t.free += w.weight
	default:
		t.leave(source, w)
	}
	t.grant()
	return nil, context.Cause(ctx)
}

func (t *turns) give(w *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free += w.weight
	t.grant()
}

// grant gives memory to those that wait, in turn, as far as it fits. Nobody overtakes the one whose turn
// it is: otherwise a large review would never get its memory. The caller holds the lock.
func (t *turns) grant() {
	for len(t.order) > 0 {
		source := t.order[0]
		w := t.waiting[source][0]
		if w.weight > t.free {
			return
		}
		t.free -= w.weight
		close(w.ready)
		t.order = t.order[1:]
		if t.waiting[source] = t.waiting[source][1:]; len(t.waiting[source]) > 0 {
			t.order = append(t.order, source)
		} else {
			delete(t.waiting, source)
		}
	}
}

// leave takes one out that waits. The caller holds the lock.
func (t *turns) leave(source netip.Addr, w *turn) {
	list := t.waiting[source]
	for i := range list {
		if list[i] == w {
			t.waiting[source] = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(t.waiting[source]) > 0 {
		return
	}
	delete(t.waiting, source)
	for i := range t.order {
		if t.order[i] == source {
			t.order = append(t.order[:i:i], t.order[i+1:]...)
			return
		}
	}
}
