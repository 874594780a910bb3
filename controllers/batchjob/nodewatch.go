// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"batchcompute.dev/operator/internal/nodes"
)

// nodeWatch keeps the index of the cluster's nodes up to date. Its methods may be called concurrently.
type nodeWatch struct {
	// index is the index; nil: nodes are not watched, and no address is known.
	index *nodes.Index
	queue *jobQueue
	// version counts the changes of the cluster's nodes.
	version atomic.Int64
}

// start keeps the index up to date, on every replica, and enqueues the jobs that may wait
// for a node by its address.
func (w *nodeWatch) start(c cache.Cache) error {
	informer, err := c.GetInformer(context.Background(), &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	saw := func(o any) {
		if node, ok := o.(*corev1.Node); ok && w.index.Saw(node) {
			w.wakeHostSeekers()
		}
	}
	handle, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    saw,
		UpdateFunc: func(_, o any) { saw(o) },
		DeleteFunc: func(o any) {
			if key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				w.index.Gone(key)
				w.wakeHostSeekers()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	w.index.CompleteWhen(handle.HasSynced)
	return nil
}

// wakeHostSeekers enqueues the jobs that may name nodes by their addresses.
func (w *nodeWatch) wakeHostSeekers() {
	w.version.Add(1)
	for job, priority := range w.queue.states.hostSeekers() {
		w.queue.wake(job, priority)
	}
}

// hosts returns the function that finds the host names of nodes by their addresses; nil if nodes are not watched.
func (w *nodeWatch) hosts() func([]string) []string {
	if w.index == nil {
		return nil
	}
	return w.index.Hosts
}
