// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package errcode

// Where a code comes from.
const (
	submitJob = "BatchCompute, SubmitJob, error codes"
	later     = "BatchCompute, error codes that SubmitJob gained after 2020"
	createEnv = "BatchCompute, CreateComputeEnv and ModifyComputeEnv, error codes"
	template  = "BatchCompute, CreateTaskTemplate and ModifyTaskTemplate, error codes"
	common    = "Tencent Cloud API, common error codes"
)

// computeEnv is the kind of an entry about ComputeEnvs only.
const computeEnv = "ComputeEnv"

// taskTemplate is the kind of an entry about TaskTemplates only.
const taskTemplate = "TaskTemplate"

// From is who answers with a code. The zero value is the admission webhook.
type From int

// Who answers with a code.
const (
	// FromAdmission: a create or an update is refused with it.
	FromAdmission From = iota
	// FromRunTime: it stands in the status and the events of a job that was accepted.
	FromRunTime
	// FromConverter: the converter from SubmitJob's JSON says it. The API server checks
	// the same of a manifest, in its own words, before the webhook.
	FromConverter
)

// Table returns one entry for each code: those of the SubmitJob page in its order,
// then the later ones, then those about ComputeEnvs, those about TaskTemplates, and the common ones. The caller may change the slice.
func Table() []Entry {
	return []Entry{
		{
			Code:     AllowedOneAttributeInEnvIDAndComputeEnv,
			When:     "A task has both `envId` and `computeEnv`, or neither.",
			Field:    "spec.job.tasks[].computeEnv, spec.job.tasks[].envId",
			Example:  `{envId: env-0a1b2c3d, computeEnv: {}}`,
			WhatToDo: "Keep exactly one of the two. `computeEnv: {}` is enough to run with the operator's defaults.",
			Source:   submitJob,
		},
		{
			Code:     InternalError,
			When:     "The operator itself failed, or could not ask the cluster whether the caller may submit. The answer has status code 500.",
			Example:  "The access review of the caller fails.",
			WhatToDo: "Send the request again with the same `clientToken` (kubectl does so a few times by itself); if it stays, look at the manager's log for the RequestId.",
			Source:   submitJob,
		},
		{
			Code:     CallCvm,
			When:     "The cluster refused to make a Pod of the job. It is the reason of a failed instance and of an event, never an answer to a request.",
			Example:  "A policy of the namespace forbids the Pod.",
			WhatToDo: "Read the event's message; it repeats what the cluster said.",
			Source:   submitJob,
			From:     FromRunTime,
		},
		{
			Code: CvmParameters,
			When: "A parameter of the machine is wrong: an image or a machine type that the operator's catalogue does not have, a size, disk, network, login, price or charge type.",
			Field: "spec.job.tasks[].computeEnv.envData: instanceType, instanceTypes[], instanceTypeOptions, imageId, systemDisk, dataDisks[], zones[], " +
				"virtualPrivateCloud, virtualPrivateClouds[], internetAccessible, instanceName, loginSettings, securityGroupIds, instanceChargeType, instanceMarketOptions",
			Example:  `computeEnv: {envData: {systemDisk: {diskType: FLOPPY}}}`,
			WhatToDo: "Use a value that the message names. Image identifiers (`img-…`) and machine types must be in the operator's catalogue; a container image and a size (`instanceTypeOptions`) need no entry.",
			Source:   submitJob,
		},
		{
			Code:     JobDescriptionTooLong,
			When:     "The job's description has more than 200 characters (Unicode characters, not bytes).",
			Field:    "spec.job.jobDescription",
			Example:  `jobDescription: <201 characters>`,
			WhatToDo: "Shorten it.",
			Source:   submitJob,
		},
		{
			Code:     JobNameTooLong,
			When:     "The job's name has more than 60 characters (Unicode characters, not bytes).",
			Field:    "spec.job.jobName",
			Example:  `jobName: <61 characters>`,
			WhatToDo: "Shorten it.",
			Source:   submitJob,
		},
		{
			Code:     NotificationEventNameDuplicate,
			When:     "An event is given twice for one topic, in one notification or in two.",
			Field:    "spec.job.notifications[].eventConfigs[].eventName",
			Example:  `{topicName: t, eventConfigs: [{eventName: JOB_FAILED}, {eventName: JOB_FAILED}]}`,
			WhatToDo: "Name each event once a topic.",
			Source:   submitJob,
		},
		{
			Code:     NotificationTopicName,
			When:     "A topic's name is not letters, digits and `-`, beginning with a letter; or the operator's catalogue does not have the topic for the namespace, and refuses those.",
			Field:    "spec.job.notifications[].topicName",
			Example:  `topicName: 1-topic`,
			WhatToDo: "Use the name of a topic (not its identifier) that the message names, or ask an administrator to add the topic to the [catalogue](notifications.md#topics).",
			Source:   submitJob,
		},
		{
			Code:     NotificationTopicNameTooLong,
			When:     "A topic's name has more than 64 characters.",
			Field:    "spec.job.notifications[].topicName",
			Example:  `topicName: <65 letters>`,
			WhatToDo: "Shorten it.",
			Source:   submitJob,
		},
		{
			Code: TaskName,
			When: "A task's name is not letters, digits, `-` and `_`, beginning with a letter or digit; or two tasks have the same name; " +
				"or a task of a job with several has none.",
			Field:    "spec.job.tasks[].taskName",
			Example:  `taskName: bad name!`,
			WhatToDo: "Give each task a name of its own. Only the single task of a job may be without; it is then called `task`.",
			Source:   submitJob,
		},
		{
			Code:     TaskNameTooLong,
			When:     "A task's name has more than 60 characters.",
			Field:    "spec.job.tasks[].taskName",
			Example:  `taskName: <61 letters>`,
			WhatToDo: "Shorten it.",
			Source:   submitJob,
		},
		{
			Code: ComputeEnv,
			When: "The compute environment does not hold together: `envType` is not MANAGED, more than one way to choose the machine, more than 10 machine types, " +
				"more mounts than data disks where there are any, an unknown file system, or an incomplete `agentRunningMode`.",
			Field:    "spec.job.tasks[].computeEnv; spec of a ComputeEnv",
			Example:  `computeEnv: {envData: {instanceType: S2.SMALL1, instanceTypes: [S2.SMALL2]}}`,
			WhatToDo: "Change what the message names.",
			Source:   submitJob,
		},
		{
			Code:     DependenceNotFoundTaskName,
			When:     "A dependence names a task that the job does not have. Names are case-sensitive.",
			Field:    "spec.job.dependences[].startTask, spec.job.dependences[].endTask",
			Example:  `dependences: [{startTask: fetch, endTask: nope}]`,
			WhatToDo: "Correct the name; the message suggests the nearest one.",
			Source:   submitJob,
		},
		{
			Code:     DependenceUnfeasible,
			When:     "The dependences form a cycle, so none of its tasks could ever start. The message shows a shortest one.",
			Field:    "spec.job.dependences",
			Example:  `dependences: [{startTask: a, endTask: b}, {startTask: b, endTask: a}]`,
			WhatToDo: "Remove one dependence of the cycle.",
			Source:   submitJob,
		},
		{
			Code: LocalPath,
			When: "A local path is not absolute, has a `..` segment or a control character, is longer than 4096 bytes, or is used twice in one task. " +
				"A drive or folder of Windows (`H:`, `D:\\scene\\`) has a valid form, and is refused as UnsupportedOperation.",
			Field: "spec.job.tasks[].inputMappings[].destinationPath, spec.job.tasks[].outputMappings[].sourcePath, " +
				"spec.job.tasks[].redirectLocalInfo.stdoutLocalPath, spec.job.tasks[].redirectLocalInfo.stderrLocalPath, " +
				"spec.job.tasks[].computeEnv.mountDataDisks[].localPath",
			Example:  `inputMappings: [{sourcePath: "cos://b-1.cos.ap-x.myqcloud.com/in/", destinationPath: data/in}]`,
			WhatToDo: "Write an absolute path, such as `/data/in/`.",
			Source:   submitJob,
		},
		{
			Code:     MaxRetryCount,
			When:     "`maxRetryCount` is over 5, `resourceMaxRetryCount` over 100, or `maxRetryCount` of `docker` over 10.",
			Field:    "spec.job.tasks[].maxRetryCount, spec.job.tasks[].resourceMaxRetryCount, spec.job.tasks[].application.docker.maxRetryCount",
			Example:  `maxRetryCount: 6`,
			WhatToDo: "Use a smaller number.",
			Source:   submitJob,
		},
		{
			Code: Negative,
			When: "A number is below zero. Of a ComputeEnv's `desiredComputeNodeCount` the API server says so, in its own words: `kubectl scale` changes it.",
			Field: "every number: spec.placement.projectId, spec.job.priority, spec.job.tasks[].taskInstanceNum, maxRetryCount, timeout, maxConcurrentNum, " +
				"resourceMaxRetryCount, outputMappingConfigs[].workerNum, workerPartSize, and the sizes in computeEnv.envData; spec.resourceMaxRetryCount of a ComputeEnv",
			Example:  `maxRetryCount: -1`,
			WhatToDo: "Use zero or more.",
			Source:   submitJob,
		},
		{
			Code: RemoteStoragePath,
			When: "A remote path is malformed behind its scheme: a bad host, no `/` at the end, an empty, `.` or `..` segment, white space, `?`, `#`, or a user name in it; " +
				"or a package that is neither `.tgz` nor `.tar.gz`; or nothing says which store and bucket a `cos://` path means.",
			Field: "spec.job.tasks[].application.packagePath, spec.job.tasks[].inputMappings[].sourcePath, spec.job.tasks[].outputMappings[].destinationPath, " +
				"spec.job.tasks[].redirectInfo.stdoutRedirectPath, spec.job.tasks[].redirectInfo.stderrRedirectPath",
			Example:  `redirectInfo: {stdoutRedirectPath: "cos://b-1.cos.ap-x.myqcloud.com/logs"}`,
			WhatToDo: "Write `cos://<bucket>-<appid>.cos.<region>.myqcloud.com/dir/`, with a `/` at the end; or have the administrator add the host to `stores` of the operator's catalogue.",
			Source:   submitJob,
		},
		{
			Code: RemoteStorageSchemeType,
			When: "A remote path has no scheme, or one that the field does not take: `cos`, `cfs` and `nfs` for input mappings (not `cos` on Windows), " +
				"`cos` for output mappings and redirects, `cos`, `http` and `https` for packages.",
			Field: "spec.job.tasks[].application.packagePath, spec.job.tasks[].inputMappings[].sourcePath, spec.job.tasks[].outputMappings[].destinationPath, " +
				"spec.job.tasks[].redirectInfo.stdoutRedirectPath, spec.job.tasks[].redirectInfo.stderrRedirectPath",
			Example:  `redirectInfo: {stdoutRedirectPath: "s3://b/logs/"}`,
			WhatToDo: "Use a scheme that the message names.",
			Source:   submitJob,
		},
		{
			Code:     JobQuota,
			When:     "The namespace keeps as many jobs as it may, or they take as many bytes as they may with this one, finished ones included.",
			Field:    "metadata.namespace",
			Example:  "One job more than the quota, which is 1000 and 64 MiB unless it was configured.",
			WhatToDo: "Delete finished jobs, or have the namespace's annotation `batchcompute.dev/job-quota` or `batchcompute.dev/job-bytes-quota` raised, whichever the message speaks of.",
			Source:   submitJob,
		},
		{
			Code:     UserNotAllowedToUseBatch,
			When:     "The caller may not submit jobs in this namespace. Creating a ComputeEnv and changing its spec take the same right; scaling it does not.",
			Field:    "metadata.namespace",
			Example:  "A create by a user whose roles lack the verb `submit` on `batchjobs`.",
			WhatToDo: "Ask for a role that has it, such as `edit`.",
			Source:   submitJob,
		},
		{
			Code:     EnvIDMalformed,
			When:     "`envId` can be neither a ComputeEnv's name nor its identifier: it is not lower-case letters, digits, `-` and `.`, or has more than 63 characters.",
			Field:    "spec.job.tasks[].envId",
			Example:  `envId: Pool 1`,
			WhatToDo: "Write the ComputeEnv's `metadata.name` or its `status.envId`.",
			Source:   later,
		},
		{
			Code:     InvalidParameterCombination,
			When:     "More than one of `zones`, `virtualPrivateCloud` and `virtualPrivateClouds` is given, or both `command` and `commands`.",
			Field:    "spec.job.tasks[].computeEnv.envData, spec.job.tasks[].application.commands",
			Example:  `envData: {zones: [z1], virtualPrivateCloud: {vpcId: DEFAULT, subnetId: DEFAULT}}`,
			WhatToDo: "Keep one of them.",
			Source:   later,
		},
		{
			Code:     InstanceTypeDuplicate,
			When:     "A machine type is given twice in `instanceTypes`.",
			Field:    "spec.job.tasks[].computeEnv.envData.instanceTypes[]",
			Example:  `instanceTypes: [S5.LARGE8, S5.LARGE8]`,
			WhatToDo: "Name each type once, the preferred one first.",
			Source:   later,
		},
		{
			Code: LimitExceeded,
			When: "The request is too large: more than 5000 tasks, more than 100 variables or mappings in a task, a spec of more than 1 MiB, " +
				"or a spec that together with the largest status it can reach is over 1.4 MiB; more than 100 hosts; more than 2000 nodes in a ComputeEnv.",
			Field: "spec, spec.placement.hostIds, spec.placement.hostIps, spec.job.tasks, spec.job.tasks[].envVars, spec.job.tasks[].inputMappings, " +
				"spec.job.tasks[].outputMappings; spec.desiredComputeNodeCount of a ComputeEnv, spec.replicas of its scale",
			Example:  `tasks: <5001 tasks>`,
			WhatToDo: "Split the job, or use one task with many instances in place of many tasks.",
			Source:   later,
		},
		{
			Code:     TaskInstanceNum,
			When:     "A task has 0 instances, or the tasks of the job have more than 100000 together.",
			Field:    "spec.job.tasks[].taskInstanceNum",
			Example:  `taskInstanceNum: 0`,
			WhatToDo: "Use 1 or more, and at most 100000 in the job.",
			Source:   later,
		},
		{
			Code:     UnavailableZone,
			When:     "No node is in the zone. Only a manager that runs with `--unknown-zones=reject` says so; else such a job waits for a node.",
			Field:    "spec.placement.zone, spec.job.tasks[].computeEnv.envData.zones[]; of a ComputeEnv, spec.placement.zone, spec.envData.zones[]",
			Example:  `placement: {zone: ap-atlantis-1}`,
			WhatToDo: "Use a zone that the message names.",
			Source:   later,
		},
		{
			Code:     ComputeEnvNotFound,
			When:     "`envId` names no ComputeEnv of the namespace, or one that is being deleted.",
			Field:    "spec.job.tasks[].envId",
			Example:  `envId: env-0a1b2c3d`,
			WhatToDo: "Write the ComputeEnv's `metadata.name` or its `status.envId`; create it first; or describe the machine with `computeEnv` in place of `envId`.",
			Source:   later,
		},
		{
			Code:     EnvDescriptionTooLong,
			When:     "The environment's description has more than 200 characters (Unicode characters, not bytes).",
			Field:    "spec.envDescription",
			Kind:     computeEnv,
			Example:  `envDescription: <201 characters>`,
			WhatToDo: "Shorten it.",
			Source:   createEnv,
		},
		{
			Code:     EnvNameTooLong,
			When:     "The environment's name has more than 60 characters (Unicode characters, not bytes).",
			Field:    "spec.envName",
			Kind:     computeEnv,
			Example:  `envName: <61 characters>`,
			WhatToDo: "Shorten it.",
			Source:   createEnv,
		},
		{
			Code:     ImageIDMalformed,
			When:     "The image can be neither an identifier nor a container image. For the task of a job, when a TaskTemplate is changed, and for an identifier that the operator's catalogue does not have, this is `InvalidParameter.CvmParameters`.",
			Field:    "spec.envData.imageId; of a new TaskTemplate, spec.taskTemplateInfo.computeEnv.envData.imageId",
			Kind:     computeEnv,
			Example:  `envData: {imageId: img-}`,
			WhatToDo: "Use an identifier of the catalogue, or a container image such as `registry.example/app:1.2`.",
			Source:   createEnv,
		},
		{
			Code:     InstanceType,
			When:     "The operator's catalogue does not have the machine type. For a task this is `InvalidParameter.CvmParameters`.",
			Field:    "spec.envData.instanceType, spec.envData.instanceTypes[]",
			Kind:     computeEnv,
			Example:  `envData: {instanceType: huge one}`,
			WhatToDo: "Use a type of the catalogue; the message suggests the nearest one. Or ask for a size with `instanceTypeOptions`.",
			Source:   createEnv,
		},
		{
			Code:     ComputeEnvQuota,
			When:     "The namespace keeps as many ComputeEnvs as it may.",
			Field:    "metadata.namespace",
			Kind:     computeEnv,
			Example:  "One ComputeEnv more than the quota, which is 10 unless it was configured.",
			WhatToDo: "Delete one, or have the namespace's annotation `batchcompute.dev/compute-env-quota` raised.",
			Source:   createEnv,
		},
		{
			Code:     TaskTemplateDescriptionTooLong,
			When:     "The template's description has more than 200 characters (Unicode characters, not bytes).",
			Field:    "spec.taskTemplateDescription",
			Kind:     taskTemplate,
			Example:  `taskTemplateDescription: <201 characters>`,
			WhatToDo: "Shorten it.",
			Source:   template,
		},
		{
			Code:     TaskTemplateName,
			When:     "The template's name has a character that it cannot have.",
			Field:    "spec.taskTemplateName",
			Kind:     taskTemplate,
			Example:  `taskTemplateName: ":-)"`,
			WhatToDo: "Use letters, digits, `-` and `_`, beginning with a letter or digit.",
			Source:   template,
		},
		{
			Code:     TaskTemplateNameTooLong,
			When:     "The template's name has more than 60 characters.",
			Field:    "spec.taskTemplateName",
			Kind:     taskTemplate,
			Example:  `taskTemplateName: <61 characters>`,
			WhatToDo: "Shorten it.",
			Source:   template,
		},
		{
			Code:     TaskTemplateQuota,
			When:     "The namespace keeps as many TaskTemplates as it may.",
			Field:    "metadata.namespace",
			Kind:     taskTemplate,
			Example:  "One TaskTemplate more than the quota, which is 50 unless it was configured.",
			WhatToDo: "Delete one, or have the namespace's annotation `batchcompute.dev/task-template-quota` raised.",
			Source:   template,
		},
		{
			Code:     TaskTemplateNotFound,
			When:     "A task names a TaskTemplate that the namespace does not have, or by what cannot be the name of one. The gateway's ModifyTaskTemplate and DeleteTaskTemplates answer it for a TaskTemplateId that the namespace of the key does not have.",
			Field:    "spec.job.tasks[].taskTemplate",
			Example:  `taskTemplate: nowhere`,
			WhatToDo: "Create the template first, or correct the name: `kubectl get tasktemplates` lists those of the namespace.",
			Source:   template,
		},
		{
			Code:     InvalidParameter,
			When:     "A value has another type than its field: a text where a number is due. The converter says so; for a manifest the API server does, in its own words.",
			Example:  `taskInstanceNum: many`,
			WhatToDo: "Write the type that the message names.",
			Source:   common,
			From:     FromConverter,
		},
		{
			Code: InvalidParameterValue,
			When: "A value is outside what its field takes and no other code fits: an unlisted enumeration value, a priority over 100, a bad `clientToken`, tag, variable, image or zone, a name with control characters, " +
				"a `dockerRunOption` other than the allowed ones, something in `computeEnv.kubernetes` that no Pod may have, a command that is blank or longer than 16 KiB, a `clientToken` that another job of the namespace has with other content, or a [receiver](notifications.md#receivers-of-users) of notifications that users must not name.",
			Field:    "any",
			Example:  `priority: 101`,
			WhatToDo: "Use a value that the message names.",
			Source:   common,
		},
		{
			Code:     MissingParameter,
			When:     "A required field is absent or empty.",
			Field:    "any required field, such as spec.placement.zone, spec.job.tasks, spec.job.tasks[].application.command",
			Example:  `application: {deliveryForm: LOCAL}`,
			WhatToDo: "Give the field. `placement.zone` may be left out only if every task gives `computeEnv.envData.zones`; of a ComputeEnv, if it gives `envData.zones`.",
			Source:   common,
		},
		{
			Code:     ResourceInUse,
			When:     "A ComputeEnv is to be deleted, and a job that has not ended has a task with its `envId`.",
			Field:    "metadata.name",
			Kind:     computeEnv,
			Example:  "A deletion while a job runs in the environment.",
			WhatToDo: "Wait for the jobs that the message names, or terminate or delete them.",
			Source:   common,
		},
		{
			Code: UnauthorizedOperation,
			When: "The request asks for something that this cluster's policy does not allow: a priority class, a service account, a runtime class, a scheduler, " +
				"a toleration, a node selector, single hosts, or to run as root. Without a policy that is a priority class whose name begins with `system-`.",
			Field: "spec.job.tasks[].computeEnv.kubernetes, spec.job.tasks[].application.docker.dockerRunOption, spec.placement.hostIds, spec.placement.hostIps; " +
				"of a ComputeEnv, spec.kubernetes, spec.placement",
			Example:  `computeEnv: {kubernetes: {priorityClassName: system-node-critical}}`,
			WhatToDo: "Ask for what the message says is allowed, or have whoever runs the operator change `policy` in its catalogue.",
			Source:   common,
		},
		{
			Code:     UnknownParameter,
			When:     "A body of SubmitJob or CreateComputeEnv has a field that the API does not have. The converter says so; for a manifest the API server does, in its own words.",
			Example:  `{"Job": {"Taskz": []}}`,
			WhatToDo: "Correct the name; the message suggests the nearest one.",
			Source:   common,
			From:     FromConverter,
		},
		{
			Code:     UnsupportedOperation,
			When:     "The request needs a part of BatchCompute that this version does not have yet, or changes a job after it was submitted.",
			Field:    "spec.job.tasks[].application.commands, spec.job.tasks[].computeEnv.envData.dataDisks[].snapshotId; a local path of Windows, such as spec.job.tasks[].inputMappings[].destinationPath; on update, the field that changed",
			Example:  `inputMappings: [{sourcePath: "cfs://10.0.0.20/in/", destinationPath: "D:\in"}]`,
			WhatToDo: "Do without that part: a path of Linux, an empty disk, one command for a task; to change a job, submit another.",
			Source:   common,
		},
	}
}
