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
	// line are the jobs that wait, by namespace, the next first.
	line map[string][]*entry
	wake func(Job)
}

// Job is a job that asks for memory.
type Job struct {
	Name types.NamespacedName
	// Size is how many bytes it takes once it has started.
	Size int
	// Priority and Created give its place in its namespace: a larger number first, then the older one.
	Priority int
	Created  time.Time
}

type entry struct {
	Job
	woken bool
}

// NewShares returns the shares of limit bytes, 1 or more.
func NewShares(limit int) *Shares {
	return &Shares{limit: limit, held: map[types.NamespacedName]int{}, byNamespace: map[string]int{}, line: map[string][]*entry{}}
}

// Limit is how many bytes there are in all.
func (s *Shares) Limit() int { return s.limit }

// OnWake has f called for a job that was refused and would not be now. f is not to call s.
func (s *Shares) OnWake(f func(Job)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = f
}

// Ask reports whether a job may start, and gives it its bytes then. Otherwise it waits in line until it
// asks again, or Release is called for it.
func (s *Shares) Ask(j Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.held[j.Name]; ok {
		return true
	}
	s.leave(j.Name)
	line := s.line[j.Name.Namespace]
	if (len(line) == 0 || compare(j, line[0].Job) < 0) && s.fits(j) {
		s.hold(j.Name, j.Size)
		s.wakeNext() // there may be room for more
		return true
	}
	at, _ := slices.BinarySearchFunc(line, j, func(e *entry, j Job) int { return compare(e.Job, j) })
	s.line[j.Name.Namespace] = slices.Insert(line, at, &entry{Job: j})
	return false
}

// Fits reports whether a job that waits would be refused no more.
func (s *Shares) Fits(name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := s.line[name.Namespace]
	i := slices.IndexFunc(line, func(e *entry) bool { return e.Name == name })
	return i < 0 || i == 0 && s.fits(line[0].Job)
}

// Hold counts a job that has started, whether there is room for it or not.
func (s *Shares) Hold(name types.NamespacedName, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(name)
	if _, ok := s.held[name]; !ok {
		s.hold(name, size)
	}
}

// Release gives back what a job has, and takes it out of the line. It does nothing for one that has
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
	for _, line := range s.line {
		waiting += len(line)
	}
	return s.used, waiting
}

// hold gives a job its bytes. s.mu is held, as in all that follow.
func (s *Shares) hold(name types.NamespacedName, size int) {
	s.held[name] = size
	s.used += size
	s.byNamespace[name.Namespace] += size
}

// fits reports whether there is room for a job. One that needs more than there is gets all.
func (s *Shares) fits(j Job) bool {
	used, mine := s.used+min(j.Size, s.limit), s.byNamespace[j.Name.Namespace]
	return used <= s.limit && (mine == 0 || mine+j.Size <= s.limit-used)
}

// leave takes a job out of the line.
func (s *Shares) leave(name types.NamespacedName) {
	line := slices.DeleteFunc(s.line[name.Namespace], func(e *entry) bool { return e.Name == name })
	if s.line[name.Namespace] = line; len(line) == 0 {
		delete(s.line, name.Namespace)
	}
}

// wakeNext wakes the first of each namespace for which there is room, the namespaces that have least first.
func (s *Shares) wakeNext() {
	if len(s.line) == 0 || s.wake == nil {
		return
	}
	namespaces := slices.SortedFunc(maps.Keys(s.line), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.byNamespace[a], s.byNamespace[b]), cmp.Compare(a, b))
	})
	for _, namespace := range namespaces {
		if e := s.line[namespace][0]; !e.woken && s.fits(e.Job) {
			e.woken = true
			s.wake(e.Job)
		}
	}
}

// compare orders the jobs of a namespace.
func compare(a, b Job) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.Name.Name, b.Name.Name))
}
