// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a BatchJob. Polarity says what True means: positive is the normal state, negative
// calls for attention or patience, neutral is neither. Package internal/conditions has the same as a
// table, together with the reasons.
const (
	// ConditionAccepted is True when the spec passed validation, and False for an object that got
	// past the admission webhook with an invalid spec; then the job is FAILED.
	// Polarity: positive. Absence: the operator has not looked at the job yet, or the job is a Duplicate.
	ConditionAccepted = "Accepted"
	// ConditionDuplicate is True when another job of the namespace with the same client token was
	// accepted before; then this job never runs.
	// Polarity: negative. Absence: False.
	ConditionDuplicate = "Duplicate"
	// ConditionSuspended is True from when a suspension takes effect until spec.suspend is false and
	// every instance has stopped; then it is False. It is stored before the first Pod is stopped.
	// Polarity: neutral. Absence: False, the job was never suspended.
	ConditionSuspended = "Suspended"
	// ConditionInvalidAnnotation is True while the annotation that names the instances to terminate
	// cannot be read, or names tasks or instances that do not exist.
	// Polarity: negative. Absence: False.
	ConditionInvalidAnnotation = "InvalidAnnotation"
	// ConditionDeletionDelayed is True while the deletion after ttlSecondsAfterFinished is delayed,
	// because the operator cannot store the result of the job in its ConfigMap. The delay ends five
	// minutes after the time of the transition.
	// Polarity: negative. Absence: False.
	ConditionDeletionDelayed = "DeletionDelayed"
	// ConditionReconciling is True from acceptance until the job ends or stalls, as kstatus expects.
	// Polarity: negative. Absence: False.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when the job ended without success, and when it does not continue
	// before somebody acts: terminates the instances that are interrupted, or repairs the stored
	// status; as kstatus expects.
	// Polarity: negative. Absence: False.
	ConditionStalled = "Stalled"
	// ConditionComplete is True when every task succeeded.
	// Polarity: positive. Absence: False, the job has not ended or it failed.
	ConditionComplete = "Complete"
	// ConditionFailed is True when the job ended FAILED, until it is retried.
	// Polarity: negative. Absence: False, the job has not ended or it succeeded.
	ConditionFailed = "Failed"
)

// Condition types of a ComputeEnv, beside ConditionReconciling, which is True while instances or jobs
// must end before the ComputeEnv is as its spec says.
const (
	// ConditionReady is True when the nodes of the ComputeEnv can be used. Its reason is
	// ReasonReady, or what prevents it.
	// Polarity: positive. Absence: the operator has not looked at the ComputeEnv yet.
	ConditionReady = "Ready"
)

// Reasons of a ComputeEnv.
const (
	// ReasonReady: instances may run.
	ReasonReady = "Ready"
	// ReasonScaling: the environment was made smaller, and more instances are under way
	// than it has nodes.
	ReasonScaling = "ScalingDown"
	// ReasonResourceInUse: the environment is to be deleted, and jobs still use it.
	ReasonResourceInUse = "ResourceInUse"
	// ReasonScaled: desiredComputeNodeCount was changed. News, as an event.
	ReasonScaled = "Scaled"
)

// Reasons. They are the words of status.reason, of the reasons of tasks, failures and
// conditions, and of events: a closed set. A job that validation refused has the error
// code as status.reason instead.
const (
	// ReasonAccepted: the spec passed validation.
	ReasonAccepted = "Accepted"
	// ReasonInvalidRequest: the spec did not pass validation.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonDuplicate: another job with the same client token runs in its place.
	ReasonDuplicate = "Duplicate"
	// ReasonProgressing: the job is under way.
	ReasonProgressing = "Progressing"
	// ReasonJobSucceed: every task succeeded.
	ReasonJobSucceed = "JobSucceed"
	// ReasonJobFailed: a task failed, and nothing runs any more.
	ReasonJobFailed = "JobFailed"
	// ReasonInterrupted: an instance failed and is held, and nothing runs any more.
	ReasonInterrupted = "Interrupted"
	// ReasonTerminated: somebody terminated the job, or the instance.
	ReasonTerminated = "Terminated"
	// ReasonSuspended: the job is suspended, or is being.
	ReasonSuspended = "Suspended"
	// ReasonResumed: the suspension is over.
	ReasonResumed = "Resumed"
	// ReasonRetried: the failed instances of a FAILED job are run again.
	ReasonRetried = "Retried"
	// ReasonAlreadyRan: the same request ran under the same name before, ended, and was
	// deleted after its ttlSecondsAfterFinished.
	ReasonAlreadyRan = "AlreadyRan"
	// ReasonStatusUnreadable: the stored status cannot be read; nothing is done before it is mended.
	ReasonStatusUnreadable = "StatusUnreadable"
	// ReasonTombstoneRefused: the ConfigMap that says which requests have run cannot be written.
	ReasonTombstoneRefused = "TombstoneRefused"
	// ReasonInvalidAnnotation: an annotation cannot be read.
	ReasonInvalidAnnotation = "InvalidAnnotation"
	// ReasonJobRunning, ReasonTaskRunning and ReasonTaskSucceed: news, as events.
	ReasonJobRunning  = "JobRunning"
	ReasonTaskRunning = "TaskRunning"
	ReasonTaskSucceed = "TaskSucceed"
	// ReasonTaskInstanceRetry: attempts failed and are to be run again.
	ReasonTaskInstanceRetry = "TaskInstanceRetry"
	// ReasonTaskFailed: an instance of the task failed for good.
	ReasonTaskFailed = "TaskInstanceFailed"
	// ReasonPredecessorFailed: a task before this one ended so that it cannot start.
	ReasonPredecessorFailed = "PredecessorFailed"
)

