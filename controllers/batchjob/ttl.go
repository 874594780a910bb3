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

// expire stores the tombstone of a job whose TTL has passed, and deletes the job, unless it has changed. If the
// tombstone cannot be stored, it delays the deletion, and returns how long.
func (r *Reconciler) expire(ctx context.Context, job *v1alpha1.BatchJob) (time.Duration, error) {
	lease := &memoryLease{}
	defer lease.end()
	whole, err := r.reader.whole(ctx, job, lease)
	switch {
	case err != nil:
		return 0, client.IgnoreNotFound(err)
	case whole.ResourceVersion != job.ResourceVersion:
		return 0, nil // the event of the change starts another pass
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
	r.metrics.Wrote("delete", "batchjobs", err)
	if apierrors.IsConflict(err) {
		return 0, nil // the event of the change starts another pass
	}
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("deleting the job after its ttlSecondsAfterFinished: %w", err)
	}
	if refusal != nil {
		r.warn(whole, v1alpha1.ReasonTombstoneRefused, fmt.Sprintf("deleted after its ttlSecondsAfterFinished; applying its manifest again starts the job again, since ConfigMap %s cannot be written: %v",
			v1alpha1.TombstonesName, refusal))
	}
	return 0, nil
}

// If the tombstone of a job cannot be stored, the write is retried every tombstoneRetry. When deletionDelay has passed
// since the status reported that, the job is deleted without a tombstone.
const (
	deletionDelay  = 5 * time.Minute
	tombstoneRetry = time.Minute
)

// delayDeletion reports in the job's status, and with an Event, that its tombstone cannot be stored, because of a quota,
// a policy, or an immutable ConfigMap. It returns how long to wait before the next try; 0 when deletionDelay has passed.
func (r *Reconciler) delayDeletion(ctx context.Context, job *v1alpha1.BatchJob, refusal error) (time.Duration, error) {
	now := r.options.Clock.Now()
	if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionDeletionDelayed); c != nil && c.Status == metav1.ConditionTrue {
		left := c.LastTransitionTime.Add(deletionDelay).Sub(now)
		return max(min(left, tombstoneRetry), 0), nil
	}
	next := job.Status.DeepCopy()
	message := sanitize.Message(fmt.Sprintf("ConfigMap %[1]s cannot be written; delete it or allow the write, or the job is deleted at %[2]s anyway, and applying its manifest again starts it again: %[3]v",
		v1alpha1.TombstonesName, now.Add(deletionDelay).UTC().Format(time.RFC3339), refusal))
	conditions.OfBatchJob(next, job.Generation, now).True(v1alpha1.ConditionDeletionDelayed, v1alpha1.ReasonTombstoneRefused, message)
	if _, err := r.status.store(ctx, &observation{Observation: plan.Observation{Job: job}, state: &jobState{}}, next); err != nil {
		return 0, fmt.Errorf("storing why the job is not deleted after its ttlSecondsAfterFinished: %w", err)
	}
	r.warn(job, v1alpha1.ReasonTombstoneRefused, message)
	return tombstoneRetry, nil
}

// warn emits a Warning for a job that has ended.
func (r *Reconciler) warn(job *v1alpha1.BatchJob, reason, message string) {
	r.status.recorder.Eventf(job, nil, corev1.EventTypeWarning, reason, "Reconcile", "%s", sanitize.Message(message))
}
