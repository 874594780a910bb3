// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var addrA, addrB = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

// stalledBody sends what it has and then nothing until it is stopped.
type stalledBody struct {
	data *bytes.Reader
	done chan struct{}
	sent chan struct{} // closed when all was read
	once sync.Once
}

func newStalledBody(n int) *stalledBody {
	return &stalledBody{data: bytes.NewReader(make([]byte, n)), done: make(chan struct{}), sent: make(chan struct{})}
}

func (s *stalledBody) Read(p []byte) (int, error) {
	if s.data.Len() > 0 {
		return s.data.Read(p)
	}
	s.once.Do(func() { close(s.sent) })
	<-s.done
	return 0, errors.New("stopped")
}

func post(body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.ContentLength = -1
	return r
}

func TestBodyIsReadAsItWasSent(t *testing.T) {
	for _, n := range []int{0, 1, minPiece - 1, minPiece, minPiece + 1, 3 * minPiece, 5<<20 - 1, 5 << 20} {
		want := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		b := newBodyBudget(64 << 20)
		bd, err := b.read(post(bytes.NewReader(want)), addrA, 5<<20, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if b.used > int64(2*n+minPiece) {
			t.Errorf("%d bytes hold %d", n, b.used)
		}
		got, err := io.ReadAll(bd)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v, want %d", len(got), err, n)
		}
		if b.used != 0 || len(b.sources) != 0 {
			t.Errorf("%d bytes of %d addresses are held after the end", b.used, len(b.sources))
		}
		bd.close()
	}
}

func TestBodyTooLarge(t *testing.T) {
	b := newBodyBudget(64 << 20)
	for _, length := range []int64{-1, 100_001} {
		r := post(bytes.NewReader(make([]byte, 100_001)))
		r.ContentLength = length
		if _, err := b.read(r, addrA, 100_000, func() {}); !errors.Is(err, errTooLarge) {
			t.Errorf("length %d: %v", length, err)
		}
	}
	if b.used != 0 {
		t.Errorf("%d bytes are held", b.used)
	}
}

// TestBodyBudget lets one address stall more than the budget allows: only its own requests
// suffer, and another address is read.
func TestBodyBudget(t *testing.T) {
	const room, each = 4 << 20, 1 << 20
	b := newBodyBudget(room)
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	var bodies []*stalledBody
	for range cap(errs) {
		s := newStalledBody(each)
		bodies = append(bodies, s)
		var once sync.Once
		stop := func() { once.Do(func() { close(s.done) }) }
		wg.Go(func() {
			_, err := b.read(post(s), addrA, 2*each, stop)
			errs <- err
		})
		select {
		case <-s.sent:
		case <-s.done:
		}
	}
	bd, err := b.read(post(strings.NewReader("a review")), addrB, 2*each, func() { t.Error("the other address gave way") })
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(bd); string(got) != "a review" {
		t.Errorf("read %q", got)
	}
	if b.peak > room {
		t.Errorf("%d bytes were held, of %d", b.peak, room)
	}
	evicted := 0
	for _, s := range bodies {
		select {
		case <-s.done:
			evicted++
		default:
		}
	}
	if evicted < cap(errs)-room/each {
		t.Errorf("%d of %d gave way", evicted, cap(errs))
	}
	for i, s := range bodies {
		select {
		case <-s.done:
		default:
			if i < len(bodies)/2 {
				t.Errorf("body %d stayed, which is stalled longer than others", i)
			}
			close(s.done)
		}
	}
	wg.Wait()
	if b.used != 0 || len(b.sources) != 0 {
		t.Errorf("%d bytes of %d addresses are held after the end", b.used, len(b.sources))
	}
}

// TestPromisedBytesAreFree opens bodies that promise much and send nothing.
func TestPromisedBytesAreFree(t *testing.T) {
	b := newBodyBudget(4 << 20)
	var wg sync.WaitGroup
	var bodies []*stalledBody
	for range 1000 {
		s := newStalledBody(0)
		bodies = append(bodies, s)
		wg.Go(func() {
			r := post(s)
			r.ContentLength = 3 << 20
			_, _ = b.read(r, addrA, 3<<20, func() { t.Error("gave way") })
		})
		<-s.sent
	}
	if b.used > 1000*minPiece {
		t.Errorf("%d bytes are held", b.used)
	}
	for _, s := range bodies {
		close(s.done)
	}
	wg.Wait()
}

