// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// vendorCodes are the business error codes of each action. Those of the common part of the API are not in it.
// Source: BatchCompute, error codes of each action; SubmitJob, error codes.
var vendorCodes = map[string]string{
	"SubmitJob": `AllowedOneAttributeInEnvIdAndComputeEnv InternalError InternalError.CallCvm InvalidParameter.CvmParameters InvalidParameter.JobDescriptionTooLong
		InvalidParameter.JobNameTooLong InvalidParameter.NotificationEventNameDuplicate InvalidParameter.NotificationTopicName InvalidParameter.NotificationTopicNameTooLong
		InvalidParameter.TaskName InvalidParameter.TaskNameTooLong InvalidParameterValue.ComputeEnv InvalidParameterValue.DependenceNotFoundTaskName
		InvalidParameterValue.DependenceUnfeasible InvalidParameterValue.LocalPath InvalidParameterValue.MaxRetryCount InvalidParameterValue.Negative
		InvalidParameterValue.RemoteStoragePath InvalidParameterValue.RemoteStorageSchemeType LimitExceeded.JobQuota UnauthorizedOperation.UserNotAllowedToUseBatch
		InternalError.CallCam InternalError.CallTagAPI InvalidParameter.EnvIdMalformed InvalidParameter.ImageIdMalformed InvalidParameter.InvalidParameterCombination
		InvalidParameterValue.InstanceTypeDuplicate InvalidParameterValue.InvalidDataTypeAny InvalidParameterValue.NotFloat InvalidParameterValue.InvalidZoneMismatchRegion
		InvalidParameterValue.LimitExceeded InvalidParameterValue.TaskInstanceNum InvalidParameterValue.UnavailableZone InvalidZone.MismatchRegion ResourceNotFound.ComputeEnv`,
	"DescribeJob":            `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.Job`,
	"DescribeJobSubmitInfo":  `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.Job`,
	"DescribeJobMonitorData": `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.Job`,
	"DescribeJobs": `InternalError InvalidFilter InvalidParameter.InvalidParameterCombination InvalidParameter.JobIdMalformed InvalidParameterValue
		InvalidParameterValue.InvalidFilter InvalidParameterValue.LimitExceeded InvalidZone.MismatchRegion UnknownParameter`,
	"DescribeTask": `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.Task`,
	"DescribeTaskLogs": `InternalError InvalidParameter.JobIdMalformed InvalidParameter.TaskName InvalidParameter.TaskNameTooLong InvalidParameterValue
		InvalidParameterValue.Negative ResourceNotFound.Job ResourceNotFound.Task ResourceNotFound.TaskInstance UnknownParameter`,
	"TerminateJob": `InternalError InvalidParameter.JobIdMalformed ResourceInUse.Job ResourceNotFound.Job UnsupportedOperation
		UnsupportedOperation.TerminateOperationWithEnvId`,
	"TerminateTaskInstance": `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.TaskInstance UnsupportedOperation.TerminateOperationWithEnvId`,
	"RetryJobs":             `InternalError InvalidParameter.JobIdMalformed ResourceNotFound.Job UnsupportedOperation`,
	"DeleteJob":             `InternalError InternalError.CallTagAPI InvalidParameter.JobIdMalformed ResourceInUse.Job ResourceNotFound.Job UnsupportedOperation`,
	"CreateComputeEnv": `InternalError InternalError.CallCam InternalError.CallCvm InternalError.CallTagAPI InvalidParameter.CvmParameters
		InvalidParameter.EnvDescriptionTooLong InvalidParameter.EnvNameTooLong InvalidParameter.ImageIdMalformed InvalidParameter.InvalidParameterCombination
		InvalidParameter.NotificationEventNameDuplicate InvalidParameter.NotificationTopicName InvalidParameter.NotificationTopicNameTooLong
		InvalidParameterValue.ComputeEnv InvalidParameterValue.InstanceType InvalidParameterValue.InvalidDataTypeAny
		InvalidParameterValue.InvalidZoneMismatchRegion InvalidParameterValue.LocalPath InvalidParameterValue.Negative InvalidParameterValue.RemoteStoragePath
		InvalidParameterValue.RemoteStorageSchemeType InvalidParameterValue.UnavailableZone InvalidZone.MismatchRegion LimitExceeded.ComputeEnvQuota
		LimitExceeded.CpuQuota UnauthorizedOperation.UserNotAllowedToUseBatch`,
	"ModifyComputeEnv": `InternalError InternalError.CallCpmAPI InvalidParameter.EnvDescriptionTooLong InvalidParameter.EnvIdMalformed
		InvalidParameter.EnvNameTooLong InvalidParameterValue.InstanceType InvalidParameterValue.InstanceTypeDuplicate InvalidParameterValue.InstanceTypesEmpty
		InvalidParameterValue.LimitExceeded InvalidParameterValue.Negative LimitExceeded.CpuQuota ResourceNotFound.ComputeEnv
		UnsupportedOperation.AcceptOtherRequest UnsupportedOperation.ComputeEnvAcceptOtherRequest UnsupportedOperation.ComputeNodeForbidTerminate
		UnsupportedOperation.NotEnoughComputeNodesToTerminate`,
	"DescribeComputeEnv": `InternalError InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv`,
	"DescribeComputeEnvs": `InternalError InvalidFilter InvalidParameter.EnvIdMalformed InvalidParameter.InvalidParameterCombination InvalidParameterValue
		InvalidParameterValue.InvalidFilter InvalidParameterValue.ResourceType InvalidZone.MismatchRegion UnknownParameter`,
	"DescribeComputeEnvActivities": `InternalError InvalidParameter.ComputeNodeIdMalformed InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv UnknownParameter`,
	"DescribeComputeEnvCreateInfo": `InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv`,
	"DescribeComputeEnvCreateInfos": `InvalidParameter.EnvIdMalformed InvalidParameter.InvalidParameterCombination InvalidParameterValue InvalidZone.MismatchRegion
		UnknownParameter`,
	"DeleteComputeEnv": `InternalError InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv UnsupportedOperation UnsupportedOperation.AcceptOtherRequest
		UnsupportedOperation.ComputeEnvAcceptOtherRequest UnsupportedOperation.ComputeEnvOperation UnsupportedOperation.ComputeNodeForbidTerminate`,
	"TerminateComputeNode": `InvalidParameter.ComputeNodeIdMalformed InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv ResourceNotFound.ComputeNode
		UnsupportedOperation.AcceptOtherRequest UnsupportedOperation.ComputeEnvAcceptOtherRequest UnsupportedOperation.ComputeEnvOperation
		UnsupportedOperation.ComputeNodeForbidTerminate UnsupportedOperation.ComputeNodeIsTerminating`,
	"TerminateComputeNodes": `InvalidParameter.ComputeNodeIdMalformed InvalidParameter.EnvIdMalformed ResourceNotFound.ComputeEnv ResourceNotFound.ComputeNode
		UnsupportedOperation UnsupportedOperation.AcceptOtherRequest UnsupportedOperation.ComputeEnvAcceptOtherRequest
		UnsupportedOperation.ComputeNodeForbidTerminate UnsupportedOperation.ComputeNodeIsTerminating`,
	"AttachInstances": `InternalError InternalError.CallCvm InvalidParameter.EnvIdMalformed InvalidParameterValue.InstanceIdDuplicated ResourceNotFound.ComputeEnv
		UnsupportedOperation UnsupportedOperation.InstancesNotAllowToAttach`,
	"DetachInstances": `InternalError InternalError.CallCvm InvalidParameter.EnvIdMalformed InvalidParameterValue.InstanceIdDuplicated ResourceNotFound.ComputeEnv
		UnknownParameter UnsupportedOperation`,
	"CreateTaskTemplate": `AllowedOneAttributeInEnvIdAndComputeEnv InternalError InternalError.CallTagAPI InvalidParameter.CvmParameters
		InvalidParameter.EnvIdMalformed InvalidParameter.ImageIdMalformed InvalidParameter.TaskName InvalidParameter.TaskNameTooLong
		InvalidParameter.TaskTemplateName InvalidParameter.TaskTemplateNameTooLong InvalidParameterValue.ComputeEnv
		InvalidParameterValue.DependenceNotFoundTaskName InvalidParameterValue.DependenceUnfeasible InvalidParameterValue.InvalidDataTypeAny
		InvalidParameterValue.LocalPath InvalidParameterValue.MaxRetryCount InvalidParameterValue.Negative InvalidParameterValue.RemoteStoragePath
		InvalidParameterValue.RemoteStorageSchemeType LimitExceeded.TaskTemplateQuota`,
	"ModifyTaskTemplate": `AllowedOneAttributeInEnvIdAndComputeEnv InternalError InvalidParameter.CvmParameters InvalidParameter.TaskName
		InvalidParameter.TaskNameTooLong InvalidParameter.TaskTemplateName InvalidParameter.TaskTemplateNameTooLong InvalidParameterValue.ComputeEnv
		InvalidParameterValue.DependenceNotFoundTaskName InvalidParameterValue.DependenceUnfeasible InvalidParameterValue.LocalPath
		InvalidParameterValue.MaxRetryCount InvalidParameterValue.Negative InvalidParameterValue.RemoteStoragePath InvalidParameterValue.RemoteStorageSchemeType
		InvalidParameter.TaskTemplateDescriptionTooLong InvalidParameter.TaskTemplateIdMalformed InvalidParameterAtLeastOneAttribute ResourceNotFound.TaskTemplate`,
	"DeleteTaskTemplates":   `InternalError InvalidParameter.TaskTemplateIdMalformed ResourceNotFound.TaskTemplate`,
	"DescribeTaskTemplates": `InternalError InvalidParameter.InvalidParameterCombination InvalidParameter.TaskTemplateIdMalformed InvalidParameterValue UnknownParameter`,
	"DescribeAvailableCvmInstanceTypes": `InternalError InternalError.CallCam InternalError.CallCvm InvalidFilter InvalidParameterValue
		InvalidParameterValue.InvalidFilter InvalidParameterValue.InvalidZoneMismatchRegion InvalidParameterValue.LimitExceeded InvalidZone.MismatchRegion`,
	"DescribeCvmZoneInstanceConfigInfos": `InternalError InternalError.CallCam InternalError.CallCvm InvalidFilter InvalidParameterValue
		InvalidParameterValue.InvalidFilter InvalidParameterValue.InvalidZoneMismatchRegion InvalidParameterValue.LimitExceeded InvalidZone.MismatchRegion
		InvalidParameterValue.UnsupportedBatchInstanceChargeType`,
	"DescribeInstanceCategories": `InternalError UnsupportedOperation`,
}

