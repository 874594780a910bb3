// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
)

// Reject returns the plan for a job that must not run: it is FAILED with code as its
// reason and message as its sentence, and the finalizers of Pods that it may have are removed.
func Reject(obs Observation, code, message string, now time.Time) Plan {
	if HasEnded(&obs.Job.Status) {
		return planEnded(&obs, now)
	}
	var a actions
	a.cleanUpAll(obs.Pods, now)
	p := a.plan(*obs.Job.Status.DeepCopy())
	if obs.Job.DeletionTimestamp != nil {
		return p
	}
	next := &p.Status
	next.ObservedGeneration = obs.Job.Generation
	next.State, next.Reason, next.Message = v1alpha1.JobFailed, code, cut(message)
	next.EndTime = new(seconds(now))
	set := conditions.OfBatchJob(next, next.ObservedGeneration, now)
	set.False(v1alpha1.ConditionAccepted, v1alpha1.ReasonInvalidRequest, next.Message)
	set.True(v1alpha1.ConditionFailed, v1alpha1.ReasonInvalidRequest, next.Message)
	set.True(v1alpha1.ConditionStalled, v1alpha1.ReasonInvalidRequest, next.Message)
	set.Remove(v1alpha1.ConditionReconciling)
	due := []backlog.Entry{{
		Key: backlog.Key{Name: event.JobFailed}, Numbers: ranges.Of(0), Time: seconds(now).Time,
		Details: backlog.Details{Reason: next.Reason, Message: next.Message},
	}}
	e := noteEvents(&obs, next, due, nil, now)
	e.warn(v1alpha1.ReasonInvalidRequest, next.Message)
	p.Write, p.Events = WriteImmediate, e
	return p
}

// Duplicate returns the plan for a job instead of which original runs, since both have the
// same client token: it stays SUBMITTED and shows the identifier of the other.
func Duplicate(obs Observation, original *v1alpha1.BatchJob, now time.Time) Plan {
	var a actions
	a.cleanUpAll(obs.Pods, now)
	p := a.plan(*obs.Job.Status.DeepCopy())
	next := &p.Status
	next.ObservedGeneration = obs.Job.Generation
	next.State, next.JobID = v1alpha1.JobSubmitted, naming.JobID(original.UID)
	next.Reason = v1alpha1.ReasonDuplicate
	next.Message = fmt.Sprintf("job %q (%s) has the same clientToken and runs instead of this one; to run both, create this one again with another clientToken", original.Name, next.JobID)
	conditions.OfBatchJob(next, next.ObservedGeneration, now).True(v1alpha1.ConditionDuplicate, next.Reason, next.Message)
	p.Write = WriteImmediate
	p.Events = []Event{{Reason: next.Reason, Message: next.Message}}
	return p
}
