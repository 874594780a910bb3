// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// queue is the controller's queue.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// jobQueue has the controller's queue, to enqueue jobs without an event of their objects.
type jobQueue struct {
	mu    sync.Mutex
	queue queue
}

// set is the start function of a source of events, which gets the queue.
func (q *jobQueue) set(_ context.Context, queue queue) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = queue
	return nil
}

// add adds a job to the queue, if the controller has started.
func (q *jobQueue) add(job types.NamespacedName, priority int) {
	q.mu.Lock()
	queue := q.queue
	q.mu.Unlock()
	if queue != nil {
		addTo(queue, job, priority, 0)
	}
}

// addTo adds a job to the queue after a delay.
func addTo(q queue, key types.NamespacedName, priority int, delay time.Duration) {
	req := reconcile.Request{NamespacedName: key}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: new(priority), After: delay}, req)
		return
	}
	q.AddAfter(req, delay)
}

// request returns the job that an event of an object enqueues; its name is "" for none.
type request func(client.Object) types.NamespacedName

func requestForJob(job client.Object) types.NamespacedName { return client.ObjectKeyFromObject(job) }

func requestForPod(pod client.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.GetNamespace(), Name: jobOf(pod)}
}

// enqueue returns a handler that adds the job of an object to the queue. Within a namespace spec.job.priority orders the
// jobs, and finished jobs come last.
func (r *Reconciler) enqueue(of request) handler.EventHandler {
	add := func(q queue, o client.Object) {
		if key := of(o); key.Name != "" {
			_, isPod := o.(*corev1.Pod)
			addTo(q, key, r.priority(key, o), r.delayEvent(key, isPod))
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

// priority returns the priority of a job in the queue, among the jobs of its namespace, for an event of o.
func (r *Reconciler) priority(key types.NamespacedName, o client.Object) int {
	if job, ok := o.(*v1alpha1.BatchJob); ok {
		if plan.IsFinished(job) {
			return handler.LowPriority
		}
		return resolve.Priority(job)
	}
	return r.states.priority(key)
}

// delayEvent returns the delay that debounces an event, and records the time of an event of a Pod.
func (r *Reconciler) delayEvent(key types.NamespacedName, isPod bool) time.Duration {
	now := r.options.Clock.Now()
	if isPod {
		r.states.podEvent(key, now)
	}
	return r.debounce.Delay(key, now)
}

// wake enqueues a job without an event of its objects.
func (r *Reconciler) wake(key types.NamespacedName, priority int) {
	r.states.wake(key)
	r.queue.add(key, priority)
}
