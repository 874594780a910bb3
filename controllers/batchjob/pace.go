// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"sync"
	"time"

	"batchcompute.dev/operator/internal/plan"
)

// interval is the least time from the last write of a job to that of p.
func (r *Reconciler) interval(p *plan.Plan, now time.Time) time.Duration {
	if p.Urgent && !p.Gather {
		return 0
	}
	busy := r.pace.isBusy(now)
	switch {
	case busy && p.Gather && len(p.Release) < fewOutcomes:
		return busyGatherInterval
	case p.Gather:
		return gatherInterval
	case busy:
		r.mu.Lock()
		jobs := len(r.memories) // those that have not ended
		r.mu.Unlock()
		return min(max(busyNewsInterval, time.Duration(jobs)*newsOfOne), mostNewsInterval)
	}
	return newsInterval
}

// A process is busy that makes so many urgent writes in a second, or a few that take so long: news
// for people, who could not follow them anyway, give way to work then.
const (
	busyWrites = 20
	fewWrites  = 5
	slowWrite  = 50 * time.Millisecond
)

// pace counts the urgent writes of this second and the one before, and how long they took.
type pace struct {
	mu        sync.Mutex
	second    int64
	now, last int
	took      time.Duration // an average that goes half-way to each new one
}

func (p *pace) add(t time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(t)
	p.now++
	p.took = (p.took + took) / 2
}

func (p *pace) isBusy(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(t)
	n := max(p.now, p.last)
	return n >= busyWrites || n >= fewWrites && p.took >= slowWrite
}

// turn begins the second of t, if it has not begun: a worker comes with the time at which its
// pass began. What lies further back is a clock that was set.
func (p *pace) turn(t time.Time) {
	switch s := t.Unix(); {
	case p.second-int64(time.Minute/time.Second) < s && s <= p.second:
	case s == p.second+1:
		p.second, p.now, p.last = s, 0, p.now
	default:
		p.second, p.now, p.last, p.took = s, 0, 0, 0
	}
}
