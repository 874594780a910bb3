// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
)

// request is what an object asks for: a job's name, "" for none.
type request func(client.Object) types.NamespacedName

func requestForJob(job client.Object) types.NamespacedName { return client.ObjectKeyFromObject(job) }

func requestForPod(pod client.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.GetNamespace(), Name: jobOf(pod)}
}

// enqueue puts the job that an object belongs to into the queue: within its namespace in the order
// of spec.job.priority, and what a starting manager finds ended last.
func (r *Reconciler) enqueue(of request) handler.EventHandler {
	add := func(q queue, o client.Object) {
		if key := of(o); key.Name != "" {
			_, isPod := o.(*corev1.Pod)
			put(q, key, r.priority(key, o), r.debounce(key, isPod))
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if of(e.ObjectOld) != of(e.ObjectNew) {
				add(q, e.ObjectOld)
			}
			add(q, e.ObjectNew)
		},
		DeleteFunc:  func(_ context.Context, e event.DeleteEvent, q queue) { add(q, e.Object) },
		GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { add(q, e.Object) },
	}
}

// priority is that of a job in the queue, among those of its namespace, as an object gives it.
func (r *Reconciler) priority(key types.NamespacedName, o client.Object) int {
	if job, ok := o.(*v1alpha1.BatchJob); ok {
		if plan.IsFinished(job) {
			return handler.LowPriority
		}
		if p := job.Spec.Job.Priority; p != nil {
			return int(*p)
		}
		return v1alpha1.DefaultPriority
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[key]; m != nil {
		return m.priority
	}
	return v1alpha1.DefaultPriority
}

// A pass looks at all Pods of its job that are under way, a microsecond each, and each of them has
// its events: so the passes of a large job would come one upon the other, and most find nothing to
// do. After each pass events wait, the longer the more Pods it looked at; not after one with a few dozen.
const (
	restForPod          = 100 * time.Microsecond
	leastRest, mostRest = 5 * time.Millisecond, 250 * time.Millisecond
)

// restAfter is how long events wait after a pass that looked at so many Pods.
func restAfter(pods int) time.Duration {
	d := time.Duration(pods) * restForPod
	if d < leastRest {
		return 0
	}
	return min(d, mostRest)
}

// rest has the events of a job wait after a pass that has ended.
func (r *Reconciler) rest(obs *observation) {
	until := r.options.Clock.Now().Add(restAfter(len(obs.Pods)))
	r.mu.Lock()
	defer r.mu.Unlock()
	obs.memory.rests = until
}

// debounce returns how long an event of a job is to wait, and notes when the first one of a Pod came.
func (r *Reconciler) debounce(key types.NamespacedName, isPod bool) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memories[key]
	if m == nil {
		return 0
	}
	now := r.options.Clock.Now()
	if isPod && m.podEvent.IsZero() {
		m.podEvent = now
	}
	if m.rests.IsZero() {
		return 0
	}
	return min(max(m.rests.Sub(now), 0), mostRest)
}

// takePodEvent returns when the first event of a Pod came that no pass has recorded, and forgets it; now
// if there was none.
func (r *Reconciler) takePodEvent(m *memory, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := m.podEvent
	if m.podEvent = (time.Time{}); first.IsZero() {
		return now
	}
	return first
}

// putPodEvent puts back what takePodEvent has returned, since the pass recorded nothing.
func (r *Reconciler) putPodEvent(m *memory, first time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.podEvent = first
}
