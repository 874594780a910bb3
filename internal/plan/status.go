// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// summarize puts the next status together and says what is new in it.
func (c *computation) summarize() {
	old := &c.obs.Job.Status
	next := old.DeepCopy()
	c.keepFailures(next)
	next.ObservedGeneration = c.obs.Job.Generation
	next.JobID = c.obs.Spec.ID
	if next.StartTime == nil && len(c.plan.Create) > 0 {
		next.StartTime = new(seconds(c.now))
	}
	next.Tasks = c.taskStatuses()
	next.TaskMetrics, next.TaskInstanceMetrics = c.metrics()
	next.TaskProgress = fmt.Sprintf("%d/%d", next.TaskMetrics.SucceedCount, len(c.tasks))
	next.TaskInstanceProgress = fmt.Sprintf("%d/%d", next.TaskInstanceMetrics.SucceedCount, c.obs.Spec.InstanceNum)
	next.State = c.jobState()
	next.Reason, next.Message = c.jobReason(next.State)
	if isTerminal(next.State) {
		next.EndTime = new(seconds(c.now))
	}
	c.setConditions(next)
	c.plan.Status = *next
	c.plan.Urgent = c.plan.Urgent || old.State == "" || isTerminal(next.State)
	c.tell(old)
}

// keepFailures adds what failed now to status.failures and drops the oldest.
func (c *computation) keepFailures(next *v1alpha1.BatchJobStatus) {
	for i := range c.failures {
		next.Failures = append(next.Failures, c.failures[i].TaskInstanceFailure)
	}
	// What is seen late is not the last that happened.
	slices.SortStableFunc(next.Failures, func(a, b v1alpha1.TaskInstanceFailure) int { return a.Time.Compare(b.Time.Time) })
	next.Failures = next.Failures[max(0, len(next.Failures)-v1alpha1.MaxFailures):]
}

func (c *computation) taskStatuses() []v1alpha1.TaskStatus {
	var out []v1alpha1.TaskStatus
	// Those that did not run have the least to say.
	own, held := maxMessages, maxMessages
	for i := range c.tasks {
		if t := &c.tasks[i]; t.message != "" && t.reason != v1alpha1.ReasonPredecessorFailed {
			held = max(0, held-1)
		}
	}
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.state == v1alpha1.TaskPending {
			continue
		}
		s := v1alpha1.TaskStatus{
			Name: t.Name, State: t.state,
			Succeeded: t.succeeded.String(), Failed: t.failed.String(),
			Active: t.active.stored(), Retrying: t.retrying.stored(),
			Starting: int64(t.starting), Running: int64(t.running),
			Reason: t.reason,
		}
		left := &own
		if t.reason == v1alpha1.ReasonPredecessorFailed {
			left = &held
		}
		if t.message != "" && *left > 0 {
			s.Message = t.message
			*left--
		}
		out = append(out, s)
	}
	return out
}

func (c *computation) metrics() (tasks, instances v1alpha1.StateMetrics) {
	for i := range c.tasks {
		t := &c.tasks[i]
		switch t.state {
		case v1alpha1.TaskPending:
			tasks.PendingCount++
			instances.PendingCount += int64(t.InstanceNum)
			continue
		case v1alpha1.TaskRunnable:
			tasks.RunnableCount++
		case v1alpha1.TaskStarting:
			tasks.StartingCount++
		case v1alpha1.TaskRunning:
			tasks.RunningCount++
		case v1alpha1.TaskSucceed:
			tasks.SucceedCount++
		case v1alpha1.TaskFailed:
			tasks.FailedCount++
		}
		succeeded, failed := t.succeeded.Len(), t.failed.Len()
		instances.SucceedCount += int64(succeeded)
		instances.FailedCount += int64(failed)
		instances.StartingCount += int64(t.starting)
		instances.RunningCount += int64(t.running)
		instances.RunnableCount += int64(t.InstanceNum - succeeded - failed - t.starting - t.running)
	}
	return tasks, instances
}

