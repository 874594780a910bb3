// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/testutil"
)

// TestAllows: what a task of two instances lets its successors do, by rule.
func TestAllows(t *testing.T) {
	all, one, other := ranges.Of(0, 1), ranges.Of(0), ranges.Of(1)
	for name, tc := range map[string]struct {
		l                       lists
		succeed, partly, finish readiness
	}{
		"not issued":  {lists{}, waiting, waiting, waiting},
		"half done":   {lists{succeeded: one}, waiting, waiting, waiting},
		"half failed": {lists{failed: one}, waiting, waiting, waiting},
		"succeeded":   {lists{succeeded: all}, ready, ready, ready},
		"failed":      {lists{failed: all}, impossible, impossible, ready},
		"both":        {lists{succeeded: one, failed: other}, impossible, ready, ready},
		"interrupted": {lists{succeeded: one, interrupted: groups{{history{}, other}}}, waiting, waiting, waiting},
	} {
		for rule, want := range map[v1alpha1.TaskExecutionDependOn]readiness{
			v1alpha1.PreTaskSucceed: tc.succeed, v1alpha1.PreTaskAtLeastPartlySucceed: tc.partly, v1alpha1.PreTaskFinished: tc.finish,
		} {
			if got := allows(rule, &tc.l, 2); got != want {
				t.Errorf("%s, %s: %d, want %d", name, rule, got, want)
			}
		}
	}
}

// TestAdmit: a failure goes through the graph in one pass; what has claims stays ready.
func TestAdmit(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("d").Task("c").Task("b", testutil.Instances(2)).Task("a").Edges("a->b b->c c->d"))
	w.annotate("b/1")
	at := func(change func(*job, []lists)) ([]lists, *outcomes, taskReadiness) {
		j, at := w.stage()
		change(j, at)
		pods := newOutcomes(j)
		return at, &pods, computeReadiness(j, at, &pods)
	}
	const d, c, b, a = 0, 1, 2, 3
	l, _, out := at(func(_ *job, l []lists) { l[a].failed = ranges.Of(0) })
	if out.tasks[a] != ready || out.tasks[b] != impossible || out.tasks[d] != impossible || !out.failed || l[b].failed.Len() != 2 || l[d].failed.Len() != 1 {
		t.Errorf("after a failure: %+v, %+v", out, l)
	}
	l, pods, out := at(func(_ *job, l []lists) { l[a].succeeded = ranges.Of(0) })
	if out.tasks[b] != ready || out.tasks[c] != waiting || l[b].failed.String() != "1" || pods.tasks[b].terminated != 1 {
		t.Errorf("an instance that the annotation terminates: %+v, %+v", out, l)
	}
	l, _, out = at(func(_ *job, l []lists) {
		l[a].failed = ranges.Of(0)
		l[b].active = groups{{history{}, ranges.Of(0)}}
	})
	if out.tasks[b] != ready || out.tasks[c] != waiting {
		t.Errorf("a task that has claims: %+v, %+v", out, l)
	}
	l, _, out = at(func(j *job, _ []lists) { j.mode.terminating = true })
	if out.tasks[d] != ready || l[d].failed.Len() != 1 || !out.failed {
		t.Errorf("a job that is terminated: %+v, %+v", out, l)
	}
	if _, _, out = at(func(_ *job, _ []lists) {}); out.failed || out.tasks[b] != waiting {
		t.Errorf("nothing happened: %+v", out)
	}
}
