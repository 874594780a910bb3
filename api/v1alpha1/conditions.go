// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a BatchJob. Polarity says what True means: positive is the normal state, negative
// means that somebody must act or wait, neutral is neither. Package internal/conditions has the same as a
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
	// ConditionNotified is True once the job has ended and the receivers of its notifications have
	// acknowledged all events. That of a ComputeEnv is True while they have acknowledged all so far. It is False while sending to a receiver fails, and if events were given up.
	// Polarity: positive. Absence: there are no notifications, or events are still to come or to be sent.
	ConditionNotified = "Notified"
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

// Condition types of a ComputeEnv, beside ConditionNotified and ConditionReconciling, which is True while instances or jobs
// must end before the ComputeEnv is as its spec says.
const (
	// ConditionReady is True when the nodes of the ComputeEnv can be used. Its reason is
	// ReasonReady, ReasonScaling while more are in use than its spec allows, or what prevents the use.
	// Polarity: positive. Absence: the operator has not looked at the ComputeEnv yet.
	ConditionReady = "Ready"
)

// Reasons of a ComputeEnv.
const (
	// ReasonReady: instances can run.
	ReasonReady = "Ready"
	// ReasonScaling: desiredComputeNodeCount was reduced below the number of active instances.
	ReasonScaling = "ScalingDown"
	// ReasonResourceInUse: the deletion of the environment waits for jobs that use it.
	ReasonResourceInUse = "ResourceInUse"
	// ReasonEventsPending: the deletion waits until the receivers of its notifications have acknowledged
	// the events, for a bounded time.
	ReasonEventsPending = "EventsPending"
	// ReasonScaled: desiredComputeNodeCount was changed. Events only.
	ReasonScaled = "Scaled"
)

// Reasons: a closed set, used in status.reason, in the reasons of tasks, failures and
// conditions, and in events. A job that validation refused has the error code as
// status.reason instead.
const (
	// ReasonAccepted: the spec passed validation.
	ReasonAccepted = "Accepted"
	// ReasonDelivered: the receivers of the notifications have acknowledged all events.
	ReasonDelivered = "Delivered"
	// ReasonDeliveryFailing: a receiver of the notifications does not acknowledge events. They are
	// sent again.
	ReasonDeliveryFailing = "DeliveryFailing"
	// ReasonEventsGivenUp: events of the notifications will not be sent again, though their receiver
	// has not acknowledged them.
	ReasonEventsGivenUp = "EventsGivenUp"
	// ReasonInvalidRequest: the spec did not pass validation.
	ReasonInvalidRequest = "InvalidRequest"
	// ReasonDuplicate: another job with the same client token runs instead.
	ReasonDuplicate = "Duplicate"
	// ReasonProgressing: the job has started and has not ended.
	ReasonProgressing = "Progressing"
	// ReasonJobSucceed: every task succeeded.
	ReasonJobSucceed = "JobSucceed"
	// ReasonJobFailed: a task failed, and nothing runs.
	ReasonJobFailed = "JobFailed"
	// ReasonInterrupted: an instance is FAILED_INTERRUPTED, and nothing runs.
	ReasonInterrupted = "Interrupted"
	// ReasonTerminated: somebody terminated the job, or the instance.
	ReasonTerminated = "Terminated"
	// ReasonSuspended: the job is suspended, or its instances are being stopped for that.
	ReasonSuspended = "Suspended"
	// ReasonResumed: the suspension ended.
	ReasonResumed = "Resumed"
	// ReasonRetried: the failed instances of a FAILED job run again.
	ReasonRetried = "Retried"
	// ReasonAlreadyRan: the same request ran under the same name before, ended, and was
	// deleted after its ttlSecondsAfterFinished.
	ReasonAlreadyRan = "AlreadyRan"
	// ReasonStatusUnreadable: the stored status cannot be read; the operator does nothing for the
	// job until it is repaired or deleted.
	ReasonStatusUnreadable = "StatusUnreadable"
	// ReasonTombstoneRefused: the ConfigMap with the tombstones cannot be written.
	ReasonTombstoneRefused = "TombstoneRefused"
	// ReasonInvalidAnnotation: an annotation cannot be read.
	ReasonInvalidAnnotation = "InvalidAnnotation"
	// ReasonJobRunning, ReasonTaskRunning and ReasonTaskSucceed: progress. Events only.
	ReasonJobRunning  = "JobRunning"
	ReasonTaskRunning = "TaskRunning"
	ReasonTaskSucceed = "TaskSucceed"
	// ReasonTaskInstanceRetry: attempts failed and are retried.
	ReasonTaskInstanceRetry = "TaskInstanceRetry"
	// ReasonTaskFailed: an instance of the task failed and is not retried.
	ReasonTaskFailed = "TaskInstanceFailed"
	// ReasonPredecessorFailed: the task cannot start, because a task that it depends on failed.
	ReasonPredecessorFailed = "PredecessorFailed"
)

// Reasons of events of the ConfigMap that holds the catalogue.
const (
	// ReasonCatalogLoaded: its new content is in use.
	ReasonCatalogLoaded = "CatalogLoaded"
	// ReasonCatalogInvalid: its new content is invalid; the previous content stays in use.
	ReasonCatalogInvalid = "CatalogInvalid"
)

