// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import "time"

// SlowStart is the window of the calls of one job that create Pods: how many may be in flight. It starts
// with one, grows by one with each call that succeeds, and falls to one with each that fails, so that a
// cluster which refuses is not asked a thousand times. Only one goroutine may use it at a time.
type SlowStart struct{ window int }

// Window is how many calls may be in flight.
func (s *SlowStart) Window() int { return max(s.window, 1) }

// Effect is what the answer to a call does to the window.
type Effect int

const (
	// Keep leaves the window as it is: the answer says nothing about the cluster.
	Keep Effect = iota
	// Grow makes it larger by one: the call has succeeded.
	Grow
	// Reset makes it one: the call has failed.
	Reset
)

// apply applies an effect, where at most maxWindow calls may be in flight.
func (s *SlowStart) apply(e Effect, maxWindow int) {
	switch e {
	case Grow:
		s.window = min(s.Window()+1, maxWindow)
	case Reset:
		s.window = 1
	case Keep:
	}
}

// Series is a series of calls for SlowStart.Do. Do calls all of its functions but Call one after the other, in its own
// goroutine.
type Series struct {
	// N is the number of calls.
	N int
	// Call makes call i, of 0 to N-1. Do calls it concurrently.
	Call func(i int) error
	// Answered receives the result of call i, and returns what that does to the window.
	Answered func(i int, err error) Effect
	// Skip reports whether call i must not be made after the answers so far.
	Skip func(i int) bool
	// Stop reports whether no more calls must be made. Do asks before each call, and again when the limiter has
	// admitted it, which may take long.
	Stop func() bool
}

// Do makes the calls of a series in their order, each as soon as the window and the limiter allow it, and returns when
// all have been answered. maxWindow is the highest window, 1 or more.
func (s *SlowStart) Do(c Series, l *Limiter, maxWindow int) {
	type answer struct {
		call int
		err  error
	}
	answers, inFlight := make(chan answer, maxWindow), 0
	for next := 0; ; {
		may := next < c.N && inFlight < min(s.Window(), maxWindow) && !c.Stop()
		switch {
		case len(answers) > 0 || !may && inFlight > 0:
			a := <-answers
			inFlight--
			s.apply(c.Answered(a.call, a.err), maxWindow)
			continue
		case !may:
			return
		case c.Skip(next):
			next++
			continue
		}
		release := l.Acquire()
		if c.Stop() {
			release(false)
			continue
		}
		call := next
		next++
		inFlight++
		go func() {
			err := c.Call(call)
			release(err == nil)
			answers <- answer{call, err}
		}()
	}
}

// A pass should take no longer than maxPass, since what happens meanwhile is not looked at. But its
// status write should be a small part of it, at most a quarter, and a batch of fewer Pods than minBatch
// is not worth its cost.
const (
	maxPass  = 500 * time.Millisecond
	minBatch = 32
)

// Batch is how many Pods a pass claims and creates. Only one goroutine may use it at a time; the zero
// value is not limited.
type Batch struct{ size int }

// Size is how many Pods the next pass may claim; 0 means as many as any pass may.
func (b *Batch) Size() int { return b.size }

// Created notes that a pass has created so many Pods in this time, after a status write that took
// writeLatency. The next pass claims as many as it can create in its time, up to maxBatch.
func (b *Batch) Created(pods int, took, writeLatency time.Duration, maxBatch int) {
	if pods >= minBatch && took > 0 {
		b.size = min(max(int(float64(pods)*float64(max(maxPass, 4*writeLatency))/float64(took)), minBatch), maxBatch)
	}
}
