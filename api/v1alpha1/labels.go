// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels of every Pod that the operator makes.
const (
	// LabelJobID is the job's identifier, as in status.jobId.
	LabelJobID = "batchcompute.dev/job-id"
	// LabelTaskName is the task's name, shortened where it is no valid label value.
	LabelTaskName = "batchcompute.dev/task-name"
	// LabelTaskInstanceIndex is the instance's index, from 0.
	LabelTaskInstanceIndex = "batchcompute.dev/task-instance-index"
	// LabelAttempt is the attempt of the instance, from 0.
	LabelAttempt = "batchcompute.dev/attempt"
	// LabelRun is the run of the job, as in status.run.
	LabelRun = "batchcompute.dev/run"
	// LabelTracked is there, with the value "true", as long as the Pod's outcome is
	// not yet in the job's status. It comes off together with FinalizerTracking, so
	// what the operator watches grows with the work under way, not with its history.
	LabelTracked = "batchcompute.dev/tracked"
	// LabelEnvID is the identifier of the ComputeEnv whose node the Pod has, as in its
	// status.envId; absent with computeEnv.
	LabelEnvID = "batchcompute.dev/env-id"
	// LabelProjectID is placement.projectId.
	LabelProjectID = "batchcompute.dev/project-id"
	// LabelTagPrefix begins the labels and annotations that are the job's tags, and those
	// of its ComputeEnv.
	LabelTagPrefix = "tag.batchcompute.dev/"
	// ReservedPrefix begins the labels and annotations that only the operator sets.
	ReservedPrefix = "batchcompute.dev/"
)

// LabelCredentialsOf is, on a Secret that the converter made out of a body's password or
// key, the name of the BatchJob or ComputeEnv that refers to it.
const LabelCredentialsOf = "batchcompute.dev/credentials-of"

// AnnotationTags has, on a Pod, the job's tags that cannot be labels, as a JSON object.
const AnnotationTags = "batchcompute.dev/tags"

// AnnotationHosts are, on a Pod whose placement has hostIps, the host names that they
// meant when it was made, comma-separated.
const AnnotationHosts = "batchcompute.dev/hosts"

// AnnotationEnvQuota is how many ComputeEnvs the Namespace that has it may keep: a number
// from 0, where 0 means any number. Absent: what the manager was told with
// --compute-env-quota.
const AnnotationEnvQuota = "batchcompute.dev/compute-env-quota"

// AnnotationJobName is the name of a Pod's BatchJob. It is there so that a Pod whose
// owner reference was taken away is still found.
const AnnotationJobName = "batchcompute.dev/job-name"

// AnnotationProof proves, on a Pod, that the operator created it: the identifier of a key that
// only the operator has, and a code over the Pod's namespace and name that was made with it.
const AnnotationProof = "batchcompute.dev/proof"

// AnnotationJobQuota is how many BatchJobs the Namespace that has it may keep, finished
// ones included: a number from 0, where 0 means any number. Absent: what the manager was
// told with --job-quota.
const AnnotationJobQuota = "batchcompute.dev/job-quota"

// AnnotationJobBytesQuota is how many bytes the BatchJobs of the Namespace that has it may take
// together, as they are stored, finished ones included: a quantity such as 64Mi, without
// exponent, where 0 means any number. Absent: what the manager was told with --job-bytes-quota.
const AnnotationJobBytesQuota = "batchcompute.dev/job-bytes-quota"

// AnnotationStoredSize is how many bytes a BatchJob counts for in its namespace's quota. Only
// the copies in the manager's cache have it, which lack parts of the job.
const AnnotationStoredSize = "batchcompute.dev/stored-size"

// AnnotationTerminate names, on a BatchJob, instances to be terminated: "render/0-4,7
// merge/0", each a task and, as ranges, indexes. It holds for as long as it is there, so
// that an instance which is named fails again after a retryToken. At most MaxTerminateLength bytes
// are read: of a longer one nothing is, and the job has condition InvalidAnnotation.
// Source: BatchCompute, TerminateTaskInstance.
const AnnotationTerminate = "batchcompute.dev/terminate-task-instances"

