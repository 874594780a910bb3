// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// podClient deletes Pods, and changes the metadata that the operator gives them. Its methods may be called
// concurrently.
type podClient struct {
	client client.Client
	live   client.Reader
	// limits bounds the calls in flight.
	limits  *flow.Calls
	metrics *jobMetrics
	key     *podKey
	// holdsNode reports whether a Pod has a node of a ComputeEnv.
	holdsNode func(*corev1.Pod) bool
}

// deleteAll deletes Pods of a job. They exist until their outcome is stored, since they have the tracking finalizer.
func (c *podClient) deleteAll(ctx context.Context, job types.NamespacedName, pods []*corev1.Pod) error {
	return c.limits.For(job, len(pods)).Delete.Do(len(pods), func(i int) error {
		if err := c.delete(ctx, pods[i]); err != nil {
			return fmt.Errorf("deleting pod %s: %w", pods[i].Name, err)
		}
		return nil
	})
}

// deleteTries is after how many conflicts a Pod is deleted without an optimistic lock.
const deleteTries = 3

// delete deletes a Pod. The cache may be stale, so the deletion has an optimistic lock: a Pod that has finished
// since is kept, and with it its log.
func (c *podClient) delete(ctx context.Context, pod *corev1.Pod) error {
	uid, version := pod.UID, &pod.ResourceVersion
	for try := 1; ; try++ {
		if try == deleteTries {
			version = nil
		}
		err := c.client.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}},
			client.Preconditions{UID: &uid, ResourceVersion: version})
		c.metrics.Wrote("delete", "pods", err)
		switch {
		case !apierrors.IsConflict(err):
			return client.IgnoreNotFound(err)
		case try == deleteTries:
			return nil // the name belongs to another Pod now
		}
		now := &corev1.Pod{}
		if err := c.live.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return client.IgnoreNotFound(err)
		}
		if now.UID != uid || now.DeletionTimestamp != nil || plan.HasFinished(now) && !plan.HasFinished(pod) ||
			now.Spec.NodeName != "" && pod.Spec.NodeName == "" { // it got a node: the next pass decides again
			return nil
		}
		version = &now.ResourceVersion
	}
}

// patch merges metadata into the metadata of the Pod, and returns the new resource version. metadata has the UID,
// so the patch fails if the name belongs to another Pod.
func (c *podClient) patch(ctx context.Context, pod *corev1.Pod, metadata map[string]any) (version string, err error) {
	//mutation:label-stays-without-finalizer
	body, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	target := justMetadata(corev1.SchemeGroupVersion.WithKind("Pod"), pod)
	err = c.client.Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, body))
	c.metrics.Wrote("patch", "pods", err)
	if err != nil {
		return "", fmt.Errorf("patching pod %s: %w", pod.Name, err)
	}
	return target.ResourceVersion, nil
}

// removeFinalizers removes the tracking finalizer and label of Pods whose outcome is stored, with one patch for each:
// without the label a Pod leaves the cache. It returns the new resource versions by UID.
func (c *podClient) removeFinalizers(ctx context.Context, job types.NamespacedName, pods []*corev1.Pod) (map[types.UID]string, error) {
	versions := make([]string, len(pods))
	err := c.limits.For(job, len(pods)).Patch.Do(len(pods), func(i int) (err error) {
		versions[i], err = c.removeFinalizer(ctx, pods[i])
		return ignoreOther(err)
	})
	removed := make(map[types.UID]string, len(pods))
	for i, version := range versions {
		if version != "" {
			removed[pods[i].UID] = version
		}
	}
	return removed, err
}

// removeFinalizer removes the tracking finalizer and label of one Pod, and returns its new resource version.
func (c *podClient) removeFinalizer(ctx context.Context, pod *corev1.Pod) (version string, err error) {
	return c.patch(ctx, pod, map[string]any{
		"uid":                                 pod.UID,
		"labels":                              map[string]any{v1alpha1.LabelTracked: nil},
		"$deleteFromPrimitiveList/finalizers": []string{v1alpha1.FinalizerTracking},
	})
}

// disown removes our finalizer from a Pod that has the name of a job's Pod and is not the job's: it may have been the
// job's, and the cache may not have it anymore.
func (c *podClient) disown(ctx context.Context, pod *corev1.Pod) error {
	if !slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || pod.Labels[v1alpha1.LabelTracked] == "true" && c.holdsNode(pod) {
		return nil
	}
	_, err := c.removeFinalizer(ctx, pod)
	return ignoreOther(err)
}

// errPodTerminating says that a terminating Pod without the finalizer still has the name; the next Pod of this name
// can be created only when it is deleted.
var errPodTerminating = retry.After(staleRetry, errors.New("a terminating Pod still has the name"))

// adopt checks that the existing Pod of the name of want is the job's, and repairs its metadata, which somebody may
// have edited: it must have the tracking label and finalizer.
func (c *podClient) adopt(ctx context.Context, obs *observation, want *metav1.ObjectMeta) error {
	pod := &corev1.Pod{}
	if err := c.live.Get(ctx, keyOf(want), pod); err != nil {
		return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
	}
	//mutation:pod-of-another-adopted
	if !c.key.ownsName(obs.Job, pod, obs.state.proven) {
		return cmp.Or(c.disown(ctx, pod), error(nameConflictWith(pod)))
	}
	return c.repair(ctx, pod, want, true)
}

// repair restores what somebody removed from a Pod of the job: labels, finalizer, the annotations that name the job and
// prove who created the Pod, and, with mayAdopt, the owner reference.
func (c *podClient) repair(ctx context.Context, pod *corev1.Pod, want *metav1.ObjectMeta, mayAdopt bool) error {
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
	_, err := c.patch(ctx, pod, metadata)
	return err
}
