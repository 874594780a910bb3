// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels of every Pod that the operator creates.
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
	// LabelTracked has the value "true" until the Pod's outcome is in the job's status. It is
	// removed together with FinalizerTracking, and the operator watches only Pods that have
	// it, so that its memory grows with the number of active Pods and not with the history.
	LabelTracked = "batchcompute.dev/tracked"
	// LabelEnvID is the identifier of the ComputeEnv whose node the Pod has, as in its
	// status.envId; absent with computeEnv.
	LabelEnvID = "batchcompute.dev/env-id"
	// LabelProjectID is placement.projectId.
	LabelProjectID = "batchcompute.dev/project-id"
	// LabelTagPrefix is the prefix of labels and annotations for the tags of the job and of its
	// ComputeEnv.
	LabelTagPrefix = "tag.batchcompute.dev/"
	// ReservedPrefix is the prefix of labels and annotations that only the operator sets.
	ReservedPrefix = "batchcompute.dev/"
)

// LabelCredentialsOf is the name of the BatchJob or ComputeEnv that refers to a Secret. The
// converter sets it on Secrets that it made of the passwords and keys of a request.
const LabelCredentialsOf = "batchcompute.dev/credentials-of"

// AnnotationTags has the job's tags that are not valid as labels, on a Pod, as a JSON object.
const AnnotationTags = "batchcompute.dev/tags"

// AnnotationHosts has the host names that the hostIps of the placement stood for when the Pod was
// created, comma-separated.
const AnnotationHosts = "batchcompute.dev/hosts"

// AnnotationEnvQuota on a Namespace is how many ComputeEnvs it may keep: a number from 0, where 0
// means no limit. Absent: the manager's --compute-env-quota.
const AnnotationEnvQuota = "batchcompute.dev/compute-env-quota"

// AnnotationTemplateQuota on a Namespace is how many TaskTemplates it may keep: a number from 0,
// where 0 means no limit. Absent: the manager's --task-template-quota.
const AnnotationTemplateQuota = "batchcompute.dev/task-template-quota"

// AnnotationJobName is the name of a Pod's BatchJob. By it the operator finds the job of a Pod
// whose owner reference was removed.
const AnnotationJobName = "batchcompute.dev/job-name"

// AnnotationProof proves that the operator created a Pod: it has the identifier of a key that only
// the operator knows, and a message authentication code of the Pod's namespace and name by that key.
const AnnotationProof = "batchcompute.dev/proof"

// AnnotationJobQuota on a Namespace is how many BatchJobs it may keep, including finished ones: a
// number from 0, where 0 means no limit. Absent: the manager's --job-quota.
const AnnotationJobQuota = "batchcompute.dev/job-quota"

// AnnotationJobBytesQuota on a Namespace is how many bytes its BatchJobs may take together, as
// they are stored, including finished ones: a quantity such as 64Mi, without exponent, where 0 means
// no limit. Absent: the manager's --job-bytes-quota.
const AnnotationJobBytesQuota = "batchcompute.dev/job-bytes-quota"

// AnnotationStoredSize is how many bytes of its namespace's quota a BatchJob takes. Only the copies
// in the manager's cache have it, since they lack parts of the job.
const AnnotationStoredSize = "batchcompute.dev/stored-size"

// AnnotationTerminate on a BatchJob names the instances to be terminated: "render/0-4,7
// merge/0", each a task and its indexes as ranges. It applies while it is present, so an instance
// that it names fails again after a retryToken. A value of more than MaxTerminateLength bytes is
// not read, and the job gets the condition InvalidAnnotation.
// Source: BatchCompute, TerminateTaskInstance.
const AnnotationTerminate = "batchcompute.dev/terminate-task-instances"

// AnnotationNotificationSink on a BatchJob or ComputeEnv is the https URL that its events are sent to if the
// operator's catalogue does not have their topic. The catalogue must allow the URL's host.
const AnnotationNotificationSink = "batchcompute.dev/notification-sink"

// What the gateway notes on the objects that it creates for its callers.
const (
	// AnnotationAwaitsCredentials on a BatchJob says that it was created suspended, since the Secrets of its passwords and
	// keys are not all there yet. It is removed when they are and the job is resumed.
	AnnotationAwaitsCredentials = "batchcompute.dev/awaits-credentials"
	// AnnotationCredentials on a BatchJob or ComputeEnv is a part of the names of these Secrets, another for each object.
	AnnotationCredentials = "batchcompute.dev/credentials"
	// AnnotationCreatedAs on a ComputeEnv is the spec that it was created with, as JSON. It is absent until the first
	// ModifyComputeEnv. Source: BatchCompute, DescribeComputeEnvCreateInfo.
	AnnotationCreatedAs = "batchcompute.dev/created-as"
	// AnnotationTerminatedNodes on a ComputeEnv are the numbers of the nodes that were terminated while no instance used
	// them, as ranges such as "0-4,7". Source: BatchCompute, TerminateComputeNode.
	AnnotationTerminatedNodes = "batchcompute.dev/terminated-nodes"
)

