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
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// queue is the controller's queue.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// jobQueue enqueues jobs: for the events of their objects, which it debounces, and without one. Its methods may be
// called concurrently.
type jobQueue struct {
	states   *jobStates
	clock    clock.PassiveClock
	debounce flow.Debouncer

	mu    sync.Mutex
	queue queue // the controller's
}

// set is the start function of a source of events, which gets the queue.
func (q *jobQueue) set(_ context.Context, queue queue) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = queue
	return nil
}

// wake enqueues a job without an event of its objects, if the controller has started.
func (q *jobQueue) wake(job types.NamespacedName, priority int) {
	q.states.wake(job)
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
func (q *jobQueue) enqueue(of request) handler.EventHandler {
	add := func(to queue, o client.Object) {
		if key := of(o); key.Name != "" {
			_, isPod := o.(*corev1.Pod)
			addTo(to, key, q.priority(key, o), q.delayEvent(key, isPod))
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, to queue) { add(to, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, to queue) {
			if of(e.ObjectOld) != of(e.ObjectNew) {
				add(to, e.ObjectOld)
			}
			add(to, e.ObjectNew)
		},
		DeleteFunc:  func(_ context.Context, e event.DeleteEvent, to queue) { add(to, e.Object) },
		GenericFunc: func(_ context.Context, e event.GenericEvent, to queue) { add(to, e.Object) },
	}
}

// priority returns the priority of a job in the queue, among the jobs of its namespace, for an event of o.
func (q *jobQueue) priority(key types.NamespacedName, o client.Object) int {
	if job, ok := o.(*v1alpha1.BatchJob); ok {
		if plan.IsFinished(job) {
			return handler.LowPriority
		}
		return resolve.Priority(job)
	}
	return q.states.priority(key)
}

// delayEvent returns the delay that debounces an event, and records the time of an event of a Pod.
func (q *jobQueue) delayEvent(key types.NamespacedName, isPod bool) time.Duration {
	now := q.clock.Now()
	if isPod {
		q.states.podEvent(key, now)
	}
	return q.debounce.Delay(key, now)
}
