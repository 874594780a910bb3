// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestDelayAfter(t *testing.T) {
	t.Parallel()
	for pods, want := range map[int]time.Duration{
		0: 0, 1: 0, 49: 0, 50: 5 * time.Millisecond, 2000: 200 * time.Millisecond, 2500: MaxDelay, 100_000: MaxDelay,
	} {
		if got := DelayAfter(pods); got != want {
			t.Errorf("DelayAfter(%d) = %s, want %s", pods, got, want)
		}
	}
}

// TestDebounceLoad: a job whose Pods have an event every millisecond gets a pass for many of them, and one
// with a few Pods gets a pass for each.
func TestDebounceLoad(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pods, want int }{{10, 1000}, {500, 20}, {10_000, 4}} {
		var d Debouncer
		job, passes := types.NamespacedName{Namespace: "ns", Name: "j"}, 0
		var due time.Time // when the queue gives the job to a worker
		for ms := range 1000 {
			now := start.Add(time.Duration(ms) * time.Millisecond)
			if at := now.Add(d.Delay(job, now)); due.IsZero() {
				due = at
			}
			if !now.Before(due) {
				passes, due = passes+1, time.Time{}
				d.PassEnded(job, tc.pods, now)
			}
		}
		if passes > tc.want || passes < tc.want*9/10 {
			t.Errorf("%d Pods: %d passes in a second, want about %d", tc.pods, passes, tc.want)
		}
	}
}

// TestDebouncerForgets: what is kept does not grow with the jobs that there ever were.
func TestDebouncerForgets(t *testing.T) {
	t.Parallel()
	var d Debouncer
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	d.PassEnded(a, 1000, start)
	d.PassEnded(b, 1000, start)
	if got := d.Delay(a, start.Add(-time.Hour)); got != MaxDelay {
		t.Errorf("with a clock that was set back an event waits %s, want %s", got, MaxDelay)
	}
	d.PassEnded(a, 1, start)
	d.Forget(b)
	if len(d.until) != 0 || d.Delay(a, start) != 0 || d.Delay(b, start) != 0 {
		t.Errorf("it knows %v", d.until)
	}
}
