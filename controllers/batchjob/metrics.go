// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/plan"
)

// countStatus counts the retries and the end of a job, which a stored status has.
func (r *Reconciler) countStatus(old *v1alpha1.BatchJobStatus, p *plan.Plan) {
	m := r.options.Metrics
	for _, x := range p.Retries {
		m.Retried(x.Budget, x.Reason, x.Count)
	}
	if p.Status.EndTime == nil || old.EndTime != nil {
		return
	}
	m.Ended(string(p.Status.State), 1, 0)
	m.Ended(string(v1alpha1.JobSucceed), 0, int(p.Status.TaskInstanceMetrics.SucceedCount))
	m.Ended(string(v1alpha1.JobFailed), 0, int(p.Status.TaskInstanceMetrics.FailedCount))
}

// measure sets the metrics of the job, and observes how long the successors of a task waited for their first
// Pods: from the first event that this pass has recorded. It removes the metrics of a job that has ended, once the
// finalizers of its Pods are removed.
func (r *Reconciler) measure(obs *observation, p *plan.Plan, finalizersRemoved bool) {
	m, key := r.options.Metrics, keyOf(&obs.Job.ObjectMeta)
	if p.Opened {
		m.DependenceLatency(r.options.Clock.Since(obs.firstEvent))
	}
	if p.Status.EndTime != nil && finalizersRemoved {
		m.Forget(key)
		return
	}
	finished := -int(p.Status.TaskInstanceMetrics.FailedInterruptedCount) // interrupted instances keep the finalizer on purpose
	for _, pod := range obs.Pods {
		if plan.HasFinished(pod) {
			finished++
		}
	}
	m.Observe(key, metrics.Snapshot{Instances: p.Status.TaskInstanceMetrics, Held: max(finished, 0), Unmade: len(p.Adopt) + len(p.Verify)})
}
