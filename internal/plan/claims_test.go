// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestClaim: how many instances are claimed, and what blocks more.
func TestClaim(t *testing.T) {
	active := func(indexes ...int) groups { return groups{{history{}, ranges.Of(indexes...)}} }
	for name, tc := range map[string]struct {
		most    int64 // maxConcurrentNum
		change  func(*job, []lists, *outcomes)
		ready   readiness
		want    string // the indexes that are claimed, those to be retried as 3r1
		blocked string
	}{
		"all":                          {0, nil, ready, "0 1 2 3 4 5", ""},
		"not ready":                    {0, nil, waiting, "", ""},
		"maxConcurrentNum":             {4, func(_ *job, l []lists, _ *outcomes) { l[0].active = active(0) }, ready, "1 2 3", ""},
		"interrupted ones count":       {4, func(_ *job, l []lists, _ *outcomes) { l[0].interrupted = active(0, 1) }, ready, "2 3", ""},
		"blocked by interrupted ones":  {2, func(_ *job, l []lists, _ *outcomes) { l[0].interrupted = active(0, 1) }, ready, "", ""},
		"those to be retried go first": {2, func(_ *job, l []lists, _ *outcomes) { l[0].retrying = groups{{history{retries: 1}, ranges.Of(3)}} }, ready, "3r1 0", ""},
		"the batch":                    {0, func(j *job, _ []lists, _ *outcomes) { j.obs.BatchSize = 2 }, ready, "0 1", ""},
		"adoption takes of the batch": {0, func(j *job, _ []lists, o *outcomes) {
			j.obs.BatchSize, o.adopt = 2, []resolve.Instance{{Index: 5}}
		}, ready, "0", ""},
		"it drains":       {0, func(j *job, _ []lists, _ *outcomes) { j.mode.draining = true }, ready, "", ""},
		"no memory":       {0, func(j *job, _ []lists, _ *outcomes) { j.obs.NoMemory = "none" }, ready, "", v1alpha1.ReasonOperatorMemory},
		"refused":         {0, func(j *job, _ []lists, o *outcomes) { j.obs.Refusals, o.tasks[0].adopting = map[int]Refusal{0: {}}, 1 }, ready, "", ""},
		"refused, no Pod": {0, func(j *job, _ []lists, _ *outcomes) { j.obs.Refusals = map[int]Refusal{0: {}} }, ready, "0 1 2 3 4 5", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(6), testutil.Concurrent(tc.most), testutil.Retries(2)))
			j, at := w.stage()
			pods := newOutcomes(j)
			if tc.change != nil {
				tc.change(j, at, &pods)
			}
			before := at[0].active.len()
			out := claim(j, at, &pods, taskReadiness{tasks: []readiness{tc.ready}})
			got := ""
			for i, in := range out.create {
				if i > 0 {
					got += " "
				}
				if got += fmt.Sprint(in.Index); in.Attempt > 0 {
					got += fmt.Sprintf("r%d", in.Attempt)
				}
			}
			if got != tc.want || at[0].active.len() != before+len(out.create) {
				t.Errorf("claims are %q, want %q; active are %s", got, tc.want, at[0].active)
			}
			if blocked := append(out.blocked, "")[0]; blocked != tc.blocked {
				t.Errorf("blocked by %q, want %q", blocked, tc.blocked)
			}
		})
	}
}

// TestClaimInEnv: nodes of a ComputeEnv, and how many more are wanted.
func TestClaimInEnv(t *testing.T) {
	env := &resolve.Env{Name: "pool", ID: "env-1", Data: &v1alpha1.EnvData{}}
	for name, tc := range map[string]struct {
		view                  EnvView
		lingering             int
		create, inEnv, wanted int
		blocked               string
	}{
		"enough":               {EnvView{Env: env, Limit: 9}, 0, 5, 6, 0, ""},
		"fewer":                {EnvView{Env: env, Limit: 3}, 0, 2, 3, 3, v1alpha1.ReasonComputeEnvFull},
		"others go first":      {EnvView{Env: env, Limit: 9, Closed: true, Grant: 1}, 0, 1, 2, 4, v1alpha1.ReasonComputeEnvFull},
		"a Pod that lingers":   {EnvView{Env: env, Limit: 3}, 1, 1, 3, 4, v1alpha1.ReasonComputeEnvFull},
		"fewer than there are": {EnvView{Env: env}, 0, 0, 1, 5, v1alpha1.ReasonComputeEnvFull},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(6)))
			w.spec.Tasks[0].Env, w.spec.Tasks[0].EnvID = nil, "pool"
			w.envs = map[string]EnvView{"pool": tc.view, "env-1": tc.view}
			j, at := w.stage()
			at[0].active = groups{{history{}, ranges.Of(0)}}
			pods := newOutcomes(j)
			pods.lingering = map[string]int{"env-1": tc.lingering}
			out := claim(j, at, &pods, taskReadiness{tasks: []readiness{ready}})
			if len(out.create) != tc.create || out.inEnv["pool"] != tc.inEnv || out.wanted["pool"] != tc.wanted || append(out.blocked, "")[0] != tc.blocked {
				t.Errorf("got %+v", out)
			}
		})
	}
	w := newWorld(t, testutil.Job("j").Task("a"))
	w.spec.Tasks[0].Env, w.spec.Tasks[0].EnvID = nil, "gone"
	j, at := w.stage()
	pods := newOutcomes(j)
	if out := claim(j, at, &pods, taskReadiness{tasks: []readiness{ready}}); len(out.create) > 0 || out.blocked[0] != v1alpha1.ReasonComputeEnvNotFound {
		t.Errorf("a ComputeEnv that is not there: %+v", out)
	}
}
