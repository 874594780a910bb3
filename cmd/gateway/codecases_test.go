// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

func jobCodes() map[string][]codeCase {
	const instance = `, "TaskName": "a", "TaskInstanceIndex": 0`
	const log = `{"JobId": "{job}", "TaskName": "%s"%s}`
	return map[string][]codeCase{
		"SubmitJob":             submitCodes(),
		"DescribeJob":           ofOneJob("", "ResourceNotFound.Job"),
		"DescribeJobSubmitInfo": ofOneJob("", "ResourceNotFound.Job"),
		"DescribeJobMonitorData": append(ofOneJob(instance+`, "MetricName": "CpuUsage"`, "ResourceNotFound.Job"),
			by("ResourceNotFound.Task", `{"JobId": "{job}", "TaskName": "b", "TaskInstanceIndex": 0, "MetricName": "CpuUsage"}`),
			by("ResourceNotFound.TaskInstance", `{"JobId": "{job}", "TaskName": "a", "TaskInstanceIndex": 9, "MetricName": "CpuUsage"}`),
			by("InvalidParameterValue", `{"JobId": "{job}", "TaskName": "a", "TaskInstanceIndex": 0, "MetricName": "GpuUsage"}`),
			when(noMetrics, "ResourceUnavailable", `{"JobId": "{job}", "TaskName": "a", "TaskInstanceIndex": 0, "MetricName": "CpuUsage"}`),
		),
		"DescribeJobs": append(ofList("JobIds", "InvalidParameter.JobIdMalformed", "InvalidParameterValue.LimitExceeded"),
			cannot("InvalidZone.MismatchRegion", noZoneRegion)),
		"DescribeTask": append(ofOneJob(`, "TaskName": "a"`, "ResourceNotFound.Task"),
			by("InvalidFilter", `{"JobId": "{job}", "TaskName": "a", "Filters": [{"Name": "state", "Values": ["RUNNING"]}]}`),
			by("InvalidParameterValue.InvalidFilter", `{"JobId": "{job}", "TaskName": "a", "Filters": [{"Name": "task-instance-state", "Values": ["DONE"]}]}`),
			by("InvalidParameterValue", `{"JobId": "{job}", "TaskName": "a", "Limit": 1001}`)),
		"DescribeTaskLogs": append(ofOneJob(`, "TaskName": "a"`, "ResourceNotFound.Job"),
			by("InvalidParameter.TaskName", fmt.Sprintf(log, "", "")),
			by("InvalidParameter.TaskNameTooLong", fmt.Sprintf(log, x(61), "")),
			by("InvalidParameterValue", fmt.Sprintf(log, "a", `, "Limit": 11`)),
			byRaw("InvalidParameterValue.Negative", fmt.Sprintf(log, "a", `, "TaskInstanceIndexes": [-1]`)),
			by("ResourceNotFound.Task", fmt.Sprintf(log, "b", "")),
			by("ResourceNotFound.TaskInstance", fmt.Sprintf(log, "a", `, "TaskInstanceIndexes": [9]`)),
			byRaw("UnknownParameter", fmt.Sprintf(log, "a", `, "Limits": 1`))),
		"TerminateJob": append(ofOneJob("", "ResourceNotFound.Job"),
			when(noManager, "ResourceInUse.Job", `{"JobId": "{submitted job}"}`),
			cannot("UnsupportedOperation", "a job in any other state is terminated, or has ended and stays as it is"),
			cannot("UnsupportedOperation.TerminateOperationWithEnvId", anyEnv)),
		"TerminateTaskInstance": append(ofOneJob(instance, "ResourceNotFound.TaskInstance"),
			cannot("UnsupportedOperation.TerminateOperationWithEnvId", anyEnv)),
		"RetryJobs": {
			when(noAPIServer, "InternalError", `{"JobIds": ["job-00000000"]}`), by("InvalidParameter.JobIdMalformed", `{"JobIds": ["job-1"]}`),
			by("ResourceNotFound.Job", `{"JobIds": ["job-00000000"]}`), by("UnsupportedOperation", `{"JobIds": ["{job}"]}`),
		},
		"DeleteJob": append(ofOneJob("", "ResourceNotFound.Job"),
			cannot("InternalError.CallTagAPI", noTags), by("ResourceInUse.Job", `{"JobId": "{job}"}`),
			cannot("UnsupportedOperation", "a job that has not ended is `ResourceInUse.Job`, and any other is deleted")),
	}
}