// Reasons why an instance waits.
const (
	// ReasonUnschedulable: the scheduler finds no node for the Pod.
	ReasonUnschedulable = "Unschedulable"
	// ReasonSchedulingGated: the Pod has scheduling gates, such as those of Kueue, and the
	// scheduler ignores it until they are removed.
	ReasonSchedulingGated = "SchedulingGated"
	// ReasonNoScheduler: no scheduler has tried to schedule the Pod. Perhaps none has the name
	// in schedulerName.
	ReasonNoScheduler = "NoScheduler"
	// ReasonPodNameTaken: name conflict: another Pod, which is not or no longer the job's, has
	// the name of the instance's Pod.
	ReasonPodNameTaken = "PodNameTaken"
	// ReasonImagePull: the image cannot be pulled.
	ReasonImagePull = "ImagePullFailed"
	// ReasonContainerConfig: the container cannot be created, as when a Secret is missing.
	ReasonContainerConfig = "ContainerConfigError"
	// ReasonContainerCreating: a node takes long to create the container.
	ReasonContainerCreating = "ContainerCreating"
	// ReasonInitContainerRunning: an init container that the cluster added takes long.
	ReasonInitContainerRunning = "InitContainerRunning"
	// ReasonInitContainerFailed: an init container that the cluster added failed, so that the
	// command was not started.
	ReasonInitContainerFailed = "InitContainerFailed"
	// ReasonStagingData: the inputs of the task, or its package, are being copied to the node.
	ReasonStagingData = "StagingData"
	// ReasonStoringOutputs: the command has ended, and its outputs and logs are being stored.
	ReasonStoringOutputs = "StoringOutputs"
	// ReasonOutputsStopped: the command has ended, and its Pod is being stopped before its outputs and logs
	// are stored.
	ReasonOutputsStopped = "OutputsStopped"
	// ReasonSidecarsStopped: the command ended, and the operator stops containers that the cluster
	// added and that still run.
	ReasonSidecarsStopped = "SidecarsStopped"
	// ReasonCreateRefused: the cluster refused to create the Pod, because of a policy, a limit or
	// a missing ServiceAccount. Source: BatchCompute, InternalError.CallCvm.
	ReasonCreateRefused = "PodCreationRefused"
	// ReasonQuota: the namespace's quota is exhausted, or the API server asks to wait.
	ReasonQuota = "QuotaExceeded"
	// ReasonComputeEnvFull: all nodes of the ComputeEnv are in use, or other jobs are ahead in
	// the queue.
	ReasonComputeEnvFull = "ComputeEnvFull"
	// ReasonComputeEnvNotFound: there is no ComputeEnv of that name or identifier.
	ReasonComputeEnvNotFound = "ComputeEnvNotFound"
	// ReasonOperatorMemory: the job is large and waits until the operator has memory for it, which
	// other large jobs use.
	ReasonOperatorMemory = "OperatorMemory"
	// ReasonZoneNotFound: no cluster node is in any of the zones that may be used.
	ReasonZoneNotFound = "ZoneNotFound"
	// ReasonHostNotFound: no cluster node has any of the host names or addresses that may be used.
	ReasonHostNotFound = "HostNotFound"
	// ReasonStoreUnknown: the operator's catalogue has no store for a remote path.
	ReasonStoreUnknown = "StoreUnknown"
	// ReasonMachineUnknown: the machine was removed from the operator's catalogue.
	ReasonMachineUnknown = "MachineUnknown"
	// ReasonMachineRefused: the Pod was bound to a node, and the node rejected it.
	ReasonMachineRefused = "MachineRefused"
	// ReasonNodeLost: the Pod should have ended, but its node does not confirm it, so its command
	// may still run. An instance waits for this reason, and an attempt fails for it.
	ReasonNodeLost = "NodeLost"
)

// Reasons why an attempt failed. If an attempt waits longer than its timeout, the reason why it
// waits becomes the reason why it failed.
const (
	// ReasonCommandFailed: the command ended with an exit code other than 0.
	ReasonCommandFailed = "CommandFailed"
	// ReasonStartError: the container could not start its command.
	ReasonStartError = "StartError"
	// ReasonOOMKilled: the command used more memory than its limit.
	ReasonOOMKilled = "OOMKilled"
	// ReasonStageInFailed: the inputs of the task, or its package, could not be copied to the node.
	ReasonStageInFailed = "StageInFailed"
	// ReasonOutputFailed: the command ended with 0, and its outputs or logs could not be stored.
	ReasonOutputFailed = "OutputFailed"
	// ReasonStorageExceeded: the command wrote more to its disks than they hold.
	ReasonStorageExceeded = "StorageExceeded"
	// ReasonTimeout: the command took longer than the task's timeout.
	ReasonTimeout = "Timeout"
	// ReasonEvicted: the node evicted the Pod, for lack of resources or to shut down, or
	// somebody drained the node.
	ReasonEvicted = "Evicted"
	// ReasonPreempted: the scheduler, or the queue that had admitted the Pod, gave its resources to
	// others. In the second case the instance waits in the queue again, and no retry is used.
	ReasonPreempted = "Preempted"
	// ReasonPodDeleted: somebody deleted the Pod.
	ReasonPodDeleted = "PodDeleted"
	// ReasonPodFailed: the Pod failed for a reason that is not listed here.
	ReasonPodFailed = "PodFailed"
)