// given is what there must be for a code to be answered.
type given string

const (
	nothing     given = ""
	noAPIServer given = "the API server answers every request with status 500"
	noSubmit    given = "the key's service account lacks the verb `submit`"
	oneEach     given = "the namespace's quotas are 1, and used"
	strictZones given = "the operator refuses unknown zones"
	noMetrics   given = "the cluster has no metrics API"
	noManager   given = "no operator has looked at the job yet"
)

// codeCase says how a code is provoked, or why it cannot occur.
type codeCase struct {
	code string
	// body is the request that is answered with it; for the names in braces, see newPlaces. shown is the part of it that
	// matters, body if empty.
	body, shown string
	given       given
	// raw: the structures of the SDK cannot hold the request, so it is sent with the SDK's client for any request.
	raw bool
	// cannot is the reason why no request is answered with it.
	cannot string
}

// Reasons why codes cannot occur.
const (
	noCAM        = "nobody is asked but the cluster, whose own access control decides"
	noTags       = "there is no tag service: tags are part of the object"
	noMachines   = "no machine is created by a request: the operator creates Pods later, and a Pod that is refused is the reason of its instance"
	noZoneRegion = "a cluster's zones are of no region"
	noDataType   = "a value of another type is `InvalidParameter`"
	noCores      = "cores are under the namespace's ResourceQuota when Pods are created; an instance waits for them"
	noDAG        = "a template is one task and has no dependences"
	inMemory     = "the answer is made of the catalogue, which the gateway has in memory"
	always       = "the answer is always `UnsupportedOperation`"
	storedAtOnce = "a change is stored at once, so none is ever unfinished; changes at the same time are retried"
	anyEnv       = "instances on the nodes of an environment are terminated like others"
	finer        = "the finer codes of the family are answered"
)