func submitCodes() []codeCase {
	topic := func(name string) string {
		return `"Notifications": [` + fmt.Sprintf(badTopic, name, "JOB_FAILED") + `]`
	}
	edge := func(to string) string { return `"Dependences": [{"StartTask": "a", "EndTask": "` + to + `"}]` }
	again := func(g given, c codeCase) codeCase { c.given = g; return c }
	ordinary := func(code string) codeCase { c := ofJob(code, "", inline); c.shown = "any job"; return c }
	zone := ordinary("InvalidParameterValue.UnavailableZone")
	zone.body = strings.Replace(zone.body, `"Zone": "z"`, `"Zone": "nowhere"`, 1)
	zone.shown, zone.given = `"Placement": {"Zone": "nowhere"}`, strictZones
	return append(ofTask(func(code, task string) codeCase { return ofJob(code, "", task) }),
		again(noAPIServer, ordinary("InternalError")),
		cannot("InternalError.CallCvm", noMachines), cannot("InternalError.CallCam", noCAM), cannot("InternalError.CallTagAPI", noTags),
		ofJob("InvalidParameter.JobDescriptionTooLong", `"JobDescription": "`+x(201)+`"`, ""),
		ofJob("InvalidParameter.JobNameTooLong", `"JobName": "`+x(61)+`"`, ""),
		ofJob("InvalidParameter.NotificationEventNameDuplicate", `"Notifications": [`+twiceEvent+`]`, ""),
		ofJob("InvalidParameter.NotificationTopicName", topic("1 topic"), ""),
		ofJob("InvalidParameter.NotificationTopicNameTooLong", topic(x(65)), ""),
		ofJob("InvalidParameterValue.DependenceNotFoundTaskName", edge("nope"), ""),
		ofJob("InvalidParameterValue.DependenceUnfeasible", edge("a"), ""),
		again(oneEach, ordinary("LimitExceeded.JobQuota")),
		again(noSubmit, ordinary("UnauthorizedOperation.UserNotAllowedToUseBatch")),
		ofJob("InvalidParameter.EnvIdMalformed", "", `"EnvId": "Pool 1"`),
		cannot("InvalidParameter.ImageIdMalformed", "an image that is none is `InvalidParameter.CvmParameters`, the older code"),
		ofJob("InvalidParameter.InvalidParameterCombination", "", `"ComputeEnv": {"EnvData": {"Zones": ["z"], "VirtualPrivateCloud": {"VpcId": "DEFAULT", "SubnetId": "DEFAULT"}}}`).withRaw(),
		ofJob("InvalidParameterValue.InstanceTypeDuplicate", "", `"ComputeEnv": {"EnvData": {"InstanceTypes": ["S2.SMALL1", "S2.SMALL1"]}}`),
		cannot("InvalidParameterValue.InvalidDataTypeAny", noDataType), cannot("InvalidParameterValue.NotFloat", noDataType+"; the one number with a fraction, `MaxPrice`, is a text, and malformed it is `InvalidParameter.CvmParameters`"),
		cannot("InvalidParameterValue.InvalidZoneMismatchRegion", noZoneRegion), cannot("InvalidZone.MismatchRegion", noZoneRegion),
		ofJob("InvalidParameterValue.LimitExceeded", "", `"EnvVars": [`+strings.Repeat(`{"Name": "E", "Value": ""}, `, 100)+`{"Name": "E", "Value": ""}]`),
		ofJob("InvalidParameterValue.TaskInstanceNum", "", `"TaskInstanceNum": 0`),
		zone,
		ofJob("ResourceNotFound.ComputeEnv", "", `"EnvId": "env-00000000"`),
	)
}

// withRaw is the case for a request that the SDK's structures cannot hold.
func (c codeCase) withRaw() codeCase { c.raw = true; return c }

