// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestCleanUp: a Pod is stopped if it runs; one that has a node of a ComputeEnv keeps its finalizer until
// it has ended.
func TestCleanUp(t *testing.T) {
	now := time.Unix(1000, 0)
	pod := func(name, env string, changes ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{}
		p.Name, p.Labels = name, map[string]string{v1alpha1.LabelEnvID: env}
		testutil.Bind(p, "n")
		testutil.Start(p, now)
		for _, change := range changes {
			change(p)
		}
		return p
	}
	end := func(p *corev1.Pod) { testutil.Finish(p, 0, now) }
	stop := func(p *corev1.Pod) { testutil.AskToStop(p, now) }
	var a actions
	a.cleanUpAll([]*corev1.Pod{
		pod("f-ended", "", end), pod("e-runs", ""), pod("d-in-env", "env-1"), pod("c-in-env-stopping", "env-1", stop), pod("b-in-env-ended", "env-1", end), pod("a-stopping", "", stop),
	}, now)
	if a.lingering["env-1"] != 2 || a.requeueAfter != 90*time.Second {
		t.Errorf("lingering %v, requeue after %s", a.lingering, a.requeueAfter)
	}
	p := a.plan(v1alpha1.BatchJobStatus{})
	if got := podNames(p.Delete); len(got) != 2 || got[0] != "d-in-env" || got[1] != "e-runs" {
		t.Errorf("Delete is %q", got)
	}
	if got := podNames(p.RemoveFinalizers); len(got) != 4 || got[0] != "a-stopping" || got[3] != "f-ended" {
		t.Errorf("the finalizers of %q are removed", got)
	}
}

func TestLookAgain(t *testing.T) {
	var a actions
	for _, d := range []time.Duration{3, 2, 5} {
		a.lookAgain(d)
	}
	if a.requeueAfter != 2 {
		t.Errorf("it looks again after %d", a.requeueAfter)
	}
}
