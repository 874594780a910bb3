// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"sync"
	"time"
)

// schedulers knows when each scheduler looked at a Pod of any job last. So a Pod that waits behind
// many others is told from one whose scheduler does not run.
type schedulers struct {
	// start is when this process started to watch: what was before, nobody knows.
	start time.Time

	mu   sync.Mutex
	seen map[string]time.Time // by name; only a scheduler that runs gets into it
}

// note takes in when schedulers, by name, looked at a Pod.
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

// last returns when the scheduler looked at a Pod last, not before this process started to watch.
func (s *schedulers) last(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.seen[name]; at.After(s.start) {
		return at
	}
	return s.start
}
