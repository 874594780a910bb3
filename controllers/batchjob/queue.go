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
			put(q, key, r.priority(key, o), r.delayEvent(key, isPod))
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

// delayEvent returns how long an event of a job is to wait, and notes when the first one of a Pod came.
func (r *Reconciler) delayEvent(key types.NamespacedName, isPod bool) time.Duration {
	now := r.options.Clock.Now()
	if isPod {
		r.mu.Lock()
		if m := r.memories[key]; m != nil && m.podEvent.IsZero() {
			m.podEvent = now
		}
		r.mu.Unlock()
	}
	return r.debounce.Delay(key, now)
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
