// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Limits bound the calls of one verb in one namespace that are in flight, those of all passes together.
type Limits struct {
	// Min is the min limit while no other job makes few calls, and Contended the one while another job
	// does. With more calls in flight, the store and the scheduler batch more, so that an instance takes
	// less of the processor; but everybody's calls take longer. From the min limit the limit adapts to
	// the latency of calls, up to Max.
	Min, Contended, Max int
}

// DefaultLimits are the limits that suit an API server of any size.
var DefaultLimits = Limits{Min: 32, Contended: 2, Max: 64}

const (
	// fewCalls is what the passes of a small job make. They share limiters of their own.
	fewCalls = 4
	// contention is how long after its calls a job that makes few calls counts as contending.
	contention = 10 * time.Second
	// idleNamespace is how long after its last call a namespace is forgotten; longer than a pass.
	idleNamespace = time.Hour
)

// Calls bounds the calls in flight for single objects. Each pass waits with one call of a verb at a
// time, so that a job with many calls does not block one with few. Namespaces do not wait for each
// other: what makes calls slow in one, such as a webhook, need not do so in another.
type Calls struct {
	limits Limits
	clock  clock.PassiveClock

	mu         sync.Mutex
	namespaces map[string]*namespaceCalls
	swept      time.Time
	few        time.Time                          // when a job that makes few calls made some
	many       map[types.NamespacedName]time.Time // when jobs last made many
}

// namespaceCalls are the limiters of one namespace: those of jobs that make few calls, and of the others.
type namespaceCalls struct {
	few, many *Verbs
	used      time.Time
}

// Verbs are the limiters of each verb.
type Verbs struct {
	Create, Patch, Delete, Get *Limiter
}

// NewCalls returns limiters with these limits for each verb and namespace.
func NewCalls(l Limits, c clock.PassiveClock) *Calls {
	return &Calls{limits: l, clock: c, namespaces: map[string]*namespaceCalls{}, many: map[types.NamespacedName]time.Time{}}
}

// For returns the limiters for a pass of the job that makes so many calls.
func (c *Calls) For(job types.NamespacedName, calls int) *Verbs {
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	n := c.namespaces[job.Namespace]
	if n == nil {
		n = &namespaceCalls{few: c.newVerbs(), many: c.newVerbs()}
		c.namespaces[job.Namespace] = n
	}
	n.used = now
	if calls <= fewCalls {
		if at, ok := c.many[job]; calls > 0 && (!ok || now.Sub(at) >= contention) {
			c.few = now
		}
		return n.few
	}
	c.many[job] = now
	minLimit := c.limits.Min
	if !c.few.IsZero() && now.Sub(c.few) < contention {
		minLimit = c.limits.Contended
	}
	for _, verb := range []*Limiter{n.many.Create, n.many.Patch, n.many.Delete, n.many.Get} {
		verb.SetMinLimit(minLimit)
	}
	return n.many
}

// Max is the highest limit of a verb.
func (c *Calls) Max() int { return c.limits.Max }

func (c *Calls) newVerbs() *Verbs {
	l := func() *Limiter { return NewLimiter(c.limits.Min, c.limits.Max, c.clock) }
	return &Verbs{Create: l(), Patch: l(), Delete: l(), Get: l()}
}

// sweep forgets what was not used for long.
func (c *Calls) sweep(now time.Time) {
	if now.Sub(c.swept) < idleNamespace {
		return
	}
	c.swept = now
	maps.DeleteFunc(c.namespaces, func(_ string, n *namespaceCalls) bool { return now.Sub(n.used) >= idleNamespace })
	maps.DeleteFunc(c.many, func(_ types.NamespacedName, at time.Time) bool { return now.Sub(at) >= contention })
}

// Concurrently calls both functions at the same time, or one after the other where only one call may be
// in flight.
func (c *Calls) Concurrently(one, other func()) {
	var wg sync.WaitGroup
	wg.Go(one)
	if c.limits.Max == 1 {
		wg.Wait()
	}
	wg.Go(other)
	wg.Wait()
}
