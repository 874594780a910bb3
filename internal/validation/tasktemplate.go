// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"reflect"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of a TaskTemplate.
const (
	// maxTemplateName and maxTemplateDescription count characters.
	// Source: BatchCompute, CreateTaskTemplate.
	maxTemplateName        = 60
	maxTemplateDescription = 200
	// maxTemplateSpec is what a spec may take as JSON. It is a part of MaxSpecSize, since each job
	// that names the template has a copy. Unit: bytes.
	maxTemplateSpec = 256 << 10
)

// ValidateTaskTemplateCreate returns what is wrong with a new TaskTemplate, in the order of its
// fields; nil when nothing is. The first problem is what CreateTaskTemplate would have
// answered. The rest is as for ValidateCreate.
func (v Validator) ValidateTaskTemplateCreate(t *v1alpha1.TaskTemplate) []Problem {
	c := v.checker(createTaskTemplate)
	c.checkTaskTemplate(&t.Spec, field.NewPath("spec"))
	return c.result()
}

// ValidateTaskTemplateUpdate returns what is wrong with a TaskTemplate that is to be another. All
// may change, so newTemplate is checked like a new one, with the codes of ModifyTaskTemplate. What
// the cluster's policy forbids since then, and oldTemplate has already, may stay.
func (v Validator) ValidateTaskTemplateUpdate(oldTemplate, newTemplate *v1alpha1.TaskTemplate) []Problem {
	validate := func(t *v1alpha1.TaskTemplate) []Problem {
		c := v.checker(modifyTaskTemplate)
		c.checkTaskTemplate(&t.Spec, field.NewPath("spec"))
		return c.result()
	}
	return withoutOldPolicy(validate(newTemplate), func() []Problem { return validate(oldTemplate) })
}

// checkTaskTemplate checks the spec of a TaskTemplate.
func (c *checker) checkTaskTemplate(spec *v1alpha1.TaskTemplateSpec, path *field.Path) {
	if size := encodedSize(templateShape, reflect.ValueOf(spec).Elem()); size > maxTemplateSpec {
		c.fail(errcode.LimitExceeded, path, "", "must be at most %d bytes as JSON, got %d", maxTemplateSpec, size)
	}
	name := spec.TaskTemplateName
	switch {
	case !c.required(name, path, "taskTemplateName"):
	case longerThan(name, maxTemplateName):
		c.fail(errcode.TaskTemplateNameTooLong, path, "taskTemplateName", "must be at most %d characters, got %s", maxTemplateName, quote(name))
	case !isTaskName(name):
		c.fail(errcode.TaskTemplateName, path, "taskTemplateName",
			"must be letters, digits, - and _, beginning with a letter or a digit, got %s", quote(name))
	}
	if longerThan(spec.TaskTemplateDescription, maxTemplateDescription) {
		c.fail(errcode.TaskTemplateDescriptionTooLong, path, "taskTemplateDescription",
			"must be at most %d characters, got %s", maxTemplateDescription, quote(spec.TaskTemplateDescription))
	} else {
		c.checkPlainText(spec.TaskTemplateDescription, descriptionSpace, path, "taskTemplateDescription")
	}
	task, p := []v1alpha1.Task{spec.TaskTemplateInfo}, path.Child("taskTemplateInfo")
	c.checkTaskName(task, 0, taskNames{}, p)
	c.checkInstanceNum(task, sumInstances(task), 0, p)
	c.checkTask(&task[0], p)
	c.checkTags(spec.Tags, path)
}

// TaskTemplateWarnings returns what the user of an accepted TaskTemplate should know: see
// Warnings.
func (v Validator) TaskTemplateWarnings(t *v1alpha1.TaskTemplate) []string {
	job := &v1alpha1.Job{Tasks: []v1alpha1.Task{t.Spec.TaskTemplateInfo}}
	w := &warner{subject: subject{job: job, offers: v.offers()}}
	w.addTask(&job.Tasks[0], field.NewPath("spec", "taskTemplateInfo"))
	return w.result()
}
