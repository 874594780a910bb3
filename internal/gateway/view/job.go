// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// stateSubmitted is the state of tasks and instances of a job that is in it.
const stateSubmitted = string(v1alpha1.JobSubmitted)

// NextActionTerminating is the NextAction of a job that is being terminated.
// Source: BatchCompute, DescribeJob, NextAction.
const NextActionTerminating = "TERMINATING"

// Metrics counts tasks or instances by state. Source: BatchCompute, TaskMetrics and TaskInstanceMetrics.
type Metrics struct {
	SubmittedCount, PendingCount, RunnableCount, StartingCount, RunningCount, SucceedCount, FailedInterruptedCount, FailedCount int64
}

// Tag is a key-value pair.
type Tag struct{ Key, Value string }

// Placement says where something runs.
type Placement struct {
	Zone      string
	ProjectID int64    `json:"ProjectId"`
	HostIDs   []string `json:"HostIds,omitempty"`
	HostIPs   []string `json:"HostIps,omitempty"`
}

// JobView is a job in a list. Source: BatchCompute, JobView.
type JobView struct {
	JobID       string `json:"JobId"`
	JobName     string
	JobState    string
	Priority    int64
	Placement   *Placement
	CreateTime  string
	EndTime     *string
	TaskMetrics Metrics
	Tags        []Tag
}

// Job is the answer of DescribeJob.
type Job struct {
	JobID               string `json:"JobId"`
	JobName             string
	Zone                string
	Priority            int64
	JobState            string
	CreateTime          string
	EndTime             *string
	TaskSet             []TaskView
	DependenceSet       []Dependence
	TaskMetrics         Metrics
	TaskInstanceMetrics Metrics
	StateReason         string
	Tags                []Tag
	NextAction          *string
}

// TaskView is a task of a job. EndTime is null unless it is known: a job of one task ends with it.
type TaskView struct {
	TaskName   string
	TaskState  string
	CreateTime string
	EndTime    *string
}

// Dependence is an edge between two tasks.
type Dependence struct{ StartTask, EndTask string }

// JobState returns the state of a job. One whose retry the operator has not seen yet is RUNNABLE, so that a caller of
// RetryJobs does not take the end of the run before for that of the new one.
func JobState(job *v1alpha1.BatchJob) string {
	if plan.RetryDue(job) {
		return string(v1alpha1.JobRunnable)
	}
	return cmp.Or(string(job.Status.State), stateSubmitted)
}

// endTime returns when a job ended, likewise.
func endTime(job *v1alpha1.BatchJob) *string {
	if plan.RetryDue(job) {
		return nil
	}
	return stampOrNull(job.Status.EndTime)
}

// OfJob returns a job as DescribeJobs lists it. Cost: O(tasks) for a job that is SUBMITTED, else O(1).
func OfJob(job *v1alpha1.BatchJob) JobView {
	tasks, _ := metricsOf(job)
	return JobView{
		JobID: naming.JobID(job.UID), JobName: job.Spec.Job.JobName, JobState: JobState(job),
		Priority: int64(resolve.Priority(job)), Placement: placementOf(&job.Spec.Placement),
		CreateTime: stamp(job.CreationTimestamp), EndTime: endTime(job),
		TaskMetrics: tasks, Tags: tagsOf(job.Spec.Job.Tags),
	}
}

// JobDetails returns the answer of DescribeJob. Cost: O(tasks + dependences).
func JobDetails(job *v1alpha1.BatchJob) Job {
	tasks, instances := metricsOf(job)
	out := Job{
		JobID: naming.JobID(job.UID), JobName: job.Spec.Job.JobName, Zone: job.Spec.Placement.Zone,
		Priority: int64(resolve.Priority(job)), JobState: JobState(job),
		CreateTime: stamp(job.CreationTimestamp), EndTime: endTime(job),
		TaskSet: make([]TaskView, 0, len(job.Spec.Job.Tasks)), DependenceSet: make([]Dependence, 0, len(job.Spec.Job.Dependences)),
		TaskMetrics: tasks, TaskInstanceMetrics: instances, StateReason: stateReason(job), Tags: tagsOf(job.Spec.Job.Tags),
	}
	if isTerminating(job) {
		out.NextAction = new(NextActionTerminating)
	}
	for _, t := range Tasks(job) {
		out.TaskSet = append(out.TaskSet, t.View())
	}
	for _, d := range job.Spec.Job.Dependences {
		out.DependenceSet = append(out.DependenceSet, Dependence(d))
	}
	return out
}

// isTerminating reports whether a job ends before its time.
func isTerminating(job *v1alpha1.BatchJob) bool {
	return job.DeletionTimestamp != nil || job.Spec.Terminate && !plan.HasEnded(&job.Status)
}

// stateReason says why a job is in its state: "Reason: sentence".
func stateReason(job *v1alpha1.BatchJob) string {
	s := &job.Status
	switch {
	case job.Annotations[v1alpha1.AnnotationAwaitsCredentials] != "" && job.Spec.Suspend:
		return "the Secrets of its passwords and keys are not created yet; repeat SubmitJob with the same ClientToken"
	case s.Reason == "":
		return s.Message
	case s.Message == "":
		return s.Reason
	}
	return s.Reason + ": " + s.Message
}

// metricsOf counts the tasks and instances of a job by state. A job whose status has no counts yet, or never
// gets any, is counted by its own state.
func metricsOf(job *v1alpha1.BatchJob) (tasks, instances Metrics) {
	s := &job.Status
	if s.TaskMetrics != (v1alpha1.StateMetrics{}) {
		return Metrics(s.TaskMetrics), Metrics(s.TaskInstanceMetrics)
	}
	for i := range job.Spec.Job.Tasks {
		state := defaultTaskState(job)
		*counterOf(&tasks, state)++
		*counterOf(&instances, state) += int64(instanceNum(&job.Spec.Job.Tasks[i]))
	}
	return tasks, instances
}

// defaultTaskState is the state of a task that the status does not have.
func defaultTaskState(job *v1alpha1.BatchJob) string {
	switch state := JobState(job); {
	case state == stateSubmitted, plan.HasEnded(&job.Status) && !plan.RetryDue(job):
		return state
	default:
		return string(v1alpha1.TaskPending)
	}
}

// counterOf returns the counter of a state.
func counterOf(m *Metrics, state string) *int64 {
	switch state {
	case stateSubmitted:
		return &m.SubmittedCount
	case string(v1alpha1.TaskPending):
		return &m.PendingCount
	case string(v1alpha1.TaskRunnable):
		return &m.RunnableCount
	case string(v1alpha1.TaskStarting):
		return &m.StartingCount
	case string(v1alpha1.TaskRunning):
		return &m.RunningCount
	case string(v1alpha1.TaskSucceed):
		return &m.SucceedCount
	case string(v1alpha1.TaskFailedInterrupted):
		return &m.FailedInterruptedCount
	}
	return &m.FailedCount
}

func placementOf(p *v1alpha1.Placement) *Placement {
	out := &Placement{Zone: p.Zone, HostIDs: p.HostIDs, HostIPs: p.HostIPs}
	if p.ProjectID != nil {
		out.ProjectID = *p.ProjectID
	}
	return out
}

func tagsOf(tags []v1alpha1.Tag) []Tag {
	out := make([]Tag, len(tags))
	for i, t := range tags {
		out[i] = Tag(t)
	}
	return out
}

// instanceNum is how many instances a task has.
func instanceNum(t *v1alpha1.Task) int {
	if t.TaskInstanceNum == nil {
		return 1
	}
	return int(*t.TaskInstanceNum)
}
