// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// JobState is the state of a job. TaskState and TaskInstanceState share its
// vocabulary. Source: BatchCompute, JobView.JobState.
type JobState string

// TaskState is the state of a task. Source: BatchCompute, TaskView.TaskState.
type TaskState string

// TaskInstanceState is the state of one instance of a task.
// Source: BatchCompute, TaskInstanceView.TaskInstanceState.
type TaskInstanceState string

// The states of a job. In SUCCEED, FAILED and FAILED_INTERRUPTED nothing runs.
const (
	JobSubmitted         JobState = "SUBMITTED"          // stored, not yet reconciled
	JobPending           JobState = "PENDING"            // accepted, no task may start yet
	JobRunnable          JobState = "RUNNABLE"           // a task may start and waits for capacity
	JobStarting          JobState = "STARTING"           // a node prepares the first instance
	JobRunning           JobState = "RUNNING"            // a command runs, or some have ended
	JobSucceed           JobState = "SUCCEED"            // every task succeeded
	JobFailed            JobState = "FAILED"             // nothing runs and a task failed
	JobFailedInterrupted JobState = "FAILED_INTERRUPTED" // nothing runs and an instance is interrupted
)

// The states of a task.
const (
	TaskPending           TaskState = "PENDING"            // tasks before it do not allow it to start
	TaskRunnable          TaskState = "RUNNABLE"           // may start; waits for a slot or a node
	TaskStarting          TaskState = "STARTING"           // a node prepares the first instance
	TaskRunning           TaskState = "RUNNING"            // an instance runs, or some have ended
	TaskSucceed           TaskState = "SUCCEED"            // all instances succeeded
	TaskFailed            TaskState = "FAILED"             // no instance runs and one failed
	TaskFailedInterrupted TaskState = "FAILED_INTERRUPTED" // no instance runs and one is interrupted
)

// The states of a task instance.
const (
	TaskInstancePending           TaskInstanceState = "PENDING"            // the task may not start
	TaskInstanceRunnable          TaskInstanceState = "RUNNABLE"           // waits for a slot, quota or a node
	TaskInstanceStarting          TaskInstanceState = "STARTING"           // on a node: pulling, mounting
	TaskInstanceRunning           TaskInstanceState = "RUNNING"            // the command runs
	TaskInstanceSucceed           TaskInstanceState = "SUCCEED"            // the command ended with 0
	TaskInstanceFailed            TaskInstanceState = "FAILED"             // the last attempt failed
	TaskInstanceFailedInterrupted TaskInstanceState = "FAILED_INTERRUPTED" // failed, and its Pod is kept
)

