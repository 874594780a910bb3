// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package slots shares the nodes of ComputeEnvs out among jobs.
//
// What a job has is in its stored status: its claims. The ledger here only counts them, so
// that no two jobs are given the same node at the same time, and knows who is first in line.
// It is lost with the process, and built anew from the stored claims before anything is
// given out.
//
//	Ask     before a pass over a job: how many claims may it have?
//	Settle  after its status is stored: so many it has, so many more it wants
//
// In between, what the job may have is kept for it. Then, of every environment,
//
//   - the claims of all jobs, and what is kept, are at most its nodes; they are more only
//     after it was made smaller, and then nothing is given out;
//   - either no node is free or no job waits.
//
// A free node goes to the job with the highest priority, of equals to the oldest. It is kept
// for that job from when it gets free, and the job is woken, so that no other takes it
// meanwhile and several can be served side by side.
package slots

import (
	"cmp"
	"container/heap"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Place is a job and its place in a line.
type Place struct {
	Job      types.NamespacedName
	UID      types.UID
	Priority int
	Created  time.Time
}

// before orders by priority, the highest first, then by age, then by UID.
func (p *Place) before(o *Place) bool {
	return cmp.Or(cmp.Compare(o.Priority, p.Priority), p.Created.Compare(o.Created), cmp.Compare(p.UID, o.UID)) < 0
}

// Offer is how many claims a job may have in an environment.
type Offer struct {
	// Limit counts all claims, those that it has included; it is less than those after the
	// environment was made smaller. Grant counts the new ones.
	Limit, Grant int
	// Closed says that others are first in line: what the job gives back it may not take
	// again.
	Closed bool
}

// Stats are the figures of an environment.
type Stats struct {
	// Size is how many nodes there are, and InUse how many claims.
	Size, InUse int
	// Waiting is how many jobs want more nodes than they have.
	Waiting int
}

// Ledger knows who has how many nodes. It may be used by any number of goroutines.
type Ledger struct {
	mu   sync.Mutex
	envs map[types.NamespacedName]*env

	wake    func(Place)
	changed func(env types.NamespacedName)
}

// New returns an empty ledger.
func New() *Ledger { return &Ledger{envs: map[types.NamespacedName]*env{}} }

// OnWake has f called, outside of any lock, for a job that is given nodes which it waits
// for.
func (l *Ledger) OnWake(f func(Place)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = f
}

// OnChange has f called, outside of any lock, for an environment whose Stats may be others.
func (l *Ledger) OnChange(f func(env types.NamespacedName)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = f
}

// env is one environment.
type env struct {
	of         Size
	size, used int
	seats      map[types.UID]*seat
	line       line
}

// seat is what one job has of an environment.
type seat struct {
	Place
	have  int // claims
	grant int // kept for it
	wants int // more than it has; it is in line if not 0
	index int // in line; -1: it is not
}

func (e *env) free() int { return e.size - e.used }

// Size is how many nodes an environment has, by a generation of the object with this UID.
type Size struct {
	UID        types.UID
	Generation int64
	Nodes      int
}

// Resize says how many nodes an environment has. What comes late, of a generation that is
// older than what is known, changes nothing. Cost: O(jobs served * log waiting jobs).
func (l *Ledger) Resize(name types.NamespacedName, s Size) {
	l.mu.Lock()
	e := l.envs[name]
	known := e != nil && e.of.UID == s.UID && e.of.Generation >= s.Generation
	l.mu.Unlock()
	if !known {
		l.do(name, func(e *env) { e.of, e.size = s, s.Nodes })
	}
}

// Ask returns how many claims the job may have that has have of them now, or more as it was
// settled last. It gets at most most more. What it is offered is kept for it until Settle.
func (l *Ledger) Ask(name types.NamespacedName, p Place, have, most int) Offer {
	var o Offer
	l.do(name, func(e *env) {
		s := e.seat(p)
		have = max(have, s.have) // only Settle knows that it has less
		e.used += have - s.have
		s.have = have
		o.Closed = len(e.line) > 0 && e.line[0].UID != p.UID && e.line[0].before(&s.Place)
		more := min(e.free(), most-s.grant)
		if o.Closed {
			more = min(more, 0)
		}
		more = max(more, -s.grant) // it was made smaller: what is kept is taken back
		s.grant += more
		e.used += more
		mine := s.have + s.grant
		o.Grant, o.Limit = s.grant, max(0, min(mine, e.size-(e.used-mine)))
	})
	return o
}

// Settle says how many claims the job has, and how many more it wants; what was kept for it
// beyond is free. A job that has none and wants none is forgotten.
func (l *Ledger) Settle(name types.NamespacedName, p Place, have, wants int) {
	l.do(name, func(e *env) {
		s := e.seat(p)
		e.used += have - s.have - s.grant
		s.have, s.grant = have, 0
		e.want(s, max(wants, 0))
		if have == 0 && wants <= 0 {
			delete(e.seats, p.UID)
		}
	})
}

// Held returns the environments of which the job has a claim, is kept a node, or waits for
// one, with its claims. Cost: O(environments).
func (l *Ledger) Held(uid types.UID) map[types.NamespacedName]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[types.NamespacedName]int{}
	for name, e := range l.envs {
		if s := e.seats[uid]; s != nil {
			out[name] = s.have
		}
	}
	return out
}

