// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestClaimsByEnvID: the claims of a job that is not resolved are those of the resolved one.
func TestClaimsByEnvID(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Instances(9), testutil.EnvID("x")).Task("own").Task("b", testutil.Instances(9), testutil.EnvID("y")).
		Task("c", testutil.EnvID("x")).Obj()
	job.Status.Tasks = []v1alpha1.TaskStatus{{Name: "a", Active: "0-3"}, {Name: "own", Active: "0"}, {Name: "b", Succeeded: "0"}, {Name: "c", Interrupted: "0"}}
	spec, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	got, want := ClaimsByEnvID(job), map[string]int{"x": 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	envs := map[string]EnvView{"x": {Env: &resolve.Env{Name: "x"}}, "y": {Env: &resolve.Env{Name: "y"}}}
	for name, n := range InEnv(spec, &job.Status, envs) {
		if got[name] != n {
			t.Errorf("%s: %d claims of the resolved job, %d of the other", name, n, got[name])
		}
	}

	single := testutil.Job("j").Task("", testutil.EnvID("x")).Obj()
	single.Status.Tasks = []v1alpha1.TaskStatus{{Name: v1alpha1.DefaultTaskName, Active: "0"}}
	if got := ClaimsByEnvID(single); got["x"] != 1 {
		t.Errorf("a task without a name has the claims %v", got)
	}
}
