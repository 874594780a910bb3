// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Task is one command, run in one or more instances.
// Source: BatchCompute, Task.
type Task struct {
	// taskName names the task within the job: letters, digits, - and _, beginning
	// with a letter or a digit, at most 60 characters, unique. Required as soon as
	// the job has more than one task. Default: task.
	// Source: BatchCompute, Task.TaskName.
	// +optional
	TaskName string `json:"taskName,omitempty"`

	// taskInstanceNum is how many instances the task runs, 1 or more; at most
	// 100000 in the job together. Default: 1.
	// Source: BatchCompute, Task.TaskInstanceNum.
	// +optional
	TaskInstanceNum *int64 `json:"taskInstanceNum,omitempty"`

	// application is what each instance runs. Required.
	// Source: BatchCompute, Task.Application.
	// +optional
	Application Application `json:"application,omitempty"`

	// computeEnv describes the machine of each instance. Exactly one of computeEnv
	// and envId must be given. Source: BatchCompute, Task.ComputeEnv.
	// +optional
	ComputeEnv *AnonymousComputeEnv `json:"computeEnv,omitempty"`

	// envId names a ComputeEnv of the namespace, by its name or its status.envId.
	// Exactly one of computeEnv and envId must be given.
	// Source: BatchCompute, Task.EnvId.
	// +optional
	EnvID string `json:"envId,omitempty"`

	// envVars are variables for the command, beside BATCH_JOB_ID, BATCH_TASK_NAME,
	// BATCH_TASK_INSTANCE_NUM and BATCH_TASK_INSTANCE_INDEX, which are always set. At most 100.
	// Source: BatchCompute, Task.EnvVars.
	// +listType=atomic
	// +optional
	EnvVars []EnvVar `json:"envVars,omitempty"`

	// maxRetryCount is how often an instance is retried because its command failed or
	// timed out: 0-5. Default: 0.
	// Source: BatchCompute, Task.MaxRetryCount.
	// +optional
	MaxRetryCount *int64 `json:"maxRetryCount,omitempty"`

	// timeout bounds one attempt of an instance, from the start of its command. An
	// attempt that takes longer is stopped and fails. At most 2147483647; 0 means the default.
	// Unit: seconds. Default: 86400. Source: BatchCompute, Task.Timeout.
	// +optional
	Timeout *int64 `json:"timeout,omitempty"`

	// maxConcurrentNum is how many instances of the task may be active at the same time:
	// 0-200000, 0 means no limit. Default: 0. Source: BatchCompute, Task.MaxConcurrentNum.
	// +optional
	MaxConcurrentNum *int64 `json:"maxConcurrentNum,omitempty"`

	// resourceMaxRetryCount is how often an instance is retried because its machine was
	// not acquired or was lost: 0-100. Default: 0. Source: BatchCompute, Task.ResourceMaxRetryCount.
	// +optional
	ResourceMaxRetryCount *int64 `json:"resourceMaxRetryCount,omitempty"`

	// failedAction says what happens to the machine of a failed instance: TERMINATE
	// releases it; INTERRUPT keeps it, with its Pod, after the last attempt;
	// FAST_INTERRUPT keeps it after the first, without retries. No effect with envId.
	// Default: TERMINATE. Source: BatchCompute, Task.FailedAction.
	// +optional
	FailedAction FailedAction `json:"failedAction,omitempty"`

	// restartComputeNode asks for a reboot of the node after the task. Only with
	// envId. Default: false. No effect on Kubernetes. Source: BatchCompute, Task.RestartComputeNode.
	// +optional
	RestartComputeNode *bool `json:"restartComputeNode,omitempty"`

	// inputMappings bring remote directories before the command starts: cos:// is copied,
	// cfs:// and nfs:// are mounted.
	// Source: BatchCompute, Task.InputMappings.
	// +listType=atomic
	// +optional
	InputMappings []InputMapping `json:"inputMappings,omitempty"`

	// outputMappings copy local directories to remote ones when the command has ended. An
	// instance whose outputs are not stored does not succeed.
	// Source: BatchCompute, Task.OutputMappings.
	// +listType=atomic
	// +optional
	OutputMappings []OutputMapping `json:"outputMappings,omitempty"`

	// outputMappingConfigs tune the uploads of outputMappings.
	// Source: BatchCompute, Task.OutputMappingConfigs.
	// +listType=atomic
	// +optional
	OutputMappingConfigs []OutputMappingConfig `json:"outputMappingConfigs,omitempty"`

	// redirectInfo uploads stdout and stderr to remote storage; kubectl logs has them as well.
	// Source: BatchCompute, Task.RedirectInfo.
	// +optional
	RedirectInfo *RedirectInfo `json:"redirectInfo,omitempty"`

	// redirectLocalInfo writes stdout and stderr to files of the container as well.
	// Source: BatchCompute, Task.RedirectLocalInfo.
	// +optional
	RedirectLocalInfo *RedirectLocalInfo `json:"redirectLocalInfo,omitempty"`

	// authentications are the keys for mappings, redirects and the package; the first of scene
	// COS counts. Default: those of the ComputeEnv, else what the operator's catalogue says.
	// Source: BatchCompute, Task.Authentications.
	// +listType=atomic
	// +optional
	Authentications []Authentication `json:"authentications,omitempty"`

	// taskTemplate names a TaskTemplate of the namespace. What the task does not say itself is taken
	// from the template when the job is created, and stored in the job; later changes of the template
	// do not change the job. application is completed field by field, all else as a whole; envId and
	// computeEnv replace each other, and so do command and commands. A job names at most 50
	// templates. Absent: the task is complete. Not part of the API.
	// +optional
	TaskTemplate string `json:"taskTemplate,omitempty"`
}

