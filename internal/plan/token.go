// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
)

// IsAccepted reports whether the stored status says that a job runs.
func IsAccepted(job *v1alpha1.BatchJob) bool {
	return meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionAccepted)
}

// TokenHolder returns which of the jobs of a namespace that have the same client token runs; nil if none does: the one
// that was accepted, and otherwise the oldest, by UID among those of the same second, of the jobs that may still be
// accepted. isAccepted is IsAccepted or a rule that knows more than the stored status. certain says that the holder was
// accepted. Until then another job may become the holder, since validation can still reject the oldest.
func TokenHolder(jobs []v1alpha1.BatchJob, isAccepted func(*v1alpha1.BatchJob) bool) (holder *v1alpha1.BatchJob, certain bool) {
	for i := range jobs {
		job := &jobs[i]
		switch accepted := isAccepted(job); {
		case certain && !accepted, !accepted && (isRejected(job) || IsDuplicate(job)):
			// It never runs, or not instead of one that was accepted.
		case holder == nil, accepted && !certain, isOlder(job, holder):
			holder, certain = job, accepted
		}
	}
	return holder, certain
}

func isRejected(job *v1alpha1.BatchJob) bool {
	return meta.IsStatusConditionFalse(job.Status.Conditions, v1alpha1.ConditionAccepted)
}

// isOlder reports whether job was created before other, or in the same second and has the smaller UID.
func isOlder(job, other *v1alpha1.BatchJob) bool {
	if at, than := job.CreationTimestamp, other.CreationTimestamp; !at.Equal(&than) {
		return at.Before(&than)
	}
	return job.UID < other.UID
}
