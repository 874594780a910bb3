// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
)

// RetryDue reports whether the failed instances of the job are to be run again.
// Source: BatchCompute, RetryJobs.
func RetryDue(job *v1alpha1.BatchJob) bool {
	return job.Status.State == v1alpha1.JobFailed && job.DeletionTimestamp == nil && !job.Spec.Terminate &&
		job.Spec.RetryToken != job.Status.RetryToken && job.Spec.RetryToken != "" && job.Status.Reason != v1alpha1.ReasonAlreadyRan &&
		meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionAccepted)
}

// HasEnded reports whether a job has ended: its state is final, and stays so unless it is retried. It may
// have Pods whose finalizers are still to be removed.
func HasEnded(s *v1alpha1.BatchJobStatus) bool { return isTerminal(s.State) }

// IsDuplicate reports whether another job with the same client token runs instead of this one.
func IsDuplicate(job *v1alpha1.BatchJob) bool {
	return meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionDuplicate)
}

// IsFinished reports whether a job starts no instances any more: it has ended, or another runs instead.
// All that is left to do is to remove finalizers, to retry it, see RetryDue, or to delete it when its time
// has come.
func IsFinished(job *v1alpha1.BatchJob) bool { return HasEnded(&job.Status) || IsDuplicate(job) }

func isTerminal(s v1alpha1.JobState) bool {
	return s == v1alpha1.JobSucceed || s == v1alpha1.JobFailed
}

// seconds is t as the API server stores it.
func seconds(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }

// restart returns a FAILED job as it was when its failed instances had not been issued yet, and the
// event that says so. What succeeded stays, and so do the tasks in which nothing failed.
func restart(old *v1alpha1.BatchJob, now time.Time) (*v1alpha1.BatchJob, events) {
	job := old.DeepCopy()
	s := &job.Status
	again := s.TaskInstanceMetrics.FailedCount
	s.Run++
	s.RetryToken = job.Spec.RetryToken
	s.State, s.Reason, s.Message = v1alpha1.JobSubmitted, "", ""
	s.StartTime, s.EndTime, s.Failures, s.Waiting = nil, nil, nil, nil
	if s.Notifications != nil {
		s.Notifications.Announced = nil // those of the new run are others
	}
	for i, t := range s.Tasks {
		if t.State == v1alpha1.TaskSucceed {
			continue
		}
		s.Tasks[i] = v1alpha1.TaskStatus{Name: t.Name, State: v1alpha1.TaskPending, Succeeded: t.Succeeded}
	}
	s.Tasks = slices.DeleteFunc(s.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Succeeded == "" })
	conditions.OfBatchJob(s, job.Generation, now).Remove(v1alpha1.ConditionComplete, v1alpha1.ConditionFailed, v1alpha1.ConditionStalled)
	var e events
	e.note(v1alpha1.ReasonRetried, fmt.Sprintf("retryToken %q: %s run again", s.RetryToken, isOrAre(int(again), "instance")))
	return job, e
}
