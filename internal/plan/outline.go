// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Outline returns what is needed of a job at rest, one that has ended or runs in another's place:
// who it is, how it ended, when it is to be deleted, and its tokens. That is less than 2 KiB,
// whatever the job's size. Any other job is returned as it is.
func Outline(job *v1alpha1.BatchJob) *v1alpha1.BatchJob {
	if !isAtRest(job) {
		return job
	}
	spec, status := &job.Spec, &job.Status
	out := &v1alpha1.BatchJob{
		ObjectMeta: metav1.ObjectMeta{
			Name: job.Name, Namespace: job.Namespace, UID: job.UID, ResourceVersion: job.ResourceVersion, Generation: job.Generation,
			CreationTimestamp: job.CreationTimestamp, DeletionTimestamp: job.DeletionTimestamp,
		},
		Spec: v1alpha1.BatchJobSpec{
			ClientToken: spec.ClientToken, RetryToken: spec.RetryToken, Terminate: spec.Terminate,
			TTLSecondsAfterFinished: spec.TTLSecondsAfterFinished,
		},
		Status: v1alpha1.BatchJobStatus{
			JobID: status.JobID, State: status.State, Reason: status.Reason, EndTime: status.EndTime,
			RetryToken: status.RetryToken, ObservedGeneration: status.ObservedGeneration, PodKeys: status.PodKeys,
		},
	}
	if size, ok := job.Annotations[v1alpha1.AnnotationStoredSize]; ok {
		out.Annotations = map[string]string{v1alpha1.AnnotationStoredSize: size}
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionDuplicate} {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
			out.Status.Conditions = append(out.Status.Conditions, metav1.Condition{Type: kind, Status: c.Status})
		}
	}
	return out
}

// IsOutline reports whether job may lack what the API server has of it: a job has tasks.
func IsOutline(job *v1alpha1.BatchJob) bool { return len(job.Spec.Job.Tasks) == 0 }

// isAtRest reports whether nothing of the job is under way, or is to be.
func isAtRest(job *v1alpha1.BatchJob) bool {
	if job.Status.EndTime == nil && !meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionDuplicate) || RetryDue(job) {
		return false
	}
	for i := range job.Status.Tasks {
		if t := &job.Status.Tasks[i]; t.Active != "" || t.Interrupted != "" {
			return false
		}
	}
	return true
}
