// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"batchcompute.dev/operator/internal/limit"
)

// Of the calls of one kind in one namespace so many may be under way at once, those of all passes
// taken together. Which of the two least it is goes by whether somebody would wait: with more under
// way, the store and the scheduler do more in one go, so that an instance takes less of the
// processor; and everybody's calls take longer. From there it goes by what calls take.
const (
	leastAlone  = 32
	leastBeside = 2
	mostCalls   = 64
)

const (
	// fewCalls is what the passes of a small job take. They wait among themselves only.
	fewCalls = 4
	// besideFor is how long a job that makes few calls counts as one that others are beside of.
	besideFor = 10 * time.Second
	// unusedLimits is how long after the last call of a namespace its limits are forgotten; longer than a pass.
	unusedLimits = time.Hour
)

// limits bound the calls under way for single Pods. Each pass waits with one of a kind at a time,
// so that a job with many does not hold up one with few. Namespaces do not wait for each
// other: what makes calls slow in one, such as a webhook, need not do so in another.
type limits struct {
	alone, beside, most int
	clock               clock.PassiveClock

	mu          sync.Mutex
	byNamespace map[string]*namespaceLimits
	swept       time.Time
	few         time.Time                          // when a job that makes few calls made some
	many        map[types.NamespacedName]time.Time // when jobs last made many
}

// namespaceLimits are the limits of one namespace.
type namespaceLimits struct {
	few, many *verbLimits
	used      time.Time
}

// verbLimits are those of each verb.
type verbLimits struct {
	create, patch, delete, get *limit.Limiter
}

func newLimits(alone, beside, most int, c clock.PassiveClock) *limits {
	return &limits{
		alone: alone, beside: beside, most: most, clock: c,
		byNamespace: map[string]*namespaceLimits{}, many: map[types.NamespacedName]time.Time{},
	}
}

// of returns the limits for a pass of the job that makes so many calls.
func (l *limits) of(job types.NamespacedName, calls int) *verbLimits {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	n := l.byNamespace[job.Namespace]
	if n == nil {
		n = &namespaceLimits{few: l.newVerbs(), many: l.newVerbs()}
		l.byNamespace[job.Namespace] = n
	}
	n.used = now
	if calls <= fewCalls {
		if at, ok := l.many[job]; calls > 0 && (!ok || now.Sub(at) >= besideFor) {
			l.few = now
		}
		return n.few
	}
	l.many[job] = now
	least := l.alone
	if !l.few.IsZero() && now.Sub(l.few) < besideFor {
		least = l.beside
	}
	for _, verb := range []*limit.Limiter{n.many.create, n.many.patch, n.many.delete, n.many.get} {
		verb.SetLeast(least)
	}
	return n.many
}

func (l *limits) newVerbs() *verbLimits {
	a := func() *limit.Limiter { return limit.New(l.alone, l.most, l.clock) }
	return &verbLimits{create: a(), patch: a(), delete: a(), get: a()}
}

// sweep forgets what was not used for long.
func (l *limits) sweep(now time.Time) {
	if now.Sub(l.swept) < unusedLimits {
		return
	}
	l.swept = now
	maps.DeleteFunc(l.byNamespace, func(_ string, n *namespaceLimits) bool { return now.Sub(n.used) >= unusedLimits })
	maps.DeleteFunc(l.many, func(_ types.NamespacedName, at time.Time) bool { return now.Sub(at) >= besideFor })
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
