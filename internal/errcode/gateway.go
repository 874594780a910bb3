// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package errcode

// Codes of the calls themselves, before an action looks at its parameters.
const (
	InvalidAuthorization     Code = "AuthFailure.InvalidAuthorization"
	SecretIDNotFound         Code = "AuthFailure.SecretIdNotFound"
	SignatureExpire          Code = "AuthFailure.SignatureExpire"
	SignatureFailure         Code = "AuthFailure.SignatureFailure"
	TokenFailure             Code = "AuthFailure.TokenFailure"
	InvalidAction            Code = "InvalidAction"
	InvalidRequest           Code = "InvalidRequest"
	NoSuchVersion            Code = "NoSuchVersion"
	RequestLimitExceeded     Code = "RequestLimitExceeded"
	IPLimitExceeded          Code = "RequestLimitExceeded.IPLimitExceeded"
	RequestSizeLimitExceeded Code = "RequestSizeLimitExceeded"
	UnsupportedProtocol      Code = "UnsupportedProtocol"
	UnsupportedRegion        Code = "UnsupportedRegion"
)

// Codes of the actions on jobs, beside those of SubmitJob.
const (
	InvalidFilter        Code = "InvalidFilter"
	InvalidFilterValue   Code = "InvalidParameterValue.InvalidFilter"
	JobIDMalformed       Code = "InvalidParameter.JobIdMalformed"
	JobInUse             Code = "ResourceInUse.Job"
	JobNotFound          Code = "ResourceNotFound.Job"
	TaskNotFound         Code = "ResourceNotFound.Task"
	TaskInstanceNotFound Code = "ResourceNotFound.TaskInstance"
	ResourceUnavailable  Code = "ResourceUnavailable"
)

// Codes of the actions on ComputeEnvs.
const (
	ComputeNodeIDMalformed       Code = "InvalidParameter.ComputeNodeIdMalformed"
	InstanceTypesEmpty           Code = "InvalidParameterValue.InstanceTypesEmpty"
	ResourceType                 Code = "InvalidParameterValue.ResourceType"
	ComputeNodeNotFound          Code = "ResourceNotFound.ComputeNode"
	ComputeEnvAcceptOtherRequest Code = "UnsupportedOperation.ComputeEnvAcceptOtherRequest"
	ComputeEnvOperation          Code = "UnsupportedOperation.ComputeEnvOperation"
	ComputeNodeForbidTerminate   Code = "UnsupportedOperation.ComputeNodeForbidTerminate"
	ComputeNodeIsTerminating     Code = "UnsupportedOperation.ComputeNodeIsTerminating"
)

// Codes of the actions on task templates, and of the catalogue.
const (
	TaskTemplateIDMalformed       Code = "InvalidParameter.TaskTemplateIdMalformed"
	AtLeastOneAttribute           Code = "InvalidParameterAtLeastOneAttribute"
	UnsupportedInstanceChargeType Code = "InvalidParameterValue.UnsupportedBatchInstanceChargeType"
)

// GatewayEntry is what there is to say about a code that only the gateway answers with.
type GatewayEntry struct {
	Code Code
	// When is the condition, one or two sentences.
	When string
	// Actions are those that answer with it, as a reader would say it.
	Actions string
	// WhatToDo is the way out.
	WhatToDo string
	// Source is where the code and its condition come from.
	Source string
}

// Sources of the gateway's codes.
const (
	perAction   = "BatchCompute, error codes of the action"
	allActions  = "all"
	listActions = "DescribeJobs, DescribeTask, DescribeComputeEnvs and the other lists"
	manyNodes   = "TerminateComputeNode, TerminateComputeNodes"
)

// GatewayTable returns one entry for each code that only the gateway answers with, in the order of the
// constants. Whatever a BatchJob, a ComputeEnv or a TaskTemplate is refused with, the gateway passes on: see Table.
func GatewayTable() []GatewayEntry {
	table := callTable()
	table = append(table, jobTable()...)
	table = append(table, envTable()...)
	return append(table, templateTable()...)
}