// TombstonesName is the name of the ConfigMap that says, in each namespace, which
// requests ran and were deleted after their ttlSecondsAfterFinished, by the job's name.
const TombstonesName = "batchcompute-tombstones"

// FinalizerTracking keeps a Pod until its outcome is in the job's status.
const FinalizerTracking = "batchcompute.dev/tracking"

// FinalizerInUse keeps a ComputeEnv while a BatchJob that has not ended uses it.
const FinalizerInUse = "batchcompute.dev/in-use"

// Environment variables of every instance.
// Source: BatchCompute, Environment Variables.
const (
	EnvJobID             = "BATCH_JOB_ID"
	EnvTaskName          = "BATCH_TASK_NAME"
	EnvTaskInstanceNum   = "BATCH_TASK_INSTANCE_NUM"
	EnvTaskInstanceIndex = "BATCH_TASK_INSTANCE_INDEX"
	// EnvReservedPrefix begins the names that users may not set.
	EnvReservedPrefix = "BATCH_"
)

// DefaultTaskName is the name of the only task of a job when it has none.
const DefaultTaskName = "task"

// Defaults of fields that are decided on reading, not stored.
const (
	// DefaultPriority is Job.priority.
	DefaultPriority = 1
	// DefaultTimeoutSeconds is Task.timeout.
	DefaultTimeoutSeconds = 86400
	// EnvTypeManaged is AnonymousComputeEnv.envType, its default and only value.
	EnvTypeManaged = "MANAGED"
)

// Limits of the API and of the operator.
const (
	// MaxJobNameLength counts characters. Source: BatchCompute, Job.JobName.
	MaxJobNameLength = 60
	// MaxJobDescriptionLength counts characters. Source: BatchCompute, Job.JobDescription.
	MaxJobDescriptionLength = 200
	// MaxTaskNameLength counts characters; the API documents no number.
	MaxTaskNameLength = 60
	// MaxPriority is the highest priority. Source: BatchCompute, Job.Priority.
	MaxPriority = 100
	// MaxRetryCountLimit is the highest maxRetryCount. Source: BatchCompute, Task.MaxRetryCount.
	MaxRetryCountLimit = 5
	// MaxResourceRetryCount is the highest resourceMaxRetryCount.
	// Source: BatchCompute, Task.ResourceMaxRetryCount.
	MaxResourceRetryCount = 100
	// MaxTokenLength counts bytes. Source: BatchCompute, SubmitJob.ClientToken.
	MaxTokenLength = 64
	// MaxTerminateLength is the longest value of AnnotationTerminate that is read. Unit: bytes.
	MaxTerminateLength = 64 << 10
	// MaxTasks is the highest number of tasks in a job.
	MaxTasks = 5000
	// MaxTaskInstances is the highest number of instances in a job, over all tasks.
	MaxTaskInstances = 100000
	// MaxFailures is the length of status.failures.
	MaxFailures = 10
	// MaxWaiting is the length of status.waiting.
	MaxWaiting = 10
	// MaxMessageSize bounds every message in a status. Unit: bytes as JSON, so that one
	// full of characters that JSON escapes takes no more room than another.
	MaxMessageSize = 288
	// MaxComputeNodeCount is the highest desiredComputeNodeCount.
	// Source: BatchCompute, NamedComputeEnv.DesiredComputeNodeCount.
	MaxComputeNodeCount = 2000
	// DefaultEnvResourceMaxRetryCount is ComputeEnvSpec.resourceMaxRetryCount when absent.
	// Source: BatchCompute, NamedComputeEnv.ResourceMaxRetryCount.
	DefaultEnvResourceMaxRetryCount = 7
	// MaxTaskMessages and MaxTaskReasons bound the tasks of a status that have a message
	// and a reason. Those that failed or wait themselves come first.
	MaxTaskMessages = 20
	MaxTaskReasons  = 200
	// MaxPodKeys is the length of status.podKeys.
	MaxPodKeys = 4
)
