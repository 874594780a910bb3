// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strconv"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
)

// plan assembles the plan. earlier are the events before those that the status brings.
func (s *summary) plan(earlier events) Plan {
	old, next := &s.obs.Job.Status, s.status()
	earlier = append(earlier, s.noteEvents(&next)...)
	p := s.pods.plan(next)
	p.Create, p.Adopt, p.Verify = s.claims.create, s.pods.adopt, s.pods.verify
	p.InEnv, p.Wanted = s.claims.inEnv, s.claims.wanted
	p.Retries, p.Scheduled = s.pods.retries, s.pods.scheduled
	p.Write = s.write(old, &p.Status)
	p.Events = s.events(earlier, old, &p.Status)
	return p
}

// noteEvents updates the part of the next status that is about notifications.
func (s *summary) noteEvents(next *v1alpha1.BatchJobStatus) events {
	a := s.pods.announcer
	if a == nil {
		return nil
	}
	return noteEvents(&s.obs, next, a.due, a.announced, s.now)
}

// status is the whole next status but for notifications.
func (s *summary) status() v1alpha1.BatchJobStatus {
	obs, old := &s.obs, &s.obs.Job.Status
	kept := *old
	kept.Tasks, kept.Waiting = nil, nil // they are computed, not copied
	var next v1alpha1.BatchJobStatus
	kept.DeepCopyInto(&next)
	if next.Conditions == nil {
		next.Conditions = make([]metav1.Condition, 0, 2) // Accepted and Reconciling
	}
	next.Failures = s.keptFailures(next.Failures)
	next.ObservedGeneration = obs.Job.Generation
	next.JobID = obs.Spec.ID
	next.PodKeys = s.podKeys(next.PodKeys)
	next.Run = int64(s.mode.run)
	if old.State == "" {
		next.RetryToken = obs.Job.Spec.RetryToken // nothing has failed that it could mean
	}
	if next.StartTime == nil && len(s.claims.create) > 0 {
		next.StartTime = new(seconds(s.now))
	}
	next.Tasks = s.taskStatuses()
	next.Waiting = s.pods.waiting.stored(old.Waiting)
	next.TaskMetrics, next.TaskInstanceMetrics = s.metrics()
	next.TaskProgress = ratio(next.TaskMetrics.SucceedCount, len(s.tasks))
	next.TaskInstanceProgress = ratio(next.TaskInstanceMetrics.SucceedCount, obs.Spec.InstanceNum)
	next.State, next.Reason, next.Message = s.state, s.reason, s.message
	if isTerminal(next.State) {
		next.EndTime = new(seconds(s.now))
	}
	s.setConditions(&next)
	return next
}

// ratio is such as "3/4".
func ratio(some int64, all int) string { return strconv.FormatInt(some, 10) + "/" + strconv.Itoa(all) }

// podKeys are the keys with which Pods of the job are signed; the present one is noted before there are
// any Pods. The Pods of a job that a version without keys started are not asked for a proof.
func (s *summary) podKeys(keys []string) []string {
	key, fresh := s.obs.PodKey, s.obs.Job.Status.State == ""
	if key == "" || !fresh && len(keys) == 0 || slices.Contains(keys, key) {
		return keys
	}
	keys = append(keys, key)
	return keys[max(0, len(keys)-v1alpha1.MaxPodKeys):]
}

// keptFailures adds what failed now to the failures of the status and drops the oldest.
func (s *summary) keptFailures(failures []v1alpha1.TaskInstanceFailure) []v1alpha1.TaskInstanceFailure {
	for i := range s.pods.failures {
		failures = append(failures, s.pods.failures[i].TaskInstanceFailure)
	}
	// What is seen late is not the last that happened.
	slices.SortStableFunc(failures, func(a, b v1alpha1.TaskInstanceFailure) int { return a.Time.Compare(b.Time.Time) })
	return failures[max(0, len(failures)-v1alpha1.MaxFailures):]
}

func (s *summary) taskStatuses() []v1alpha1.TaskStatus {
	n := 0
	for i := range s.tasks {
		if s.isStored(i) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]v1alpha1.TaskStatus, 0, n)
	r := newExplanationBudget(s.tasks)
	for i := range s.tasks {
		if !s.isStored(i) {
			continue
		}
		t, l, pods := &s.job.tasks[i], &s.at[i], &s.pods.tasks[i]
		reason, message := r.spend(&s.tasks[i])
		out = append(out, v1alpha1.TaskStatus{
			Name: t.Name, State: s.tasks[i].state, Reason: reason, Message: message,
			Succeeded: l.succeeded.String(), Failed: l.failed.String(),
			Active: l.active.String(), Retrying: l.retrying.String(), Interrupted: l.interrupted.String(),
			Starting: int64(pods.starting), Running: int64(pods.running),
		})
	}
	return out
}

// isStored reports whether the status has the task at that position. A PENDING task is in it only if
// instances succeeded before a retry.
func (s *summary) isStored(pos int) bool {
	return s.tasks[pos].state != v1alpha1.TaskPending || !s.at[pos].succeeded.Empty()
}

func (s *summary) metrics() (tasks, instances v1alpha1.StateMetrics) {
	for i := range s.tasks {
		state, l, pods := s.tasks[i].state, &s.at[i], &s.pods.tasks[i]
		*counterOf(&tasks, state)++
		succeeded, failed, interrupted := l.succeeded.Len(), l.failed.Len(), l.interrupted.len()
		instances.SucceedCount += int64(succeeded)
		instances.FailedCount += int64(failed)
		instances.FailedInterruptedCount += int64(interrupted)
		instances.StartingCount += int64(pods.starting)
		instances.RunningCount += int64(pods.running)
		others := &instances.RunnableCount
		if state == v1alpha1.TaskPending {
			others = &instances.PendingCount
		}
		*others += int64(s.job.tasks[i].InstanceNum - succeeded - failed - interrupted - pods.starting - pods.running)
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

// setConditions sets the conditions of a job that validation accepted. A condition that stays is set again and not
// removed first: the time of its transition would be another in every pass.
func (s *summary) setConditions(next *v1alpha1.BatchJobStatus) {
	set := conditions.OfBatchJob(next, next.ObservedGeneration, s.now)
	set.True(v1alpha1.ConditionAccepted, v1alpha1.ReasonAccepted, "the request is valid")
	if s.mode.draining {
		set.True(v1alpha1.ConditionSuspended, v1alpha1.ReasonSuspended, s.suspension())
	} else {
		set.False(v1alpha1.ConditionSuspended, v1alpha1.ReasonResumed, "the suspension is over")
	}
	if complaint := s.terminations.complaint; complaint != "" {
		set.True(v1alpha1.ConditionInvalidAnnotation, v1alpha1.ReasonInvalidAnnotation, cut("annotation "+v1alpha1.AnnotationTerminate+": "+complaint))
	} else {
		set.Remove(v1alpha1.ConditionInvalidAnnotation)
	}
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
		set.True(v1alpha1.ConditionReconciling, v1alpha1.ReasonProgressing, "the job is in progress")
	}
}

// Changed reports whether the plan's status differs from the stored one in more than
// how it is written.
func (p *Plan) Changed(stored *v1alpha1.BatchJobStatus) bool {
	return !apiequality.Semantic.DeepEqual(*stored, p.Status)
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
