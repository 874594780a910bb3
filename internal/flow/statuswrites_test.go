// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

// TestImmediateWritesBySize: what starts or ends something is written at once, but of a large job that
// has many such writes in a row only so many in a second. It is the attack of a job of 1 MiB whose
// instances are short.
func TestImmediateWritesBySize(t *testing.T) {
	t.Parallel()
	// write writes as often as it may for a minute, and returns how often that is.
	write := func(j *JobWrites, from time.Time) (n int) {
		var s StatusWrites
		for now := from; now.Before(from.Add(time.Minute)); {
			if wait := s.DelayImmediate(j, now); wait > 0 {
				now = now.Add(wait)
				continue
			}
			n++
			j.Start(j.StatusSize, now)
			now = now.Add(20 * time.Millisecond)
		}
		return n
	}
	large := &JobWrites{SpecSize: 1 << 20}
	if n := write(large, start); n > immediateBurst>>20+60 || n < 60 {
		t.Errorf("a job of 1 MiB is written %d times in a minute, want 64 at most", n)
	}
	var s StatusWrites
	if wait := s.DelayImmediate(large, start.Add(time.Minute+2*time.Second)); wait != 0 {
		t.Errorf("after two seconds without a write it waits %s", wait)
	}
	if wait := s.DelayImmediate(large, start.Add(-time.Hour)); wait != 0 {
		t.Errorf("with a clock that was set back it waits %s", wait)
	}
	if n := write(&JobWrites{SpecSize: 20 << 10}, start); n != 3000 {
		t.Errorf("a job of 20 KiB is written %d times in a minute, want as often as it can, 3000", n)
	}
	idle := &JobWrites{SpecSize: 1 << 20, StatusSize: 400 << 10}
	if wait := s.DelayImmediate(idle, start); wait != 0 {
		t.Errorf("the first write of the largest job waits %s", wait)
	}
}

// TestStatusWrites: the interval of writes depends on what they store, on the size of the job, and on the
// load of the process.
func TestStatusWrites(t *testing.T) {
	t.Parallel()
	type delay = func(*StatusWrites, *JobWrites) time.Duration
	outcomes := func(n int) delay {
		return func(s *StatusWrites, j *JobWrites) time.Duration { return s.DelayBatched(n, j, start) }
	}
	ofJobs := func(n int) delay {
		return func(s *StatusWrites, j *JobWrites) time.Duration { return s.DelayInformational(n, j, start) }
	}
	shedding := func() *StatusWrites {
		s := &StatusWrites{}
		for range busyWrites {
			s.Wrote(start, 0)
		}
		return s
	}
	for _, tc := range []struct {
		name     string
		shedding bool
		delay    delay
		size     int
		want     time.Duration
	}{
		{"informational", false, ofJobs(1000), 1000, InformationalInterval},
		{"informational, one job of few", true, ofJobs(3), 1000, MinShedInterval},
		{"informational, one job of many: five a second in all", true, ofJobs(100), 1000, 20 * time.Second},
		{"informational, one job of very many", true, ofJobs(10_000), 1 << 20, MaxInformationalInterval},
		{"informational, a large job", false, ofJobs(3), 1 << 20, 4 * time.Second},
		{"informational, a large job, load shedding", true, ofJobs(3), 1 << 20, MinShedInterval},
		{"an outcome", false, outcomes(1), 1000, MinBatchInterval},
		{"an outcome of a job of 128 KiB", false, outcomes(1), 128 << 10, MinBatchInterval},
		{"an outcome of a job of 192 KiB", false, outcomes(1), 192 << 10, 750 * time.Millisecond},
		{"an outcome of a large job", false, outcomes(1), 1 << 20, 4 * time.Second},
		{"few outcomes", true, outcomes(fewOutcomes - 1), 1000, MaxBatchInterval},
		{"few outcomes of a large job", true, outcomes(fewOutcomes - 1), 1 << 20, 4 * time.Second},
		{"many outcomes", true, outcomes(fewOutcomes), 1000, MinBatchInterval},
	} {
		s := &StatusWrites{}
		if tc.shedding {
			s = shedding()
		}
		j := &JobWrites{SpecSize: tc.size}
		j.Done(start, 0)
		if got := tc.delay(s, j); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	s := shedding()
	for _, tc := range []struct {
		since time.Duration
		want  bool
	}{
		{-5 * time.Second, true}, // a pass that started before others
		{time.Second, true},
		{3 * time.Second, false},
		{-time.Hour, false}, // the clock was set
	} {
		if got := s.ShedsLoad(start.Add(tc.since)); got != tc.want {
			t.Errorf("%s after the writes: load shedding %t", tc.since, got)
		}
	}
}

// TestSlowServer: a few writes are load enough where each takes long.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	for latency, want := range map[time.Duration]bool{time.Millisecond: false, 2 * slowWrite: true} {
		var s StatusWrites
		for range fewWrites {
			s.Wrote(start, latency)
		}
		if got := s.ShedsLoad(start); got != want {
			t.Errorf("%d writes of %s: load shedding %t, want %t", fewWrites, latency, got, want)
		}
	}
}

// TestInformationalLoad: with a thousand jobs that each have something to tell all the time, a loaded
// process makes a bounded number of informational writes in a second, and an idle one tells each job once
// a second.
func TestInformationalLoad(t *testing.T) {
	t.Parallel()
	const jobs, seconds = 1000, 120
	for _, loaded := range []bool{true, false} {
		var s StatusWrites
		all, written := make([]JobWrites, jobs), 0
		for second := range seconds {
			now := start.Add(time.Duration(second) * time.Second)
			for range busyWrites {
				if loaded {
					s.Wrote(now, 0)
				}
			}
			for i := range all {
				if s.DelayInformational(jobs, &all[i], now) <= 0 {
					all[i].Start(1000, now)
					all[i].Done(now, time.Millisecond)
					written++
				}
			}
		}
		want := jobs * seconds
		if loaded {
			want = jobs * seconds / int(MaxInformationalInterval/time.Second)
		}
		if written != want {
			t.Errorf("loaded %t: %d informational writes in %d s, want %d", loaded, written, seconds, want)
		}
	}
}
