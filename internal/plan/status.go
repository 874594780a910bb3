// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/naming"
)

// summarize puts the next status together and says what is new in it.
func (c *computation) summarize() {
	old := &c.obs.Job.Status
	next := old.DeepCopy()
	c.keepFailures(next)
	next.ObservedGeneration = c.obs.Job.Generation
	next.JobID = c.obs.Spec.ID
	c.keepPodKey(next)
	next.Run = int64(c.runNumber)
	if old.State == "" {
		next.RetryToken = c.obs.Job.Spec.RetryToken // nothing has failed that it could mean
	}
	if next.StartTime == nil && len(c.plan.Create) > 0 {
		next.StartTime = new(seconds(c.now))
	}
	next.Tasks = c.taskStatuses()
	next.Waiting = c.waits(old.Waiting)
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
	c.plan.Gather = !c.plan.Urgent && c.moved > 0 && !c.usesEnvs() && (len(c.plan.Create) == 0 || c.isTrickle())
	c.plan.Urgent = c.plan.Urgent || c.moved > 0
	c.tell(old)
}

// keepPodKey notes the key with which Pods of the job are signed, before there are any. The Pods of a
// job that a version without keys began are not asked for a proof.
func (c *computation) keepPodKey(next *v1alpha1.BatchJobStatus) {
	key, fresh := c.obs.PodKey, c.obs.Job.Status.State == ""
	if key == "" || !fresh && len(next.PodKeys) == 0 || slices.Contains(next.PodKeys, key) {
		return
	}
	next.PodKeys = append(next.PodKeys, key)
	next.PodKeys = next.PodKeys[max(0, len(next.PodKeys)-v1alpha1.MaxPodKeys):]
	c.plan.Urgent = true
}

// usesEnvs reports whether the job has nodes of ComputeEnvs, for which others may wait.
func (c *computation) usesEnvs() bool {
	return slices.ContainsFunc(c.tasks, func(t task) bool { return t.EnvID != "" })
}

// isTrickle reports whether what moved are few of many instances that are under way, and no
// task begins or ends with them, nor is there more to be claimed.
func (c *computation) isTrickle() bool {
	if c.waveRoom() <= 0 {
		return false
	}
	active := 0
	for i := range c.tasks {
		t, was := &c.tasks[i], v1alpha1.TaskPending
		if t.old != nil {
			was = t.old.State
		}
		if t.state != was && (was == v1alpha1.TaskPending || t.hasEnded() || t.isHeld()) {
			return false
		}
		active += t.active.len()
	}
	return c.moved*trickle < active
}

// trickle is the share of the instances under way that are worth a write by themselves: one in
// so many.
const trickle = 20

// keepFailures adds what failed now to status.failures and drops the oldest.
func (c *computation) keepFailures(next *v1alpha1.BatchJobStatus) {
	for i := range c.failures {
		next.Failures = append(next.Failures, c.failures[i].TaskInstanceFailure)
	}
	// What is seen late is not the last that happened.
	slices.SortStableFunc(next.Failures, func(a, b v1alpha1.TaskInstanceFailure) int { return a.Time.Compare(b.Time.Time) })
	next.Failures = next.Failures[max(0, len(next.Failures)-v1alpha1.MaxFailures):]
}

// waits returns the instances that wait. As with tasks, the old sentence is kept for as
// long as the reason is the same.
func (c *computation) waits(old []v1alpha1.TaskInstanceWait) []v1alpha1.TaskInstanceWait {
	var out []v1alpha1.TaskInstanceWait
	for _, w := range c.waiting {
		for _, o := range old {
			if o.TaskName == w.TaskName && o.TaskInstanceIndex == w.TaskInstanceIndex && o.Reason == w.Reason && o.PodName == w.PodName {
				w.Message = o.Message
			}
		}
		out = append(out, w.TaskInstanceWait)
	}
	return out
}

func (c *computation) taskStatuses() []v1alpha1.TaskStatus {
	var out []v1alpha1.TaskStatus
	r := c.roomToExplain()
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.state == v1alpha1.TaskPending && t.succeeded.Empty() {
			continue
		}
		s := v1alpha1.TaskStatus{
			Name: t.Name, State: t.state,
			Succeeded: t.succeeded.String(), Failed: t.failed.String(),
			Active: t.active.String(), Retrying: t.retrying.String(), Interrupted: t.interrupted.String(),
			Starting: int64(t.starting), Running: int64(t.running),
		}
		s.Reason, s.Message = r.take(t)
		out = append(out, s)
	}
	return out
}

