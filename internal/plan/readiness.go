// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// readiness says whether a task may start.
type readiness uint8

const (
	waiting readiness = iota
	ready
	impossible // the tasks before it have ended so that it never can
)

// taskReadiness says which tasks may start.
type taskReadiness struct {
	// tasks are by the position of the task.
	tasks []readiness
	// failed says that instances failed that were never to be started.
	failed bool
}

// computeReadiness decides which tasks may start, in the order of the graph, since that depends on the tasks before.
// It fails the instances without a Pod that can no longer run or are terminated.
func computeReadiness(j *job, at []lists, pods *outcomes) taskReadiness {
	out := taskReadiness{tasks: make([]readiness, len(j.tasks))}
	order, _ := j.obs.Spec.Graph.Order()
	for _, i := range order {
		t, l, ended := &j.tasks[i], &at[i], ranges.Set{}
		r := readinessOf(j, at, t)
		switch {
		case j.mode.terminating:
			ended, r = l.unclaimed(t.InstanceNum), ready
		case r == impossible:
			l.failed = l.failed.Union(l.unclaimed(t.InstanceNum)) // it has no claims, else it would be ready
			out.failed = true
		case r == ready && !t.terminated.Empty():
			ended = l.unclaimed(t.InstanceNum).Intersect(t.terminated)
		}
		if out.tasks[i] = r; !ended.Empty() {
			l.failed = l.failed.Union(ended)
			l.retrying = l.retrying.minus(ended)
			pods.tasks[i].terminated += ended.Len()
			out.failed = true
		}
	}
	return out
}

// readinessOf applies taskExecutionDependOn. A task that has claims is ready: what allowed
// it to start cannot change in the same run of the job.
// Source: BatchCompute, Job.TaskExecutionDependOn.
func readinessOf(j *job, at []lists, t *task) readiness {
	if l := &at[t.pos]; l.adopted || l.isIssued() || l.hasEnded(t.InstanceNum) {
		return ready
	}
	out := ready
	for _, p := range j.obs.Spec.Graph.Predecessors(t.pos) {
		switch allows(j.obs.Spec.DependOn, &at[p], j.tasks[p].InstanceNum) {
		case impossible:
			return impossible
		case waiting:
			//mutation:predecessors-ignored
			out = waiting
		}
	}
	return out
}

// allows says whether a predecessor of n instances lets its successors start.
func allows(rule v1alpha1.TaskExecutionDependOn, l *lists, n int) readiness {
	if !l.hasEnded(n) {
		return waiting
	}
	var ok bool
	switch rule {
	case v1alpha1.PreTaskFinished:
		ok = true
	case v1alpha1.PreTaskAtLeastPartlySucceed:
		ok = !l.succeeded.Empty()
	default:
		//mutation:failed-predecessor-lets-start
		ok = l.failed.Empty()
	}
	if ok {
		return ready
	}
	return impossible
}