// Parts of requests.
const (
	application = `"Application": {"DeliveryForm": "LOCAL", "Command": "true"}`
	inline      = `"ComputeEnv": {}`
	unknownJob  = `{"JobId": "job-00000000"}`
	badJob      = `{"JobId": "job-1"}`
	unknownEnv  = `{"EnvId": "env-00000000"}`
	badEnv      = `{"EnvId": "env-1"}`
	envNode     = `{"EnvId": "%s", "ComputeNodeId": "%s"}`
	envNodes    = `{"EnvId": "%s", "ComputeNodeIds": ["%s"]}`
	badTopic    = `{"TopicName": "%s", "EventConfigs": [{"EventName": "%s"}]}`
	twiceEvent  = `{"TopicName": "t", "EventConfigs": [{"EventName": "JOB_FAILED"}, {"EventName": "JOB_FAILED"}]}`
)

// x returns a text of n characters.
func x(n int) string { return strings.Repeat("x", n) }

// cannot is a code that does not occur.
func cannot(code, why string) codeCase { return codeCase{code: code, cannot: why} }

// by is a code that a request provokes.
func by(code, body string) codeCase { return codeCase{code: code, body: body} }

// byRaw is by for a request that the SDK's structures cannot hold.
func byRaw(code, body string) codeCase { return codeCase{code: code, body: body, raw: true} }

