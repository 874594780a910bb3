// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"batchcompute.dev/operator/internal/limit"
)

// Of the calls of one kind in one namespace so many may be under way at once, those of all passes
// taken together. The least is what a control plane of two cores takes before calls begin to wait
// for each other; from there they go by what calls take.
const (
	leastCalls = 4
	mostCalls  = 64
)

// limits bound the calls under way for single Pods. Each pass waits with one of a kind at a time,
// so that a job with many does not hold up one with few. Namespaces do not wait for each
// other: what makes calls slow in one, such as a webhook, need not do so in another.
type limits struct {
	least, most int
	clock       clock.PassiveClock

	mu          sync.Mutex
	byNamespace map[string]*namespaceLimits
	swept       time.Time
}

// namespaceLimits are the limits of one namespace, by verb.
type namespaceLimits struct {
	create, patch, delete, get *limit.Limiter
	used                       time.Time
}

func newLimits(least, most int, c clock.PassiveClock) *limits {
	return &limits{least: least, most: most, clock: c, byNamespace: map[string]*namespaceLimits{}}
}

// unusedLimits is how long after the last call of a namespace its limits are forgotten; longer than a pass.
const unusedLimits = time.Hour

// of returns the limits of a namespace, for one pass.
func (l *limits) of(namespace string) *namespaceLimits {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) >= unusedLimits {
		l.swept = now
		for name, n := range l.byNamespace {
			if now.Sub(n.used) >= unusedLimits {
				delete(l.byNamespace, name)
			}
		}
	}
	n := l.byNamespace[namespace]
	if n == nil {
		a := func() *limit.Limiter { return limit.New(l.least, l.most, l.clock) }
		n = &namespaceLimits{create: a(), patch: a(), delete: a(), get: a()}
		l.byNamespace[namespace] = n
	}
	n.used = now
	return n
}

// together calls both, at the same time unless there may be but one call at once.
func (l *limits) together(one, other func()) {
	var wg sync.WaitGroup
	wg.Go(one)
	if l.most == 1 {
		wg.Wait()
	}
	wg.Go(other)
	wg.Wait()
}

// inParallel makes the calls do(0) to do(n-1), as many at once as the limiter allows, and joins
// the errors.
func inParallel(l *limit.Limiter, n int, do func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		end := l.Begin()
		wg.Go(func() {
			errs[i] = do(i)
			end(errs[i] == nil)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
