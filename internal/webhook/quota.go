// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"sync"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Bounds of the quota's bookkeeping, see quota.
const (
	// shareAtOnce: 1/shareAtOnce of the remaining capacity may be admitted before the
	// informer has shown it. So with less than 100 left, it is one job at a time.
	shareAtOnce = 50
	// turnTimeout is how long a request waits for its turn.
	turnTimeout = 900 * time.Millisecond
	// usualLag is longer than the informer takes to show an admitted job, unless something
	// refused the job after us. After this time no request waits for it.
	usualLag = 2 * time.Second
	// longestRequest is longer than the API server takes for a request. If the informer has
	// not shown an admitted job by then, the job was not stored.
	longestRequest = time.Minute
	// maxReserved bounds the reservations of one namespace, and so the memory that forged
	// requests can use.
	maxReserved = 1000
)

// errBusy means that the turn of a request did not come in time, errNoNamespace that the informer
// did not show its namespace in time.
var (
	errBusy        = errors.New("objects that were admitted before are not in the cache yet")
	errNoNamespace = errors.New("the namespace is not in the cache yet")
)

// quotaKind is what a quota counts, and the words for it.
type quotaKind struct {
	annotation      string // of a namespace, with its own limit
	bytesAnnotation string // the same for the sizes; empty: they are not counted
	what            string // as in "the namespace keeps 10 BatchJobs"
	remedy          string // how a user gets capacity back
}

var (
	jobQuota = quotaKind{v1alpha1.AnnotationJobQuota, v1alpha1.AnnotationJobBytesQuota,
		"BatchJobs, including finished ones", "delete finished ones"}
	envQuota      = quotaKind{v1alpha1.AnnotationEnvQuota, "", "ComputeEnvs", "delete unused ones"}
	templateQuota = quotaKind{v1alpha1.AnnotationTemplateQuota, "", "TaskTemplates", "delete unused ones"}
)

// amount is a number of objects and their sizes together.
type amount struct{ objects, bytes int64 }

func (a amount) plus(b amount) amount  { return amount{a.objects + b.objects, a.bytes + b.bytes} }
func (a amount) minus(b amount) amount { return amount{a.objects - b.objects, a.bytes - b.bytes} }

// fits reports whether a is within a limit.
func (a amount) fits(limit amount) bool { return a.objects <= limit.objects && a.bytes <= limit.bytes }

// quota limits how many objects of a kind a namespace may keep, and how many bytes they may
// take together, without a call; the following speaks of jobs. Informers tell it about jobs and
// namespaces, with some lag. So it makes a reservation for each job that it admits, and counts
// that until the informer has shown the job.
//
// One manager alone never exceeds a limit. Several managers do not know each other's reservations,
// so each admits only a small part of the remaining capacity before its informer has shown the jobs,
// and one job near the limit. The informer shows jobs in the order in which they were stored, so a
// manager whose informer has shown its own last job has also seen what others stored before. So
// each admits at most one job after the limit was reached, or max(1, n/shareAtOnce) if its
// informer lags by n jobs at that moment. The same holds for bytes: one job, or 1/shareAtOnce of the
// remaining capacity.
//
// An admission request does not prove that a job is being created: somebody may have forged it.
// So a reservation never refuses a request; only stored jobs do. If reservations use the remaining
// capacity, a request waits and is then told to retry. Meanwhile reservations older than
// storeTime are looked up in the API server, and end if it has no such job. A namespace that
// the informer has not shown has no account, so requests for it use no memory.
type quota struct {
	kind  quotaKind
	limit amount       // of a namespace without its own; 0 means no limit
	live  objectReader // looks up reservations; nil: they end after longestRequest only

	mu       sync.Mutex
	accounts map[string]*account // by namespace
	arrived  chan struct{}       // closed when the next namespace is seen; nil if nobody waits for it
	checks   gate
}

// objectReader reads objects from the API server.
type objectReader interface {
	exists(ctx context.Context, namespace, name string) (bool, error)
}

// account is the state of one namespace.
type account struct {
	known bool     // the informer has shown the namespace; the next two are set
	count ownLimit // its own limits
	bytes ownLimit

	kept     map[string]int64 // the sizes of the jobs that the informer has shown, by name
	stored   amount           // the sum of kept
	reserved map[string]reservation
	unseen   amount // the sum of reserved

	checking  bool      // a check of reservations is in flight
	nextCheck time.Time // the earliest time of the next one

	changed chan struct{} // closed at the next change; nil if nobody waits for it
	first   chan struct{} // has an item while a request waits for its turn
}

// reservation is a job that was admitted and that the informer has not shown.
type reservation struct {
	at      time.Time // when it was admitted
	checked time.Time // when a check last found it in the API server; zero: never
	bytes   int64
}

func (r reservation) amount() amount { return amount{1, r.bytes} }

func newQuota(kind quotaKind, limit amount) *quota {
	return &quota{kind: kind, limit: limit, accounts: map[string]*account{}, checks: make(gate, maxChecks)}
}

// claim is a request for capacity for one object.
type claim struct {
	namespace, name string
	bytes           int64
	// reserve makes a reservation for the object if it is admitted. Without it, nothing changes.
	reserve bool
}

// answer is the decision about one claim. The zero value admits it.
type answer struct {
	refusal string   // a sentence
	warning []string // sentences
}