// jobState is the state of the job. It is final only when no Pod carries the tracking
// label any more: from then on there is nothing left to let go of.
func (c *computation) jobState() v1alpha1.JobState {
	state, failed, ended := v1alpha1.JobPending, false, 0
	rank := map[v1alpha1.JobState]int{v1alpha1.JobPending: 0, v1alpha1.JobRunnable: 1, v1alpha1.JobStarting: 2, v1alpha1.JobRunning: 3}
	for i := range c.tasks {
		s := v1alpha1.JobState(c.tasks[i].state)
		if c.tasks[i].hasEnded() {
			ended++
			failed = failed || s == v1alpha1.JobFailed
			s = v1alpha1.JobRunning
		}
		if rank[s] > rank[state] {
			state = s
		}
	}
	switch {
	case ended < len(c.tasks) || len(c.obs.Pods) > 0:
		return state
	case failed:
		return v1alpha1.JobFailed
	}
	return v1alpha1.JobSucceed
}

// jobReason is the reason and message of the job: the end's, else those of the first
// task that has any.
func (c *computation) jobReason(state v1alpha1.JobState) (reason, message string) {
	if state == v1alpha1.JobSucceed {
		return v1alpha1.ReasonJobSucceed, fmt.Sprintf("%s and %s succeeded", count(len(c.tasks), "task"), count(c.obs.Spec.InstanceNum, "instance"))
	}
	for i := range c.tasks {
		if t := &c.tasks[i]; t.reason != "" && t.reason != v1alpha1.ReasonPredecessorFailed {
			reason, message = t.reason, cut(fmt.Sprintf("task %q: %s", t.Name, t.message))
			break
		}
	}
	if state == v1alpha1.JobFailed {
		reason = v1alpha1.ReasonJobFailed
	}
	return reason, message
}

func (c *computation) setConditions(next *v1alpha1.BatchJobStatus) {
	set := func(kind, reason, message string) {
		meta.SetStatusCondition(&next.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message,
			ObservedGeneration: next.ObservedGeneration, LastTransitionTime: seconds(c.now),
		})
	}
	set(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, "the request is valid")
	switch next.State {
	case v1alpha1.JobSucceed:
		set(v1alpha1.ConditionComplete, next.Reason, next.Message)
	case v1alpha1.JobFailed:
		set(v1alpha1.ConditionFailed, next.Reason, next.Message)
		set(v1alpha1.ConditionStalled, next.Reason, next.Message)
	default:
		set(v1alpha1.ConditionReconciling, v1alpha1.ReasonProgressing, "the job is under way")
		return
	}
	meta.RemoveStatusCondition(&next.Conditions, v1alpha1.ConditionReconciling)
}

// reject makes the status that of a job which validation refused.
func (c *computation) reject(code, message string) {
	next := &c.plan.Status
	next.ObservedGeneration = c.obs.Job.Generation
	next.State, next.Reason, next.Message = v1alpha1.JobFailed, code, cut(message)
	next.EndTime = new(seconds(c.now))
	for kind, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionAccepted: metav1.ConditionFalse,
		v1alpha1.ConditionFailed:   metav1.ConditionTrue,
		v1alpha1.ConditionStalled:  metav1.ConditionTrue,
	} {
		meta.SetStatusCondition(&next.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: v1alpha1.ReasonInvalidRequest, Message: next.Message,
			ObservedGeneration: next.ObservedGeneration, LastTransitionTime: seconds(c.now),
		})
	}
	meta.RemoveStatusCondition(&next.Conditions, v1alpha1.ConditionReconciling)
	slices.SortFunc(next.Conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	c.plan.Urgent = true
	c.plan.Transitions = []Transition{{true, v1alpha1.ReasonInvalidRequest, next.Message}}
}

// duplicate makes the status of a job in whose place original runs.
func (c *computation) duplicate(original *v1alpha1.BatchJob) {
	next := &c.plan.Status
	next.ObservedGeneration = c.obs.Job.Generation
	next.State, next.JobID = v1alpha1.JobSubmitted, naming.JobID(original.UID)
	next.Reason = v1alpha1.ReasonDuplicate
	next.Message = fmt.Sprintf("job %q (%s) has the same clientToken and runs in the place of this one", original.Name, next.JobID)
	meta.SetStatusCondition(&next.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue, Reason: next.Reason, Message: next.Message,
		ObservedGeneration: next.ObservedGeneration, LastTransitionTime: seconds(c.now),
	})
	c.plan.Urgent = true
	c.plan.Transitions = []Transition{{false, next.Reason, next.Message}}
}

// Changed reports whether the plan's status differs from the stored one in more than
// how it is written.
func (p *Plan) Changed(stored *v1alpha1.BatchJobStatus) bool {
	return !apiequality.Semantic.DeepEqual(*stored, p.Status)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
