// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// TestFaultsRestarts: the API server and etcd may be killed at any moment. The same manager continues when they are back,
// and every job ends as without faults.
func TestFaultsRestarts(t *testing.T) {
	t.Parallel()
	own := controlplane.GetOwn(t)
	d := newFaultEnv(t, own.ControlPlane, 1)
	manager := d.manager(d.Config, nil)
	const jobs = 4
	for i := range jobs {
		d.create(d.reference(fmt.Sprint("ref-", i)))
	}
	succeeded := func(n int64) func() bool {
		return func() bool {
			sum := int64(0)
			d.have(func(job *v1alpha1.BatchJob) bool {
				sum += job.Status.TaskInstanceMetrics.SucceedCount
				return true
			})
			return sum >= n
		}
	}
	kills := 0
	for _, step := range []struct {
		after int64 // instances that have succeeded
		kill  []func()
	}{
		{0, []func(){own.KillServer}},
		{jobs, []func(){own.KillEtcd}},
		{2 * jobs, []func(){own.KillEtcd, own.KillServer}},
		{3 * jobs, []func(){own.KillServer}},
		{4 * jobs, []func(){own.KillEtcd}},
	} {
		d.within(2*time.Minute, fmt.Sprint(step.after, " instances have succeeded"), succeeded(step.after))
		for _, kill := range step.kill {
			kill()
			kills++
		}
		t.Logf("%d instances had succeeded; after %d programs were killed the API server answers again after %s", step.after, len(step.kill), own.Restart(t).Round(time.Millisecond))
	}
	d.within(4*time.Minute, "every job has ended", d.allEnded)
	if manager.hasEnded() {
		t.Error("the manager has stopped")
	}
	for i := range jobs {
		d.wantReference(fmt.Sprint("ref-", i))
	}
	t.Logf("%d programs killed", kills)
	d.wantNoOverlap()
}
