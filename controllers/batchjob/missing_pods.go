// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// verify asks the API server for claimed Pods that the cache does not have. It repairs the metadata of those that
// exist, and adds to the observation which do not exist, and which names belong to other Pods.
func (r *Reconciler) verify(ctx context.Context, obs *observation, instances []resolve.Instance) error {
	var mu sync.Mutex
	absent := map[string]bool{}
	// The cached job may be older than its deletion. A Pod that was orphaned by the deletion must not get its owner
	// reference back.
	mayAdopt := sync.OnceValue(func() bool {
		job := &v1alpha1.BatchJob{}
		err := r.live.Get(ctx, client.ObjectKeyFromObject(obs.Job), job)
		return err == nil && job.UID == obs.Job.UID && job.DeletionTimestamp == nil
	})
	err := r.limits.For(keyOf(&obs.Job.ObjectMeta), len(instances)).Get.Do(len(instances), func(i int) error {
		want := podspec.Meta(obs.Job, obs.Spec, instances[i], obs.env(instances[i]))
		r.key.sign(&want)
		pod := &corev1.Pod{}
		err := r.live.Get(ctx, keyOf(&want), pod)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
		}
		missing, ours := err != nil, err == nil && r.ownsName(obs.Job, pod, obs.state.proven)
		if err == nil && !ours {
			if err := r.disown(ctx, pod); err != nil {
				return err
			}
		}
		if ours {
			owned := metav1.GetControllerOfNoCopy(pod) != nil
			if err := r.repair(ctx, pod, &want, !owned && mayAdopt()); errors.Is(err, errPodTerminating) {
				missing = true
			} else if client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case missing:
			absent[want.Name] = true
		case ours:
			delete(obs.state.conflicts, want.Name)
		//mutation:disowned-pod-is-gone
		case plan.HasFinished(pod):
			absent[want.Name] = true
		default:
			obs.state.noteConflict(nameConflictWith(pod), r.options.Clock.Now())
		}
		return nil
	})
	obs.Absent, obs.NameConflicts = absent, obs.state.nameConflicts()
	return err
}

// repair restores what somebody removed from a Pod of the job: labels, finalizer, the annotations that name the job and
// prove who created the Pod, and, with mayAdopt, the owner reference.
func (r *Reconciler) repair(ctx context.Context, pod *corev1.Pod, want *metav1.ObjectMeta, mayAdopt bool) error {
	// The API server refuses new finalizers of a terminating Pod.
	mayAddFinalizer := pod.DeletionTimestamp == nil
	hasFinalizer := slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
	//mutation:edited-terminating-pod-is-done
	if !mayAddFinalizer && !hasFinalizer && plan.HasFinished(pod) && pod.Labels[v1alpha1.LabelTracked] == "" {
		return errPodTerminating
	}
	adopts := mayAdopt && metav1.GetControllerOfNoCopy(pod) == nil
	annotations := map[string]string{}
	for _, name := range []string{v1alpha1.AnnotationJobName, v1alpha1.AnnotationProof} {
		if text := want.Annotations[name]; text != "" && text != pod.Annotations[name] {
			annotations[name] = text
		}
	}
	//mutation:labels-not-repaired
	if isSubset(want.Labels, pod.Labels) && (hasFinalizer || !mayAddFinalizer) && !adopts && len(annotations) == 0 {
		return nil // nothing to repair: the cache does not have the Pod yet
	}
	metadata := map[string]any{"uid": pod.UID, "labels": want.Labels}
	if mayAddFinalizer {
		metadata["finalizers"] = want.Finalizers
	}
	if adopts {
		metadata["ownerReferences"] = want.OwnerReferences
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	_, err := r.patchPod(ctx, pod, metadata)
	return err
}
