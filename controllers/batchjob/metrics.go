// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"time"

	"k8s.io/utils/clock"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
)

// jobMetrics measures jobs. Its methods may be called concurrently for different jobs.
type jobMetrics struct {
	*metrics.Jobs // nil: there are none
	clock         clock.PassiveClock
}

// countStatus counts the retries and the end of a job, which a stored status has.
func (m *jobMetrics) countStatus(old *v1alpha1.BatchJobStatus, p *plan.Plan) {
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

// noteReady remembers which tasks may start according to a stored status, and when the last of their predecessors ended,
// for the metric of the dependence latency. It measures at most plan.MaxBatchSize tasks of a job at the same time, to
// bound the memory.
func (m *jobMetrics) noteReady(obs *observation, next *v1alpha1.BatchJobStatus) {
	state, old := obs.state, &obs.Job.Status
	if next.Run != old.Run {
		clear(state.ready) // a suspension, or the time before a retry, does not count
	}
	if m.Jobs == nil || obs.Spec == nil || next.TaskMetrics.PendingCount >= old.TaskMetrics.PendingCount {
		return
	}
	was, is := taskStates(old), taskStates(next)
	ends := taskEnds(obs)
	for i := range obs.Spec.Tasks {
		name := obs.Spec.Tasks[i].Name
		if was[name] != "" && was[name] != v1alpha1.TaskPending || is[name] != v1alpha1.TaskRunnable || len(state.ready) >= plan.MaxBatchSize {
			continue
		}
		var end time.Time
		for _, p := range obs.Spec.Graph.Predecessors(i) {
			if at := ends[int(p)]; at.After(end) {
				end = at
			}
		}
		if end.IsZero() {
			continue
		}
		if state.ready == nil {
			state.ready = map[int]time.Time{}
		}
		state.ready[i] = end
	}
}

// taskEnds returns when the last command of each task ended, by the task's position, from the Pods that have finished.
// Pods have the time in whole seconds, rounded down, so the first event of a Pod within that second is more precise.
func taskEnds(obs *observation) map[int]time.Time {
	ends := map[int]time.Time{}
	for _, pod := range obs.Pods {
		task := obs.Spec.TaskByLabel(pod.Labels[v1alpha1.LabelTaskName])
		for _, c := range pod.Status.ContainerStatuses {
			if t := c.State.Terminated; c.Name == podspec.ContainerName && t != nil && t.FinishedAt.After(ends[task]) {
				ends[task] = t.FinishedAt.Time
			}
		}
	}
	for task, end := range ends {
		if second := end.Add(time.Second); obs.firstEvent.After(second) {
			ends[task] = second
		} else if obs.firstEvent.After(end) {
			ends[task] = obs.firstEvent
		}
	}
	return ends
}

// taskStates returns the states of the tasks that are no longer PENDING, by name.
func taskStates(s *v1alpha1.BatchJobStatus) map[string]v1alpha1.TaskState {
	out := make(map[string]v1alpha1.TaskState, len(s.Tasks))
	for i := range s.Tasks {
		out[s.Tasks[i].Name] = s.Tasks[i].State
	}
	return out
}

// observeDependence observes the dependence latency of a task when its first Pod was created.
func (m *jobMetrics) observeDependence(state *jobState, task int) {
	if end, ok := state.ready[task]; ok {
		delete(state.ready, task)
		m.DependenceLatency(m.clock.Since(end))
	}
}

// measure sets the metrics of the job. It removes those of a job that has ended, once the finalizers of its Pods are
// removed.
func (m *jobMetrics) measure(obs *observation, p *plan.Plan, finalizersRemoved bool) {
	key := keyOf(&obs.Job.ObjectMeta)
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
