// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package membudget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// waiters are calls of Acquire that wait, in the order of their names.
type waiters struct {
	t    *testing.T
	g    *Gate
	open chan waiting
}

type waiting struct {
	name    string
	release func()
}

// add has a call wait, or pass, and returns when that is settled.
func (w *waiters) add(namespace, name string, size int) {
	w.t.Helper()
	before := w.settled()
	go func() {
		release, err := w.g.Acquire(context.Background(), namespace, size)
		if err == nil {
			w.open <- waiting{name, release}
		}
	}()
	for end := time.Now().Add(time.Minute); w.settled() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("a call of Acquire does not come in")
		}
	}
}

// settled counts those who have come in.
func (w *waiters) settled() string {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	n := 0
	for _, list := range w.g.waiting {
		n += len(list)
	}
	return fmt.Sprint(w.g.used, n)
}

// TestGateTakesTurns: namespaces take turns, whoever has asked more often, and one who needs much is not
// overtaken for ever.
func TestGateTakesTurns(t *testing.T) {
	w := &waiters{t, NewGate(10), make(chan waiting, 10)}
	first, err := w.g.Acquire(t.Context(), "a", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a1", "a2", "a3"} {
		w.add("a", name, 10)
	}
	w.add("b", "b1", 100) // more than there is
	w.add("c", "c1", 1)
	first()
	first() // and no more
	var order []string
	for range 5 {
		next := <-w.open
		order = append(order, next.name)
		next.release()
	}
	if got := strings.Join(order, " "); got != "a1 b1 c1 a2 a3" {
		t.Errorf("turns were %s", got)
	}
	if got := w.settled(); got != "0 0" {
		t.Errorf("at the end used and waiting are %s", got)
	}
}

// TestGateGivesUp: who gives up waiting is in nobody's way.
func TestGateGivesUp(t *testing.T) {
	g := NewGate(10)
	release, err := g.Acquire(t.Context(), "a", 6)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Acquire(ctx, "b", 6); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire gave %v", err)
	}
	other, err := g.Acquire(t.Context(), "c", 4)
	if err != nil {
		t.Fatal(err)
	}
	release()
	other()
	if g.used != 0 || len(g.waiting) != 0 || len(g.turns) != 0 {
		t.Errorf("left over: %+v", g)
	}
}

// shares is a scene: jobs are called as in "a/1", and those that are woken are noted.
type shares struct {
	*Shares
	woken []string
}

func newShares(limit int) *shares {
	s := &shares{Shares: NewShares(limit)}
	s.OnWake(func(j Job) { s.woken = append(s.woken, j.Name.String()) })
	return s
}

func nameOf(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func (s *shares) ask(text string, size int) bool { return s.Ask(Job{Name: nameOf(text), Size: size}) }

func (s *shares) wantWoken(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.woken, want) {
		t.Errorf("woken are %q, want %q", s.woken, want)
	}
	s.woken = nil
}

// TestSharesLeaveRoom: a namespace gets no more than it leaves free, however much it asks for, so that
// the next one gets something at once.
func TestSharesLeaveRoom(t *testing.T) {
	s := newShares(120)
	got := map[string]int{}
	for _, namespace := range []string{"a", "b", "c"} {
		for i := range 200 {
			if s.ask(fmt.Sprintf("%s/%03d", namespace, i), 1) {
				got[namespace]++
			}
		}
	}
	if got["a"] != 60 || got["b"] != 30 || got["c"] != 15 {
		t.Errorf("shares are %v", got)
	}
	if used, waiting := s.Used(); used != 105 || waiting != 3*200-105 {
		t.Errorf("%d used, %d wait", used, waiting)
	}
	if !s.ask("d/large", 15) {
		t.Error("the first job of a namespace does not get what is left")
	}
	if s.ask("e/large", 1) {
		t.Error("more was given than there is")
	}
}

func TestSharesWake(t *testing.T) {
	s := newShares(10)
	if !s.ask("a/1", 5) || s.ask("a/2", 5) || s.ask("a/3", 1) || !s.ask("b/1", 5) || s.ask("c/1", 3) {
		t.Fatal("not as the test wants it")
	}
	s.Release(nameOf("a/1"))
	s.wantWoken(t, "a/2", "c/1") // both have nothing
	s.Release(nameOf("a/unknown"))
	s.wantWoken(t) // once is enough
	if !s.ask("c/1", 3) || s.ask("a/2", 5) || s.Fits(nameOf("a/2")) {
		t.Error("the one that came first should have got it, and the other not")
	}
	s.Release(nameOf("b/1"))
	s.wantWoken(t, "a/2")
	if s.ask("a/3", 1) {
		t.Error("it went past one that is before it")
	}
	s.Release(nameOf("a/2")) // it is gone, or suspended
	s.wantWoken(t, "a/3")
	if !s.Fits(nameOf("a/3")) || !s.ask("a/3", 1) || !s.ask("a/3", 1) {
		t.Error("it is refused though it fits")
	}
}

func TestSharesOrder(t *testing.T) {
	s := newShares(10)
	s.Hold(nameOf("x/1"), 100) // it has started, so it is not asked whether it fits
	at := time.Unix(1000, 0)
	for _, j := range []Job{
		{Name: nameOf("a/low"), Size: 2, Priority: 1, Created: at},
		{Name: nameOf("a/new"), Size: 2, Priority: 5, Created: at.Add(time.Second)},
		{Name: nameOf("a/old"), Size: 2, Priority: 5, Created: at},
		{Name: nameOf("a/huge"), Size: 1000, Priority: 1, Created: at.Add(time.Second)}, // gets its turn when nothing else has started
	} {
		if s.Ask(j) {
			t.Errorf("%s may start", j.Name)
		}
	}
	s.Hold(nameOf("x/1"), 5) // that it has is known
	s.Release(nameOf("x/1"))
	var order []string
	for len(s.woken) > 0 {
		name := s.woken[0]
		s.woken = nil
		order = append(order, name)
		s.Hold(nameOf(name), 10)
		s.Release(nameOf(name))
	}
	if got := strings.Join(order, " "); got != "a/old a/new a/low a/huge" {
		t.Errorf("order is %s", got)
	}
	if used, waiting := s.Used(); used != 0 || waiting != 0 || len(s.held)+len(s.byNamespace)+len(s.queues) != 0 {
		t.Errorf("left over: %+v", s.Shares)
	}
}
