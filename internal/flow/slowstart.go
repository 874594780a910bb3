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

// Succeeded notes that a call has succeeded, where at most maxWindow calls may be in flight.
func (s *SlowStart) Succeeded(maxWindow int) { s.window = min(s.Window()+1, maxWindow) }

// Failed notes that a call has failed.
func (s *SlowStart) Failed() { s.window = 1 }

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
