// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"reflect"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TaskTemplates returns the names of the TaskTemplates that the tasks of a job name, each once, in the order
// of the spec.
func TaskTemplates(job *v1alpha1.BatchJob) []string {
	var names []string
	seen := map[string]bool{}
	for i := range job.Spec.Job.Tasks {
		if name := job.Spec.Job.Tasks[i].TaskTemplate; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Complete returns the task with what template has and the task does not say. A field that the task
// gives wins as a whole, an empty list included, and application is completed field by field. A task
// with envId gets no computeEnv, and the reverse; likewise command and commands. taskTemplate is that
// of the task: templates do not nest. Neither argument is changed, and the result shares their memory,
// so it must not be changed either.
//
// To complete the result again with itself, or the task with the result, changes nothing. So the
// manifest that a job was created from has the same result with the stored job as its template.
func Complete(task, template *v1alpha1.Task) v1alpha1.Task {
	from := *template
	from.TaskTemplate = ""
	if task.EnvID != "" || task.ComputeEnv != nil {
		from.EnvID, from.ComputeEnv = "", nil
	}
	if task.Application.Command != "" || task.Application.Commands != nil {
		from.Application.Command, from.Application.Commands = "", nil
	}
	out := *task
	fillAbsent(reflect.ValueOf(&out).Elem(), reflect.ValueOf(&from).Elem())
	return out
}

// fillAbsent copies the fields of the struct from that are absent in the struct to. A field that is a struct itself, which
// only application is, is filled field by field.
func fillAbsent(to, from reflect.Value) {
	for i := range to.NumField() {
		switch field := to.Field(i); {
		case field.Kind() == reflect.Struct:
			fillAbsent(field, from.Field(i))
		case field.IsZero():
			field.Set(from.Field(i))
		}
	}
}
