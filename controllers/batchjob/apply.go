// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// apply applies a plan whose status is stored: it deletes and creates Pods, and removes the finalizers of those whose
// outcome is stored. It returns the time after which to requeue the job; 0 after an error that is retried with a
// backoff.
func (r *Reconciler) apply(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	obs.recorded = true
	deleteErr := r.deletePods(ctx, obs, p.Delete)
	terminating, others, young := r.removableFinalizers(obs, p, deleteErr)
	var again time.Duration
	var createErr, removeErr error
	r.limits.Concurrently(
		func() { again, createErr = r.createPods(ctx, obs, p) },
		func() { removeErr = r.removeFinalizersOf(ctx, obs, others) },
	)
	removeErr = errors.Join(removeErr, r.removeFinalizersOf(ctx, obs, terminating))
	r.measure(obs, p, removeErr == nil && young == 0)
	err := errors.Join(deleteErr, createErr, removeErr)
	if err != nil {
		if class, _ := retry.Of(err); class != retry.Wait {
			return 0, err
		}
	}
	if p.Expire {
		return r.expire(ctx, obs.Job)
	}
	//mutation:missing-pod-not-looked-for
	unseen := obs.state.lookForCreated(r.options.Clock.Now())
	return soonest(p.RequeueAfter, again, unseen, young, obs.wait), err
}

// deletePods deletes Pods. They exist until their outcome is stored, since they have the tracking finalizer.
func (r *Reconciler) deletePods(ctx context.Context, obs *observation, pods []*corev1.Pod) error {
	return r.limits.For(keyOf(&obs.Job.ObjectMeta), len(pods)).Delete.Do(len(pods), func(i int) error {
		if err := r.deletePod(ctx, pods[i]); err != nil {
			return fmt.Errorf("deleting pod %s: %w", pods[i].Name, err)
		}
		return nil
	})
}

// deleteTries is after how many conflicts a Pod is deleted without an optimistic lock.
const deleteTries = 3

// deletePod deletes a Pod. The cache may be stale, so the deletion has an optimistic lock: a Pod that has finished
// since is kept, and with it its log.
func (r *Reconciler) deletePod(ctx context.Context, pod *corev1.Pod) error {
	uid, version := pod.UID, &pod.ResourceVersion
	for try := 1; ; try++ {
		if try == deleteTries {
			version = nil
		}
		err := r.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}},
			client.Preconditions{UID: &uid, ResourceVersion: version})
		r.options.Metrics.Wrote("delete", "pods", err)
		switch {
		case !apierrors.IsConflict(err):
			return client.IgnoreNotFound(err)
		case try == deleteTries:
			return nil // the name belongs to another Pod now
		}
		now := &corev1.Pod{}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return client.IgnoreNotFound(err)
		}
		if now.UID != uid || now.DeletionTimestamp != nil || plan.HasFinished(now) && !plan.HasFinished(pod) ||
			now.Spec.NodeName != "" && pod.Spec.NodeName == "" { // it got a node: the next pass decides again
			return nil
		}
		version = &now.ResourceVersion
	}
}

// patchPod merges metadata into the metadata of the Pod, and returns the new resource version. metadata has the UID,
// so the patch fails if the name belongs to another Pod.
func (r *Reconciler) patchPod(ctx context.Context, pod *corev1.Pod, metadata map[string]any) (version string, err error) {
	//mutation:label-stays-without-finalizer
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	target := justMetadata(corev1.SchemeGroupVersion.WithKind("Pod"), pod)
	err = r.client.Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body))
	r.options.Metrics.Wrote("patch", "pods", err)
	if err != nil {
		return "", fmt.Errorf("patching pod %s: %w", pod.Name, err)
	}
	return target.ResourceVersion, nil
}

// justMetadata returns an object for a request whose answer needs only the metadata.
func justMetadata(kind schema.GroupVersionKind, o client.Object) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}}
	out.SetGroupVersionKind(kind)
	return out
}

func keyOf(meta *metav1.ObjectMeta) types.NamespacedName {
	return types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
}

func isSubset(part, whole map[string]string) bool {
	for k, v := range part {
		if whole[k] != v {
			return false
		}
	}
	return true
}

// ignoreOther returns nil for an error that says that the Pod does not exist, or that its name belongs to another Pod
// now.
func ignoreOther(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// soonest returns the shortest of the durations that are not 0.
func soonest(ds ...time.Duration) time.Duration {
	var out time.Duration
	for _, d := range ds {
		if d > 0 && (out == 0 || d < out) {
			out = d
		}
	}
	return out
}
