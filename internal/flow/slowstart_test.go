// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// TestSlowStart: a cluster that accepts gets more and more calls at the same time, and one that refuses
// gets one.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	const maxWindow = 64
	var s SlowStart
	rounds := 0
	for s.Window() < maxWindow { // all calls of a round are in flight at the same time
		for range s.Window() {
			s.apply(Grow, maxWindow)
		}
		rounds++
	}
	if rounds != 6 {
		t.Errorf("the window is open after %d rounds, want 6", rounds)
	}
	for _, e := range []Effect{Grow, Keep} {
		if s.apply(e, maxWindow); s.Window() != maxWindow {
			t.Errorf("the window is %d, want at most %d", s.Window(), maxWindow)
		}
	}
	if s.apply(Reset, maxWindow); s.Window() != 1 {
		t.Errorf("after a call that failed the window is %d, want 1", s.Window())
	}
}

var errCall = errors.New("the call has failed")

// TestSlowStartDo: what a series of calls of a second each does, by when it started each call.
func TestSlowStartDo(t *testing.T) {
	t.Parallel()
	const n = 8
	never := func() bool { return false }
	for name, tc := range map[string]struct {
		fails map[int]bool // the calls that fail
		skip  func(call int, failed map[int]bool) bool
		stop  func(failed map[int]bool, since time.Duration) bool
		limit int
		want  []int // the second in which each call starts; -1 for none
	}{
		"all succeed":              {limit: 64, want: []int{0, 1, 1, 2, 2, 2, 2, 3}},
		"a limit on the process":   {limit: 2, want: []int{0, 1, 1, 2, 2, 3, 3, 4}},
		"one fails":                {limit: 64, fails: map[int]bool{2: true}, want: []int{0, 1, 1, 2, 2, 3, 3, 3}},
		"calls of a kind skipped":  {limit: 64, fails: map[int]bool{0: true}, skip: func(i int, failed map[int]bool) bool { return i < 4 && failed[0] }, want: []int{0, -1, -1, -1, 1, 2, 2, 3}},
		"stopped after a failure":  {limit: 64, fails: map[int]bool{1: true}, stop: func(failed map[int]bool, _ time.Duration) bool { return failed[1] }, want: []int{0, 1, 1, -1, -1, -1, -1, -1}},
		"stopped after some time":  {limit: 64, stop: func(_ map[int]bool, since time.Duration) bool { return since > 1500*time.Millisecond }, want: []int{0, 1, 1, -1, -1, -1, -1, -1}},
		"stopped in the limiter":   {limit: 1, stop: func(_ map[int]bool, since time.Duration) bool { return since > 500*time.Millisecond }, want: []int{0, -1, -1, -1, -1, -1, -1, -1}},
		"stopped before the first": {limit: 64, stop: func(map[int]bool, time.Duration) bool { return true }, want: []int{-1, -1, -1, -1, -1, -1, -1, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				began, started, failed := time.Now(), make([]int, n), map[int]bool{}
				for i := range started {
					started[i] = -1
				}
				series := Series{
					N: n,
					Call: func(i int) error {
						mu.Lock()
						started[i] = int(time.Since(began) / time.Second)
						mu.Unlock()
						time.Sleep(time.Second + time.Duration(i)*time.Millisecond) // one answer at a time
						if tc.fails[i] {
							return errCall
						}
						return nil
					},
					Answered: func(i int, err error) Effect {
						if err != nil {
							failed[i] = true
							return Reset
						}
						return Grow
					},
					Skip: func(i int) bool { return tc.skip != nil && tc.skip(i, failed) },
					Stop: never,
				}
				if tc.stop != nil {
					series.Stop = func() bool { return tc.stop(failed, time.Since(began)) }
				}
				var s SlowStart
				s.Do(series, NewLimiter(tc.limit, tc.limit, clock.RealClock{}), 64)
				if !slices.Equal(started, tc.want) {
					t.Errorf("the calls started in seconds %v, want %v", started, tc.want)
				}
			})
		})
	}
}

// TestBatch: a pass claims what it can create in half a second, whatever a call takes; more where the
// status write takes long, and never fewer than is worth a write.
func TestBatch(t *testing.T) {
	t.Parallel()
	const maxBatch = 200
	for _, tc := range []struct {
		name        string
		perPod      time.Duration
		statusWrite time.Duration
		want        int
	}{
		{"a fast server", time.Millisecond, 0, maxBatch},
		{"a slow server", 10 * time.Millisecond, 0, 50},
		{"a server that hardly answers", time.Second, 0, minBatch},
		{"a large status", 10 * time.Millisecond, 400 * time.Millisecond, 160},
	} {
		var b Batch
		if b.Size() != 0 {
			t.Errorf("the first batch is %d, want 0: as many as any pass may claim", b.Size())
		}
		pods := maxBatch
		for range 10 {
			b.Created(pods, time.Duration(pods)*tc.perPod, tc.statusWrite, maxBatch)
			pods = b.Size()
		}
		if pods != tc.want {
			t.Errorf("%s: a batch is %d, want %d", tc.name, pods, tc.want)
		}
		b.Created(minBatch-1, time.Second, 0, maxBatch)
		if b.Size() != tc.want {
			t.Errorf("%s: a few Pods make the next batch %d, want still %d", tc.name, b.Size(), tc.want)
		}
	}
}
