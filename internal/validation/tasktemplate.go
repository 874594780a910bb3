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
	if task[0].TaskTemplate != "" {
		c.fail(errcode.InvalidParameterValue, p, "taskTemplate", "must not be given: a TaskTemplate is complete and cannot name another")
		task[0].TaskTemplate = ""
	}
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

// ValidateTaskTemplates returns what is wrong with the TaskTemplates that the tasks of a job name: their
// number, their names and, unless exists is nil, which of them do not exist. It is asked before the
// tasks are completed from their templates.
func (v Validator) ValidateTaskTemplates(job *v1alpha1.BatchJob, exists func(name string) bool) []Problem {
	c := v.checker(submitJob)
	tasks := field.NewPath("spec", "job", "tasks")
	names := map[string]bool{}
	for i := range job.Spec.Job.Tasks {
		name := job.Spec.Job.Tasks[i].TaskTemplate
		if name == "" {
			continue
		}
		names[name] = true
		if c.checkTemplateName(name, tasks.Index(i)) && exists != nil && !exists(name) {
			c.failTemplate(name, tasks.Index(i))
		}
	}
	c.atMost(len(names), v1alpha1.MaxJobTemplates, "TaskTemplates in all tasks together", tasks, "")
	return c.result()
}

// checkTemplateName checks the form of the name of a TaskTemplate. A task that is complete has it only as a record
// of its source, so whether there is one is not asked here.
func (c *checker) checkTemplateName(name string, path *field.Path) bool {
	if name == "" || isObjectName(name) {
		return true
	}
	c.failTemplate(name, path)
	return false
}

func (c *checker) failTemplate(name string, path *field.Path) {
	c.fail(errcode.TaskTemplateNotFound, path, "taskTemplate",
		"must name a TaskTemplate of the job's namespace, got %s: create it first, or correct the name", quote(name))
}

// ValidateCompletedTasks returns the problem that the tasks of a job, completed from their templates, are larger
// than a spec may be; nil if they are not. It looks no further than that limit, so it costs no more
// than the largest job, however often a large template is named.
func (v Validator) ValidateCompletedTasks(job *v1alpha1.BatchJob) []Problem {
	size := 0
	for i := range job.Spec.Job.Tasks {
		size += encodedSize(taskShape, reflect.ValueOf(&job.Spec.Job.Tasks[i]).Elem())
		if size > MaxSpecSize {
			c := v.checker(submitJob)
			c.fail(errcode.LimitExceeded, field.NewPath("spec", "job", "tasks"), "",
				"must be at most %d bytes as JSON with what their TaskTemplates add, and are larger from tasks[%d] on", MaxSpecSize, i)
			return c.result()
		}
	}
	return nil
}