// when is by for a given.
func when(g given, code, body string) codeCase { return codeCase{code: code, body: body, given: g} }

// ofJob is a SubmitJob with fields of the job, and of its only task.
func ofJob(code, job, task string) codeCase {
	shown := job + task
	if job != "" {
		job += ", "
	}
	if !strings.Contains(task, "EnvId") && !strings.Contains(task, "ComputeEnv") {
		task = withComma(task) + inline
	}
	if !strings.Contains(task, `"TaskName"`) {
		task = `"TaskName": "a", ` + task
	}
	return codeCase{code: code, shown: shown, body: fmt.Sprintf(`{"Placement": {"Zone": "z"}, "Job": {%s"Tasks": [{%s, %s}]}}`, job, application, task)}
}

func withComma(s string) string {
	if s == "" {
		return ""
	}
	return s + ", "
}

// ofEnv is a CreateComputeEnv with more fields.
func ofEnv(code, fields string) codeCase {
	body := `{"Placement": {"Zone": "z"}, "ComputeEnv": {`
	if !strings.Contains(fields, "EnvName") {
		body += `"EnvName": "codes", `
	}
	if !strings.Contains(fields, "DesiredComputeNodeCount") {
		body += `"DesiredComputeNodeCount": 1, `
	}
	return codeCase{code: code, shown: fields, body: body + fields + "}}"}
}

// ofTask are the codes about a task, which SubmitJob and the actions on templates have.
func ofTask(from func(code, task string) codeCase) []codeCase {
	raw := func(c codeCase) codeCase { c.raw = true; return c }
	return []codeCase{
		from("AllowedOneAttributeInEnvIdAndComputeEnv", `"EnvId": "env-0a1b2c3d", "ComputeEnv": {}`),
		from("InvalidParameter.CvmParameters", `"ComputeEnv": {"EnvData": {"InstanceType": "XX.NONE"}}`),
		from("InvalidParameter.TaskName", `"TaskName": "bad name!"`),
		from("InvalidParameter.TaskNameTooLong", `"TaskName": "`+x(61)+`"`),
		from("InvalidParameterValue.ComputeEnv", `"ComputeEnv": {"EnvType": "OTHER"}`),
		from("InvalidParameterValue.LocalPath", `"InputMappings": [{"SourcePath": "nfs://10.0.0.1/in/", "DestinationPath": "in"}]`),
		from("InvalidParameterValue.MaxRetryCount", `"MaxRetryCount": 6`),
		raw(from("InvalidParameterValue.Negative", `"TaskInstanceNum": -1`)),
		from("InvalidParameterValue.RemoteStoragePath", `"RedirectInfo": {"StdoutRedirectPath": "cos://logs-1.cos.ap-x.myqcloud.com/logs"}`),
		from("InvalidParameterValue.RemoteStorageSchemeType", `"RedirectInfo": {"StdoutRedirectPath": "s3://logs/"}`),
	}
}

