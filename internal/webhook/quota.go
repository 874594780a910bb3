// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Bounds of the quota's bookkeeping, see quota.
const (
	// shareAtOnce is the part of what is left, 1/shareAtOnce, that may be let in
	// without having been seen. So from 100 left it is one job at a time.
	shareAtOnce = 50
	// patience is how long a request waits for its turn.
	patience = 900 * time.Millisecond
	// usualLag is longer than a job that was let in takes to be seen, unless
	// something refused it after us. After this time it is not waited for.
	usualLag = 2 * time.Second
	// longestRequest is longer than the API server takes for a request. A job that was
	// let in and not seen after this time will never be.
	longestRequest = time.Minute
)

// errBusy says that a request's turn did not come in time.
var errBusy = errors.New("what was let in before is not in the cache yet")

// quotaKind is what a quota counts, and how that is spoken of.
type quotaKind struct {
	annotation string // of a namespace, its own limit
	what       string // as in "fewer than 10 jobs"
	done       string // as in "2 more just submitted"
}

var (
	jobQuota = quotaKind{v1alpha1.AnnotationJobQuota, "jobs, finished ones included", "submitted"}
	envQuota = quotaKind{v1alpha1.AnnotationEnvQuota, "ComputeEnvs", "created"}
)

// quota decides how many objects of a kind a namespace may keep, without asking anybody; what
// follows speaks of jobs. It hears of jobs and namespaces through informers, which lag behind: so it remembers the names that
// it has let in until it hears of them, and counts them as kept.
//
// One manager alone never lets in a job too many. Several do not know of each other's,
// so each lets in no more than a small part of what is left before it has seen them, and
// near the limit one. As what it sees comes in the order in which it was stored, seeing
// its own last job means that it has seen all that others stored before. So each lets in
// at most one job after the limit was reached; max(1, n/shareAtOnce) if its informer is n
// jobs behind at that moment.
type quota struct {
	kind  quotaKind
	limit int64 // of a namespace that has none of its own; 0 means none

	mu       sync.Mutex
	accounts map[string]*account // by namespace
}

// account is what is known of one namespace.
type account struct {
	known  bool   // the namespace was seen, and with it the next two
	limit  *int64 // its own
	broken string // its annotation, when that is no limit

	kept    map[string]struct{}  // names of the jobs that were seen
	letIn   map[string]time.Time // names of the jobs that were let in and not seen, and when
	changed chan struct{}        // closed at the next change; nil if nobody waits for it
	first   chan struct{}        // holds an item while somebody waits for a turn
}

func newQuota(kind quotaKind, limit int64) *quota {
	return &quota{kind: kind, limit: limit, accounts: map[string]*account{}}
}

// answer is what the quota says to one job. The zero value means: let in.
type answer struct {
	refusal string // a sentence
	warning string // a sentence
}

// admit decides on one job more. With reserve the job is let in and counted from now on;
// without, nothing changes. A name that is kept already costs nothing, so that the API
// server can say that it exists. It waits for its turn, for patience at most, and then
// returns errBusy.
func (q *quota) admit(ctx context.Context, namespace, name string, reserve bool) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	acc, a, wait := q.try(namespace, name, reserve, nil)
	if wait == nil {
		return a, nil
	}
	// Those who wait stand in a line; only the first looks whether it is its turn.
	select {
	case acc.first <- struct{}{}:
		defer func() { <-acc.first }()
	case <-ctx.Done():
		return answer{}, errBusy
	}
	for {
		now, a, wait := q.try(namespace, name, reserve, acc)
		if wait == nil {
			return a, nil
		}
		if now != acc {
			return answer{}, errBusy // the namespace went and came back
		}
		select {
		case <-wait.changed:
		case <-time.After(wait.in):
		case <-ctx.Done():
			return answer{}, errBusy
		}
	}
}

// wait is when to try again: at a change, and anyway in some time.
type wait struct {
	changed <-chan struct{}
	in      time.Duration
}

