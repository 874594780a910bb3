// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestBudgetOf: rounds of machine types, of the task's own machine and of a ComputeEnv.
func TestBudgetOf(t *testing.T) {
	env := func(retries, types int) *resolve.Env {
		return &resolve.Env{Data: &v1alpha1.EnvData{InstanceTypes: make([]string, types)}, ResourceMaxRetryCount: retries}
	}
	for name, tc := range map[string]struct {
		task                      resolve.Task
		waits                     bool
		types, machines, attempts int
		wantWaits                 bool
	}{
		"nothing":                {resolve.Task{}, false, 1, 0, 1, false},
		"retries of both":        {resolve.Task{MaxRetryCount: 2, ResourceMaxRetryCount: 3}, true, 1, 3, 6, true},
		"three types":            {resolve.Task{ResourceMaxRetryCount: 1, Env: env(9, 3)}, false, 3, 5, 6, false},
		"a ComputeEnv":           {resolve.Task{ResourceMaxRetryCount: 7, EnvID: "pool"}, true, 2, 5, 6, false},
		"one that is not there":  {resolve.Task{EnvID: "other"}, false, 1, v1alpha1.DefaultEnvResourceMaxRetryCount, v1alpha1.DefaultEnvResourceMaxRetryCount + 1, false},
		"more than there can be": {resolve.Task{ResourceMaxRetryCount: 50, Env: env(0, 3)}, false, 3, v1alpha1.MaxResourceRetryCount, v1alpha1.MaxResourceRetryCount + 1, false},
	} {
		obs := Observation{Spec: &resolve.Job{WaitsForMachine: tc.waits}, Envs: map[string]EnvView{"pool": {Env: env(2, 2)}}}
		b := budgetOf(&tc.task, &obs)
		if b.types != tc.types || b.machines != tc.machines || b.retries+b.machines+1 != tc.attempts || b.waits != tc.wantWaits || b.unit != DefaultResourceWait {
			t.Errorf("%s: budget is %+v, %d attempts", name, b, b.retries+b.machines+1)
		}
	}
}

func TestBudgetRounds(t *testing.T) {
	b := budget{types: 3, waits: true, unit: time.Second}
	for machines, want := range map[int]struct {
		next     int
		timesOut bool
	}{0: {3, true}, 1: {3, true}, 2: {3, false}, 3: {6, true}} {
		h := history{machines: machines}
		if b.nextRound(h) != want.next || b.timesOut(h) != want.timesOut || b.hasNextType(h) != want.timesOut {
			t.Errorf("after %d machines: next round %d, times out %t", machines, b.nextRound(h), b.timesOut(h))
		}
	}
	if got := b.timeouts(history{machines: 9}); got != 10500*time.Millisecond { // nine of the first three rounds, one of the fourth
		t.Errorf("all timeouts together are %s", got)
	}
}

// TestVerdict is what becomes of an instance, by how its attempt ended.
func TestVerdict(t *testing.T) {
	lost, refused := outcome{kind: byMachine, ran: true}, outcome{kind: byMachine}
	for name, tc := range map[string]struct {
		action v1alpha1.FailedAction
		change func(*job, *task)
		h      history
		end    outcome
		want   verdict
		after  history
	}{
		"success":                          {end: outcome{kind: success}, want: succeeded},
		"success while it is terminated":   {end: outcome{kind: success}, change: func(j *job, _ *task) { j.mode.terminating = true }, want: succeeded},
		"terminated":                       {end: outcome{kind: byCommand}, change: func(j *job, _ *task) { j.mode.terminating = true }, want: failed},
		"a suspension stopped it":          {end: lost, change: func(j *job, _ *task) { j.mode.draining = true }, want: returned},
		"it failed while it was suspended": {end: outcome{kind: byCommand}, change: func(j *job, _ *task) { j.mode.draining = true }, want: retried, after: history{retries: 1}},
		"queued again":                     {end: outcome{kind: byMachine, requeued: true}, want: replaced},
		"hosts outdated":                   {end: outcome{kind: byMachine, outdated: true}, want: replaced},
		"no machine, and it waits":         {end: refused, change: func(_ *job, t *task) { t.budget.waits, t.budget.types = true, 1 }, want: replaced},
		"no machine of the first type":     {end: refused, want: retried, after: history{machines: 1}},
		"no machine of the last type":      {h: history{machines: 1}, end: refused, want: retried, after: history{machines: 2}},
		"machine lost":                     {end: lost, want: retried, after: history{machines: 2}},
		"machine lost, budget spent":       {h: history{machines: 2}, end: lost, want: retried, after: history{machines: 2, retries: 1}},
		"machine lost, both spent":         {h: history{machines: 2, retries: 1}, end: lost, want: failed, after: history{machines: 2, retries: 1}},
		"it failed":                        {end: outcome{kind: byCommand}, want: retried, after: history{retries: 1}},
		"it failed for good":               {h: history{retries: 1}, end: outcome{kind: byCommand}, want: failed, after: history{retries: 1}},
		"it is interrupted":                {action: v1alpha1.FailedActionInterrupt, h: history{retries: 1}, end: outcome{kind: byCommand}, want: interrupted, after: history{retries: 1}},
		"it is interrupted at once":        {action: v1alpha1.FailedActionFastInterrupt, end: outcome{kind: byCommand}, want: interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction(tc.action)))
			j, _ := w.stage()
			one := &j.tasks[0]
			one.budget = budget{retries: 1, types: 2, machines: 3}
			if tc.change != nil {
				tc.change(j, one)
			}
			end := tc.end
			if got, after := j.verdict(one, 0, tc.h, &end); got != tc.want || after != tc.after {
				t.Errorf("verdict is %d, %+v; want %d, %+v", got, after, tc.want, tc.after)
			}
		})
	}
}