// admit decides about one claim. A name that exists already takes no capacity, so that the API
// server can answer that it exists. A claim with reserve waits for its turn, at most turnTimeout, and
// then gets errBusy; one without is only compared with what is stored.
func (q *quota) admit(ctx context.Context, c claim) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	acc, a, wait := q.try(c, nil)
	for acc == nil && wait != nil { // the namespace is new, and its informer lags
		if !wait.wait(ctx) {
			return answer{}, errNoNamespace
		}
		acc, a, wait = q.try(c, nil)
	}
	if wait == nil {
		return a, nil
	}
	// Requests that wait form a queue; only the first tries again.
	select {
	case acc.first <- struct{}{}:
		defer func() { <-acc.first }()
	case <-ctx.Done():
		return answer{}, errBusy
	}
	for {
		now, a, wait := q.try(c, acc)
		if wait == nil {
			return a, nil
		}
		if now != acc || !wait.wait(ctx) {
			return answer{}, errBusy // the namespace was deleted and created again, or the time is over
		}
	}
}

// wait is when to try again: at a change, and in some time at the latest.
type wait struct {
	changed <-chan struct{}
	in      time.Duration
}

// wait waits; false when ctx ended first.
func (w *wait) wait(ctx context.Context) bool {
	select {
	case <-w.changed:
	case <-time.After(w.in):
	case <-ctx.Done():
		return false
	}
	return true
}

// try is admit without waiting: it returns an answer, or when to try again. first is the
// account if the caller is the first in its queue; otherwise the queue must be empty. It
// returns no account for a namespace that the informer has not shown.
func (q *quota) try(c claim, first *account) (*account, answer, *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acc, now := q.accounts[c.namespace], time.Now()
	if acc == nil || !acc.known {
		return nil, answer{}, &wait{q.nextNamespace(), turnTimeout}
	}
	recent, oldest := acc.forget(now)
	limit, a := q.limits(acc)
	_, kept := acc.kept[c.name]
	before, reserved := acc.reserved[c.name]
	if limit == noLimit || kept || reserved && c.bytes <= before.bytes {
		return acc, a, nil
	}
	more := amount{1, c.bytes}
	if a.refusal = q.refusal(acc.stored, more, limit); a.refusal != "" || !c.reserve {
		return acc, a, nil
	}
	have := acc.stored.plus(acc.unseen)
	if reserved { // the same job, but larger
		have = have.minus(before.amount())
	}
	if !have.plus(more).fits(limit) || len(acc.reserved) >= maxReserved {
		return acc, answer{}, &wait{acc.nextChange(), q.check(c.namespace, acc, now)}
	}
	if left := limit.minus(have); recent.objects > 0 &&
		(recent.objects >= max(1, left.objects/shareAtOnce) || recent.bytes+c.bytes > left.bytes/shareAtOnce) {
		return acc, answer{}, &wait{acc.nextChange(), usualLag - now.Sub(oldest)}
	}
	if acc != first && len(acc.first) > 0 {
		return acc, answer{}, &wait{}
	}
	acc.drop(c.name)
	acc.reserved[c.name] = reservation{at: now, bytes: c.bytes}
	acc.unseen = acc.unseen.plus(more)
	return acc, a, nil
}

// forget drops the reservations that are so old that their jobs were not stored. It
// returns how many of the others are recent, and when the oldest of these was made.
func (a *account) forget(now time.Time) (recent amount, oldest time.Time) {
	oldest = now
	for name, r := range a.reserved {
		switch age := now.Sub(r.at); {
		case age >= longestRequest && now.Sub(r.checked) >= longestRequest:
			a.drop(name)
		case age < usualLag:
			recent = recent.plus(r.amount())
			if r.at.Before(oldest) {
				oldest = r.at
			}
		}
	}
	return recent, oldest
}

// drop ends a reservation, if there is one of this name.
func (a *account) drop(name string) {
	if r, ok := a.reserved[name]; ok {
		a.unseen = a.unseen.minus(r.amount())
		delete(a.reserved, name)
	}
}

// nextChange is closed at the next change of the account.
func (a *account) nextChange() <-chan struct{} {
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}

// wake wakes those who wait for a change.
func (a *account) wake() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// nextNamespace is closed when the next namespace is seen.
func (q *quota) nextNamespace() <-chan struct{} {
	if q.arrived == nil {
		q.arrived = make(chan struct{})
	}
	return q.arrived
}

// change changes the account of a namespace that an informer told of, and wakes those who
// wait for that.
func (q *quota) change(namespace string, f func(*account)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acc := q.accounts[namespace]
	if acc == nil {
		acc = &account{kept: map[string]int64{}, reserved: map[string]reservation{}, first: make(chan struct{}, 1)}
		q.accounts[namespace] = acc
	}
	known := acc.known
	f(acc)
	acc.wake()
	if acc.known && !known && q.arrived != nil {
		close(q.arrived)
		q.arrived = nil
	}
	if !acc.known && len(acc.kept) == 0 {
		delete(q.accounts, namespace)
	}
}

// saw, sawGone, sawNamespace and sawNoNamespace are told by the informers.

func (q *quota) saw(namespace, name string, bytes int64) {
	q.change(namespace, func(a *account) {
		a.drop(name)
		a.sawGone(name)
		a.kept[name] = bytes
		a.stored = a.stored.plus(amount{1, bytes})
	})
}

func (q *quota) sawGone(namespace, name string) {
	q.change(namespace, func(a *account) { a.sawGone(name) })
}

func (a *account) sawGone(name string) {
	if bytes, ok := a.kept[name]; ok {
		a.stored = a.stored.minus(amount{1, bytes})
		delete(a.kept, name)
	}
}

func (q *quota) sawNamespace(name string, annotations map[string]string) {
	q.change(name, func(a *account) {
		a.known = true
		a.count = readLimit(annotations, q.kind.annotation, parseCount)
		a.bytes = readLimit(annotations, q.kind.bytesAnnotation, ParseBytes)
	})
}

func (q *quota) sawNoNamespace(name string) {
	q.change(name, func(a *account) { a.known = false })
}
