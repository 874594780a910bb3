// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
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
			s.Succeeded(maxWindow)
		}
		rounds++
	}
	if rounds != 6 {
		t.Errorf("the window is open after %d rounds, want 6", rounds)
	}
	s.Succeeded(maxWindow)
	if s.Window() != maxWindow {
		t.Errorf("the window is %d, want at most %d", s.Window(), maxWindow)
	}
	if s.Failed(); s.Window() != 1 {
		t.Errorf("after a call that failed the window is %d, want 1", s.Window())
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
