// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestHold: the agent holds the container of an attempt after which the instance may be interrupted, and of no other.
func TestHold(t *testing.T) {
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		hold    time.Duration
		action  v1alpha1.FailedAction
		retries int64
		attempt int
		want    int
	}{
		"the last attempt":          {day, v1alpha1.FailedActionInterrupt, 2, 2, 86400},
		"one of the machine's":      {day, v1alpha1.FailedActionInterrupt, 2, 5, 86400},
		"another attempt follows":   {day, v1alpha1.FailedActionInterrupt, 2, 1, 0},
		"the first attempt is last": {day, v1alpha1.FailedActionFastInterrupt, 2, 0, 86400},
		"not kept":                  {day, v1alpha1.FailedActionTerminate, 0, 0, 0},
		"not asked for":             {0, v1alpha1.FailedActionInterrupt, 0, 0, 0},
	} {
		job := testutil.Job("j").Task("a", testutil.FailedAction(tc.action), testutil.Retries(tc.retries)).Obj()
		spec, err := resolve.Resolve(job)
		if err != nil {
			t.Fatal(err)
		}
		c := cluster
		c.Agent.Hold = tc.hold
		pod, err := podspec.Build(job, spec, resolve.Instance{Attempt: tc.attempt}, envOf(job, &spec.Tasks[0], nil), c)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if len(pod.Spec.Containers) == 2 && pod.Spec.Containers[1].Name == podspec.OutputsContainer && pod.Spec.Containers[0].Command[0] == podspec.AgentProgram {
			got = execOf(t, &pod.Spec.Containers[0]).HoldSeconds
		}
		if got != tc.want || tc.want == 0 && len(pod.Spec.Containers) != 1 {
			t.Errorf("%s: held for %d s with %d containers, want %d s", name, got, len(pod.Spec.Containers), tc.want)
		}
	}
}

// execOf reads what the agent in the container of a command is told.
func execOf(t *testing.T, c *corev1.Container) (out agentapi.Exec) {
	t.Helper()
	var environ []string
	for _, v := range c.Env {
		environ = append(environ, v.Name+"="+expand(v.Value, nil))
	}
	if _, err := agentapi.Read(environ, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