func envCodes() map[string][]codeCase {
	modify := func(code, fields string) codeCase { return by(code, `{"EnvId": "{env}", `+fields+"}") }
	const list = "InvalidParameterValue"
	return map[string][]codeCase{
		"CreateComputeEnv": createEnvCodes(),
		"ModifyComputeEnv": {
			when(noAPIServer, "InternalError", `{"EnvId": "env-00000000", "EnvName": "new"}`), cannot("InternalError.CallCpmAPI", "there is no bare metal"),
			modify("InvalidParameter.EnvDescriptionTooLong", `"EnvDescription": "`+x(201)+`"`), by("InvalidParameter.EnvIdMalformed", badEnv),
			modify("InvalidParameter.EnvNameTooLong", `"EnvName": "`+x(61)+`"`),
			modify("InvalidParameterValue.InstanceType", `"EnvData": {"InstanceTypes": ["XX.NONE"]}`),
			modify("InvalidParameterValue.InstanceTypeDuplicate", `"EnvData": {"InstanceTypes": ["S2.SMALL1", "S2.SMALL1"]}`),
			modify("InvalidParameterValue.InstanceTypesEmpty", `"EnvData": {"InstanceTypes": []}`).withRaw(),
			modify("InvalidParameterValue.LimitExceeded", `"DesiredComputeNodeCount": 2001`), modify("InvalidParameterValue.Negative", `"DesiredComputeNodeCount": -1`),
			cannot("LimitExceeded.CpuQuota", noCores), by("ResourceNotFound.ComputeEnv", unknownEnv), cannot("UnsupportedOperation.AcceptOtherRequest", storedAtOnce),
			by("UnsupportedOperation.ComputeEnvAcceptOtherRequest", `{"EnvId": "{deleted env}", "EnvName": "new"}`),
			cannot("UnsupportedOperation.ComputeNodeForbidTerminate", "a smaller number takes no node from an instance: nodes in use go when their instances end"),
			cannot("UnsupportedOperation.NotEnoughComputeNodesToTerminate", "the number may be any down to 0: nodes in use go when their instances end"),
		},
		"DescribeComputeEnv": {
			when(noAPIServer, "InternalError", unknownEnv), by("InvalidParameter.EnvIdMalformed", badEnv), by("ResourceNotFound.ComputeEnv", unknownEnv),
		},
		"DescribeComputeEnvs": append(without(ofList("EnvIds", "InvalidParameter.EnvIdMalformed", list), list), by(list, `{"Limit": 101}`),
			by("InvalidParameterValue.ResourceType", `{"Filters": [{"Name": "resource-type", "Values": ["GPU"]}]}`), cannot("InvalidZone.MismatchRegion", noZoneRegion)),
		"DescribeComputeEnvActivities": {
			when(noAPIServer, "InternalError", unknownEnv), by("InvalidParameter.EnvIdMalformed", badEnv), by("ResourceNotFound.ComputeEnv", unknownEnv),
			by("InvalidParameter.ComputeNodeIdMalformed", `{"EnvId": "{env}", "Filters": {"Name": "compute-node-id", "Values": ["node-1"]}}`),
			byRaw("UnknownParameter", `{"EnvId": "{env}", "Limits": 1}`),
		},
		"DescribeComputeEnvCreateInfo": {
			when(noAPIServer, "InternalError", unknownEnv), by("InvalidParameter.EnvIdMalformed", badEnv), by("ResourceNotFound.ComputeEnv", unknownEnv),
		},
		"DescribeComputeEnvCreateInfos": append(without(ofList("EnvIds", "InvalidParameter.EnvIdMalformed", list), list), by(list, `{"Limit": 101}`),
			cannot("InvalidZone.MismatchRegion", noZoneRegion)),
		"DeleteComputeEnv": {
			when(noAPIServer, "InternalError", unknownEnv), by("InvalidParameter.EnvIdMalformed", badEnv), by("ResourceNotFound.ComputeEnv", unknownEnv),
			cannot("UnsupportedOperation", finer), cannot("UnsupportedOperation.AcceptOtherRequest", storedAtOnce),
			by("UnsupportedOperation.ComputeEnvAcceptOtherRequest", `{"EnvId": "{deleted env}"}`),
			by("UnsupportedOperation.ComputeEnvOperation", `{"EnvId": "{used env}"}`),
			cannot("UnsupportedOperation.ComputeNodeForbidTerminate", "nodes in use are `UnsupportedOperation.ComputeEnvOperation`, and free ones end with the environment"),
		},
		"TerminateComputeNode": append(ofNodes(envNode),
			cannot("UnsupportedOperation.ComputeEnvOperation", "a node in use is terminated as well: its instance gets another")),
		"TerminateComputeNodes": append(ofNodes(envNodes), cannot("UnsupportedOperation", finer)),
	}
}

