// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TaskTemplate is a task that is stored for later jobs of the namespace. It runs nothing by
// itself and has no status.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ttmpl,categories=all
// +kubebuilder:printcolumn:name="Template",type=string,JSONPath=`.spec.taskTemplateName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.taskTemplateDescription`,priority=1
type TaskTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request, as CreateTaskTemplate takes it. A change applies to jobs that are
	// created after it.
	// +optional
	Spec TaskTemplateSpec `json:"spec,omitempty"`
}

// TaskTemplateList is a list of TaskTemplates.
//
// +kubebuilder:object:root=true
type TaskTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TaskTemplate `json:"items"`
}

// TaskTemplateSpec is the body of a CreateTaskTemplate request. It takes at most 256 KiB as JSON.
// Source: BatchCompute, CreateTaskTemplate, input parameters.
type TaskTemplateSpec struct {
	// taskTemplateName is a name for people; it need not be unique. Letters, digits, - and _,
	// beginning with a letter or a digit, at most 60 characters. Required.
	// Source: BatchCompute, CreateTaskTemplate.TaskTemplateName.
	// +optional
	TaskTemplateName string `json:"taskTemplateName,omitempty"`

	// taskTemplateDescription is a remark for people. At most 200 characters.
	// Source: BatchCompute, CreateTaskTemplate.TaskTemplateDescription.
	// +optional
	TaskTemplateDescription string `json:"taskTemplateDescription,omitempty"`

	// taskTemplateInfo is the task, complete and by the rules of a job's task. Its envId need not
	// exist yet. Required.
	// Source: BatchCompute, CreateTaskTemplate.TaskTemplateInfo.
	// +optional
	TaskTemplateInfo Task `json:"taskTemplateInfo,omitempty"`

	// tags are key-value pairs of the template, for filters of DescribeTaskTemplates. The Pods
	// of a job do not have them. At most 10. Source: BatchCompute, CreateTaskTemplate.Tags.
	// +listType=atomic
	// +optional
	Tags []Tag `json:"tags,omitempty"`
}
