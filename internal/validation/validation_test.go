// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
)

// request is the smallest BatchJob that is accepted, with one task for each name.
func request(names ...string) *v1alpha1.BatchJob {
	job := &v1alpha1.BatchJob{}
	job.Spec.Placement.Zone = "ap-guangzhou-2"
	for _, name := range names {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{
			TaskName:    name,
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
			ComputeEnv:  &v1alpha1.AnonymousComputeEnv{},
		})
	}
	return job
}

func TestValidateCreateAcceptsTheSmallestRequest(t *testing.T) {
	for _, p := range (Validator{}).ValidateCreate(request("")) {
		t.Error(p.Error())
	}
}
