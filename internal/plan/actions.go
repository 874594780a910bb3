// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// actions are what is to be done with Pods, and when to look again.
type actions struct {
	// delete are Pods to be stopped, and removeFinalizers those whose outcome is stored or not needed.
	delete, removeFinalizers []*corev1.Pod
	// lingering counts the Pods beyond the claims that still have a node, by the identifier of
	// their ComputeEnv.
	lingering map[string]int
	// requeueAfter is when to look again though nothing changed; 0 means never.
	requeueAfter time.Duration
}

// plan returns a plan that stores status and takes these actions, on Pods in order of their names.
func (a *actions) plan(status v1alpha1.BatchJobStatus) Plan {
	byName := func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(a.delete, byName)
	slices.SortFunc(a.removeFinalizers, byName)
	return Plan{Status: status, Delete: a.delete, RemoveFinalizers: a.removeFinalizers, RequeueAfter: a.requeueAfter}
}

// lookAgain has the next pass come after that time at the latest.
func (a *actions) lookAgain(after time.Duration) { a.requeueAfter = sooner(a.requeueAfter, after) }

// sooner returns the shorter of two waits, of which known is 0 where there is none yet.
func sooner(known, after time.Duration) time.Duration {
	if known == 0 || after < known {
		return after
	}
	return known
}

// awaitEnd looks again when the end of a Pod that was asked to stop is not confirmed in time.
func (a *actions) awaitEnd(pod *corev1.Pod, now time.Time) {
	if pod.DeletionTimestamp != nil {
		a.lookAgain(max(pod.DeletionTimestamp.Add(confirmWait).Sub(now), time.Second))
	}
}

// cleanUp removes the finalizer of a Pod whose outcome is stored or not needed, and stops one that still
// runs. A Pod on a node of a ComputeEnv keeps its finalizer until it has ended.
func (a *actions) cleanUp(pod *corev1.Pod, now time.Time) {
	if HoldsNode(pod, now) {
		a.awaitEnd(pod, now)
		if a.lingering == nil {
			a.lingering = map[string]int{}
		}
		a.lingering[pod.Labels[v1alpha1.LabelEnvID]]++
	} else {
		a.removeFinalizers = append(a.removeFinalizers, pod)
	}
	//mutation:unclaimed-pod-not-stopped
	if !HasFinished(pod) && pod.DeletionTimestamp == nil {
		a.delete = append(a.delete, pod)
	}
}

// stopAll stops the Pods of a deleted job that waits for the receivers of its events: the garbage collector does so only
// after the wait. Those of a deletion with --cascade=orphan are left alone.
func (a *actions) stopAll(job *v1alpha1.BatchJob, pods []*corev1.Pod) {
	if slices.Contains(job.Finalizers, metav1.FinalizerOrphanDependents) {
		return
	}
	for _, pod := range pods {
		if !HasFinished(pod) && pod.DeletionTimestamp == nil {
			a.delete = append(a.delete, pod)
		}
	}
}

func (a *actions) cleanUpAll(pods []*corev1.Pod, now time.Time) {
	for _, pod := range pods {
		a.cleanUp(pod, now)
	}
}