// Reasons of events of the ConfigMap that holds the catalogue.
const (
	// ReasonCatalogLoaded: its new content is in use.
	ReasonCatalogLoaded = "CatalogLoaded"
	// ReasonCatalogInvalid: its new content is in error; the last good one stays in use.
	ReasonCatalogInvalid = "CatalogInvalid"
)

// Reasons why an instance waits.
const (
	// ReasonUnschedulable: the scheduler finds no node for the Pod.
	ReasonUnschedulable = "Unschedulable"
	// ReasonSchedulingGated: the Pod has scheduling gates, as Kueue gives it, and the
	// scheduler leaves it alone until they are taken away.
	ReasonSchedulingGated = "SchedulingGated"
	// ReasonNoScheduler: no scheduler has looked at the Pod: none may have the name that
	// schedulerName gives.
	ReasonNoScheduler = "NoScheduler"
	// ReasonPodNameTaken: the name of the instance's Pod is taken by a Pod that is not, or no
	// longer, the job's.
	ReasonPodNameTaken = "PodNameTaken"
	// ReasonImagePull: the image cannot be pulled.
	ReasonImagePull = "ImagePullFailed"
	// ReasonContainerConfig: the container cannot be made, as when a Secret is missing.
	ReasonContainerConfig = "ContainerConfigError"
	// ReasonContainerCreating: a node takes long to prepare the container.
	ReasonContainerCreating = "ContainerCreating"
	// ReasonInitContainerRunning: an init container that the cluster added runs for long.
	ReasonInitContainerRunning = "InitContainerRunning"
	// ReasonInitContainerFailed: an init container that the cluster added failed, so that the
	// command was not started.
	ReasonInitContainerFailed = "InitContainerFailed"
	// ReasonSidecarsStopped: the command has ended, and containers that the cluster added still
	// run: they are being stopped.
	ReasonSidecarsStopped = "SidecarsStopped"
	// ReasonCreateRefused: the cluster refused to make the Pod: a policy, a limit, an
	// account that is missing. Source: BatchCompute, InternalError.CallCvm.
	ReasonCreateRefused = "PodCreationRefused"
	// ReasonQuota: the namespace's quota has no room, or the API server asks to wait.
	ReasonQuota = "QuotaExceeded"
	// ReasonComputeEnvFull: all nodes of the ComputeEnv are in use, or others are first.
	ReasonComputeEnvFull = "ComputeEnvFull"
	// ReasonComputeEnvNotFound: there is no ComputeEnv of that name or identifier.
	ReasonComputeEnvNotFound = "ComputeEnvNotFound"
	// ReasonOperatorMemory: the job is a large one, and the operator has no memory for it as long as
	// others have started.
	ReasonOperatorMemory = "OperatorMemory"
	// ReasonZoneNotFound: no node is in any of the zones that may be used.
	ReasonZoneNotFound = "ZoneNotFound"
	// ReasonHostNotFound: no node has any of the hosts or addresses that may be used.
	ReasonHostNotFound = "HostNotFound"
	// ReasonMachineUnknown: the operator's catalogue has the machine no more.
	ReasonMachineUnknown = "MachineUnknown"
	// ReasonMachineRefused: the node that the Pod was sent to did not take it.
	ReasonMachineRefused = "MachineRefused"
	// ReasonNodeLost: the Pod should have ended, and its node does not confirm it: what
	// it ran may still run. It is a reason to wait, and one to have failed.
	ReasonNodeLost = "NodeLost"
)

// Reasons why an attempt failed. What an instance waits for is one as well, once it was
// waited for too long.
const (
	// ReasonCommandFailed: the command ended with another code than 0.
	ReasonCommandFailed = "CommandFailed"
	// ReasonStartError: the container could not start its command.
	ReasonStartError = "StartError"
	// ReasonOOMKilled: the command used more memory than it may.
	ReasonOOMKilled = "OOMKilled"
	// ReasonStorageExceeded: the command wrote more to its disks than they hold.
	ReasonStorageExceeded = "StorageExceeded"
	// ReasonTimeout: the command took longer than the task's timeout.
	ReasonTimeout = "Timeout"
	// ReasonEvicted: the node put the Pod out, for lack of resources or to shut down, or
	// somebody drained the node.
	ReasonEvicted = "Evicted"
	// ReasonPreempted: the scheduler, or the queue that had admitted the Pod, gave its resources to
	// others. In the second case the instance waits in the queue again, and nothing is spent.
	ReasonPreempted = "Preempted"
	// ReasonPodDeleted: somebody deleted the Pod.
	ReasonPodDeleted = "PodDeleted"
	// ReasonPodFailed: the Pod failed and gives no better reason.
	ReasonPodFailed = "PodFailed"
)
