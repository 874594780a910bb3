// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
)

// maxTransitions bounds the news of one plan; what is more is summed up.
const maxTransitions = 20

// tell lists what the next status brings that old did not have: the job's acceptance
// and its states, the tasks' states, attempts that failed, and what tasks wait for.
// News about instances is summed up by task, and the success of the last tasks by that of
// the job.
func (c *computation) tell(old *v1alpha1.BatchJobStatus) {
	next := &c.plan.Status
	if old.State == "" {
		c.progress(v1alpha1.ReasonAccepted, "%s: %s, %s", next.JobID, count(len(c.tasks), "task"), count(c.obs.Spec.InstanceNum, "instance"))
	}
	if next.State == v1alpha1.JobRunning && old.State != next.State {
		c.progress(v1alpha1.ReasonJobRunning, "the first instance runs")
	}
	c.tellConditions(old, next)
	for i := range c.tasks {
		c.tellTask(&c.tasks[i])
	}
	if more := len(c.plan.Transitions) - maxTransitions; more > 0 {
		c.plan.Transitions = append(c.plan.Transitions[:maxTransitions], Transition{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("and %d more changes", more)})
	}
	switch { // never left out
	case next.State == old.State:
	case next.State == v1alpha1.JobFailedInterrupted:
		c.news(true, v1alpha1.ReasonInterrupted, "%s", next.Message)
	case next.State == v1alpha1.JobSucceed:
		c.progress(next.Reason, "%s", next.Message)
	case next.State == v1alpha1.JobFailed:
		c.news(true, next.Reason, "%s", next.Message)
	}
}

// tellConditions tells of suspensions and of an annotation that cannot be read.
func (c *computation) tellConditions(old, next *v1alpha1.BatchJobStatus) {
	was := meta.IsStatusConditionTrue(old.Conditions, v1alpha1.ConditionSuspended)
	switch is := meta.IsStatusConditionTrue(next.Conditions, v1alpha1.ConditionSuspended); {
	case is && !was:
		c.news(false, v1alpha1.ReasonSuspended, "%s", c.suspension())
	case was && !is && !c.terminating:
		c.news(false, v1alpha1.ReasonResumed, "the job goes on")
	}
	before := meta.FindStatusCondition(old.Conditions, v1alpha1.ConditionInvalidAnnotation)
	after := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionInvalidAnnotation)
	if after != nil && (before == nil || before.Message != after.Message) {
		c.news(true, after.Reason, "%s", after.Message)
	}
}

func (c *computation) tellTask(t *task) {
	var before v1alpha1.TaskStatus
	if t.old != nil {
		before = *t.old
	}
	if n := t.retriesNow(); n > 0 && t.lastRetried != nil {
		c.news(true, v1alpha1.ReasonTaskInstanceRetry, "task %q: %s failed and will be retried; %s", t.Name, count(n, "attempt"), t.lastRetried.words(t))
	}
	if t.state != before.State {
		switch t.state {
		case v1alpha1.TaskRunning:
			c.progress(v1alpha1.ReasonTaskRunning, "task %q runs", t.Name)
		case v1alpha1.TaskSucceed:
			if c.plan.Status.State == v1alpha1.JobSucceed {
				return
			}
			c.progress(v1alpha1.ReasonTaskSucceed, "task %q: %s succeeded", t.Name, count(t.InstanceNum, "instance"))
		case v1alpha1.TaskFailed, v1alpha1.TaskFailedInterrupted:
			c.news(true, t.reason, "task %q: %s", t.Name, t.message)
			return
		}
	}
	if t.message != "" && t.reason != before.Reason && t.state != v1alpha1.TaskFailed {
		c.news(true, t.reason, "task %q: %s", t.Name, t.message)
	}
}

// retriesNow is how many attempts were found failed now and are to be retried.
func (t *task) retriesNow() int {
	n := 0
	for _, indexes := range t.moves.retrying {
		n += len(indexes)
	}
	return n
}

// words say which attempt failed and how: "instance 7: exit code 1, attempt 3 of 3",
// without the instance where there is only one, and without the attempt likewise.
func (f *failure) words(t *task) string {
	out := f.Message
	if t.InstanceNum > 1 {
		out = fmt.Sprintf("instance %d: %s", f.TaskInstanceIndex, out)
	}
	if most := t.attempts; most > 1 {
		out = fmt.Sprintf("%s, attempt %d of %d", out, f.Attempt+1, most)
	}
	return out
}

func (c *computation) news(warning bool, reason, format string, args ...any) {
	c.plan.Transitions = append(c.plan.Transitions, Transition{Warning: warning, Reason: reason, Message: cut(fmt.Sprintf(format, args...))})
}

func (c *computation) progress(reason, format string, args ...any) {
	c.news(false, reason, format, args...)
	c.plan.Transitions[len(c.plan.Transitions)-1].Progress = true
}
