// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package topic

import (
	"errors"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/notify/sink"
)

const (
	// idle is how long a sink that nobody uses stays open.
	idle = 2 * time.Minute
	// maxIdle is how many sinks are open when one that is released stays open.
	maxIdle = 256
)

var errClosed = errors.New("the operator is shutting down")

// openSink is a sink that can be closed.
type openSink interface {
	sink.Sink
	Close()
}

// cache shares sinks by their configuration.
type cache struct {
	mu     sync.Mutex
	sinks  map[string]*entry // by receiver.identity
	closed bool
}

// entry is an open sink.
type entry struct {
	sink  openSink
	users int
	// timer closes the sink. It runs only while there are no users.
	timer *time.Timer
}

func newCache() *cache { return &cache{sinks: map[string]*entry{}} }

// open returns the sink of a receiver, and what must be called when it is no longer used.
func (c *cache) open(r receiver) (sink.Sink, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errClosed
	}
	e := c.sinks[r.identity]
	if e == nil {
		s, err := r.open()
		if err != nil {
			return nil, nil, err
		}
		e = &entry{sink: s}
		e.timer = time.AfterFunc(idle, func() { c.expire(r.identity, e) })
		c.sinks[r.identity] = e
	}
	e.timer.Stop() // if it is too late, expire sees that there are users
	e.users++
	return e.sink, sync.OnceFunc(func() { c.release(r.identity, e) }), nil
}

// release counts a user less.
func (c *cache) release(identity string, e *entry) {
	c.mu.Lock()
	e.users--
	last := e.users == 0
	remove := last && (c.closed || len(c.sinks) > maxIdle)
	switch {
	case remove:
		delete(c.sinks, identity)
	case last:
		e.timer.Reset(idle)
	}
	c.mu.Unlock()
	if remove {
		e.sink.Close()
	}
}

// expire closes a sink that has had no users for a while.
func (c *cache) expire(identity string, e *entry) {
	c.mu.Lock()
	remove := e.users == 0 && c.sinks[identity] == e
	if remove {
		delete(c.sinks, identity)
	}
	c.mu.Unlock()
	if remove {
		e.sink.Close()
	}
}

// close closes the sinks that have no users.
func (c *cache) close() {
	c.mu.Lock()
	c.closed = true
	var unused []*entry
	for identity, e := range c.sinks {
		if e.users == 0 {
			e.timer.Stop()
			delete(c.sinks, identity)
			unused = append(unused, e)
		}
	}
	c.mu.Unlock()
	for _, e := range unused {
		e.sink.Close()
	}
}