// ofOneJob are the codes of an action on one job. more are the other required parameters.
func ofOneJob(more, notFound string) []codeCase {
	edit := func(body string) string { return strings.TrimSuffix(body, "}") + more + "}" }
	return []codeCase{
		when(noAPIServer, "InternalError", edit(unknownJob)), by("InvalidParameter.JobIdMalformed", edit(badJob)), by(notFound, edit(unknownJob)),
	}
}

// ofNodes are the codes of the actions that terminate nodes; body has the environment and the node.
func ofNodes(body string) []codeCase {
	of := func(env, node string) string { return fmt.Sprintf(body, env, node) }
	return []codeCase{
		by("InvalidParameter.ComputeNodeIdMalformed", of("{env}", "node-1")),
		by("InvalidParameter.EnvIdMalformed", of("env-1", "node-00000000")),
		by("ResourceNotFound.ComputeEnv", of("env-00000000", "node-00000000")),
		by("ResourceNotFound.ComputeNode", of("{env}", "node-00000000")),
		cannot("UnsupportedOperation.AcceptOtherRequest", storedAtOnce),
		by("UnsupportedOperation.ComputeEnvAcceptOtherRequest", of("{deleted env}", "node-00000000")),
		by("UnsupportedOperation.ComputeNodeForbidTerminate", of("{worn env}", "{free node of the worn env}")),
		by("UnsupportedOperation.ComputeNodeIsTerminating", of("{env}", "{terminating node}")),
		when(noAPIServer, "InternalError", of("env-00000000", "node-00000000")),
	}
}

// ofCatalog are the codes of the actions that list machine types.
func ofCatalog() []codeCase {
	return []codeCase{
		cannot("InternalError", inMemory), cannot("InternalError.CallCam", noCAM), cannot("InternalError.CallCvm", inMemory),
		by("InvalidFilter", `{"Filters": [{"Name": "price", "Values": ["1"]}]}`),
		by("InvalidParameterValue", `{"Filters": [`+strings.Repeat(`{"Name": "zone", "Values": ["z"]}, `, 10)+`{"Name": "zone", "Values": ["z"]}]}`),
		byRaw("InvalidParameterValue.InvalidFilter", `{"Filters": [{"Name": "zone", "Values": []}]}`),
		cannot("InvalidParameterValue.InvalidZoneMismatchRegion", noZoneRegion),
		cannot("InvalidParameterValue.LimitExceeded", "the action has no parameter with a limit; too many filters are `InvalidParameterValue`"),
		cannot("InvalidZone.MismatchRegion", noZoneRegion),
	}
}

// ofList are the codes of an action that lists objects by ids or filters.
func ofList(ids, malformed, tooMuch string) []codeCase {
	filter := `"Filters": [{"Name": "%s", "Values": ["%s"]}]`
	return []codeCase{
		when(noAPIServer, "InternalError", `{}`),
		by("InvalidFilter", "{"+fmt.Sprintf(filter, "price", "1")+"}"),
		by("InvalidParameter.InvalidParameterCombination", `{"`+ids+`": ["x"], `+fmt.Sprintf(filter, "zone", "z")+"}"),
		by(malformed, `{"`+ids+`": ["x"]}`),
		by("InvalidParameterValue", `{"Offset": -1}`),
		byRaw("InvalidParameterValue.InvalidFilter", `{"Filters": [{"Name": "zone", "Values": []}]}`),
		by(tooMuch, `{"Limit": 101}`),
		byRaw("UnknownParameter", `{"Limits": 1}`),
	}
}

// without returns cases but for those of some codes.
func without(cases []codeCase, codes ...string) []codeCase {
	var out []codeCase
	for _, c := range cases {
		if !slices.Contains(codes, c.code) {
			out = append(out, c)
		}
	}
	return out
}

// codeCases are the cases by action.
func codeCases() map[string][]codeCase {
	out := map[string][]codeCase{}
	for _, part := range []map[string][]codeCase{jobCodes(), envCodes(), templateCodes(), otherCodes()} {
		for action, cases := range part {
			out[action] = cases
		}
	}
	return out
}