// BatchJobStatus is the progress of a job. Its size does not grow with the number
// of instances: they are stored as index ranges such as "0-4,7".
//
// One controller writes it. It is atomic, so that managedFields need not list its fields.
// +structType=atomic
type BatchJobStatus struct {
	// observedGeneration is the generation of the spec that the status is computed from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// jobId is the job's identifier in BatchCompute's form: "job-" and 8 characters
	// of [0-9a-z]. It is computed from the object's UID, and every Pod has it as the
	// label batchcompute.dev/job-id. Source: BatchCompute, SubmitJob, JobId.
	// +optional
	JobID string `json:"jobId,omitempty"`

	// state is the state of the job: SUBMITTED, PENDING, RUNNABLE, STARTING,
	// RUNNING, SUCCEED, FAILED or FAILED_INTERRUPTED.
	// +optional
	State JobState `json:"state,omitempty"`

	// reason says in one word why the job is in its state, or what it waits for. The error code
	// if validation refused the job.
	// +optional
	Reason string `json:"reason,omitempty"`

	// message explains reason in a sentence of at most 288 bytes.
	// +optional
	Message string `json:"message,omitempty"`

	// startTime is when the first instance was issued, in the present run. Absent: none was.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// endTime is when the job ended. Absent: it has not. Source: BatchCompute, JobView.EndTime.
	// +optional
	EndTime *metav1.Time `json:"endTime,omitempty"`

	// run is how often the job was started again, by a retryToken or at the end of a
	// suspension, from 0. It is part of the names of Pods.
	// +optional
	Run int64 `json:"run,omitempty"`

	// retryToken is the last spec.retryToken that took effect.
	// +optional
	RetryToken string `json:"retryToken,omitempty"`

	// podKeys are the identifiers of the keys with which the operator proves, in the annotation
	// batchcompute.dev/proof, that it created the job's Pods: the last 4, oldest first. There is
	// more than one when the key was replaced. Absent: the job was started by a version without
	// keys, and its Pods need no proof.
	// +listType=atomic
	// +optional
	PodKeys []string `json:"podKeys,omitempty"`

	// taskProgress is "n/m": n tasks of m have succeeded.
	// +optional
	TaskProgress string `json:"taskProgress,omitempty"`

	// taskInstanceProgress is "n/m": n task instances of m have succeeded.
	// +optional
	TaskInstanceProgress string `json:"taskInstanceProgress,omitempty"`

	// taskMetrics counts the tasks by state.
	// Source: BatchCompute, DescribeJob, TaskMetrics.
	// +optional
	TaskMetrics StateMetrics `json:"taskMetrics,omitempty"`

	// taskInstanceMetrics counts the task instances by state.
	// Source: BatchCompute, DescribeJob, TaskInstanceMetrics.
	// +optional
	TaskInstanceMetrics StateMetrics `json:"taskInstanceMetrics,omitempty"`

	// tasks has one entry for each task that left PENDING, in the order of the spec.
	// +listType=atomic
	// +optional
	Tasks []TaskStatus `json:"tasks,omitempty"`

	// failures are the last failed attempts, oldest first, at most 10.
	// +listType=atomic
	// +optional
	Failures []TaskInstanceFailure `json:"failures,omitempty"`

	// waiting are the first instances, in the order of the spec, that may run and cannot
	// yet, each with the reason; at most 10.
	// +listType=atomic
	// +optional
	Waiting []TaskInstanceWait `json:"waiting,omitempty"`

	// notifications says which events of spec.job.notifications are to be sent, and how many were.
	// Absent: there are none.
	// +optional
	Notifications *NotificationStatus `json:"notifications,omitempty"`

	// conditions are Accepted, Duplicate, Suspended, InvalidAnnotation, Complete, Failed,
	// DeletionDelayed, Notified, and, for tools that read kstatus, Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StateMetrics counts tasks or task instances by state; an absent field is 0.
// Source: BatchCompute, TaskMetrics and TaskInstanceMetrics.
type StateMetrics struct {
	// submittedCount is how many are stored and not yet looked at.
	// +optional
	SubmittedCount int64 `json:"submittedCount,omitempty"`
	// pendingCount is how many may not start yet.
	// +optional
	PendingCount int64 `json:"pendingCount,omitempty"`
	// runnableCount is how many may start and wait for capacity.
	// +optional
	RunnableCount int64 `json:"runnableCount,omitempty"`
	// startingCount is how many a node prepares.
	// +optional
	StartingCount int64 `json:"startingCount,omitempty"`
	// runningCount is how many run.
	// +optional
	RunningCount int64 `json:"runningCount,omitempty"`
	// succeedCount is how many succeeded.
	// +optional
	SucceedCount int64 `json:"succeedCount,omitempty"`
	// failedInterruptedCount is how many failed and have Pods that are kept until they are
	// terminated.
	// +optional
	FailedInterruptedCount int64 `json:"failedInterruptedCount,omitempty"`
	// failedCount is how many failed for good.
	// +optional
	FailedCount int64 `json:"failedCount,omitempty"`
}

// TaskStatus is the progress of one task. It names instances by their index, from 0;
// every index is in at most one of the lists. An index in none of them has not been
// issued yet.
type TaskStatus struct {
	// name is the task's name.
	Name string `json:"name"`

	// state is the state of the task: PENDING, RUNNABLE, STARTING, RUNNING, SUCCEED, FAILED
	// or FAILED_INTERRUPTED.
	State TaskState `json:"state"`

	// succeeded are the indexes whose command ended with 0, as ranges: "0-4,7".
	// +optional
	Succeeded string `json:"succeeded,omitempty"`

	// failed are the indexes that failed and are not retried, as ranges.
	// +optional
	Failed string `json:"failed,omitempty"`

	// active are the indexes that were issued: each has a Pod, or will get one. An index
	// is written here before its Pod is created. The indexes are grouped by their failed
	// attempts: in "0-4,7;r1:8;m2:9;r1m2:10" the command of 8 failed once, the machine of
	// 9 was twice not acquired or lost, and 10 had both.
	// +optional
	Active string `json:"active,omitempty"`

	// retrying are the indexes that failed and wait for their next attempt, in groups like
	// those of active.
	// +optional
	Retrying string `json:"retrying,omitempty"`

	// interrupted are the indexes that are FAILED_INTERRUPTED: they failed, and their
	// Pods are kept until they are terminated. In groups like those of active; x1
	// means that the Pod belongs to the job's run 1.
	// +optional
	Interrupted string `json:"interrupted,omitempty"`

	// starting is how many of the active instances a node is preparing.
	// +optional
	Starting int64 `json:"starting,omitempty"`

	// running is how many of the active instances run their command.
	// +optional
	Running int64 `json:"running,omitempty"`

	// reason says in one word what the task waits for or why it failed. At most 200 tasks have
	// one.
	// +optional
	Reason string `json:"reason,omitempty"`

	// message explains reason in a sentence of at most 288 bytes. Only the first 20 tasks have
	// one, those that failed or wait themselves first.
	// +optional
	Message string `json:"message,omitempty"`
}

// TaskInstanceWait is one instance that may run and cannot yet, and why.
type TaskInstanceWait struct {
	// taskName is the task's name.
	TaskName string `json:"taskName"`

	// taskInstanceIndex is the instance, from 0.
	TaskInstanceIndex int64 `json:"taskInstanceIndex"`

	// reason says in one word what the instance waits for.
	Reason string `json:"reason"`

	// message explains reason in a sentence of at most 288 bytes.
	// +optional
	Message string `json:"message,omitempty"`

	// podName is the Pod that waits. Absent: the Pod is not created yet.
	// +optional
	PodName string `json:"podName,omitempty"`
}

// TaskInstanceFailure is one failed attempt of one instance.
type TaskInstanceFailure struct {
	// taskName is the task's name.
	TaskName string `json:"taskName"`

	// taskInstanceIndex is the instance, from 0.
	TaskInstanceIndex int64 `json:"taskInstanceIndex"`

	// attempt is the number of the attempt, from 0.
	// +optional
	Attempt int64 `json:"attempt,omitempty"`

	// time is when the attempt ended.
	Time metav1.Time `json:"time"`

	// exitCode is the command's exit code. Absent: the command did not end by itself.
	// Source: BatchCompute, TaskInstanceView.ExitCode.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`

	// reason says in one word what went wrong.
	Reason string `json:"reason"`

	// message explains reason in a sentence of at most 288 bytes.
	// +optional
	Message string `json:"message,omitempty"`

	// podName is the Pod of the attempt.
	// +optional
	PodName string `json:"podName,omitempty"`

	// nodeName is the node that the Pod ran on. Absent: it had none.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
}
