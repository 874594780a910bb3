// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package membudget

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Shares divides a number of bytes among the large jobs that have started.
//
// A namespace gets no more than it leaves free: alone it gets half of all, of n namespaces each gets
// one in n+1, and there is always some left for one more. Its first job may take all that is left.
type Shares struct {
	limit int

	mu   sync.Mutex
	used int
	// held is what each job has, and byNamespace the sums.
	held        map[types.NamespacedName]int
	byNamespace map[string]int
	// queues are the jobs that wait, by namespace, the next first.
	queues map[string][]*entry
	wake   func(Job)
}

// Job is a job that asks for memory.
type Job struct {
	Name types.NamespacedName
	// Size is how many bytes it takes once it has started.
	Size int
	// Priority and Created give its position in the queue of its namespace: a larger number first, then the older one.
	Priority int
	Created  time.Time
}

type entry struct {
	Job
	woken bool
}

// NewShares returns the shares of limit bytes, 1 or more.
func NewShares(limit int) *Shares {
	return &Shares{limit: limit, held: map[types.NamespacedName]int{}, byNamespace: map[string]int{}, queues: map[string][]*entry{}}
}

// Limit is how many bytes there are in all.
func (s *Shares) Limit() int { return s.limit }

// OnWake has f called for a job that was refused and would not be now. f is not to call s.
func (s *Shares) OnWake(f func(Job)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = f
}

// Ask reports whether a job may start, and gives it its bytes then. Otherwise the job is queued until it
// asks again, or Release is called for it.
func (s *Shares) Ask(j Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[j.Name]; ok {
		return true
	}
	s.leave(j.Name)
	queue := s.queues[j.Name.Namespace]
	if (len(queue) == 0 || compare(j, queue[0].Job) < 0) && s.fits(j) {
		s.hold(j.Name, j.Size)
		s.wakeNext() // more may fit
		return true
	}
	at, _ := slices.BinarySearchFunc(queue, j, func(e *entry, j Job) int { return compare(e.Job, j) })
	s.queues[j.Name.Namespace] = slices.Insert(queue, at, &entry{Job: j})
	return false
}

// Fits reports whether a job that waits would be refused no more.
func (s *Shares) Fits(name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queues[name.Namespace]
	i := slices.IndexFunc(queue, func(e *entry) bool { return e.Name == name })
	return i < 0 || i == 0 && s.fits(queue[0].Job)
}

// Hold counts a job that has started, whether it fits or not.
func (s *Shares) Hold(name types.NamespacedName, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(name)
	if _, ok := s.held[name]; !ok {
		s.hold(name, size)
	}
}

// Release gives back what a job has, and removes it from its queue. It does nothing for one that has
// nothing and does not wait.
func (s *Shares) Release(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(name)
	if size, ok := s.held[name]; ok {
		delete(s.held, name)
		s.used -= size
		if s.byNamespace[name.Namespace] -= size; s.byNamespace[name.Namespace] == 0 {
			delete(s.byNamespace, name.Namespace)
		}
	}
	s.wakeNext()
}

// Used returns how many bytes jobs hold, and how many jobs wait.
func (s *Shares) Used() (bytes, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, queue := range s.queues {
		waiting += len(queue)
	}
	return s.used, waiting
}

// hold gives a job its bytes. s.mu is held, as in all that follow.
func (s *Shares) hold(name types.NamespacedName, size int) {
	s.held[name] = size
	s.used += size
	s.byNamespace[name.Namespace] += size
}

// fits reports whether a job fits into what is free. One that needs more than the limit needs all of it.
func (s *Shares) fits(j Job) bool {
	used, mine := s.used+min(j.Size, s.limit), s.byNamespace[j.Name.Namespace]
	return used <= s.limit && (mine == 0 || mine+j.Size <= s.limit-used)
}

// leave removes a job from its queue.
func (s *Shares) leave(name types.NamespacedName) {
	queue := slices.DeleteFunc(s.queues[name.Namespace], func(e *entry) bool { return e.Name == name })
	if s.queues[name.Namespace] = queue; len(queue) == 0 {
		delete(s.queues, name.Namespace)
	}
}

// wakeNext wakes the first job of each namespace if it fits, the namespaces that have least first.
func (s *Shares) wakeNext() {
	if len(s.queues) == 0 || s.wake == nil {
		return
	}
	namespaces := slices.SortedFunc(maps.Keys(s.queues), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.byNamespace[a], s.byNamespace[b]), cmp.Compare(a, b))
	})
	for _, namespace := range namespaces {
		if e := s.queues[namespace][0]; !e.woken && s.fits(e.Job) {
			e.woken = true
			s.wake(e.Job)
		}
	}
}

// compare orders the jobs of a namespace.
func compare(a, b Job) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Name.Name, b.Name.Name))
}
