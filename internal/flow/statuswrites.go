// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math"
	"sync"
	"time"
)

// The least time between the last write of a job and the next.
const (
	// InformationalInterval is that of informational writes. While load is shed it is longer: each job
	// adds informationalShare, which makes five such writes in a second in all, up to
	// MaxInformationalInterval.
	InformationalInterval    = time.Second
	MinShedInterval          = 10 * time.Second
	informationalShare       = 200 * time.Millisecond
	MaxInformationalInterval = time.Minute
	// MinBatchInterval is that of batched writes. While load is shed, fewer outcomes than fewOutcomes
	// wait for MaxBatchInterval.
	MinBatchInterval = 500 * time.Millisecond
	MaxBatchInterval = 2 * time.Second
	fewOutcomes      = 16
)

// The API server decodes, checks and encodes all of a job for each write of its status, and sends it
// to all who watch. So the rate of writes depends on the size of the job as well. Unit: bytes that are
// rewritten in a second.
const (
	// deferrableRate bounds informational and batched writes. Below half of it, 128 KiB, the size of a
	// job makes no difference.
	deferrableRate = 256 << 10
	// immediateRate bounds immediate writes, after a burst of immediateBurst bytes: a job that was idle,
	// or is not large, does not wait.
	immediateRate  = 1 << 20
	immediateBurst = 4 << 20
)

// A process sheds load if it makes so many writes in a second that are not informational, or a few that
// take so long: informational writes, which people could not follow anyway, give way to work then.
const (
	busyWrites = 20
	fewWrites  = 5
	slowWrite  = 50 * time.Millisecond
)

// StatusWrites throttles the status writes of a process. The zero value is ready for use, and its
// methods may be called concurrently.
type StatusWrites struct {
	mu      sync.Mutex
	second  int64
	current int           // writes in this second
	last    int           // writes in the second before
	latency time.Duration // a moving average, in which each new write counts for half
}

// The methods Delay… return how long the status of a job must not be written yet; 0 or less: it may be written. Which of
// them applies depends on what the status stores.

// DelayImmediate is the delay of a status that starts or ends something.
func (s *StatusWrites) DelayImmediate(j *JobWrites, now time.Time) time.Duration {
	return j.bucket.delay(j.Size(), now)
}

// DelayBatched is the delay of a status that stores so many outcomes and that nothing waits for: outcomes that are
// found meanwhile go into the same write.
func (s *StatusWrites) DelayBatched(outcomes int, j *JobWrites, now time.Time) time.Duration {
	interval := MinBatchInterval
	if outcomes < fewOutcomes && s.ShedsLoad(now) {
		interval = MaxBatchInterval
	}
	return j.after(interval, now)
}

// DelayInformational is the delay of a status that only tells people what happens: several changes are coalesced into
// one write. jobs is how many jobs this process works on.
func (s *StatusWrites) DelayInformational(jobs int, j *JobWrites, now time.Time) time.Duration {
	interval := InformationalInterval
	if s.ShedsLoad(now) {
		interval = min(max(MinShedInterval, time.Duration(jobs)*informationalShare), MaxInformationalInterval)
	}
	return j.after(interval, now)
}

// Wrote counts a write that was not informational.
func (s *StatusWrites) Wrote(now time.Time, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	s.current++
	s.latency = (s.latency + latency) / 2
}

// ShedsLoad reports whether the process has so much to write that informational writes must wait.
func (s *StatusWrites) ShedsLoad(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	n := max(s.current, s.last)
	return n >= busyWrites || n >= fewWrites && s.latency >= slowWrite
}

// advance starts the second of t, if it has not started: a worker brings the time at which its pass
// started. A time that is further back comes from a clock that was set.
func (s *StatusWrites) advance(t time.Time) {
	switch second := t.Unix(); {
	case s.second-int64(time.Minute/time.Second) < second && second <= s.second:
	case second == s.second+1:
		s.second, s.current, s.last = second, 0, s.current
	default:
		s.second, s.current, s.last, s.latency = second, 0, 0, 0
	}
}

// JobWrites is what is known of the status writes of one job. The zero value is that of a job that was
// not written. Only one goroutine may use it at a time.
type JobWrites struct {
	// SpecSize and StatusSize are the sizes of the job, as JSON.
	SpecSize, StatusSize int

	at      time.Time
	latency time.Duration
	bucket  byteBucket
}

// Size is that of the whole job, as JSON, but for its metadata.
func (j *JobWrites) Size() int { return j.SpecSize + j.StatusSize }

// Start notes that the job is written with a status of this size.
func (j *JobWrites) Start(statusSize int, now time.Time) {
	j.StatusSize = statusSize
	j.bucket.add(j.Size(), now)
}

// Done notes that a write that started at a time took so long, and has succeeded.
func (j *JobWrites) Done(start time.Time, latency time.Duration) { j.at, j.latency = start, latency }

// after is the time from now until interval has passed since the last write of the job; a large job waits longer.
func (j *JobWrites) after(interval time.Duration, now time.Time) time.Duration {
	return j.at.Add(max(interval, atRate(j.Size(), deferrableRate))).Sub(now)
}

// Last is when the last write started that has succeeded; zero if there was none.
func (j *JobWrites) Last() time.Time { return j.at }

// Latency is how long the last write took.
func (j *JobWrites) Latency() time.Duration { return j.latency }

// atRate is how long so many bytes take at a rate of bytes in a second.
func atRate(bytes, rate int) time.Duration {
	return time.Duration(bytes) * time.Second / time.Duration(rate)
}

// byteBucket is a leaky bucket of the bytes that were written of a job. The zero value is empty.
type byteBucket struct {
	bytes float64
	at    time.Time
}

// level is how full the bucket is at a time. Where the clock was set back it is empty: else writes could
// wait for as long as it was set back by.
func (b *byteBucket) level(t time.Time) float64 {
	since := t.Sub(b.at)
	if since < 0 {
		return 0
	}
	return max(0, b.bytes-since.Seconds()*immediateRate)
}

func (b *byteBucket) add(bytes int, t time.Time) {
	b.bytes, b.at = b.level(t)+float64(bytes), t
}

// delay is how long the bucket has no capacity left for so many bytes.
func (b *byteBucket) delay(bytes int, t time.Time) time.Duration {
	over := b.level(t) + float64(bytes) - immediateBurst
	return time.Duration(max(0, math.Ceil(over*1000/immediateRate))) * time.Millisecond
}
