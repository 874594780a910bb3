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
	// maxReserved bounds the reservations of one namespace, and so what forged requests can
	// make the manager remember.
	maxReserved = 1000
)

// errBusy says that a request's turn did not come in time, errNoNamespace that its namespace
// did not.
var (
	errBusy        = errors.New("what was let in before is not in the cache yet")
	errNoNamespace = errors.New("the namespace is not in the cache yet")
)

// quotaKind is what a quota counts, and how that is spoken of.
type quotaKind struct {
	annotation      string // of a namespace, its own limit
	bytesAnnotation string // the same for the sizes; empty: they are not counted
	what            string // as in "fewer than 10 jobs"
}

var (
	jobQuota = quotaKind{v1alpha1.AnnotationJobQuota, v1alpha1.AnnotationJobBytesQuota, "jobs, finished ones included"}
	envQuota = quotaKind{v1alpha1.AnnotationEnvQuota, "", "ComputeEnvs"}
)

// amount is a number of objects and their sizes together.
type amount struct{ objects, bytes int64 }

func (a amount) plus(b amount) amount  { return amount{a.objects + b.objects, a.bytes + b.bytes} }
func (a amount) minus(b amount) amount { return amount{a.objects - b.objects, a.bytes - b.bytes} }

// fits reports whether a is within a limit.
func (a amount) fits(limit amount) bool { return a.objects <= limit.objects && a.bytes <= limit.bytes }

// quota decides how many objects of a kind a namespace may keep, and how many bytes they may
// take together, without asking anybody; what follows speaks of jobs. It hears of jobs and
// namespaces through informers, which lag behind: so it makes a reservation for each job that
// it lets in, and counts that until it hears of the job.
//
// One manager alone never lets in a job too many. Several do not know of each other's,
// so each lets in no more than a small part of what is left before it has seen them, and
// near the limit one. As what it sees comes in the order in which it was stored, seeing
// its own last job means that it has seen all that others stored before. So each lets in
// at most one job after the limit was reached; max(1, n/shareAtOnce) if its informer is n
// jobs behind at that moment. The same holds for bytes: one job, or a shareAtOnce-th of what
// is left.
//
// An admission request is no proof that a job is being created: somebody may have forged it.
// So a reservation never refuses anything. Only jobs that were seen do; where reservations
// take up what is left a request waits, and is told to try again. Meanwhile those that are
// older than storeTime are looked up in the API server, and end if it has no such job. A namespace
// that was not seen has no account, so requests about it leave nothing behind.
type quota struct {
	kind  quotaKind
	limit amount       // of a namespace that has none of its own; 0 means none
	live  objectReader // looks reservations up; nil: they end after longestRequest only

	mu       sync.Mutex
	accounts map[string]*account // by namespace
	arrived  chan struct{}       // closed when the next namespace is seen; nil if nobody waits for it
	checks   gate
}

// objectReader knows what the API server has at this moment.
type objectReader interface {
	exists(ctx context.Context, namespace, name string) (bool, error)
}

// account is what is known of one namespace.
type account struct {
	known bool     // the namespace was seen, and with it the next two
	count ownLimit // its own limits
	bytes ownLimit

	kept     map[string]int64 // the jobs that were seen, by name, and their sizes
	stored   amount           // the sum of kept
	reserved map[string]reservation
	unseen   amount // the sum of reserved

	checking  bool      // a check of reservations is in flight
	nextCheck time.Time // not before this time is another one begun

	changed chan struct{} // closed at the next change; nil if nobody waits for it
	first   chan struct{} // holds an item while somebody waits for a turn
}

// reservation is a job that was let in and not seen.
type reservation struct {
	at      time.Time // when it was let in
	checked time.Time // when the API server last had it; zero: it was not asked
	bytes   int64
}

func (r reservation) amount() amount { return amount{1, r.bytes} }

func newQuota(kind quotaKind, limit amount) *quota {
	return &quota{kind: kind, limit: limit, accounts: map[string]*account{}, checks: make(gate, maxChecks)}
}

// claim is one object more.
type claim struct {
	namespace, name string
	bytes           int64
	// reserve makes a reservation for the object if it is let in; without, nothing changes.
	reserve bool
}

// answer is what the quota says to one job. The zero value means: let in.
type answer struct {
	refusal string   // a sentence
	warning []string // sentences
}

// admit decides on one job more. A name that is kept already costs nothing, so that the API
// server can say that it exists. A claim with reserve waits for its turn, for patience at most, and
// then gets errBusy; one without is only compared with what is stored.
func (q *quota) admit(ctx context.Context, c claim) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	acc, a, wait := q.try(c, nil)
	for acc == nil && wait != nil { // the namespace is new, and its informer late
		if !wait.wait(ctx) {
			return answer{}, errNoNamespace
		}
		acc, a, wait = q.try(c, nil)
	}
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
		now, a, wait := q.try(c, acc)
		if wait == nil {
			return a, nil
		}
		if now != acc || !wait.wait(ctx) {
			return answer{}, errBusy // the namespace went and came back, or the time is over
		}
	}
}

// wait is when to try again: at a change, and anyway in some time.
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
// account if the caller is the first of those who wait for it; else nobody may be waiting. It
// returns no account for a namespace that was not seen.
func (q *quota) try(c claim, first *account) (*account, answer, *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acc, now := q.accounts[c.namespace], time.Now()
	if acc == nil || !acc.known {
		return nil, answer{}, &wait{q.nextNamespace(), patience}
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
	if reserved { // the same job, and larger
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

// forget drops the reservations that are so old that their jobs will never be seen. It
// returns how many of the rest are recent, and when the oldest of these was made.
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
