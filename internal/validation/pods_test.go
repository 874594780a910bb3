// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/validation"
)

// TestPodsThatTheAPIServerRefuses: what would only be found when the Pods are made is found
// before.
func TestPodsThatTheAPIServerRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ task, want string }{
		"pages alone": {`computeEnv: {kubernetes: {resources: {requests: {hugepages-2Mi: 4Mi}, limits: {hugepages-2Mi: 4Mi}}}}`,
			"spec.job.tasks[0].computeEnv.kubernetes.resources: must have cpu or memory in addition to hugepages"},
		"half a page": {`computeEnv: {kubernetes: {resources: {requests: {cpu: 1, hugepages-2Mi: 3Mi}, limits: {hugepages-2Mi: 3Mi}}}}`,
			"must be a multiple of the size of its pages"},
		"pages": {`computeEnv: {kubernetes: {resources: {requests: {cpu: 1, hugepages-2Mi: 4Mi}, limits: {hugepages-2Mi: 4Mi}}}}`, ""},
		"two mounts at /dev/shm": {`{application: {docker: {image: a, dockerRunOption: --shm-size 1m}},
			computeEnv: {envData: {dataDisks: [{diskSize: 10}]}, mountDataDisks: [{localPath: /dev/shm/}]}}`, "localPath: must be used once"},
		"disks without end": {`computeEnv: {envData: {dataDisks: [` + strings.Repeat("{diskSize: 10},", 21) + `]}}`, "dataDisks: must be at most 20 disks, got 21"},
	} {
		t.Run(name, func(t *testing.T) {
			job := testutil.Job("j").Task("a").Obj()
			var task v1alpha1.Task
			if err := yaml.UnmarshalStrict([]byte(tc.task), &task); err != nil {
				t.Fatal(err)
			}
			job.Spec.Job.Tasks[0].ComputeEnv = task.ComputeEnv
			job.Spec.Job.Tasks[0].Application.Docker = task.Application.Docker
			problems := validation.Validator{}.ValidateCreate(job)
			switch {
			case tc.want == "" && len(problems) > 0:
				t.Errorf("refused: %v", problems)
			case tc.want != "" && (len(problems) == 0 || !strings.Contains(problems[0].Error(), tc.want)):
				t.Errorf("problems are %v, want %q", problems, tc.want)
			}
		})
	}
}
