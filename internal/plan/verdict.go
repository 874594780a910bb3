// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"batchcompute.dev/operator/api/v1alpha1"
)

// verdict is what becomes of an instance whose attempt has ended.
type verdict int

const (
	succeeded   verdict = iota
	retried             // it is issued again, and a budget has paid for it
	returned            // it is issued again once the suspension is over
	replaced            // it gets another Pod of the same name, and nothing is spent
	failed              // for good
	interrupted         // for good, and its Pod keeps the finalizer
)

// verdict decides what becomes of an instance with history h whose attempt ended so, and
// its history from then on. The end gets another reason where the instance was stopped
// on purpose.
//
// The machine's budget is spent first by what is due to the machine; when it is used up,
// that is a failed run like any other. Source: BatchCompute, Task.MaxRetryCount,
// Task.ResourceMaxRetryCount, Task.FailedAction, Job.StateIfCreateCvmFailed.
func (j *job) verdict(t *task, index int, h history, end *outcome) (verdict, history) {
	b, fast := &t.budget, t.FailedAction == v1alpha1.FailedActionFastInterrupt
	//mutation:command-budget-off-by-one
	mayRetry := h.retries < b.retries && !fast
	switch {
	case end.kind == success:
		return succeeded, h
	case j.terminates(t, index):
		if end.kind == byMachine {
			end.reason, end.message = v1alpha1.ReasonTerminated, "terminated"
			if end.unstored {
				end.message = "terminated after its command had succeeded, and before its outputs were stored"
			}
		}
		return failed, h
	//mutation:suspension-spends-budget
	case j.mode.draining && end.kind == byMachine:
		return returned, h
	case end.outdated, end.requeued:
		return replaced, h
	//mutation:permanent-failure-retried
	case end.permanent:
		return failed, h
	case end.kind == byMachine && !end.ran && !b.timesOut(h):
		return replaced, h
	case end.kind == byMachine && !end.ran && b.hasNextType(h) && h.machines < b.machines:
		h.machines++
		return retried, h
	//mutation:machine-budget-off-by-one
	case end.kind == byMachine && b.nextRound(h) <= b.machines:
		//mutation:machine-spends-command-budget
		h.machines = b.nextRound(h)
		return retried, h
	case mayRetry:
		h.retries++
		return retried, h
	case end.kind == byCommand && t.FailedAction != v1alpha1.FailedActionTerminate:
		return interrupted, h
	}
	return failed, h
}