func (c *computation) metrics() (tasks, instances v1alpha1.StateMetrics) {
	for i := range c.tasks {
		t := &c.tasks[i]
		*counterOf(&tasks, t.state)++
		succeeded, failed, held := t.succeeded.Len(), t.failed.Len(), t.interrupted.len()
		instances.SucceedCount += int64(succeeded)
		instances.FailedCount += int64(failed)
		instances.FailedInterruptedCount += int64(held)
		instances.StartingCount += int64(t.starting)
		instances.RunningCount += int64(t.running)
		rest := &instances.RunnableCount
		if t.state == v1alpha1.TaskPending {
			rest = &instances.PendingCount
		}
		*rest += int64(t.InstanceNum - succeeded - failed - held - t.starting - t.running)
	}
	return tasks, instances
}

func counterOf(m *v1alpha1.StateMetrics, s v1alpha1.TaskState) *int64 {
	switch s {
	case v1alpha1.TaskPending:
		return &m.PendingCount
	case v1alpha1.TaskRunnable:
		return &m.RunnableCount
	case v1alpha1.TaskStarting:
		return &m.StartingCount
	case v1alpha1.TaskRunning:
		return &m.RunningCount
	case v1alpha1.TaskSucceed:
		return &m.SucceedCount
	case v1alpha1.TaskFailedInterrupted:
		return &m.FailedInterruptedCount
	}
	return &m.FailedCount
}

// jobState is the state of the job. It is final when nothing of it runs and all that is left
// to do is to let go of Pods, which follows at once.
func (c *computation) jobState() v1alpha1.JobState {
	state, failed := v1alpha1.JobPending, false
	ended, held, pending := 0, 0, 0
	rank := map[v1alpha1.JobState]int{v1alpha1.JobPending: 0, v1alpha1.JobRunnable: 1, v1alpha1.JobStarting: 2, v1alpha1.JobRunning: 3}
	for i := range c.tasks {
		t := &c.tasks[i]
		s := v1alpha1.JobState(t.state)
		switch {
		case t.hasEnded():
			ended++
			failed = failed || s == v1alpha1.JobFailed
			s = v1alpha1.JobRunning
		case t.isHeld():
			held++
			s = v1alpha1.JobRunning
		case t.state == v1alpha1.TaskPending:
			pending++
		}
		if rank[s] > rank[state] {
			state = s
		}
	}
	switch n := len(c.tasks); {
	case held > 0 && ended+held+pending == n:
		return v1alpha1.JobFailedInterrupted
	//mutation:final-while-pod-runs
	case ended < n || !c.letsGoOfAll():
		return state
	case failed:
		return v1alpha1.JobFailed
	}
	return v1alpha1.JobSucceed
}

// letsGoOfAll reports whether no Pod that is tracked stays so, and none has to be stopped.
func (c *computation) letsGoOfAll() bool {
	return len(c.plan.Release) == len(c.obs.Pods) && !slices.ContainsFunc(c.plan.Release, func(pod *corev1.Pod) bool { return !HasFinished(pod) })
}

// jobReason is the reason and message of the job: the end's, else those of the first
// task that has any.
func (c *computation) jobReason(state v1alpha1.JobState) (reason, message string) {
	if state == v1alpha1.JobSucceed {
		return v1alpha1.ReasonJobSucceed, fmt.Sprintf("%s and %s succeeded", count(len(c.tasks), "task"), count(c.obs.Spec.InstanceNum, "instance"))
	}
	if c.draining && state != v1alpha1.JobFailed && state != v1alpha1.JobFailedInterrupted {
		return v1alpha1.ReasonSuspended, c.suspension()
	}
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.reason == "" || t.reason == v1alpha1.ReasonPredecessorFailed || state == v1alpha1.JobFailedInterrupted && !t.isHeld() {
			continue
		}
		reason, message = t.reason, cut(fmt.Sprintf("task %q: %s", t.Name, t.message))
		break
	}
	switch {
	case state == v1alpha1.JobFailed && c.terminating:
		return v1alpha1.ReasonTerminated, message
	case state == v1alpha1.JobFailed:
		return v1alpha1.ReasonJobFailed, message
	}
	return reason, message
}