// API keys of the gateway.
const (
	// LabelAPIKey marks a Secret that is an API key for the Secret's namespace. Its value is "true".
	LabelAPIKey = "batchcompute.dev/api-key"
	// AnnotationServiceAccount on such a Secret is the name of the service account of the namespace that the gateway acts
	// as. Absent: DefaultAPIServiceAccount.
	AnnotationServiceAccount = "batchcompute.dev/service-account"
	// DefaultAPIServiceAccount is the service account that the gateway acts as unless a key names another, which the
	// gateway must be allowed to impersonate.
	DefaultAPIServiceAccount = "batchcompute-client"
)

// TombstonesName is the name of the ConfigMap of a namespace with the tombstones of jobs that were
// deleted after their ttlSecondsAfterFinished, by the job's name.
const TombstonesName = "batchcompute-tombstones"

// FinalizerTracking keeps a Pod from being deleted until its outcome is in the job's status.
const FinalizerTracking = "batchcompute.dev/tracking"

// FinalizerNotifications keeps a BatchJob or a ComputeEnv from being deleted until the events of its notifications were
// sent, for a bounded time.
const FinalizerNotifications = "batchcompute.dev/notifications"

// FinalizerInUse keeps a ComputeEnv from being deleted while a BatchJob that has not ended uses it.
const FinalizerInUse = "batchcompute.dev/in-use"

// Environment variables of every instance.
// Source: BatchCompute, Environment Variables.
const (
	EnvJobID             = "BATCH_JOB_ID"
	EnvTaskName          = "BATCH_TASK_NAME"
	EnvTaskInstanceNum   = "BATCH_TASK_INSTANCE_NUM"
	EnvTaskInstanceIndex = "BATCH_TASK_INSTANCE_INDEX"
	// EnvReservedPrefix is the prefix of names that users may not set.
	EnvReservedPrefix = "BATCH_"
	// EnvOperatorPrefix is the prefix of names that kubernetes.env may not set either: they are
	// for programs of the operator.
	EnvOperatorPrefix = "BATCHCOMPUTE_"
)

// What the operator keeps for itself in a Pod, beside the volumes of data disks.
const (
	// VolumePrefix begins the names of volumes that users may not define.
	VolumePrefix = "batchcompute-"
	// OperatorDir is a directory of the container in which users may mount nothing.
	OperatorDir = "/.batchcompute"
)

// DefaultTaskName is the name of the only task of a job when it has none.
const DefaultTaskName = "task"

// Defaults of fields that are applied on reading and not stored.
const (
	// DefaultPriority is Job.priority.
	DefaultPriority = 1
	// DefaultTimeoutSeconds is Task.timeout.
	DefaultTimeoutSeconds = 86400
	// EnvTypeManaged is AnonymousComputeEnv.envType, its default and only value.
	EnvTypeManaged = "MANAGED"
	// DefaultTokenPath is ServiceAccountToken.mountPath, where clients of Kubernetes look.
	DefaultTokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	// DefaultTokenSeconds is ServiceAccountToken.expirationSeconds, as in Kubernetes.
	DefaultTokenSeconds = 3600
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
	// MaxJobTemplates is how many TaskTemplates a job may name.
	MaxJobTemplates = 50
	// MaxTaskInstances is the highest number of instances in a job, over all tasks.
	MaxTaskInstances = 100000
	// MaxFailures is the length of status.failures.
	MaxFailures = 10
	// MaxWaiting is the length of status.waiting.
	MaxWaiting = 10
	// MaxMessageSize bounds every message in a status. Unit: bytes as JSON, so that a message
	// full of characters that JSON escapes is stored in the same space as any other.
	MaxMessageSize = 288
	// MaxComputeNodeCount is the highest desiredComputeNodeCount.
	// Source: BatchCompute, NamedComputeEnv.DesiredComputeNodeCount.
	MaxComputeNodeCount = 2000
	// DefaultEnvResourceMaxRetryCount is ComputeEnvSpec.resourceMaxRetryCount when absent.
	// Source: BatchCompute, NamedComputeEnv.ResourceMaxRetryCount.
	DefaultEnvResourceMaxRetryCount = 7
	// MaxTaskMessages and MaxTaskReasons are how many tasks of a status have a message and a
	// reason. Tasks that failed or wait themselves take precedence over those that could not start.
	MaxTaskMessages = 20
	MaxTaskReasons  = 200
	// MaxPodKeys is the length of status.podKeys.
	MaxPodKeys = 4
)

// Bounds of notifications.
const (
	// MaxNotifications is how many notifications a job or a ComputeEnv may have.
	MaxNotifications = 20
	// MaxNotificationStatusSize is what status.notifications takes at most, as JSON. Unit: bytes.
	MaxNotificationStatusSize = 128 << 10
)