// FailedAction says what happens to the machine of a failed instance. See Task.
type FailedAction string

// The values of FailedAction.
const (
	FailedActionTerminate     FailedAction = "TERMINATE"
	FailedActionInterrupt     FailedAction = "INTERRUPT"
	FailedActionFastInterrupt FailedAction = "FAST_INTERRUPT"
)

// Application is the command of a task and how it is delivered.
// Source: BatchCompute, Application.
type Application struct {
	// deliveryForm says where the program comes from: LOCAL, it is in the image;
	// PACKAGE, it is unpacked from packagePath, and the command runs in its directory. Required.
	// Source: BatchCompute, Application.DeliveryForm.
	// +optional
	DeliveryForm DeliveryForm `json:"deliveryForm,omitempty"`

	// command is run by /bin/sh -c. At most 16 KiB, and not blank. Required.
	// Source: BatchCompute, Application.Command.
	// +optional
	Command string `json:"command,omitempty"`

	// commands are the commands of a tightly coupled task, instead of command. They are
	// refused: this version cannot run them.
	// Source: BatchCompute, Application.Commands.
	// +listType=atomic
	// +optional
	Commands []CommandLine `json:"commands,omitempty"`

	// packagePath is the remote archive, .tgz or .tar.gz, for PACKAGE.
	// Source: BatchCompute, Application.PackagePath.
	// +optional
	PackagePath string `json:"packagePath,omitempty"`

	// docker names the container image that the command runs in. It takes precedence over
	// computeEnv.envData.imageId. Source: BatchCompute, Application.Docker.
	// +optional
	Docker *Docker `json:"docker,omitempty"`
}

// CommandLine is one command of a tightly coupled task.
// Source: BatchCompute, CommandLine.
type CommandLine struct {
	// command is the command. Required. Source: BatchCompute, CommandLine.Command.
	// +optional
	Command string `json:"command,omitempty"`
}

// DeliveryForm says where the program of a task comes from. See Application.
type DeliveryForm string

// The values of DeliveryForm.
const (
	DeliveryFormLocal   DeliveryForm = "LOCAL"
	DeliveryFormPackage DeliveryForm = "PACKAGE"
)

// Docker names a container image. Source: BatchCompute, Docker.
type Docker struct {
	// image is the image, such as busybox:1.37. Required.
	// Source: BatchCompute, Docker.Image.
	// +optional
	Image string `json:"image,omitempty"`

	// server is the registry's host, for an image whose name has none. Absent: the
	// one in image, else the runtime's default. Source: BatchCompute, Docker.Server.
	// +optional
	Server string `json:"server,omitempty"`

	// user is the registry's user name. It is in the Secret that passwordSecretRef
	// names, and has no effect here. Source: BatchCompute, Docker.User.
	// +optional
	User string `json:"user,omitempty"`

	// passwordSecretRef names the Secret, of type kubernetes.io/dockerconfigjson,
	// with the credentials of the registry. It replaces Docker.Password.
	// +optional
	PasswordSecretRef *SecretRef `json:"passwordSecretRef,omitempty"`

	// maxRetryCount is how often a pull of the image is retried: 0-10. Default: 0.
	// No effect on Kubernetes: the kubelet retries by itself.
	// Source: BatchCompute, Docker.MaxRetryCount.
	// +optional
	MaxRetryCount *int64 `json:"maxRetryCount,omitempty"`

	// delayOnRetry is the time between two pulls of the image: 1-360. Unit: seconds. No
	// effect on Kubernetes: the kubelet backs off by itself.
	// Source: BatchCompute, Docker.DelayOnRetry.
	// +optional
	DelayOnRetry *int64 `json:"delayOnRetry,omitempty"`

	// dockerRunOption has options of docker run: -u (--user) user[:group] as numbers or
	// root, -e (--env) name=value, -w (--workdir) directory, --shm-size size and --gpus
	// number. Others are refused. Source: BatchCompute, Docker.DockerRunOption.
	// +optional
	DockerRunOption string `json:"dockerRunOption,omitempty"`
}

// EnvVar is one variable. Source: BatchCompute, EnvVar.
type EnvVar struct {
	// name is letters, digits and _, not beginning with a digit, nor with BATCH_.
	// Required. Source: BatchCompute, EnvVar.Name.
	// +optional
	Name string `json:"name,omitempty"`

	// value is passed unchanged; $(…) is not expanded. Name and value together are less than
	// 128 KiB.
	// Source: BatchCompute, EnvVar.Value.
	// +optional
	Value string `json:"value,omitempty"`
}

// SecretRef names a Secret in the namespace of the BatchJob. It replaces each password
// and key of the API, so that no credential is part of a spec.
type SecretRef struct {
	// name is the Secret's name. Required.
	// +optional
	Name string `json:"name,omitempty"`
}
