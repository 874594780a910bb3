// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

func TestChainRunsInOrder(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a").Task("b").Task("c").Edges("a->b b->c"))
	w.step().want("RUNNABLE", "a RUNNABLE active=0")
	w.bind("a/0").step().want("STARTING", "a STARTING active=0 starting=1")
	w.start("a/0").step().want("RUNNING", "a RUNNING active=0 running=1")
	w.finish("a/0", 0).step().want("RUNNING", "a SUCCEED succeeded=0", "b RUNNABLE active=0")
	w.finish("b/0", 0).step().want("RUNNING", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0", "c RUNNABLE active=0")
	w.finish("c/0", 0).step().want("SUCCEED", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0", "c SUCCEED succeeded=0")
}

func TestTasksAreClaimedWhateverTheirOrderInTheSpec(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("c").Task("b").Task("a").Edges("a->b b->c"))
	w.step().want("RUNNABLE", "a RUNNABLE active=0")
	w.finish("a/0", 0).step().want("RUNNING", "b RUNNABLE active=0", "a SUCCEED succeeded=0")
}

func TestDiamond(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a").Task("b").Task("c").Task("d").Edges("a->b a->c b->d c->d"))
	w.step().finish("a/0", 0).step()
	w.want("RUNNING", "a SUCCEED succeeded=0", "b RUNNABLE active=0", "c RUNNABLE active=0")
	w.finish("b/0", 0).step()
	w.want("RUNNING", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0", "c RUNNABLE active=0")
	w.finish("c/0", 0).step()
	w.want("RUNNING", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0", "c SUCCEED succeeded=0", "d RUNNABLE active=0")
}

// TestDependOn ends task a in three ways under all three rules, and looks at b, and at c
// behind it.
func TestDependOn(t *testing.T) {
	const (
		held  = "b FAILED failed=0 (PredecessorFailed)|c FAILED failed=0 (PredecessorFailed)"
		start = "b RUNNABLE active=0"
	)
	for name, tc := range map[string]struct {
		rule              v1alpha1.TaskExecutionDependOn
		all, part, nobody string
	}{
		"default":                {"", start, held, held},
		"all must succeed":       {v1alpha1.PreTaskSucceed, start, held, held},
		"one must succeed":       {v1alpha1.PreTaskAtLeastPartlySucceed, start, start, held},
		"it is enough to finish": {v1alpha1.PreTaskFinished, start, start, start},
	} {
		t.Run(name, func(t *testing.T) {
			for _, end := range []struct {
				codes     [2]int32
				wantA     string
				wantOther string
			}{
				{[2]int32{0, 0}, "a SUCCEED succeeded=0-1", tc.all},
				{[2]int32{0, 1}, "a FAILED succeeded=0 failed=1 (TaskInstanceFailed)", tc.part},
				{[2]int32{1, 1}, "a FAILED failed=0-1 (TaskInstanceFailed)", tc.nobody},
			} {
				w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2)).Task("b").Task("c").Edges("a->b b->c").DependOn(tc.rule))
				w.step().finish("a/1", end.codes[1]).step()
				if got := brief(&w.job.Status); len(got) != 2 {
					t.Errorf("a still runs, but others began: %q", got)
				}
				w.finish("a/0", end.codes[0]).step()
				state := string(w.job.Status.State)
				if isEnd := strings.Contains(end.wantOther, "PredecessorFailed"); (state == "FAILED") != isEnd {
					t.Errorf("the job is %s", state)
				}
				w.want(append([]string{state, end.wantA}, strings.Split(end.wantOther, "|")...)...)
			}
		})
	}
}

// TestFailureCascades: a task that can never start has failed, and so has what is behind
// it, at once, though another of its predecessors still runs.
func TestFailureCascades(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("bad").Task("slow").Task("join", testutil.Instances(3)).Task("end").Task("free").
		Edges("bad->join slow->join join->end slow->free"))
	w.step().finish("bad/0", 1).step().want("RUNNING",
		"bad FAILED failed=0 (TaskInstanceFailed)",
		"slow RUNNABLE active=0",
		"join FAILED failed=0-2 (PredecessorFailed)",
		"end FAILED failed=0 (PredecessorFailed)")
	if got, want := w.job.Status.Tasks[2].Message, `cannot start: task "bad" ended FAILED, and taskExecutionDependOn is PRE_TASK_SUCCEED`; got != want {
		t.Errorf("message of join is %q, want %q", got, want)
	}
	if got, want := w.job.Status.Tasks[3].Message, `cannot start: task "join" ended FAILED, and taskExecutionDependOn is PRE_TASK_SUCCEED`; got != want {
		t.Errorf("message of end is %q, want %q", got, want)
	}
	w.finish("slow/0", 0).step().finish("free/0", 0).step().step()
	w.want("FAILED",
		"bad FAILED failed=0 (TaskInstanceFailed)",
		"slow SUCCEED succeeded=0",
		"join FAILED failed=0-2 (PredecessorFailed)",
		"end FAILED failed=0 (PredecessorFailed)",
		"free SUCCEED succeeded=0")
	if got, want := w.job.Status.Message, `task "bad": exit code 1`; got != want {
		t.Errorf("the job's message is %q, want %q", got, want)
	}
}

// TestPartlySucceedCascades: a task that never ran has no instance that succeeded.
func TestPartlySucceedCascades(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a").Task("b").Task("c").Edges("a->b b->c").DependOn(v1alpha1.PreTaskAtLeastPartlySucceed))
	w.step().finish("a/0", 1).step().step()
	w.want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)", "b FAILED failed=0 (PredecessorFailed)", "c FAILED failed=0 (PredecessorFailed)")
}

// TestFinishedFailsInTheEnd: under PRE_TASK_FINISHED everything runs, and the job has
// failed all the same.
func TestFinishedFailsInTheEnd(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a").Task("b").Edges("a->b").DependOn(v1alpha1.PreTaskFinished))
	w.step().finish("a/0", 1).step().finish("b/0", 0).step().step()
	w.want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)", "b SUCCEED succeeded=0")
}
