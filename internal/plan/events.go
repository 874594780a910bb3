// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
)

// maxEvents bounds the events of one plan; what is more is summed up.
const maxEvents = 20

// events are emitted once the status that brings them is stored.
type events []Event

// warn adds a warning, and note an event that people may want to know.
func (e *events) warn(reason, message string) { e.add(true, reason, message) }
func (e *events) note(reason, message string) { e.add(false, reason, message) }

// progress adds an event that repeats what the status says.
func (e *events) progress(reason, message string) {
	e.add(false, reason, message)
	(*e)[len(*e)-1].Progress = true
}

func (e *events) add(warning bool, reason, message string) {
	*e = append(*e, Event{Warning: warning, Reason: reason, Message: cut(message)})
}

// events adds to e what the next status brings that old did not have: the job's acceptance
// and its states, the tasks' states, attempts that failed, and what tasks wait for.
// What happens to instances is summed up by task, and the success of the last tasks by that of
// the job.
func (s *summary) events(e events, old, next *v1alpha1.BatchJobStatus) events {
	if old.State == "" {
		e.progress(v1alpha1.ReasonAccepted, fmt.Sprintf("%s: %s, %s", next.JobID, count(len(s.tasks), "task"), count(s.obs.Spec.InstanceNum, "instance")))
	}
	if next.State == v1alpha1.JobRunning && old.State != next.State {
		e.progress(v1alpha1.ReasonJobRunning, "the first instance runs")
	}
	s.addConditions(&e, old, next)
	for i := range s.tasks {
		s.addTask(&e, &s.job.tasks[i])
	}
	if more := len(e) - maxEvents; more > 0 {
		e = append(e[:maxEvents], Event{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("%d more changes are only in the status: run kubectl describe", more)})
	}
	switch { // never left out
	case next.State == old.State:
	case next.State == v1alpha1.JobFailedInterrupted:
		e.warn(v1alpha1.ReasonInterrupted, next.Message)
	case next.State == v1alpha1.JobSucceed:
		e.progress(next.Reason, next.Message)
	case next.State == v1alpha1.JobFailed:
		e.warn(next.Reason, next.Message)
	}
	return e
}

// addConditions adds the events of suspensions and of an annotation that cannot be read.
func (s *summary) addConditions(e *events, old, next *v1alpha1.BatchJobStatus) {
	was := meta.IsStatusConditionTrue(old.Conditions, v1alpha1.ConditionSuspended)
	switch is := meta.IsStatusConditionTrue(next.Conditions, v1alpha1.ConditionSuspended); {
	case is && !was:
		e.note(v1alpha1.ReasonSuspended, s.suspension())
	case was && !is && !s.mode.terminating:
		e.note(v1alpha1.ReasonResumed, "spec.suspend is false: instances are started again")
	}
	before := meta.FindStatusCondition(old.Conditions, v1alpha1.ConditionInvalidAnnotation)
	after := meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionInvalidAnnotation)
	if after != nil && (before == nil || before.Message != after.Message) {
		e.warn(after.Reason, after.Message)
	}
}

// addTask adds the events of one task.
func (s *summary) addTask(e *events, t *task) {
	var before v1alpha1.TaskStatus
	if t.old != nil {
		before = *t.old
	}
	x, pods := &s.tasks[t.pos], &s.pods.tasks[t.pos]
	if n := pods.retriesNow(); n > 0 && pods.lastRetried != nil {
		e.warn(v1alpha1.ReasonTaskInstanceRetry, fmt.Sprintf("task %q: %s failed and will be retried; %s", t.Name, count(n, "attempt"), pods.lastRetried.words(t)))
	}
	if x.state != before.State {
		switch x.state {
		case v1alpha1.TaskRunning:
			e.progress(v1alpha1.ReasonTaskRunning, fmt.Sprintf("task %q runs", t.Name))
		case v1alpha1.TaskSucceed:
			if s.state == v1alpha1.JobSucceed {
				return
			}
			e.progress(v1alpha1.ReasonTaskSucceed, fmt.Sprintf("task %q: %s succeeded", t.Name, count(t.InstanceNum, "instance")))
		case v1alpha1.TaskFailed, v1alpha1.TaskFailedInterrupted:
			e.warn(x.reason, fmt.Sprintf("task %q: %s", t.Name, x.message))
			return
		}
	}
	if x.message != "" && x.reason != before.Reason && x.state != v1alpha1.TaskFailed {
		e.warn(x.reason, fmt.Sprintf("task %q: %s", t.Name, x.message))
	}
}
