// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/slots"
)

// queue is the controller's queue.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// takeQueue keeps the controller's queue, for jobs that are woken by none of their objects.
func (r *Reconciler) takeQueue(_ context.Context, q queue) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = q
	return nil
}

// wake puts a job into the queue that was given nodes.
func (r *Reconciler) wake(p slots.Place) { r.look(p.Job, p.Priority) }

// look puts a job into the queue for what no object in the cache tells of.
func (r *Reconciler) look(key types.NamespacedName, priority int) {
	r.mu.Lock()
	q := r.queue
	if m := r.memories[key]; m != nil {
		m.looks++
	}
	r.mu.Unlock()
	if q != nil {
		put(q, key, priority, 0)
	}
}

// put puts a job into the queue with the priority of its spec, to be looked at after some time.
func put(q queue, key types.NamespacedName, priority int, after time.Duration) {
	req := reconcile.Request{NamespacedName: key}
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: new(priority), After: after}, req)
		return
	}
	q.AddAfter(req, after)
}

// onEnv tells the ledger how large ComputeEnvs are, and wakes the jobs that name one which
// comes or goes.
func (r *Reconciler) onEnv() handler.EventHandler {
	users := func(ctx context.Context, o client.Object, _ queue) {
		jobs, err := lookup.UnfinishedJobs(ctx, r.client, o)
		if err != nil {
			log.FromContext(ctx).Error(err, "Could not look for the jobs of a ComputeEnv")
		}
		for i := range jobs {
			r.look(client.ObjectKeyFromObject(&jobs[i]), placeOf(&jobs[i]).Priority)
		}
	}
	resize := func(o client.Object) {
		if env, ok := o.(*v1alpha1.ComputeEnv); ok {
			r.resize(env)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			resize(e.Object)
			if !e.IsInInitialList { // else all jobs are in it as well
				users(ctx, e.Object, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) { resize(e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.options.Slots.Resize(client.ObjectKeyFromObject(e.Object), slots.Size{UID: e.Object.GetUID(), Generation: math.MaxInt64})
			users(ctx, e.Object, q)
		},
	}
}

// followNodes keeps the index of nodes, on every replica, and wakes the jobs that wait for a
// host by its address.
func (r *Reconciler) followNodes(c cache.Cache) error {
	x := r.options.Nodes
	informer, err := c.GetInformer(context.Background(), &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	saw := func(o any) {
		if node, ok := o.(*corev1.Node); ok && x.Saw(node) {
			r.wakeSeekers()
		}
	}
	handle, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    saw,
		UpdateFunc: func(_, o any) { saw(o) },
		DeleteFunc: func(o any) {
			if key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				x.Gone(key)
				r.wakeSeekers()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	x.CompleteWhen(handle.HasSynced)
	return nil
}

// wakeSeekers puts the jobs into the queue that may name hosts by their addresses.
func (r *Reconciler) wakeSeekers() {
	r.nodesVersion.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queue == nil {
		return
	}
	for key, m := range r.memories {
		if m.seeksHosts {
			m.looks++
			put(r.queue, key, m.priority, 0)
		}
	}
}
