// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BatchJob is one request of BatchCompute's SubmitJob action and its progress.
//
// A job is a graph of tasks; a task runs one command in a number of instances;
// every instance runs as a Pod. After creation only suspend, terminate, retryToken and
// ttlSecondsAfterFinished of the spec can be changed.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=bj,categories=all
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Tasks",type=string,JSONPath=`.status.taskProgress`,description="succeeded tasks / all tasks"
// +kubebuilder:printcolumn:name="Instances",type=string,JSONPath=`.status.taskInstanceProgress`,description="succeeded task instances / all task instances"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="JobId",type=string,JSONPath=`.status.jobId`,priority=1
// +kubebuilder:printcolumn:name="Zone",type=string,JSONPath=`.spec.placement.zone`,priority=1
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.job.priority`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
type BatchJob struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request, as SubmitJob takes it, and the switches that steer the job.
	// +optional
	Spec BatchJobSpec `json:"spec,omitempty"`

	// status is the progress of the job. Only the operator writes it.
	// +optional
	Status BatchJobStatus `json:"status,omitempty"`
}

// BatchJobList is a list of BatchJobs.
//
// +kubebuilder:object:root=true
type BatchJobList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BatchJob `json:"items"`
}

// BatchJobSpec is the body of a SubmitJob request, which is immutable, and the switches
// that steer the job afterwards: suspend, terminate, retryToken, ttlSecondsAfterFinished.
// Source: BatchCompute, SubmitJob, input parameters.
type BatchJobSpec struct {
	// placement says where the instances of the job run. Required.
	// Source: BatchCompute, SubmitJob.Placement.
	// +optional
	Placement Placement `json:"placement,omitempty"`

	// job is the work: tasks and the dependences between them. Required.
	// Source: BatchCompute, SubmitJob.Job.
	// +optional
	Job Job `json:"job,omitempty"`

	// clientToken makes the request idempotent. The client chooses it: at most 64 ASCII
	// characters, not only spaces, a new one for each different request.
	// Absent: the request is not idempotent. Source: BatchCompute, SubmitJob.ClientToken.
	// +optional
	ClientToken string `json:"clientToken,omitempty"`

	// suspend stops the job while it is true: the operator stops the running instances,
	// which does not count as a failure, and starts no others. When all have stopped and
	// suspend is false again, the job resumes; instances that succeeded do not run again.
	// Mutable. Default: false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// terminate ends the job permanently: the operator stops the running instances, and
	// every instance that has not succeeded becomes FAILED. It can be set to true at any
	// time, and never back to false. No effect on a job that has ended. Default: false.
	// Source: BatchCompute, TerminateJob.
	// +optional
	Terminate bool `json:"terminate,omitempty"`

	// retryToken retries a FAILED job each time it gets a new value: the failed instances
	// run again, in the order of the dependences and with new retry budgets. Instances that
	// succeeded do not run again. At most 64 ASCII characters. It can be changed
	// only while the job is FAILED; a value given on creation has no effect.
	// Source: BatchCompute, RetryJobs.
	// +optional
	RetryToken string `json:"retryToken,omitempty"`

	// ttlSecondsAfterFinished is how long after its end the job is deleted; 0 means
	// immediately. If the same request is then created again under the same name, it shows
	// the old result and does not run. 0 or more. Mutable. Unit: seconds. Absent: the job is
	// kept.
	// +optional
	TTLSecondsAfterFinished *int64 `json:"ttlSecondsAfterFinished,omitempty"`
}

// Placement says where the instances of a job run.
// Source: BatchCompute, Placement.
type Placement struct {
	// zone is the availability zone, such as ap-guangzhou-2. Required. Pods run
	// only on nodes whose label topology.kubernetes.io/zone has this value.
	// Source: BatchCompute, Placement.Zone.
	// +optional
	Zone string `json:"zone,omitempty"`

	// projectId is the project that pays: 0 or more. The Pods have it as the label
	// batchcompute.dev/project-id. Default: 0, the default project.
	// Source: BatchCompute, Placement.ProjectId.
	// +optional
	ProjectID *int64 `json:"projectId,omitempty"`

	// hostIds are the hosts that may be used: nodes, by their label
	// kubernetes.io/hostname. At most 100. Absent: any host.
	// Source: BatchCompute, Placement.HostIds.
	// +listType=atomic
	// +optional
	HostIDs []string `json:"hostIds,omitempty"`

	// hostIps are the hosts that may be used: nodes, by their addresses. While no node
	// has any of them, the instances wait. At most 100. Absent: any host. If hostIds are given
	// as well, the hosts of both may be used.
	// Source: BatchCompute, Placement.HostIps.
	// +listType=atomic
	// +optional
	HostIPs []string `json:"hostIps,omitempty"`

	// hostId is a host that the API names in its answers. No effect: hostIds choose
	// hosts. Source: BatchCompute, Placement.HostId.
	// +optional
	HostID string `json:"hostId,omitempty"`

	// rackId is a rack that the API names in its answers. No effect.
	// Source: BatchCompute, Placement.RackId.
	// +optional
	RackID string `json:"rackId,omitempty"`

	// dedicatedResourcePackTenancy says how reserved resources are used: ResourcePool.
	// Required with dedicatedResourcePackIds. No effect on Kubernetes.
	// Source: BatchCompute, Placement.DedicatedResourcePackTenancy.
	// +optional
	DedicatedResourcePackTenancy string `json:"dedicatedResourcePackTenancy,omitempty"`

	// dedicatedResourcePackIds are packs of reserved resources, such as rpp-7eumgm3l.
	// No effect on Kubernetes. Source: BatchCompute, Placement.DedicatedResourcePackIds.
	// +listType=atomic
	// +optional
	DedicatedResourcePackIDs []string `json:"dedicatedResourcePackIds,omitempty"`
}

// Job is a set of tasks and the order between them.
// Source: BatchCompute, Job.
type Job struct {
	// jobName is a name for people; it need not be unique. At most 60
	// characters, none of them a line end or another control character.
	// Source: BatchCompute, Job.JobName.
	// +optional
	JobName string `json:"jobName,omitempty"`

	// jobDescription is a remark for people. At most 200 characters.
	// Source: BatchCompute, Job.JobDescription.
	// +optional
	JobDescription string `json:"jobDescription,omitempty"`

	// priority orders the waiting work of a namespace: 0-100, a larger number goes first.
	// Default: 1. Source: BatchCompute, Job.Priority.
	// +kubebuilder:default=1
	// +optional
	Priority *int64 `json:"priority,omitempty"`

	// tasks are the parts of the job: at least 1, at most 5000. Required.
	// Source: BatchCompute, Job.Tasks.
	// +listType=atomic
	// +optional
	Tasks []Task `json:"tasks,omitempty"`

	// dependences are the edges between tasks. They must not form a cycle.
	// Absent: all tasks may start at once. Source: BatchCompute, Job.Dependences.
	// +listType=atomic
	// +optional
	Dependences []Dependence `json:"dependences,omitempty"`

	// taskExecutionDependOn says when a task may start, for all dependences of
	// the job: PRE_TASK_SUCCEED, each task before it has succeeded;
	// PRE_TASK_AT_LEAST_PARTLY_SUCCEED, each has finished and at least one of its
	// instances succeeded; PRE_TASK_FINISHED, each has finished, whatever the
	// outcome. Default: PRE_TASK_SUCCEED.
	// Source: BatchCompute, Job.TaskExecutionDependOn.
	// +kubebuilder:default=PRE_TASK_SUCCEED
	// +optional
	TaskExecutionDependOn TaskExecutionDependOn `json:"taskExecutionDependOn,omitempty"`

	// stateIfCreateCvmFailed says what happens to an instance whose machine cannot be
	// acquired: FAILED, its attempt fails after the acquisition timeout; RUNNABLE, it
	// keeps waiting. No effect for tasks with envId. Default: FAILED.
	// Source: BatchCompute, Job.StateIfCreateCvmFailed.
	// +kubebuilder:default=FAILED
	// +optional
	StateIfCreateCvmFailed StateIfCreateCvmFailed `json:"stateIfCreateCvmFailed,omitempty"`

	// notifications say which changes of state are announced, and to which topics. The operator's catalogue says which
	// receiver a topic has. For a topic that it does not have, the annotation batchcompute.dev/notification-sink may
	// name one. Source: BatchCompute, Job.Notifications.
	// +listType=atomic
	// +optional
	Notifications []Notification `json:"notifications,omitempty"`

	// tags are key-value pairs that the Pods of the job carry: as labels
	// tag.batchcompute.dev/key where key and value are valid, else in the annotation
	// batchcompute.dev/tags. At most 10. Source: BatchCompute, Job.Tags.
	// +listType=atomic
	// +optional
	Tags []Tag `json:"tags,omitempty"`

	// notificationTarget is the message service of the topics in notifications: CMQ or
	// TDMQ_CMQ. Default: CMQ. No effect: the operator's catalogue decides which service a topic is of.
	// Source: BatchCompute, Job.NotificationTarget.
	// +optional
	NotificationTarget string `json:"notificationTarget,omitempty"`
}

// TaskExecutionDependOn says when a task may start. See Job.
type TaskExecutionDependOn string

// The values of TaskExecutionDependOn.
const (
	PreTaskSucceed              TaskExecutionDependOn = "PRE_TASK_SUCCEED"
	PreTaskAtLeastPartlySucceed TaskExecutionDependOn = "PRE_TASK_AT_LEAST_PARTLY_SUCCEED"
	PreTaskFinished             TaskExecutionDependOn = "PRE_TASK_FINISHED"
)

// StateIfCreateCvmFailed says what happens when a machine cannot be acquired. See Job.
type StateIfCreateCvmFailed string

// The values of StateIfCreateCvmFailed.
const (
	CreateCvmFailedFailed   StateIfCreateCvmFailed = "FAILED"
	CreateCvmFailedRunnable StateIfCreateCvmFailed = "RUNNABLE"
)

// Dependence is one edge: endTask may start only after startTask.
// Source: BatchCompute, Dependence.
type Dependence struct {
	// startTask is the name of the task that runs first. Required.
	// Source: BatchCompute, Dependence.StartTask.
	// +optional
	StartTask string `json:"startTask,omitempty"`

	// endTask is the name of the task that waits. Required.
	// Source: BatchCompute, Dependence.EndTask.
	// +optional
	EndTask string `json:"endTask,omitempty"`
}

// Tag is a key-value pair. Source: BatchCompute, Tag.
type Tag struct {
	// key is 1-127 characters, unique in the list; it must not begin with qcs: or project.
	// Required.
	// Source: BatchCompute, Tag.Key.
	// +optional
	Key string `json:"key,omitempty"`

	// value is at most 255 characters. Source: BatchCompute, Tag.Value.
	// +optional
	Value string `json:"value,omitempty"`
}