func createEnvCodes() []codeCase {
	topic := func(code, name string) codeCase {
		return ofEnv(code, `"Notifications": `+fmt.Sprintf(badTopic, name, "COMPUTE_NODE_CREATED"))
	}
	input := func(code, from, to string) codeCase {
		return ofEnv(code, `"InputMappings": [{"SourcePath": "`+from+`", "DestinationPath": "`+to+`"}]`)
	}
	ordinary := func(g given, code string) codeCase {
		c := ofEnv(code, `"EnvType": "MANAGED"`)
		c.given, c.shown = g, "any environment"
		return c
	}
	zone := ordinary(nothing, "InvalidParameterValue.UnavailableZone")
	zone.body = strings.Replace(zone.body, `"Zone": "z"`, `"Zone": "nowhere"`, 1)
	zone.shown, zone.given = `"Placement": {"Zone": "nowhere"}`, strictZones
	return []codeCase{
		ordinary(noAPIServer, "InternalError"), cannot("InternalError.CallCam", noCAM), cannot("InternalError.CallCvm", noMachines), cannot("InternalError.CallTagAPI", noTags),
		ofEnv("InvalidParameter.CvmParameters", `"EnvData": {"InstanceChargeType": "FREE"}`),
		ofEnv("InvalidParameter.EnvDescriptionTooLong", `"EnvDescription": "`+x(201)+`"`),
		ofEnv("InvalidParameter.EnvNameTooLong", `"EnvName": "`+x(61)+`"`),
		ofEnv("InvalidParameter.ImageIdMalformed", `"EnvData": {"ImageId": "img-"}`),
		ofEnv("InvalidParameter.InvalidParameterCombination", `"EnvData": {"Zones": ["z"], "VirtualPrivateCloud": {"VpcId": "DEFAULT", "SubnetId": "DEFAULT"}}`).withRaw(),
		ofEnv("InvalidParameter.NotificationEventNameDuplicate", `"Notifications": `+strings.ReplaceAll(twiceEvent, "JOB_FAILED", "COMPUTE_NODE_CREATED")),
		topic("InvalidParameter.NotificationTopicName", "1 topic"), topic("InvalidParameter.NotificationTopicNameTooLong", x(65)),
		ofEnv("InvalidParameterValue.ComputeEnv", `"EnvType": "OTHER"`),
		ofEnv("InvalidParameterValue.InstanceType", `"EnvData": {"InstanceType": "XX.NONE"}`),
		cannot("InvalidParameterValue.InvalidDataTypeAny", noDataType), cannot("InvalidParameterValue.InvalidZoneMismatchRegion", noZoneRegion),
		input("InvalidParameterValue.LocalPath", "nfs://10.0.0.1/in/", "in"),
		ofEnv("InvalidParameterValue.Negative", `"DesiredComputeNodeCount": -1`),
		input("InvalidParameterValue.RemoteStoragePath", "nfs://10.0.0.1/in", "/in/"), input("InvalidParameterValue.RemoteStorageSchemeType", "s3://in/", "/in/"),
		zone, cannot("InvalidZone.MismatchRegion", noZoneRegion), ordinary(oneEach, "LimitExceeded.ComputeEnvQuota"), cannot("LimitExceeded.CpuQuota", noCores),
		ordinary(noSubmit, "UnauthorizedOperation.UserNotAllowedToUseBatch"),
	}
}