// Stats returns the figures of an environment.
func (l *Ledger) Stats(name types.NamespacedName) Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.envs[name]
	if e == nil {
		return Stats{}
	}
	s := Stats{Size: e.size, Waiting: len(e.line)}
	for _, seat := range e.seats {
		s.InUse += seat.have
	}
	return s
}

// do changes an environment, gives out what is free then, and wakes those who get it.
func (l *Ledger) do(name types.NamespacedName, change func(*env)) {
	l.mu.Lock()
	e := l.envs[name]
	if e == nil {
		e = &env{seats: map[types.UID]*seat{}}
		l.envs[name] = e
	}
	change(e)
	woken := e.giveOut()
	if len(e.seats) == 0 && e.size == 0 {
		delete(l.envs, name)
	}
	wake, changed := l.wake, l.changed
	l.mu.Unlock()
	if wake != nil {
		for _, p := range woken {
			wake(p)
		}
	}
	if changed != nil {
		changed(name)
	}
}

// giveOut keeps the free nodes for those who wait, and returns these.
func (e *env) giveOut() []Place {
	var woken []Place
	for e.free() > 0 && len(e.line) > 0 {
		s := e.line[0]
		n := min(e.free(), s.wants)
		s.grant += n
		e.used += n
		e.want(s, s.wants-n)
		woken = append(woken, s.Place)
	}
	return woken
}

// seat returns the seat of a job. Its place may have changed.
func (e *env) seat(p Place) *seat {
	s := e.seats[p.UID]
	if s == nil {
		s = &seat{index: -1}
		e.seats[p.UID] = s
	}
	s.Place = p
	if s.index >= 0 {
		heap.Fix(&e.line, s.index)
	}
	return s
}

// want puts a job into the line or takes it out.
func (e *env) want(s *seat, n int) {
	s.wants = n
	switch {
	case n > 0 && s.index < 0:
		heap.Push(&e.line, s)
	case n == 0 && s.index >= 0:
		heap.Remove(&e.line, s.index)
	}
}

// line is a heap with the first in line in front.
type line []*seat

func (l line) Len() int           { return len(l) }
func (l line) Less(i, j int) bool { return l[i].before(&l[j].Place) }
func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

// Push is heap.Interface's.
func (l *line) Push(x any) {
	s := x.(*seat)
	s.index = len(*l)
	*l = append(*l, s)
}

// Pop is heap.Interface's.
func (l *line) Pop() any {
	old := *l
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	s.index = -1
	return s
}
