// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// watchNodes keeps the index of the cluster's nodes up to date, on every replica, and enqueues the jobs that may wait
// for a node by its address.
func (r *Reconciler) watchNodes(c cache.Cache) error {
	x := r.options.Nodes
	informer, err := c.GetInformer(context.Background(), &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	saw := func(o any) {
		if node, ok := o.(*corev1.Node); ok && x.Saw(node) {
			r.wakeHostSeekers()
		}
	}
	handle, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    saw,
		UpdateFunc: func(_, o any) { saw(o) },
		DeleteFunc: func(o any) {
			if key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				x.Gone(key)
				r.wakeHostSeekers()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	x.CompleteWhen(handle.HasSynced)
	return nil
}

// wakeHostSeekers enqueues the jobs that may name nodes by their addresses.
func (r *Reconciler) wakeHostSeekers() {
	r.nodesVersion.Add(1)
	for job, priority := range r.states.hostSeekers() {
		r.wake(job, priority)
	}
}