// suspension says how far the suspension of the job is.
func (c *computation) suspension() string {
	n := 0
	for i := range c.tasks {
		n += c.tasks[i].active.len()
	}
	if n > 0 {
		return isOrAre(n, "instance") + " being stopped"
	}
	return "nothing runs; spec.suspend: false goes on"
}

func (c *computation) setConditions(next *v1alpha1.BatchJobStatus) {
	set := conditions.OfBatchJob(next, next.ObservedGeneration, c.now)
	set.True(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, "the request is valid")
	if c.draining {
		set.True(v1alpha1.ConditionSuspended, v1alpha1.ReasonSuspended, c.suspension())
	} else {
		set.False(v1alpha1.ConditionSuspended, v1alpha1.ReasonResumed, "the suspension is over")
	}
	if c.terminations.complaint != "" {
		set.True(v1alpha1.ConditionInvalidAnnotation, v1alpha1.ReasonInvalidAnnotation, cut("annotation "+v1alpha1.AnnotationTerminate+": "+c.terminations.complaint))
	} else {
		set.Remove(v1alpha1.ConditionInvalidAnnotation)
	}
	// What stays is set anew and not removed first: the time of its transition would be another in
	// every pass.
	switch next.State {
	case v1alpha1.JobSucceed:
		set.Remove(v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling)
		set.True(v1alpha1.ConditionComplete, next.Reason, next.Message)
	case v1alpha1.JobFailed:
		set.True(v1alpha1.ConditionFailed, next.Reason, next.Message)
		set.True(v1alpha1.ConditionStalled, next.Reason, next.Message)
		set.Remove(v1alpha1.ConditionReconciling)
	case v1alpha1.JobFailedInterrupted:
		set.True(v1alpha1.ConditionStalled, v1alpha1.ReasonInterrupted, next.Message)
		set.Remove(v1alpha1.ConditionReconciling)
	default:
		set.Remove(v1alpha1.ConditionStalled)
		set.True(v1alpha1.ConditionReconciling, v1alpha1.ReasonProgressing, "the job is under way")
	}
}

// reject makes the status that of a job which validation refused.
func (c *computation) reject(code, message string) {
	next := &c.plan.Status
	next.ObservedGeneration = c.obs.Job.Generation
	next.State, next.Reason, next.Message = v1alpha1.JobFailed, code, cut(message)
	next.EndTime = new(seconds(c.now))
	set := conditions.OfBatchJob(next, next.ObservedGeneration, c.now)
	set.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidRequest, next.Message)
	set.True(v1alpha1.ConditionFailed, v1alpha1.ReasonInvalidRequest, next.Message)
	set.True(v1alpha1.ConditionStalled, v1alpha1.ReasonInvalidRequest, next.Message)
	set.Remove(v1alpha1.ConditionReconciling)
	c.plan.Urgent = true
	c.plan.Transitions = []Transition{{Warning: true, Reason: v1alpha1.ReasonInvalidRequest, Message: next.Message}}
}

// duplicate makes the status of a job in whose place original runs.
func (c *computation) duplicate(original *v1alpha1.BatchJob) {
	next := &c.plan.Status
	next.ObservedGeneration = c.obs.Job.Generation
	next.State, next.JobID = v1alpha1.JobSubmitted, naming.JobID(original.UID)
	next.Reason = v1alpha1.ReasonDuplicate
	next.Message = fmt.Sprintf("job %q (%s) has the same clientToken and runs in the place of this one", original.Name, next.JobID)
	conditions.OfBatchJob(next, next.ObservedGeneration, c.now).True(v1alpha1.ConditionDuplicate, next.Reason, next.Message)
	c.plan.Urgent = true
	c.plan.Transitions = []Transition{{Reason: next.Reason, Message: next.Message}}
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

// Trim returns a status without what only explains: the sentences, and the reasons of
// single tasks. Admission has made sure that what is left can be stored.
func Trim(s *v1alpha1.BatchJobStatus) *v1alpha1.BatchJobStatus {
	out := s.DeepCopy()
	out.Failures, out.Waiting = nil, nil
	for i := range out.Tasks {
		out.Tasks[i].Reason, out.Tasks[i].Message = "", ""
	}
	return out
}
