// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestSameRequest: two jobs make the same request exactly when their digests are equal.
func TestSameRequest(t *testing.T) {
	base := func() *v1alpha1.BatchJob {
		return &v1alpha1.BatchJob{Spec: v1alpha1.BatchJobSpec{ClientToken: "t", Job: v1alpha1.Job{JobName: "j", Tasks: []v1alpha1.Task{{TaskName: "a"}}}}}
	}
	for name, tc := range map[string]struct {
		change func(job *v1alpha1.BatchJob)
		want   bool
	}{
		"nothing":           {func(*v1alpha1.BatchJob) {}, true},
		"metadata":          {func(job *v1alpha1.BatchJob) { job.Name, job.Labels = "other", map[string]string{"a": "b"} }, true},
		"suspend":           {func(job *v1alpha1.BatchJob) { job.Spec.Suspend = true }, true},
		"terminate":         {func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true }, true},
		"retryToken":        {func(job *v1alpha1.BatchJob) { job.Spec.RetryToken = "r" }, true},
		"the TTL":           {func(job *v1alpha1.BatchJob) { job.Spec.TTLSecondsAfterFinished = new(int64(1)) }, true},
		"an empty list":     {func(job *v1alpha1.BatchJob) { job.Spec.Job.Dependences = []v1alpha1.Dependence{} }, true},
		"clientToken":       {func(job *v1alpha1.BatchJob) { job.Spec.ClientToken = "u" }, false},
		"the placement":     {func(job *v1alpha1.BatchJob) { job.Spec.Placement.Zone = "z" }, false},
		"a field of a task": {func(job *v1alpha1.BatchJob) { job.Spec.Job.Tasks[0].EnvID = "pool" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := base(), base()
			tc.change(b)
			digestA, errA := Digest(a)
			digestB, errB := Digest(b)
			if got := SameRequest(a, b); got != tc.want || (digestA == digestB) != tc.want || errA != nil || errB != nil {
				t.Errorf("same request: %v, same digest: %v (%v, %v), want %v", got, digestA == digestB, errA, errB, tc.want)
			}
		})
	}
}
