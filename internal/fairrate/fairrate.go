// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fairrate is the client's rate limiter for requests to the API server: a token bucket that
// serves the tenants that wait for tokens round-robin. It is stateful: it has a lock and a timer.
//
// As in client-go's token bucket there are at most burst tokens, qps new ones are added in a second, and
// each request takes one. But client-go serves the requests that wait in the order in which they came, so
// that one request waits for all requests of others before it. Here each tenant gets one token in its
// turn; within a tenant the order is that in which requests came.
package fairrate

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// tenantKey is the context's key of the tenant's name.
type tenantKey struct{}

// WithTenant returns a context for requests that are made for a tenant. Those without one are one
// tenant together.
func WithTenant(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, tenantKey{}, name)
}

// Limiter is a client's rate limiter: client-go's interface flowcontrol.RateLimiter. Its methods may
// be called at the same time.
type Limiter struct {
	qps, burst float64
	clock      clock.WithDelayedExecution

	mu      sync.Mutex
	tokens  float64
	counted time.Time // when tokens was right
	waiting map[string]*tenant
	queue   []*tenant // those that wait; the first gets the next token
	timer   clock.Timer
}

// tenant has the requests of one tenant that wait, the first in front.
type tenant struct {
	name     string
	requests []*request
}

// request waits for a token.
type request struct {
	granted  chan struct{} // closed when it has one
	canceled bool          // nobody waits for it any more
}

// New returns a limiter with burst tokens, which gets qps tokens a second, both above 0.
func New(qps float64, burst int, c clock.WithDelayedExecution) *Limiter {
	return &Limiter{qps: qps, burst: float64(burst), clock: c, tokens: float64(burst), counted: c.Now(), waiting: map[string]*tenant{}}
}

// QPS is how many requests a second the limiter allows.
func (l *Limiter) QPS() float32 { return float32(l.qps) }

// Stop does nothing.
func (l *Limiter) Stop() {}

// TryAccept takes a token if there is one that nobody waits for.
func (l *Limiter) TryAccept() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

// Accept waits for a token.
func (l *Limiter) Accept() { _ = l.Wait(context.Background()) }

// Wait waits for a token. It returns the context's error if that ends first.
func (l *Limiter) Wait(ctx context.Context) error {
	l.mu.Lock()
	if l.take() {
		l.mu.Unlock()
		return nil
	}
	name, _ := ctx.Value(tenantKey{}).(string)
	r := &request{granted: make(chan struct{})}
	l.enqueue(name, r)
	l.setTimer()
	l.mu.Unlock()
	select {
	case <-r.granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-r.granted: // at the same moment
		return nil
	default:
	}
	r.canceled = true
	return context.Cause(ctx)
}

// take takes a token if there is one and nobody waits.
func (l *Limiter) take() bool {
	l.count()
	if len(l.queue) > 0 || l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// count adds the tokens of the time since they were last counted. A clock that was set back adds none.
func (l *Limiter) count() {
	now := l.clock.Now()
	l.tokens = min(l.burst, l.tokens+max(0, now.Sub(l.counted).Seconds())*l.qps)
	l.counted = now
}

func (l *Limiter) enqueue(name string, r *request) {
	t := l.waiting[name]
	if t == nil {
		t = &tenant{name: name}
		l.waiting[name] = t
		l.queue = append(l.queue, t)
	}
	t.requests = append(t.requests, r)
}

// serve gives the tokens that there are to those who wait.
func (l *Limiter) serve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = nil
	l.count()
	for len(l.queue) > 0 && l.tokens >= 1 {
		t := l.queue[0]
		l.queue[0], l.queue = nil, l.queue[1:]
		for len(t.requests) > 0 {
			r := t.requests[0]
			t.requests[0], t.requests = nil, t.requests[1:]
			if !r.canceled {
				close(r.granted)
				l.tokens--
				break
			}
		}
		if len(t.requests) > 0 {
			l.queue = append(l.queue, t)
		} else {
			delete(l.waiting, t.name)
		}
	}
	l.setTimer()
}

// setTimer has serve called when there is the next token, if anybody waits.
func (l *Limiter) setTimer() {
	if l.timer != nil || len(l.queue) == 0 {
		return
	}
	// A nanosecond more: the time is rounded down.
	l.timer = l.clock.AfterFunc(time.Duration((1-l.tokens)/l.qps*float64(time.Second))+1, l.serve)
}
