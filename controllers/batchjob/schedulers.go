// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"sync"
	"time"
)

// schedulers remembers when each scheduler last reported on a Pod of any job. So the planner can tell a Pod that waits
// behind many others from a Pod whose scheduler does not run. Its methods may be called concurrently.
type schedulers struct {
	// start is when this process started to watch. It does not know what happened before.
	start time.Time

	mu   sync.Mutex
	seen map[string]time.Time // by name of the scheduler
}

// note records when schedulers, by name, reported on a Pod.
func (s *schedulers) note(seen map[string]time.Time) {
	if len(seen) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, at := range seen {
		if s.seen == nil {
			s.seen = map[string]time.Time{}
		}
		if at.After(s.seen[name]) {
			s.seen[name] = at
		}
	}
}

// last returns when a scheduler last reported on a Pod, or start if that is later.
func (s *schedulers) last(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.seen[name]; at.After(s.start) {
		return at
	}
	return s.start
}
