// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
)

// removableFinalizers returns the Pods whose finalizers may be removed now, divided into terminating and other Pods,
// and the time after which to check the remaining ones; 0 if there are none.
//
// A terminating Pod without its finalizer is deleted, and its name is free. Another process that still acts as the
// leader may be about to create the Pod again, and must get a name conflict. So the finalizers of terminating Pods
// are removed last, and only once the Pods are older than minNameAge.
func (r *Reconciler) removableFinalizers(obs *observation, p *plan.Plan, deleteErr error) (terminating, others []*corev1.Pod, young time.Duration) {
	pods := p.RemoveFinalizers
	if deleteErr != nil {
		// A Pod whose deletion failed must stay in the cache.
		deleted := make(map[*corev1.Pod]bool, len(p.Delete))
		for _, pod := range p.Delete {
			deleted[pod] = true
		}
		_, pods = partition(pods, func(pod *corev1.Pod) bool { return deleted[pod] })
	}
	terminating, others = partition(pods, func(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	if obs.Job.DeletionTimestamp == nil { // nobody creates Pods for a job that is being deleted
		terminating, young = r.oldEnough(terminating)
	}
	return terminating, others, young
}

// oldEnough returns the Pods that are older than minNameAge, and how long it is until the next one is; 0 if all are.
func (r *Reconciler) oldEnough(pods []*corev1.Pod) ([]*corev1.Pod, time.Duration) {
	var first time.Duration
	now := r.options.Clock.Now()
	old, _ := partition(pods, func(pod *corev1.Pod) bool {
		left := pod.CreationTimestamp.Add(minNameAge).Sub(now)
		if left <= 0 || left > 2*minNameAge { // one of the clocks is wrong
			return true
		}
		first = soonest(first, left)
		return false
	})
	return old, first
}

// removeFinalizersOf removes the finalizers of Pods of the job, and remembers which.
func (r *Reconciler) removeFinalizersOf(ctx context.Context, obs *observation, pods []*corev1.Pod) error {
	removed, err := r.podClient.removeFinalizers(ctx, keyOf(&obs.Job.ObjectMeta), pods)
	maps.Copy(obs.state.finalizersRemoved, removed)
	return err
}

// removeOrphanFinalizers removes the finalizers of Pods that name a job which does not exist, or is not theirs. The
// cache may be stale, so it reads the job from the API server first.
func (r *Reconciler) removeOrphanFinalizers(ctx context.Context, key types.NamespacedName, pods []*corev1.Pod) error {
	if len(pods) == 0 {
		return nil
	}
	var job v1alpha1.BatchJob
	err := r.live.Get(ctx, key, &job)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the job from the API server: %w", err)
	}
	var orphans []*corev1.Pod
	for _, pod := range pods {
		//mutation:orphans-by-cache-alone
		if (apierrors.IsNotFound(err) || !r.key.owns(&job, pod, nil)) && !r.pool.HoldsNode(pod) {
			orphans = append(orphans, pod)
		}
	}
	//mutation:orphans-keep-finalizer
	_, err = r.podClient.removeFinalizers(ctx, key, orphans)
	return err
}

// partition divides Pods by whether is returns true for them.
func partition(pods []*corev1.Pod, is func(*corev1.Pod) bool) (yes, no []*corev1.Pod) {
	for _, pod := range pods {
		if is(pod) {
			yes = append(yes, pod)
		} else {
			no = append(no, pod)
		}
	}
	return yes, no
}
