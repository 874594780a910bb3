// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// LargeJob is the MemorySize from which a job is large: the cache does not keep its spec. It is that of
// some 20 tasks. Those that are smaller spare the reconciler a read each. Unit: bytes.
const LargeJob = 16 << 10

// outlineSize is the annotation of an outline that says the MemorySize of the whole job. It is on copies
// in the cache only: who fills the cache takes the annotations of users off.
const outlineSize = v1alpha1.ReservedPrefix + "outline-size"

// maxHint bounds what an outline has of the annotation that terminates instances, if all that counts is
// whether there is one. Unit: bytes.
const maxHint = 64

// Outline returns what a cache has to keep of a job, less than 2 KiB beside what is said of each:
//
//   - of an inactive job, one that has ended or is a duplicate: who it is, how it ended, when it
//     is to be deleted, and its tokens;
//   - of a large job that is idle, of which no instance is active or interrupted: what decides whether there is
//     something to do for it, see IsDormant, and the ComputeEnvs that its tasks name;
//   - of another large job: the same, and its status. The spec never changes: who has read it once need
//     not read it again.
//
// Any other job is returned as it is, and so is an outline.
func Outline(job *v1alpha1.BatchJob) *v1alpha1.BatchJob { return OutlineFrom(job, LargeJob) }

// OutlineFrom is Outline where a job is large from another MemorySize on.
func OutlineFrom(job *v1alpha1.BatchJob, large int) *v1alpha1.BatchJob {
	if _, done := job.Annotations[outlineSize]; done {
		return job
	}
	size, inactive := MemorySize(job), isInactive(job)
	if !inactive && size < large {
		return job
	}
	spec, status := &job.Spec, &job.Status
	out := &v1alpha1.BatchJob{
		ObjectMeta: metav1.ObjectMeta{
			Name: job.Name, Namespace: job.Namespace, UID: job.UID, ResourceVersion: job.ResourceVersion, Generation: job.Generation,
			CreationTimestamp: job.CreationTimestamp, DeletionTimestamp: job.DeletionTimestamp, Finalizers: job.Finalizers,
		},
		Spec: v1alpha1.BatchJobSpec{
			ClientToken: spec.ClientToken, RetryToken: spec.RetryToken, Terminate: spec.Terminate,
			TTLSecondsAfterFinished: spec.TTLSecondsAfterFinished,
		},
		Status: v1alpha1.BatchJobStatus{
			JobID: status.JobID, State: status.State, Reason: status.Reason, EndTime: status.EndTime,
			RetryToken: status.RetryToken, ObservedGeneration: status.ObservedGeneration, PodKeys: status.PodKeys,
		},
	}
	out.Annotations = maps.Clone(job.Annotations)
	kinds := []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionDuplicate}
	if inactive {
		delete(out.Annotations, v1alpha1.AnnotationTerminate)
	} else {
		out.Spec.Suspend, out.Spec.Job.Priority = spec.Suspend, spec.Job.Priority
		for _, id := range resolve.EnvIDs(job) {
			out.Spec.Job.Tasks = append(out.Spec.Job.Tasks, v1alpha1.Task{EnvID: id})
		}
		out.Status.TaskInstanceMetrics = status.TaskInstanceMetrics
		kinds = append(kinds, v1alpha1.ConditionSuspended, v1alpha1.ConditionInvalidAnnotation)
	}
	for _, kind := range kinds {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
			out.Status.Conditions = append(out.Status.Conditions, metav1.Condition{Type: kind, Status: c.Status})
		}
	}
	if OwesEvents(status) { // who sends them reads the whole job
		out.Status.Notifications = &v1alpha1.NotificationStatus{Pending: status.Notifications.Pending}
	}
	//mutation:outline-without-claims
	if !inactive && !IsIdle(job) {
		out.Status = *status
	} else if text := out.Annotations[v1alpha1.AnnotationTerminate]; len(text) > maxHint {
		out.Annotations[v1alpha1.AnnotationTerminate] = strings.Clone(text[:maxHint])
	}
	if size >= large {
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, outlineSize, strconv.Itoa(size))
	}
	return out
}

// IsOutline reports whether job, as the cache has it, lacks what the API server has of it. Any job has
// tasks.
func IsOutline(job *v1alpha1.BatchJob) bool {
	_, large := job.Annotations[outlineSize]
	return large || len(job.Spec.Job.Tasks) == 0
}

// OutlineSize returns the MemorySize of the job of which outline is the outline; 0 if that is not large.
func OutlineSize(outline *v1alpha1.BatchJob) int {
	n, err := strconv.Atoi(outline.Annotations[outlineSize])
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// IsIdle reports whether no instance of the job is issued or held, as far as its status says.
func IsIdle(job *v1alpha1.BatchJob) bool { return !HasClaims(&job.Status) }

// HasClaims reports whether a status says that an instance is active or interrupted.
func HasClaims(s *v1alpha1.BatchJobStatus) bool {
	return slices.ContainsFunc(s.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Active != "" || t.Interrupted != "" })
}

// IsDormant reports whether a job, of which there may be but an outline and of which there are no Pods,
// says by itself that there is nothing to do for it before it changes: it is suspended, and its status
// shows that and the last change.
func IsDormant(job *v1alpha1.BatchJob) bool {
	is := func(kind string) bool { return meta.IsStatusConditionTrue(job.Status.Conditions, kind) }
	return job.Spec.Suspend && !job.Spec.Terminate && job.DeletionTimestamp == nil && !HasEnded(&job.Status) && IsIdle(job) &&
		job.Status.ObservedGeneration == job.Generation && is(v1alpha1.ConditionAccepted) && is(v1alpha1.ConditionSuspended) &&
		job.Annotations[v1alpha1.AnnotationTerminate] == "" && !is(v1alpha1.ConditionInvalidAnnotation)
}

// MayBegin reports whether instances of an idle job may be issued, as far as the job says.
func MayBegin(job *v1alpha1.BatchJob) bool {
	return !job.Spec.Suspend && !job.Spec.Terminate && job.DeletionTimestamp == nil
}

// isInactive reports whether nothing of the job runs, or is to run.
func isInactive(job *v1alpha1.BatchJob) bool {
	return IsFinished(job) && !RetryDue(job) && IsIdle(job) && !OwesEvents(&job.Status)
}
