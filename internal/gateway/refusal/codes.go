// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package refusal

import "batchcompute.dev/operator/internal/errcode"

// The codes that only actions of the gateway answer. Those of admission are in package errcode.
// Source: BatchCompute, error codes of each action.
const (
	InvalidFilter            errcode.Code = "InvalidFilter"
	ComputeNodeIDMalformed   errcode.Code = "InvalidParameter.ComputeNodeIdMalformed"
	JobIDMalformed           errcode.Code = "InvalidParameter.JobIdMalformed"
	InvalidFilterValue       errcode.Code = "InvalidParameterValue.InvalidFilter"
	InstanceTypesEmpty       errcode.Code = "InvalidParameterValue.InstanceTypesEmpty"
	ResourceType             errcode.Code = "InvalidParameterValue.ResourceType"
	UnsupportedChargeType    errcode.Code = "InvalidParameterValue.UnsupportedBatchInstanceChargeType"
	JobInUse                 errcode.Code = "ResourceInUse.Job"
	ComputeNodeNotFound      errcode.Code = "ResourceNotFound.ComputeNode"
	JobNotFound              errcode.Code = "ResourceNotFound.Job"
	TaskNotFound             errcode.Code = "ResourceNotFound.Task"
	TaskInstanceNotFound     errcode.Code = "ResourceNotFound.TaskInstance"
	ResourceUnavailable      errcode.Code = "ResourceUnavailable"
	AcceptOtherRequest       errcode.Code = "UnsupportedOperation.AcceptOtherRequest"
	ComputeNodeIsTerminating errcode.Code = "UnsupportedOperation.ComputeNodeIsTerminating"
)
