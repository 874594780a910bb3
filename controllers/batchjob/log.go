// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
)

// The log levels of the reconciler: 1 for what a stored status changed, 2 for each pass. The logger of the context
// has the job's namespace and name. No value is built for a level that is off.

// logChanges logs at level 1 how a stored status changed a job: a line for each new state of the job or of a task,
// and one for each Event that says more than that, also for one that the budget of the job then drops.
func logChanges(ctx context.Context, old *v1alpha1.BatchJobStatus, p *plan.Plan) {
	logger := log.FromContext(ctx).V(1)
	if !logger.Enabled() {
		return
	}
	next := &p.Status
	logger = logger.WithValues("jobId", next.JobID)
	if old.State == "" {
		logger.Info("Submitted", "tasks", next.TaskProgress, "instances", next.TaskInstanceProgress)
	}
	was := taskStates(old)
	for i := range next.Tasks {
		if t := &next.Tasks[i]; t.State != cmp.Or(was[t.Name], v1alpha1.TaskPending) {
			logger.Info("Task changed state", "task", t.Name, "from", cmp.Or(was[t.Name], v1alpha1.TaskPending), "to", t.State)
		}
	}
	for _, e := range p.Events {
		if !e.Progress {
			logger.Info("Event", "reason", e.Reason, "message", e.Message)
		}
	}
	if next.State != old.State {
		logger.Info("Job changed state", "from", cmp.Or(old.State, v1alpha1.JobSubmitted), "to", next.State, "instances", next.TaskInstanceProgress)
	}
}

// logPlan logs at level 2 what a pass decided: when the status is written and whether the rest of the plan must wait
// for it, how many Pods are created and so on, when to look again, and the reason that the job or its first waiting
// instance has.
func logPlan(ctx context.Context, obs *observation, p *plan.Plan, delay statusDelay) {
	logger := log.FromContext(ctx).V(2)
	if !logger.Enabled() {
		return
	}
	write, reason := "unchanged", p.Status.Reason
	switch {
	case delay.write:
		write = "now"
	case delay.wait > 0:
		write = "in " + delay.wait.Round(time.Millisecond).String()
	}
	if len(p.Status.Waiting) > 0 {
		reason = p.Status.Waiting[0].Reason
	}
	logger.Info("Planned", "jobId", p.Status.JobID, "state", p.Status.State, "reason", reason, "pods", len(obs.Pods), "writeStatus", write,
		"blocked", delay.blocks, "create", len(p.Create), "adopt", len(p.Adopt), "verify", len(p.Verify), "delete", len(p.Delete),
		"removeFinalizers", len(p.RemoveFinalizers), "requeueAfter", p.RequeueAfter.Round(time.Millisecond).String())
}

// logEnd logs at level 2 how a pass ended: when the next one follows without an event, 0 for never or, after an error,
// with a backoff; and the error that ended it early.
func logEnd(ctx context.Context, wait time.Duration, err error) {
	logger := log.FromContext(ctx).V(2)
	if !logger.Enabled() {
		return
	}
	if err != nil {
		logger = logger.WithValues("error", err.Error())
	}
	logger.Info("Ended the pass", "requeueAfter", wait.Round(time.Millisecond).String())
}
