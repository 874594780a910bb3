// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/sanitize"
)

// expire notes what became of the job and deletes it, if it is still as it was seen. It returns when
// to try again where that cannot be noted.
func (r *Reconciler) expire(ctx context.Context, job *v1alpha1.BatchJob) (time.Duration, error) {
	lease := &memoryLease{}
	defer lease.end()
	whole, err := r.readWhole(ctx, job, lease)
	switch {
	case err != nil:
		return 0, client.IgnoreNotFound(err)
	case whole.ResourceVersion != job.ResourceVersion:
		return 0, nil // it has changed, and that event is on the way
	}
	refusal := r.tombstones.store(ctx, whole)
	if apierrors.IsConflict(refusal) || apierrors.IsAlreadyExists(refusal) {
		return 0, refusal
	}
	if refusal != nil {
		if wait, err := r.delayDeletion(ctx, whole, refusal); wait > 0 || err != nil {
			return wait, err
		}
	}
	err = r.client.Delete(ctx, &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name}},
		client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	r.options.Metrics.Wrote("delete", "batchjobs", err)
	if apierrors.IsConflict(err) {
		return 0, nil // it has changed, and that event is on the way
	}
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("deleting the job after its ttlSecondsAfterFinished: %w", err)
	}
	if refusal != nil {
		r.warn(whole, v1alpha1.ReasonTombstoneRefused, fmt.Sprintf("deleted after its ttlSecondsAfterFinished; a manifest that is applied again will run again, since ConfigMap %s cannot be written: %v",
			v1alpha1.TombstonesName, refusal))
	}
	return 0, nil
}

// A job whose result cannot be stored in the ConfigMap is deleted even so, but only when
// deletionDelay has passed since its status said so; till then it is tried each tombstoneRetry.
const (
	deletionDelay  = 5 * time.Minute
	tombstoneRetry = time.Minute
)

// delayDeletion says in the job's status, and with an event, that its tombstone cannot be stored: a
// quota, a policy, a ConfigMap that somebody made immutable. It returns how long to wait before the
// next try; 0 when the deletion is to be delayed no longer.
func (r *Reconciler) delayDeletion(ctx context.Context, job *v1alpha1.BatchJob, refusal error) (time.Duration, error) {
	now := r.options.Clock.Now()
	if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionDeletionDelayed); c != nil && c.Status == metav1.ConditionTrue {
		left := c.LastTransitionTime.Add(deletionDelay).Sub(now)
		return max(min(left, tombstoneRetry), 0), nil
	}
	next := job.Status.DeepCopy()
	message := sanitize.Message(fmt.Sprintf("ConfigMap %[1]s cannot be written; delete it or allow the write, else the job is deleted at %[2]s all the same, and a manifest that is applied again runs again: %[3]v",
		v1alpha1.TombstonesName, now.Add(deletionDelay).UTC().Format(time.RFC3339), refusal))
	conditions.OfBatchJob(next, job.Generation, now).True(v1alpha1.ConditionDeletionDelayed, v1alpha1.ReasonTombstoneRefused, message)
	if _, err := r.store(ctx, &observation{Observation: plan.Observation{Job: job}, state: &jobState{}}, next); err != nil {
		return 0, fmt.Errorf("storing why the job is not deleted after its ttlSecondsAfterFinished: %w", err)
	}
	r.warn(job, v1alpha1.ReasonTombstoneRefused, message)
	return tombstoneRetry, nil
}

// warn tells of trouble with a job that has ended.
func (r *Reconciler) warn(job *v1alpha1.BatchJob, reason, message string) {
	r.recorder.Eventf(job, nil, corev1.EventTypeWarning, reason, "Reconcile", "%s", sanitize.Message(message))
}
