// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// bindPods stops the scheduler and binds every Pod of the cluster to a node in turn, without a
// thought. It continues until the context ends.
func (b *bench) bindPods(ctx context.Context) error {
	if err := b.cluster.Stop(ctx, "kube-scheduler"); err != nil {
		return err
	}
	nodes := &corev1.NodeList{}
	if err := b.kube.List(ctx, nodes); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	fresh := make(chan *corev1.Pod, 1<<17)
	known := map[types.UID]bool{}
	_, err := b.follow(ctx, "", &corev1.PodList{}, func(e watch.Event) (bool, error) {
		if pod, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Added && !known[pod.UID] {
			known[pod.UID] = true
			fresh <- pod
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	kube := b.kube
	for w := range workers {
		go func() {
			for n := w; ; n++ {
				select {
				case <-ctx.Done():
					return
				case pod := <-fresh:
					node := corev1.ObjectReference{Kind: "Node", Name: nodes.Items[n%len(nodes.Items)].Name}
					if err := kube.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: node}); err != nil && ctx.Err() == nil {
						fmt.Fprintln(os.Stderr, "binding a Pod:", err)
					}
				}
			}
		}()
	}
	return nil
}
