// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ratelimit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is one that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newLimiter(limits map[string]Limit) (*Limiter, *clock) {
	c := &clock{time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)}
	return New(limits, DefaultLimit, c.now), c
}

// allowed sends n requests at once, and returns how many were allowed.
func allowed(l *Limiter, source, action string, n int) int {
	count := 0
	for range n {
		if l.Allow(source, action) {
			count++
		}
	}
	return count
}

func TestAllow(t *testing.T) {
	l, c := newLimiter(Defaults())
	if n := allowed(l, "a", "SubmitJob", 20); n != 7 {
		t.Errorf("%d at once", n)
	}
	if n := allowed(l, "b", "SubmitJob", 20); n != 7 {
		t.Errorf("%d of another key", n)
	}
	if n := allowed(l, "a", "DescribeJob", 20); n != 2 {
		t.Errorf("%d of another action", n)
	}
	c.at = c.at.Add(time.Second / 7)
	if n := allowed(l, "a", "SubmitJob", 20); n != 1 {
		t.Errorf("%d after a seventh of a second", n)
	}
	c.at = c.at.Add(500 * time.Millisecond)
	if n := allowed(l, "a", "SubmitJob", 20); n != 3 {
		t.Errorf("%d after half a second", n)
	}
	c.at = c.at.Add(time.Hour)
	if n := allowed(l, "a", "SubmitJob", 20); n != 7 {
		t.Errorf("%d after an hour", n)
	}
	c.at = c.at.Add(-time.Minute) // a clock that was set back keeps nobody out for longer than that
	allowed(l, "a", "SubmitJob", 20)
	c.at = c.at.Add(2 * time.Minute)
	if n := allowed(l, "a", "SubmitJob", 20); n != 7 {
		t.Errorf("%d after the clock was set back", n)
	}
	// What is refused takes no token.
	steady, c2 := newLimiter(map[string]Limit{"X": {2}})
	n := 0
	for range 100 {
		n += allowed(steady, "a", "X", 10)
		c2.at = c2.at.Add(100 * time.Millisecond)
	}
	if n < 20 || n > 22 {
		t.Errorf("%d in 10 s at 2 a second", n)
	}
}

func TestLimits(t *testing.T) {
	l, _ := newLimiter(map[string]Limit{"Half": {0.5}, "Free": {0}, "Odd": {2.5}})
	for action, want := range map[string]int{"Half": 1, "Free": 50, "Odd": 3, "Other": 2} {
		if n := allowed(l, "a", action, 50); n != want {
			t.Errorf("%s: %d, want %d", action, n, want)
		}
	}
	if got := Defaults()["SubmitJob"]; got != (Limit{7}) {
		t.Errorf("%v", got)
	}
}

// Whatever comes, what is held is bounded, and full buckets are forgotten.
func TestMemoryIsBounded(t *testing.T) {
	l, c := newLimiter(nil)
	refused := 0
	for i := range maxBuckets + 50_000 {
		if !l.Allow(fmt.Sprint(i), "X") {
			refused++
		}
	}
	if l.Len() > maxBuckets || refused != 50_000 {
		t.Errorf("%d buckets, %d refused", l.Len(), refused)
	}
	c.at = c.at.Add(2 * time.Second)
	if !l.Allow("new", "X") || l.Len() != 1 {
		t.Errorf("%d buckets after a while", l.Len())
	}
	c.at = c.at.Add(sweepEvery)
	if !l.Allow("newer", "X") || l.Len() != 1 {
		t.Errorf("%d buckets after another while", l.Len())
	}
}

func TestConcurrency(t *testing.T) {
	l, _ := newLimiter(map[string]Limit{"X": {100}})
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { n.Add(int64(allowed(l, "a", "X", 50))) })
	}
	wg.Wait()
	if n.Load() != 100 {
		t.Errorf("%d were allowed", n.Load())
	}
}