func templateCodes() map[string][]codeCase {
	task := func(fields string) string {
		if !strings.Contains(fields, "EnvId") && !strings.Contains(fields, "ComputeEnv") {
			fields = withComma(fields) + inline
		}
		if !strings.Contains(fields, `"TaskName"`) {
			fields = `"TaskName": "a", ` + fields
		}
		return `"TaskTemplateInfo": {` + application + ", " + fields + "}"
	}
	create := func(code, fields string) codeCase {
		return codeCase{code: code, shown: fields, body: `{"TaskTemplateName": "codes", ` + task(fields) + "}"}
	}
	named := func(code, name string) codeCase {
		return codeCase{code: code, shown: `"TaskTemplateName": "` + name + `"`, body: `{"TaskTemplateName": "` + name + `", ` + task("") + "}"}
	}
	ordinary := func(g given, code string) codeCase {
		c := create(code, "")
		c.given, c.shown = g, "any template"
		return c
	}
	change := func(code, fields string) codeCase {
		return codeCase{code: code, shown: fields, body: `{"TaskTemplateId": "{template}", ` + task(fields) + "}"}
	}
	modify := func(code, fields string) codeCase { return by(code, `{"TaskTemplateId": "{template}", `+fields+"}") }
	return map[string][]codeCase{
		"CreateTaskTemplate": append(ofTask(create), ordinary(noAPIServer, "InternalError"), cannot("InternalError.CallTagAPI", noTags),
			create("InvalidParameter.EnvIdMalformed", `"EnvId": "Pool 1"`), create("InvalidParameter.ImageIdMalformed", `"ComputeEnv": {"EnvData": {"ImageId": "img-"}}`),
			named("InvalidParameter.TaskTemplateName", ":-)"), named("InvalidParameter.TaskTemplateNameTooLong", x(61)),
			cannot("InvalidParameterValue.DependenceNotFoundTaskName", noDAG), cannot("InvalidParameterValue.DependenceUnfeasible", noDAG),
			cannot("InvalidParameterValue.InvalidDataTypeAny", noDataType), ordinary(oneEach, "LimitExceeded.TaskTemplateQuota"),
			ordinary(noSubmit, "UnauthorizedOperation.UserNotAllowedToUseBatch")),
		"ModifyTaskTemplate": append(ofTask(change), when(noAPIServer, "InternalError", `{"TaskTemplateId": "task-tmpl-00000000", "TaskTemplateName": "new"}`),
			modify("InvalidParameter.TaskTemplateName", `"TaskTemplateName": ":-)"`), modify("InvalidParameter.TaskTemplateNameTooLong", `"TaskTemplateName": "`+x(61)+`"`),
			cannot("InvalidParameterValue.DependenceNotFoundTaskName", noDAG), cannot("InvalidParameterValue.DependenceUnfeasible", noDAG),
			modify("InvalidParameter.TaskTemplateDescriptionTooLong", `"TaskTemplateDescription": "`+x(201)+`"`),
			by("InvalidParameter.TaskTemplateIdMalformed", `{"TaskTemplateId": "task-tmpl-1"}`), by("InvalidParameterAtLeastOneAttribute", `{"TaskTemplateId": "{template}"}`),
			by("ResourceNotFound.TaskTemplate", `{"TaskTemplateId": "task-tmpl-00000000", "TaskTemplateName": "new"}`)),
		"DeleteTaskTemplates": {
			when(noAPIServer, "InternalError", `{"TaskTemplateIds": ["task-tmpl-00000000"]}`), by("InvalidParameter.TaskTemplateIdMalformed", `{"TaskTemplateIds": ["x"]}`),
			by("ResourceNotFound.TaskTemplate", `{"TaskTemplateIds": ["task-tmpl-00000000"]}`),
		},
		"DescribeTaskTemplates": append(without(ofList("TaskTemplateIds", "InvalidParameter.TaskTemplateIdMalformed", "InvalidParameterValue"), "InvalidParameterValue", "InvalidParameterValue.InvalidFilter"),
			by("InvalidParameterValue", `{"Limit": 101}`),
			byRaw("InvalidParameterValue.InvalidFilter", `{"Filters": [{"Name": "task-template-name", "Values": []}]}`)),
	}
}

func otherCodes() map[string][]codeCase {
	const attach, detach = `{"EnvId": "env-00000000", "Instances": [{"InstanceId": "ins-0a1b2c3d"}]}`, `{"EnvId": "env-00000000", "InstanceIds": ["ins-0a1b2c3d"]}`
	none := []codeCase{
		cannot("InternalError", always), cannot("InternalError.CallCvm", always), cannot("InvalidParameter.EnvIdMalformed", always),
		cannot("InvalidParameterValue.InstanceIdDuplicated", always), cannot("ResourceNotFound.ComputeEnv", always),
	}
	return map[string][]codeCase{
		"AttachInstances":                    append([]codeCase{by("UnsupportedOperation", attach), cannot("UnsupportedOperation.InstancesNotAllowToAttach", always)}, none...),
		"DetachInstances":                    append([]codeCase{by("UnsupportedOperation", detach), cannot("UnknownParameter", always)}, none...),
		"CreateCpmComputeEnv":                {by("UnsupportedOperation", `{}`)},
		"DescribeCpmOsInfo":                  {by("UnsupportedOperation", `{"DeviceClassCode": "x"}`)},
		"DescribeAvailableCvmInstanceTypes":  ofCatalog(),
		"DescribeCvmZoneInstanceConfigInfos": append(ofCatalog(), by("InvalidParameterValue.UnsupportedBatchInstanceChargeType", `{"Filters": [{"Name": "instance-charge-type", "Values": ["FREE"]}]}`)),
		"DescribeInstanceCategories":         {cannot("InternalError", inMemory), cannot("UnsupportedOperation", "every catalogue can be listed")},
	}
}
