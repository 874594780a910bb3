// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A pass looks at all active Pods of its job, a microsecond each, and each of them has its events. So
// the passes of a large job would follow each other without a pause, and most would find nothing to do.
// After a pass the events of its job wait, for delayPerPod for each Pod that it looked at, up to
// MaxDelay; a delay below minDelay, as after a pass over a few dozen Pods, is none.
const (
	delayPerPod = 100 * time.Microsecond
	minDelay    = 5 * time.Millisecond
	// MaxDelay is how long an event waits at most.
	MaxDelay = 250 * time.Millisecond
)

// DelayAfter is how long events wait after a pass that looked at so many Pods.
func DelayAfter(pods int) time.Duration {
	d := time.Duration(pods) * delayPerPod
	if d < minDelay {
		return 0
	}
	return min(d, MaxDelay)
}

// Debouncer delays the events of jobs after a pass, so that one pass handles many of them. The zero
// value is ready for use, and its methods may be called concurrently.
type Debouncer struct {
	mu    sync.Mutex
	until map[types.NamespacedName]time.Time
}

// PassEnded notes that a pass over so many Pods of a job has ended.
func (d *Debouncer) PassEnded(job types.NamespacedName, pods int, now time.Time) {
	delay := DelayAfter(pods)
	d.mu.Lock()
	defer d.mu.Unlock()
	if delay == 0 {
		delete(d.until, job)
		return
	}
	if d.until == nil {
		d.until = map[types.NamespacedName]time.Time{}
	}
	d.until[job] = now.Add(delay)
}

// Delay is how long an event of a job waits.
func (d *Debouncer) Delay(job types.NamespacedName, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.until[job]
	if !ok {
		return 0
	}
	return min(max(until.Sub(now), 0), MaxDelay) // the clock may have been set back
}

// Forget drops what is known of a job.
func (d *Debouncer) Forget(job types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, job)
}
