// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package errcode

// Code is an error code as a client of BatchCompute sees it.
type Code string

// The codes of the SubmitJob page, in its order.
const (
	AllowedOneAttributeInEnvIDAndComputeEnv Code = "AllowedOneAttributeInEnvIdAndComputeEnv"
	InternalError                           Code = "InternalError"
	CallCvm                                 Code = "InternalError.CallCvm"
	CvmParameters                           Code = "InvalidParameter.CvmParameters"
	JobDescriptionTooLong                   Code = "InvalidParameter.JobDescriptionTooLong"
	JobNameTooLong                          Code = "InvalidParameter.JobNameTooLong"
	NotificationEventNameDuplicate          Code = "InvalidParameter.NotificationEventNameDuplicate"
	NotificationTopicName                   Code = "InvalidParameter.NotificationTopicName"
	NotificationTopicNameTooLong            Code = "InvalidParameter.NotificationTopicNameTooLong"
	TaskName                                Code = "InvalidParameter.TaskName"
	TaskNameTooLong                         Code = "InvalidParameter.TaskNameTooLong"
	ComputeEnv                              Code = "InvalidParameterValue.ComputeEnv"
	DependenceNotFoundTaskName              Code = "InvalidParameterValue.DependenceNotFoundTaskName"
	DependenceUnfeasible                    Code = "InvalidParameterValue.DependenceUnfeasible"
	LocalPath                               Code = "InvalidParameterValue.LocalPath"
	MaxRetryCount                           Code = "InvalidParameterValue.MaxRetryCount"
	Negative                                Code = "InvalidParameterValue.Negative"
	RemoteStoragePath                       Code = "InvalidParameterValue.RemoteStoragePath"
	RemoteStorageSchemeType                 Code = "InvalidParameterValue.RemoteStorageSchemeType"
	JobQuota                                Code = "LimitExceeded.JobQuota"
	UserNotAllowedToUseBatch                Code = "UnauthorizedOperation.UserNotAllowedToUseBatch"
)

// Codes that SubmitJob gained later, and that fit a case better than the older ones.
const (
	EnvIDMalformed              Code = "InvalidParameter.EnvIdMalformed"
	InvalidParameterCombination Code = "InvalidParameter.InvalidParameterCombination"
	InstanceTypeDuplicate       Code = "InvalidParameterValue.InstanceTypeDuplicate"
	LimitExceeded               Code = "InvalidParameterValue.LimitExceeded"
	TaskInstanceNum             Code = "InvalidParameterValue.TaskInstanceNum"
	UnavailableZone             Code = "InvalidParameterValue.UnavailableZone"
	ComputeEnvNotFound          Code = "ResourceNotFound.ComputeEnv"
)

// Codes of CreateComputeEnv and ModifyComputeEnv that SubmitJob does not have, or that only
// those two use here.
const (
	EnvDescriptionTooLong Code = "InvalidParameter.EnvDescriptionTooLong"
	EnvNameTooLong        Code = "InvalidParameter.EnvNameTooLong"
	ImageIDMalformed      Code = "InvalidParameter.ImageIdMalformed"
	InstanceType          Code = "InvalidParameterValue.InstanceType"
	ComputeEnvQuota       Code = "LimitExceeded.ComputeEnvQuota"
)

// Codes of CreateTaskTemplate and ModifyTaskTemplate that the actions above do not have.
const (
	TaskTemplateDescriptionTooLong Code = "InvalidParameter.TaskTemplateDescriptionTooLong"
	TaskTemplateName               Code = "InvalidParameter.TaskTemplateName"
	TaskTemplateNameTooLong        Code = "InvalidParameter.TaskTemplateNameTooLong"
	TaskTemplateQuota              Code = "LimitExceeded.TaskTemplateQuota"
	TaskTemplateNotFound           Code = "ResourceNotFound.TaskTemplate"
)

// Codes that every action of the vendor's API has.
const (
	InvalidParameter      Code = "InvalidParameter"
	InvalidParameterValue Code = "InvalidParameterValue"
	MissingParameter      Code = "MissingParameter"
	ResourceInUse         Code = "ResourceInUse"
	UnauthorizedOperation Code = "UnauthorizedOperation"
	UnknownParameter      Code = "UnknownParameter"
	UnsupportedOperation  Code = "UnsupportedOperation"
)

// Entry is what there is to say about one code.
type Entry struct {
	Code Code
	// When is the condition, one or two sentences.
	When string
	// Field is the field, or fields, that the code is reported for; empty where it is
	// about no field. [] stands for every item of a list.
	Field string
	// Kind is the kind that the code is about; empty: BatchJob, and the other kinds where they have
	// the same field.
	Kind string
	// Example is a piece of such an object that provokes the code, or a sentence where a
	// manifest alone cannot.
	Example string
	// WhatToDo is the way out.
	WhatToDo string
	// Source is where the code and its condition come from.
	Source string
	// From is who answers with the code.
	From From
}
