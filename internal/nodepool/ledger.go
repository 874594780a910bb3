// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"container/heap"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/internal/plan"
)

// Job is a job that uses nodes, and its position in the queues for them.
type Job struct {
	Name types.NamespacedName
	plan.QueuePosition
}

// Offer is how many claims a job may have in a ComputeEnv.
type Offer struct {
	// Limit counts all claims, with those that the job has; it is less than those after the ComputeEnv was
	// scaled down. Grant counts the new ones.
	Limit, Grant int
	// Closed says that another job is first in the queue: this one may not claim again what it frees.
	Closed bool
}

// Stats are the figures of a ComputeEnv.
type Stats struct {
	// Size is how many nodes there are, and InUse how many claims.
	Size, InUse int
	// Waiting is how many jobs want more nodes than they have.
	Waiting int
}

// Ledger counts who has how many nodes. Its methods may be called concurrently.
type Ledger struct {
	mu   sync.Mutex
	envs map[types.NamespacedName]*env

	granted func(Job)
	changed func(env types.NamespacedName)
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{envs: map[types.NamespacedName]*env{}} }

// OnGrant sets the function that is called, outside of any lock, for a job that waited for nodes and for
// which some are reserved now.
func (l *Ledger) OnGrant(f func(Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = f
}

// OnChange sets the function that is called, outside of any lock, for a ComputeEnv whose Stats may have
// changed.
func (l *Ledger) OnChange(f func(env types.NamespacedName)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = f
}

// env is one ComputeEnv.
type env struct {
	of         Size
	size, used int
	shares     map[types.UID]*share
	queue      shareQueue
}

// share is what one job has of a ComputeEnv.
type share struct {
	Job
	claims   int
	reserved int // nodes, for new claims
	wanted   int // claims beyond those; it is in the queue if not 0
	index    int // in the queue; -1: it is not
}

func (e *env) free() int { return e.size - e.used }

// Size is how many nodes a ComputeEnv has, by a generation of the object with this UID.
type Size struct {
	UID        types.UID
	Generation int64
	Nodes      int
}

// Resize sets how many nodes a ComputeEnv has. A generation that is older than what is known changes
// nothing. Cost: O(jobs served * log waiting jobs).
func (l *Ledger) Resize(name types.NamespacedName, s Size) {
	l.mu.Lock()
	e := l.envs[name]
	known := e != nil && e.of.UID == s.UID && e.of.Generation >= s.Generation
	l.mu.Unlock()
	if !known {
		l.update(name, func(e *env) { e.of, e.size = s, s.Nodes })
	}
}

// Reserve returns the claim limit of a job that has that many claims now, or more if it was last settled with
// more. It reserves at most maxNew nodes for new claims, until Settle is called.
func (l *Ledger) Reserve(name types.NamespacedName, j Job, claims, maxNew int) Offer {
	var o Offer
	l.update(name, func(e *env) {
		s := e.share(j)
		claims = max(claims, s.claims) // only Settle knows that it has less
		e.used += claims - s.claims
		s.claims = claims
		o.Closed = len(e.queue) > 0 && e.queue[0].UID != j.UID && e.queue[0].before(s)
		more := min(e.free(), maxNew-s.reserved)
		if o.Closed {
			more = min(more, 0)
		}
		more = max(more, -s.reserved) // after it was scaled down reservations are taken back
		s.reserved += more
		e.used += more
		own := s.claims + s.reserved
		o.Grant, o.Limit = s.reserved, max(0, min(own, e.size-(e.used-own)))
	})
	return o
}

// Settle sets how many claims a job has, and how many more it wants. It frees the nodes that are still
// reserved for it. A job that has no claim and wants none is forgotten.
func (l *Ledger) Settle(name types.NamespacedName, j Job, claims, wanted int) {
	l.update(name, func(e *env) {
		s := e.share(j)
		e.used += claims - s.claims - s.reserved
		s.claims, s.reserved = claims, 0
		e.want(s, max(wanted, 0))
		if claims == 0 && wanted <= 0 {
			delete(e.shares, j.UID)
		}
	})
}

// Claims returns the claims of a job, by ComputeEnv: all in which it has a claim, has nodes reserved, or
// is in the queue. Cost: O(ComputeEnvs).
func (l *Ledger) Claims(uid types.UID) map[types.NamespacedName]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[types.NamespacedName]int{}
	for name, e := range l.envs {
		if s := e.shares[uid]; s != nil {
			out[name] = s.claims
		}
	}
	return out
}

// Stats returns the figures of a ComputeEnv.
func (l *Ledger) Stats(name types.NamespacedName) Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.envs[name]
	if e == nil {
		return Stats{}
	}
	s := Stats{Size: e.size, Waiting: len(e.queue)}
	for _, share := range e.shares {
		s.InUse += share.claims
	}
	return s
}

// update changes a ComputeEnv, reserves what is free then for the jobs in its queue, and wakes these.
func (l *Ledger) update(name types.NamespacedName, change func(*env)) {
	l.mu.Lock()
	e := l.envs[name]
	if e == nil {
		e = &env{shares: map[types.UID]*share{}}
		l.envs[name] = e
	}
	change(e)
	served := e.serve()
	if len(e.shares) == 0 && e.size == 0 {
		delete(l.envs, name)
	}
	granted, changed := l.granted, l.changed
	l.mu.Unlock()
	if granted != nil {
		for _, j := range served {
			granted(j)
		}
	}
	if changed != nil {
		changed(name)
	}
}

// serve reserves the free nodes for the jobs in the queue, and returns those that got some.
func (e *env) serve() []Job {
	var served []Job
	for e.free() > 0 && len(e.queue) > 0 {
		s := e.queue[0]
		n := min(e.free(), s.wanted)
		s.reserved += n
		e.used += n
		e.want(s, s.wanted-n)
		served = append(served, s.Job)
	}
	return served
}

// share returns the share of a job. Its queue position may have changed.
func (e *env) share(j Job) *share {
	s := e.shares[j.UID]
	if s == nil {
		s = &share{index: -1}
		e.shares[j.UID] = s
	}
	s.Job = j
	if s.index >= 0 {
		heap.Fix(&e.queue, s.index)
	}
	return s
}

// want adds a job to the queue, or removes it.
func (e *env) want(s *share, n int) {
	s.wanted = n
	switch {
	case n > 0 && s.index < 0:
		heap.Push(&e.queue, s)
	case n == 0 && s.index >= 0:
		heap.Remove(&e.queue, s.index)
	}
}

func (s *share) before(o *share) bool { return s.Compare(o.QueuePosition) < 0 }

// shareQueue is a heap of the shares of jobs that wait, the first one in front.
type shareQueue []*share

func (q shareQueue) Len() int           { return len(q) }
func (q shareQueue) Less(i, j int) bool { return q[i].before(q[j]) }
func (q shareQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is heap.Interface's.
func (q *shareQueue) Push(x any) {
	s := x.(*share)
	s.index = len(*q)
	*q = append(*q, s)
}

// Pop is heap.Interface's.
func (q *shareQueue) Pop() any {
	old := *q
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	s.index = -1
	return s
}
