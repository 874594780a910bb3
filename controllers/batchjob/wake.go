// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
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

// wake puts a job into the queue for what no object in the cache tells of.
func (r *Reconciler) wake(key types.NamespacedName, priority int) {
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
