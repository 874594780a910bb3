// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
	"batchcompute.dev/operator/internal/naming"
)

// Template is a task template in a list. Source: BatchCompute, TaskTemplateView.
type Template struct {
	TaskTemplateID          string `json:"TaskTemplateId"`
	TaskTemplateName        string
	TaskTemplateDescription string
	// TaskTemplateInfo is the task, without passwords and keys.
	TaskTemplateInfo json.RawMessage
	CreateTime       string
	Tags             []Tag
}

// OfTemplate returns a template as DescribeTaskTemplates lists it.
func OfTemplate(t *v1alpha1.TaskTemplate) Template {
	return Template{
		TaskTemplateID: naming.TemplateID(t.Name, t.UID), TaskTemplateName: t.Spec.TaskTemplateName, TaskTemplateDescription: t.Spec.TaskTemplateDescription,
		TaskTemplateInfo: convert.TaskToJSON(&t.Spec.TaskTemplateInfo), CreateTime: stamp(t.CreationTimestamp), Tags: tagsOf(t.Spec.Tags),
	}
}
