// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/sanitize"
)

// What explains must not make a status too large to be stored: admission has counted
// messages of v1alpha1.MaxMessageSize bytes for v1alpha1.MaxTaskMessages tasks, and reasons
// for v1alpha1.MaxTaskReasons, see validation.WorstStatusSize. Of the other tasks, the lists
// of indexes and the job's own reason say enough.

// explanationBudget is how many tasks may still be explained.
type explanationBudget struct {
	own   explanations // tasks that wait, failed or are interrupted themselves
	after explanations // those that cannot start since another one failed
}

// explanations are how many reasons and messages there may be.
type explanations struct{ reasons, messages int }

// newExplanationBudget divides what the status may hold: tasks that could not start get what the others
// leave, since theirs says least.
func newExplanationBudget(tasks []taskSummary) explanationBudget {
	all := explanations{v1alpha1.MaxTaskReasons, v1alpha1.MaxTaskMessages}
	r := explanationBudget{all, all}
	for i := range tasks {
		if t := &tasks[i]; t.reason != "" && t.reason != v1alpha1.ReasonPredecessorFailed {
			r.after.spend(t)
		}
	}
	return r
}

// spend returns the reason and message that the status has of t.
func (r *explanationBudget) spend(t *taskSummary) (reason, message string) {
	if t.reason == v1alpha1.ReasonPredecessorFailed {
		return r.after.spend(t)
	}
	return r.own.spend(t)
}

func (e *explanations) spend(t *taskSummary) (reason, message string) {
	if t.reason == "" || e.reasons == 0 {
		return "", ""
	}
	e.reasons--
	if t.message == "" || e.messages == 0 {
		return t.reason, ""
	}
	e.messages--
	return t.reason, t.message
}

// cut prepares a text for the status and for events; see sanitize.Message.
func cut(text string) string { return sanitize.Message(text) }
