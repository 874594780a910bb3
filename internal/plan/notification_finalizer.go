// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// DeletionWait is how long the deletion of a job or a ComputeEnv waits for its pending events.
const DeletionWait = 2 * time.Minute

// HasNotificationFinalizer reports whether the job is kept from being deleted until its events were sent.
func HasNotificationFinalizer(job *v1alpha1.BatchJob) bool {
	return slices.Contains(job.Finalizers, v1alpha1.FinalizerNotifications)
}

// NeedsNotificationFinalizer reports whether the job with this status must keep the finalizer; sending says that events
// are sent.
func NeedsNotificationFinalizer(job *v1alpha1.BatchJob, status *v1alpha1.BatchJobStatus, sending bool, now time.Time) bool {
	switch {
	case !sending:
		return false
	case job.DeletionTimestamp != nil:
		return OwesEvents(status) && now.Before(job.DeletionTimestamp.Add(DeletionWait))
	case OwesEvents(status):
		return true
	}
	next := *job
	next.Status = *status
	return !IsFinished(&next) || RetryDue(&next)
}

// WhyPending says why events are pending, in a part of a sentence.
func WhyPending(s *v1alpha1.NotificationStatus) string {
	if s != nil {
		for i := range s.Topics {
			if t := &s.Topics[i]; t.LastError != "" {
				return fmt.Sprintf("topic %q: %s", t.TopicName, t.LastError)
			}
		}
	}
	return "the receivers have not acknowledged them"
}
