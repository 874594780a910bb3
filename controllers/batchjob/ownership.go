// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/proof"
)

// This file decides which Pods are a job's. Users who may create or patch Pods can add our labels, our finalizer and an
// owner reference to any Pod, and remove them from ours. So a Pod is a job's if it has no other controller, and if its
// proof shows that the operator created it under its name.

// podKey is the key that proves which Pods the operator has created. Without a key Pods get no proof and need
// none. Its methods may be called concurrently.
type podKey struct{ atomic.Pointer[proof.Key] }

// ensure gets the key from get, unless this process has it; get may be nil.
func (k *podKey) ensure(ctx context.Context, get func(context.Context) (*proof.Key, error)) error {
	if get == nil || k.Load() != nil {
		return nil
	}
	key, err := get(ctx)
	if err != nil {
		return fmt.Errorf("getting the key of Pods: %w", err)
	}
	k.Store(key)
	return nil
}

// id returns the identifier of the key that new Pods are signed with; empty for none.
func (k *podKey) id() string {
	if key := k.Load(); key != nil {
		return key.ID()
	}
	return ""
}

// sign adds the proof to the metadata of a Pod before its creation.
func (k *podKey) sign(meta *metav1.ObjectMeta) {
	if key := k.Load(); key != nil {
		meta.Annotations[v1alpha1.AnnotationProof] = key.Sign(meta.Namespace, meta.Name)
	}
}

// owns reports whether a Pod is the job's: it has no other controller, and the operator created it. A Pod whose owner
// reference was removed is the job's as well, unless the job is being deleted: then it was orphaned on purpose. known
// has the UIDs of Pods whose proof was checked before; it may be nil.
func (k *podKey) owns(job *v1alpha1.BatchJob, pod *corev1.Pod, known map[types.UID]bool) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	switch {
	case owner != nil && owner.UID != job.UID:
		return false
	//mutation:pod-without-owner-not-ours
	case owner == nil && (job.DeletionTimestamp != nil || pod.Labels[v1alpha1.LabelJobID] != naming.JobID(job.UID)):
		return false
	}
	return k.isCreatedFor(job, pod, known)
}

// ownsName is owns for a Pod that has the name of a Pod of the job: somebody may have removed its labels.
func (k *podKey) ownsName(job *v1alpha1.BatchJob, pod *corev1.Pod, known map[types.UID]bool) bool {
	if metav1.GetControllerOfNoCopy(pod) == nil && job.DeletionTimestamp == nil && k.isSigned(pod) {
		return true
	}
	return k.owns(job, pod, known)
}

// isCreatedFor reports whether the operator created a Pod for the job. If the Pod was signed with another key, because
// the Secret was lost, the job's status says whether there was such a key. Pods of a job that an earlier version
// started have no proof.
func (k *podKey) isCreatedFor(job *v1alpha1.BatchJob, pod *corev1.Pod, known map[types.UID]bool) bool {
	key := k.Load()
	if key == nil || known[pod.UID] {
		return true
	}
	id := proof.IDOf(pod.Annotations[v1alpha1.AnnotationProof])
	switch {
	case id == key.ID():
		return k.isSigned(pod)
	case len(job.Status.PodKeys) == 0:
		return job.Status.State != ""
	}
	//mutation:pod-without-proof-believed
	return slices.Contains(job.Status.PodKeys, id)
}

// isSigned reports whether a Pod carries a proof of the key that this process has; false without one.
func (k *podKey) isSigned(pod *corev1.Pod) bool {
	key := k.Load()
	return key != nil && key.Verify(pod.Namespace, pod.Name, pod.Annotations[v1alpha1.AnnotationProof])
}

// divide returns which of the Pods that name the job are its own and which are foreign. It remembers whose proof was
// checked, since checking a proof takes longer than everything else that a pass does with a Pod.
func (k *podKey) divide(job *v1alpha1.BatchJob, pods []*corev1.Pod, m *jobState) (own, foreign []*corev1.Pod) {
	var known map[types.UID]bool
	if m != nil {
		known = m.proven
	}
	own, foreign = partition(pods, func(pod *corev1.Pod) bool { return k.owns(job, pod, known) })
	if m == nil || k.Load() == nil {
		return own, foreign
	}
	if len(known) > 2*len(own)+knownSlack { // most of these Pods are deleted
		known = nil
	}
	if known == nil {
		known = make(map[types.UID]bool, len(own))
	}
	for _, pod := range own {
		known[pod.UID] = true
	}
	m.proven = known
	return own, foreign
}

// knownSlack is how many deleted Pods a job may remember at least.
const knownSlack = 64
