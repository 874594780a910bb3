// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package membudget

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Gate bounds how many bytes are in use at once by those that take them for a short time.
type Gate struct {
	limit int

	mu   sync.Mutex
	used int
	// turns are the namespaces that wait, the next first, and waiting those who wait, in turn.
	turns   []string
	waiting map[string][]*waiter
}

type waiter struct {
	size int
	// open is closed when its turn has come.
	open chan struct{}
}

// NewGate returns a gate for limit bytes, 1 or more.
func NewGate(limit int) *Gate { return &Gate{limit: limit, waiting: map[string][]*waiter{}} }

// Acquire waits until size bytes are free and it is the caller's turn, and takes them. More than the
// limit counts as the limit, so that there is always a time for it. The error is that of ctx. What
// it returns gives the bytes back, and may be called more than once.
func (g *Gate) Acquire(ctx context.Context, namespace string, size int) (release func(), err error) {
	w := &waiter{size: min(max(size, 0), g.limit), open: make(chan struct{})}
	g.mu.Lock()
	if len(g.waiting[namespace]) == 0 {
		g.turns = append(g.turns, namespace)
	}
	g.waiting[namespace] = append(g.waiting[namespace], w)
	g.admit()
	g.mu.Unlock()
	select {
	case <-w.open:
		return sync.OnceFunc(func() { g.release(w.size) }), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.open: // in the same moment
		g.used -= w.size
	default:
		g.remove(namespace, w)
	}
	g.admit()
	return nil, fmt.Errorf("waiting for memory: %w", ctx.Err())
}

func (g *Gate) release(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used -= size
	g.admit()
}

// admit admits those whose turn it is, as far as their sizes fit. g.mu is held.
func (g *Gate) admit() {
	for len(g.turns) > 0 {
		namespace := g.turns[0]
		w := g.waiting[namespace][0]
		if g.used > 0 && g.used+w.size > g.limit {
			return // nobody passes it, so that its turn comes
		}
		g.used += w.size
		close(w.open)
		g.remove(namespace, w)
		if len(g.waiting[namespace]) > 0 { // the others are first
			g.turns = append(slices.DeleteFunc(g.turns, func(n string) bool { return n == namespace }), namespace)
		}
	}
}

// remove takes one out who waits. g.mu is held.
func (g *Gate) remove(namespace string, w *waiter) {
	g.waiting[namespace] = slices.DeleteFunc(g.waiting[namespace], func(o *waiter) bool { return o == w })
	if len(g.waiting[namespace]) == 0 {
		delete(g.waiting, namespace)
		g.turns = slices.DeleteFunc(g.turns, func(n string) bool { return n == namespace })
	}
}
