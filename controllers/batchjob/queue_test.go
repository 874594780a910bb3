// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/testutil"
)

// recordingQueue is a queue that records the last request and its delay.
type recordingQueue struct {
	priorityqueue.PriorityQueue[reconcile.Request]
	after time.Duration
	of    reconcile.Request
}

func (q *recordingQueue) AddWithOpts(o priorityqueue.AddOpts, requests ...reconcile.Request) {
	q.after, q.of = o.After, requests[0]
}

// TestEventsAreDebounced: after a pass over a job with many Pods its events are delayed, also if the clock jumps, and events
// of other jobs are not.
func TestEventsAreDebounced(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("large").Task("a", testutil.Instances(60)))
	e.submit(testutil.Job("small").Task("a"))
	for range 3 { // the Pods are created in batches, and observed in the pass after that
		p.must("large")
		p.must("small")
	}
	end := e.clock.Now()
	for _, test := range []struct {
		job  string
		at   time.Duration
		want time.Duration
	}{
		{"large", 0, flow.DelayAfter(60)},
		{"large", time.Millisecond, flow.DelayAfter(60) - time.Millisecond},
		{"large", flow.DelayAfter(60), 0},
		{"large", time.Hour, 0},
		{"large", -time.Hour, flow.MaxDelay},
		{"small", 0, 0},
		{"unknown", 0, 0},
	} {
		e.clock.SetTime(end.Add(test.at))
		q := &recordingQueue{after: -1}
		key := types.NamespacedName{Namespace: e.ns, Name: test.job}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Annotations: map[string]string{v1alpha1.AnnotationJobName: key.Name}}}
		p.queue.enqueue(requestForPod).Create(context.Background(), event.CreateEvent{Object: pod}, q)
		if q.of.NamespacedName != key || q.after != test.want {
			t.Errorf("%s, %s after its pass: %s is delayed by %s, want %s", test.job, test.at, q.of, q.after, test.want)
		}
	}
}

// TestPodEventIsKept: the time of the first event of a Pod is kept until a pass has recorded it.
func TestPodEventIsKept(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	c, key, m := testingclock.NewFakePassiveClock(start), types.NamespacedName{Namespace: "ns", Name: "j"}, &jobState{}
	q := &jobQueue{states: &jobStates{byName: map[types.NamespacedName]*jobState{key: m}}, clock: c}
	event := func(after time.Duration, isPod bool) {
		c.SetTime(start.Add(after))
		q.delayEvent(key, isPod)
	}
	event(1*time.Second, false)
	if got := q.states.takePodEvent(m, c.Now()); got != c.Now() {
		t.Errorf("without an event of a Pod: %s, want now", got)
	}
	event(2*time.Second, true)
	event(3*time.Second, true)
	first := q.states.takePodEvent(m, c.Now())
	if want := start.Add(2 * time.Second); first != want {
		t.Errorf("first event at %s, want %s", first, want)
	}
	q.states.putPodEvent(m, first) // the pass recorded nothing
	event(9*time.Second, true)
	if got := q.states.takePodEvent(m, c.Now()); got != first {
		t.Errorf("after a pass that recorded nothing: %s, want %s", got, first)
	}
	if got := q.states.takePodEvent(m, c.Now()); got != c.Now() {
		t.Errorf("after a pass that recorded it: %s, want now", got)
	}
	q.delayEvent(types.NamespacedName{Name: "unknown"}, true)
}