// TestBodyWaitingGivesWay evicts one that was read whole and waits for its turn.
func TestBodyWaitingGivesWay(t *testing.T) {
	b := newBodyBudget(1 << 20)
	stopped := false
	bd, err := b.read(post(bytes.NewReader(make([]byte, 600<<10))), addrA, 1<<20, func() { stopped = true })
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.read(post(bytes.NewReader(make([]byte, 300<<10))), addrB, 1<<20, func() { t.Error("the smaller one gave way") })
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if _, err := io.ReadAll(bd); !stopped || !errors.Is(err, errEvicted) {
		t.Errorf("stopped %v, %v", stopped, err)
	}
	if _, err := bd.weigh(); !errors.Is(err, errEvicted) {
		t.Error(err)
	}
}

func TestWeigh(t *testing.T) {
	for text, want := range map[string][2]int64{ // objects, commas
		`{"a":[{},{"b":"c,{"}],"d":"\"{,\\"}`: {3, 2},
		`"{`:                                  {0, 0},
		`"\`:                                  {0, 0},
		`}}}],{`:                              {1, 1},
		`{"a":{"b":{}},"c":[[],[1,2]]}`:       {3, 3},
	} {
		var whole, parts scanner
		whole.scan([]byte(text))
		for i := range text {
			parts.scan([]byte(text[i : i+1]))
		}
		if got := [2]int64{whole.objects, whole.commas}; whole != parts || got != want || whole.tooLarge {
			t.Errorf("%s: %v, want %v; in parts the same: %v", text, got, want, whole == parts)
		}
	}
	for name, tc := range map[string]struct {
		text     string
		tooLarge bool
	}{
		"many in one array": {"[" + strings.Repeat("{},", maxElements+1), true},
		"as many":           {"[" + strings.Repeat("{},", maxElements), false},
		"in several arrays": {strings.Repeat("["+strings.Repeat("{},", maxElements)+"],", 2), false},
		"many objects":      {strings.Repeat("[{},{}],", maxObjects/2+1), true},
		"deep":              {strings.Repeat("[", 10_000), true},
		"not as deep":       {strings.Repeat("[", maxDepth-1), false},
		"long":              {strings.Repeat(`"",`, maxReview/3), false},
	} {
		var s scanner
		s.scan([]byte(tc.text))
		if _, err := s.weight(int64(len(tc.text))); errors.Is(err, errTooLarge) != tc.tooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w, err := (&scanner{}).weight(maxReview); err != nil || 2*w > largeBytes {
		t.Errorf("%d, %v: two of the largest reviews do not fit", w, err)
	}
}

func TestTurns(t *testing.T) {
	turns := newTurns(100)
	release, err := turns.acquire(t.Context(), addrA, 1000) // counts as all
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	enter := func(source netip.Addr, name string) {
		wg.Go(func() {
			release, err := turns.acquire(t.Context(), source, 100)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			release()
		})
		for { // until it waits
			turns.mu.Lock()
			n := len(turns.waiting[source])
			turns.mu.Unlock()
			if strings.HasSuffix(name, fmt.Sprint(n)) {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	for i := range 5 {
		enter(addrA, fmt.Sprint("a", i+1))
	}
	enter(addrB, "b1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEvicted)
	if _, err := turns.acquire(ctx, addrB, 1); !errors.Is(err, errEvicted) {
		t.Errorf("one that gave up: %v", err)
	}
	release()
	wg.Wait()
	if want := []string{"a1", "b1", "a2", "a3", "a4", "a5"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	if turns.free != turns.limit || len(turns.waiting) != 0 || len(turns.order) != 0 {
		t.Errorf("%d of %d free, %d addresses wait", turns.free, turns.limit, len(turns.order))
	}
}
