// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// InputMapping mounts a remote directory. Source: BatchCompute, InputMapping.
type InputMapping struct {
	// sourcePath is the remote directory: cos://, cfs:// or nfs://, ending with /.
	// Required. Source: BatchCompute, InputMapping.SourcePath.
	// +optional
	SourcePath string `json:"sourcePath,omitempty"`

	// destinationPath is where it is mounted: an absolute path, at which nothing else is
	// mounted. Required.
	// Source: BatchCompute, InputMapping.DestinationPath.
	// +optional
	DestinationPath string `json:"destinationPath,omitempty"`

	// mountOptionParameter are flags for the program that mounts sourcePath.
	// Source: BatchCompute, InputMapping.MountOptionParameter.
	// +optional
	MountOptionParameter string `json:"mountOptionParameter,omitempty"`

	// mountType is the program that mounts cos://: COSFS or GooseFS-Lite. No effect: objects
	// are copied.
	// Source: BatchCompute, InputMapping.MountType.
	// +optional
	MountType string `json:"mountType,omitempty"`
}

// OutputMapping copies a local directory to a remote one.
// Source: BatchCompute, OutputMapping.
type OutputMapping struct {
	// sourcePath is the local directory: an absolute path. Required.
	// Source: BatchCompute, OutputMapping.SourcePath.
	// +optional
	SourcePath string `json:"sourcePath,omitempty"`

	// destinationPath is the remote directory: cos://, ending with /. Required.
	// Source: BatchCompute, OutputMapping.DestinationPath.
	// +optional
	DestinationPath string `json:"destinationPath,omitempty"`

	// outputMappingOption says how sourcePath is read when the command runs in a
	// container. Source: BatchCompute, OutputMapping.OutputMappingOption.
	// +optional
	OutputMappingOption *OutputMappingOption `json:"outputMappingOption,omitempty"`
}

// OutputMappingOption says how the path of an output is read.
// Source: BatchCompute, OutputMappingOption.
type OutputMappingOption struct {
	// workspace is where sourcePath is on the machine: BATCH_WORKSPACE, in a directory of
	// the job; GLOBAL_WORKSPACE, in the machine's file system. Default: BATCH_WORKSPACE.
	// Source: BatchCompute, OutputMappingOption.Workspace.
	// +optional
	Workspace string `json:"workspace,omitempty"`
}

// OutputMappingConfig tunes uploads. Source: BatchCompute, OutputMappingConfig.
type OutputMappingConfig struct {
	// scene is the storage that is meant: COS. Required.
	// Source: BatchCompute, OutputMappingConfig.Scene.
	// +optional
	Scene string `json:"scene,omitempty"`

	// workerNum is how many uploads run at the same time: 0 or more. Required.
	// Source: BatchCompute, OutputMappingConfig.WorkerNum.
	// +optional
	WorkerNum *int64 `json:"workerNum,omitempty"`

	// workerPartSize is the size of one part of an upload: 0 or more. Unit: MB. Required.
	// Source: BatchCompute, OutputMappingConfig.WorkerPartSize.
	// +optional
	WorkerPartSize *int64 `json:"workerPartSize,omitempty"`
}

// RedirectInfo uploads stdout and stderr when an instance ends.
// Source: BatchCompute, RedirectInfo.
type RedirectInfo struct {
	// stdoutRedirectPath is the remote directory for stdout: cos://, ending with /.
	// Source: BatchCompute, RedirectInfo.StdoutRedirectPath.
	// +optional
	StdoutRedirectPath string `json:"stdoutRedirectPath,omitempty"`

	// stderrRedirectPath is the remote directory for stderr: cos://, ending with /.
	// Source: BatchCompute, RedirectInfo.StderrRedirectPath.
	// +optional
	StderrRedirectPath string `json:"stderrRedirectPath,omitempty"`

	// stdoutRedirectFileName is the name of the file. It may contain ${BATCH_JOB_ID}, ${BATCH_TASK_NAME} and
	// ${BATCH_TASK_INSTANCE_INDEX}. Default: stdout.<JobId>.<TaskName>.<Index>.log.
	// Source: BatchCompute, RedirectInfo.StdoutRedirectFileName.
	// +optional
	StdoutRedirectFileName string `json:"stdoutRedirectFileName,omitempty"`

	// stderrRedirectFileName is the same for stderr.
	// Default: stderr.<JobId>.<TaskName>.<Index>.log.
	// Source: BatchCompute, RedirectInfo.StderrRedirectFileName.
	// +optional
	StderrRedirectFileName string `json:"stderrRedirectFileName,omitempty"`
}

// RedirectLocalInfo writes stdout and stderr to local files.
// Source: BatchCompute, RedirectLocalInfo.
type RedirectLocalInfo struct {
	// stdoutLocalPath is the local directory for stdout: an absolute path.
	// Source: BatchCompute, RedirectLocalInfo.StdoutLocalPath.
	// +optional
	StdoutLocalPath string `json:"stdoutLocalPath,omitempty"`

	// stderrLocalPath is the local directory for stderr: an absolute path.
	// Source: BatchCompute, RedirectLocalInfo.StderrLocalPath.
	// +optional
	StderrLocalPath string `json:"stderrLocalPath,omitempty"`

	// stdoutLocalFileName is the name of the file. It may contain ${BATCH_JOB_ID},
	// ${BATCH_TASK_NAME} and ${BATCH_TASK_INSTANCE_INDEX}.
	// Source: BatchCompute, RedirectLocalInfo.StdoutLocalFileName.
	// +optional
	StdoutLocalFileName string `json:"stdoutLocalFileName,omitempty"`

	// stderrLocalFileName is the same for stderr.
	// Source: BatchCompute, RedirectLocalInfo.StderrLocalFileName.
	// +optional
	StderrLocalFileName string `json:"stderrLocalFileName,omitempty"`
}

// Authentication is a key for storage of another account.
// Source: BatchCompute, Authentication.
type Authentication struct {
	// scene is the storage that is meant: COS. Required.
	// Source: BatchCompute, Authentication.Scene.
	// +optional
	Scene string `json:"scene,omitempty"`

	// secretId is the key's identifier; it is not a secret. Required.
	// Source: BatchCompute, Authentication.SecretId.
	// +optional
	SecretID string `json:"secretId,omitempty"`

	// secretKeySecretRef names the Secret whose entry secretKey is the key itself.
	// It replaces Authentication.SecretKey.
	// +optional
	SecretKeySecretRef *SecretRef `json:"secretKeySecretRef,omitempty"`
}