// try is admit without waiting: it returns an answer, or when to try again. first is the
// account if the caller is the first of those who wait for it; else nobody may be waiting.
func (q *quota) try(namespace, name string, reserve bool, first *account) (*account, answer, *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acc, now := q.account(namespace), time.Now()
	if !acc.known {
		return acc, answer{}, &wait{acc.nextChange(), patience} // it is new, and its informer late
	}
	recent, oldest := acc.forget(now)
	limit, a := q.limitOf(acc)
	_, kept := acc.kept[name]
	_, letIn := acc.letIn[name]
	if limit == 0 || kept || letIn {
		return acc, a, nil
	}
	left := limit - int64(len(acc.kept)+len(acc.letIn))
	if left <= 0 {
		a.refusal = q.refusal(acc, limit)
		return acc, a, nil
	}
	if !reserve {
		return acc, a, nil
	}
	if recent >= max(1, left/shareAtOnce) {
		return acc, answer{}, &wait{acc.nextChange(), usualLag - now.Sub(oldest)}
	}
	if acc != first && len(acc.first) > 0 {
		return acc, answer{}, &wait{}
	}
	acc.letIn[name] = now
	return acc, a, nil
}

// limitOf returns the limit of a namespace, and a warning where the one that it was
// given is none.
func (q *quota) limitOf(acc *account) (int64, answer) {
	switch {
	case acc.limit != nil:
		return *acc.limit, answer{}
	case acc.broken != "":
		return q.limit, answer{warning: fmt.Sprintf(
			"the namespace's annotation %s must be a number from 0, got %s; the default, %d, applies",
			q.kind.annotation, acc.broken, q.limit)}
	}
	return q.limit, answer{}
}

// forget drops the names that were let in so long ago that they will never be seen. It
// returns how many of the rest are recent, and when the oldest of these was let in.
func (a *account) forget(now time.Time) (recent int64, oldest time.Time) {
	oldest = now
	for name, at := range a.letIn {
		switch age := now.Sub(at); {
		case age >= longestRequest:
			delete(a.letIn, name)
		case age < usualLag:
			recent++
			if at.Before(oldest) {
				oldest = at
			}
		}
	}
	return recent, oldest
}

// refusal is the sentence for a namespace that is full.
func (q *quota) refusal(acc *account, limit int64) string {
	coming := ""
	if n := len(acc.letIn); n > 0 {
		coming = fmt.Sprintf(", and %d more just %s", n, q.kind.done)
	}
	return fmt.Sprintf("must be a namespace that keeps fewer than %d %s; it has %d%s", limit, q.kind.what, len(acc.kept), coming)
}

// nextChange is closed at the next change of the account.
func (a *account) nextChange() <-chan struct{} {
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

// account returns that of a namespace.
func (q *quota) account(namespace string) *account {
	acc := q.accounts[namespace]
	if acc == nil {
		acc = &account{kept: map[string]struct{}{}, letIn: map[string]time.Time{}, first: make(chan struct{}, 1)}
		q.accounts[namespace] = acc
	}
	return acc
}

// change changes the account of a namespace and wakes those who wait for that.
func (q *quota) change(namespace string, f func(*account)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acc := q.account(namespace)
	f(acc)
	if acc.changed != nil {
		close(acc.changed)
		acc.changed = nil
	}
	if !acc.known && len(acc.kept) == 0 {
		delete(q.accounts, namespace)
	}
}

// saw, sawGone, sawNamespace and sawNoNamespace are told by the informers.

func (q *quota) saw(namespace, name string) {
	q.change(namespace, func(a *account) {
		a.kept[name] = struct{}{}
		delete(a.letIn, name)
	})
}

func (q *quota) sawGone(namespace, name string) {
	q.change(namespace, func(a *account) { delete(a.kept, name) })
}

func (q *quota) sawNamespace(name string, annotations map[string]string) {
	q.change(name, func(a *account) {
		a.known, a.limit, a.broken = true, nil, ""
		text, ok := annotations[q.kind.annotation]
		if !ok {
			return
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			a.limit = &n
		} else {
			a.broken = quoted(text)
		}
	})
}

func (q *quota) sawNoNamespace(name string) {
	q.change(name, func(a *account) { a.known = false })
}
