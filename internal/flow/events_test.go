// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"
)

// TestEventBudget: of a job that has an Event every 100 ms for ten minutes the first ones are emitted, and
// then one in each interval, which says how many were dropped.
func TestEventBudget(t *testing.T) {
	t.Parallel()
	const every, long = 100 * time.Millisecond, 10 * time.Minute
	var b EventBudget
	emitted, dropped := 0, 0
	for at := time.Duration(0); at < long; at += every {
		if b.Take(start.Add(at)) {
			emitted++
			dropped += b.TakeDropped()
		}
	}
	dropped += b.TakeDropped()
	if want := EventBurst + int(long/EventInterval); emitted > want || emitted < want-5 {
		t.Errorf("%d Events were emitted, want about %d", emitted, want)
	}
	if emitted+dropped != int(long/every) {
		t.Errorf("%d Events were emitted and %d dropped, of %d", emitted, dropped, long/every)
	}
	b.Drop()
	if got := b.TakeDropped(); got != 1 {
		t.Errorf("%d Events were dropped, want 1", got)
	}
	for range EventBurst {
		if !b.Take(start.Add(24 * time.Hour)) {
			t.Fatal("the burst does not come back")
		}
	}
}
