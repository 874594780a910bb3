// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"math"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/plan"
)

// The API server decodes, checks and encodes all of a job for each write of its status, and sends it
// to all who watch. So the rate of writes goes by the size of the job as well, in bytes that are
// rewritten in a second.
const (
	// deferredRate bounds writes that may wait: of what only informs people, and of outcomes that may
	// be gathered. Below half of it, 128 KiB, a job is written as often as any.
	deferredRate = 256 << 10
	// urgentRate bounds those that begin or end something, once urgentBurst was written: a job that
	// was idle, or is not large, does not wait.
	urgentRate  = 1 << 20
	urgentBurst = 4 << 20
)

// delay is how long the status of p is not to be written yet.
func (r *Reconciler) delay(p *plan.Plan, m *memory, now time.Time) time.Duration {
	if p.Urgent && !p.Gather {
		return m.rewritten.delay(m.size(), now)
	}
	return m.at.Add(r.interval(p, m.size(), now)).Sub(now)
}

// interval is the least time from the last write of a job of this size to that of p, which may wait.
func (r *Reconciler) interval(p *plan.Plan, size int, now time.Time) time.Duration {
	bySize := atRate(size, deferredRate)
	busy := r.pace.isBusy(now)
	switch {
	case busy && p.Gather && len(p.Release) < fewOutcomes:
		return max(busyGatherInterval, bySize)
	case p.Gather:
		return max(gatherInterval, bySize)
	case busy:
		r.mu.Lock()
		jobs := len(r.memories) // those that have not ended
		r.mu.Unlock()
		return max(min(max(busyNewsInterval, time.Duration(jobs)*newsOfOne), mostNewsInterval), bySize)
	}
	return max(newsInterval, bySize)
}

// atRate is how long so many bytes take at a rate of bytes in a second.
func atRate(bytes, rate int) time.Duration {
	return time.Duration(bytes) * time.Second / time.Duration(rate)
}

// rewritten counts the bytes that were written of a job, less those that urgentRate allows since. The
// zero value has none.
type rewritten struct {
	bytes float64
	at    time.Time
}

// left is the count at a time. Where the clock was set back there is none: else writes could wait for
// as long as it was set back by.
func (w *rewritten) left(t time.Time) float64 {
	since := t.Sub(w.at)
	if since < 0 {
		return 0
	}
	return max(0, w.bytes-since.Seconds()*urgentRate)
}

func (w *rewritten) add(bytes int, t time.Time) {
	w.bytes, w.at = w.left(t)+float64(bytes), t
}

// delay is how long so many bytes are not to be written yet.
func (w *rewritten) delay(bytes int, t time.Time) time.Duration {
	over := w.left(t) + float64(bytes) - urgentBurst
	return time.Duration(max(0, math.Ceil(over*1000/urgentRate))) * time.Millisecond
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