func callTable() []GatewayEntry {
	return []GatewayEntry{
		{InvalidAuthorization, "The request is not signed, or the header `Authorization` is not of the form of signature v3.", allActions,
			"Sign with an SDK of the vendor, or follow the signature's page.", common},
		{SecretIDNotFound, "There is no such key, or it is disabled or expired.", allActions,
			"Have the namespace's administrator make a key: `kubectl batchjob key create`.", common},
		{SignatureExpire, "The timestamp is more than 5 minutes from the gateway's clock.", allActions,
			"Correct the client's clock.", common},
		{SignatureFailure, "The signature is not the one that the request and the key give, or the date of the credential scope is not that of the timestamp in UTC.", allActions,
			"Check the secretKey, and that nothing between client and gateway changes the request, its host included.", common},
		{TokenFailure, "The key has a token, and that of the request is absent or another.", allActions,
			"Send the token that belongs to the key.", common},
		{InvalidAction, "There is no action of this name.", allActions,
			"Correct the name.", common},
		{InvalidRequest, "The body is of a type other than application/json and application/x-www-form-urlencoded, cannot be read to its end, or has a query beside it.", allActions,
			"Send one of the two.", common},
		{NoSuchVersion, "The version is not 2017-03-12.", allActions,
			"Send that version.", common},
		{RequestLimitExceeded, "The key sends more requests a second than the action's limit, its namespace has too many of them in flight, or the gateway has too many to hold.", allActions,
			"Wait and send the request again, after ever longer waits.", common},
		{IPLimitExceeded, "The client's address sends too many requests that are not signed by a key.", allActions,
			"Wait, and check the secretId.", common},
		{RequestSizeLimitExceeded, "The request is larger than 32 KiB (GET), 1 MiB (POST with signature v1) or 10 MiB (POST with signature v3).", allActions,
			"Split the request, or use POST with signature v3.", common},
		{UnsupportedProtocol, "The method is neither GET nor POST.", allActions,
			"Use one of the two.", common},
		{UnsupportedRegion, "The gateway was configured with a list of regions, and the request's region is not in it.", allActions,
			"Send one of the regions that the message names.", common},
	}
}

func jobTable() []GatewayEntry {
	return []GatewayEntry{
		{InvalidFilter, "A filter has a name that the action does not know.", listActions,
			"Use a name that the message names.", perAction},
		{InvalidFilterValue, "A filter has no values, too many, or one that the filter cannot have.", listActions,
			"Use values that the message names.", perAction},
		{JobIDMalformed, "A JobId is not `job-` and 8 characters of a-z and 0-9.", "all that take a JobId",
			"Use the JobId that SubmitJob answered.", perAction},
		{JobInUse, "The job, or an instance of it, is in a state in which the action is not possible.", "TerminateJob, DeleteJob",
			"Wait for the end of the job, or terminate it.", perAction},
		{JobNotFound, "The namespace of the key has no job with the JobId.", "all that take a JobId",
			"Check the JobId and the key; a job that was deleted is not known any more.", perAction},
		{TaskNotFound, "The job has no task of this name, or there is no such job.", "DescribeTask, DescribeTaskLogs, DescribeJobMonitorData",
			"Use a TaskName of DescribeJob.", perAction},
		{TaskInstanceNotFound, "The task has no instance with this index, or there is no such task or job.", "DescribeTaskLogs, DescribeJobMonitorData, TerminateTaskInstance",
			"Use an index of DescribeTask.", perAction},
		{ResourceUnavailable, "What the action reads from is not there at the moment, such as the cluster's metrics API.", "DescribeJobMonitorData, DescribeTaskLogs",
			"Try again, or have the cluster's administrator install it.", common},
	}
}

func envTable() []GatewayEntry {
	return []GatewayEntry{
		{ComputeNodeIDMalformed, "A ComputeNodeId is not `node-` and 8 characters of a-z and 0-9.", manyNodes + ", DescribeComputeEnvActivities",
			"Use a ComputeNodeId of DescribeComputeEnv.", perAction},
		{InstanceTypesEmpty, "The list of machine types is empty.", "ModifyComputeEnv",
			"Name at least one type.", perAction},
		{ResourceType, "The filter `resource-type` has a value other than CVM and CPM.", "DescribeComputeEnvs",
			"Use one of the two.", perAction},
		{ComputeNodeNotFound, "The ComputeEnv has no such node.", manyNodes,
			"Use a ComputeNodeId of DescribeComputeEnv.", perAction},
		{ComputeEnvAcceptOtherRequest, "The ComputeEnv is being deleted.", "ModifyComputeEnv, DeleteComputeEnv, " + manyNodes,
			"Nothing; it will be gone.", perAction},
		{ComputeEnvOperation, "Jobs use the ComputeEnv.", "DeleteComputeEnv",
			"Wait for the jobs that the message names, or terminate them.", perAction},
		{ComputeNodeForbidTerminate, "Too many free nodes of the ComputeEnv were terminated one by one.", manyNodes,
			"Lower DesiredComputeNodeCount with ModifyComputeEnv.", perAction},
		{ComputeNodeIsTerminating, "The node is being terminated.", manyNodes,
			"Nothing; it will be gone.", perAction},
	}
}

func templateTable() []GatewayEntry {
	return []GatewayEntry{
		{TaskTemplateIDMalformed, "A TaskTemplateId is not `task-tmpl-` and 8 characters of a-z and 0-9.", "ModifyTaskTemplate, DeleteTaskTemplates, DescribeTaskTemplates",
			"Use the TaskTemplateId that CreateTaskTemplate answered.", perAction},
		{AtLeastOneAttribute, "Nothing is to be changed.", "ModifyTaskTemplate",
			"Give at least one of name, description and task.", perAction},
		{UnsupportedInstanceChargeType, "The filter `instance-charge-type` has a value other than POSTPAID_BY_HOUR and SPOTPAID.", "DescribeCvmZoneInstanceConfigInfos",
			"Use one of the two.", perAction},
	}
}
