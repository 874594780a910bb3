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

// jobQueue keeps the controller's queue, for jobs that are woken by none of their objects.
type jobQueue struct {
	mu    sync.Mutex
	queue queue
}

// set is a source of events, which keeps the queue.
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

// addTo adds a job to the queue with the priority of its spec, to be served after a delay.
func addTo(q queue, key types.NamespacedName, priority int, delay time.Duration) {
	req := reconcile.Request{NamespacedName: key}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: new(priority), After: delay}, req)
		return
	}
	q.AddAfter(req, delay)
}

// request is what an object asks for: a job's name, "" for none.
type request func(client.Object) types.NamespacedName

func requestForJob(job client.Object) types.NamespacedName { return client.ObjectKeyFromObject(job) }

func requestForPod(pod client.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.GetNamespace(), Name: jobOf(pod)}
}

// enqueue adds the job that an object belongs to to the queue: within its namespace in the order of
// spec.job.priority, and what a starting manager finds ended last.
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

// priority is that of a job in the queue, among those of its namespace, as an object gives it.
func (r *Reconciler) priority(key types.NamespacedName, o client.Object) int {
	if job, ok := o.(*v1alpha1.BatchJob); ok {
		if plan.IsFinished(job) {
			return handler.LowPriority
		}
		return resolve.Priority(job)
	}
	return r.states.priority(key)
}

// delayEvent returns how long an event of a job waits, and notes when the first one of a Pod came.
func (r *Reconciler) delayEvent(key types.NamespacedName, isPod bool) time.Duration {
	now := r.options.Clock.Now()
	if isPod {
		r.states.podEvent(key, now)
	}
	return r.debounce.Delay(key, now)
}

// wake adds a job to the queue for what no object in the cache tells of.
func (r *Reconciler) wake(key types.NamespacedName, priority int) {
	r.states.wake(key)
	r.queue.add(key, priority)
}
