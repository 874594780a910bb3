// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import "time"

// A job may emit EventBurst Events at once, and then one in each EventInterval.
const (
	EventBurst    = 50
	EventInterval = 2 * time.Second
)

// EventBudget is a token bucket that bounds the Events of one job. It counts those that are dropped, so
// that the next one can say how many are missing. Only one goroutine may use it at a time; the zero value
// has a whole burst left.
type EventBudget struct {
	spent   int // of the burst
	since   time.Time
	dropped int
}

// Take reports whether one more Event may be emitted; else it counts the Event as dropped.
func (b *EventBudget) Take(now time.Time) bool {
	if refill := int(now.Sub(b.since) / EventInterval); refill > 0 {
		b.spent, b.since = max(0, b.spent-refill), now
	}
	if b.spent >= EventBurst {
		b.dropped++
		return false
	}
	b.spent++
	return true
}

// Drop counts an Event that is not emitted for another reason.
func (b *EventBudget) Drop() { b.dropped++ }

// TakeDropped returns how many Events were dropped since it was called last.
func (b *EventBudget) TakeDropped() int {
	n := b.dropped
	b.dropped = 0
	return n
}
