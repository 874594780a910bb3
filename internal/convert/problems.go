// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"reflect"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// MaxProblems is how many problems Problems has at most.
const MaxProblems = 50

// Problem is one thing that is wrong with a body.
type Problem struct {
	Code errcode.Code
	// Field is the field as the vendor writes it, Job.Tasks.0.TaskName; empty for the
	// body as a whole.
	Field  string
	Detail string
}

// Error returns "CODE: Job.Tasks.0.TaskName: detail".
func (p Problem) Error() string {
	if p.Field == "" {
		return string(p.Code) + ": " + p.Detail
	}
	return string(p.Code) + ": " + p.Field + ": " + p.Detail
}

// Problems is the error of a body that cannot be converted: at least one problem, in
// the order of the body.
type Problems []Problem

// Error returns the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// decoder holds what decoding has found so far. action says which of job and env the body
// is decoded into.
type decoder struct {
	action   *action
	job      v1alpha1.BatchJobSpec
	env      v1alpha1.ComputeEnvSpec
	problems Problems
	notes    []string
	secrets  []string // by the number that stands for them
	null     bool     // the JSON value that was read last was null
	named    string   // the action in the headers of an HTTP request, if there are any
}

// root is the spec that the body is decoded into.
func (d *decoder) root() reflect.Value {
	if d.action == createComputeEnv {
		return reflect.ValueOf(&d.env).Elem()
	}
	return reflect.ValueOf(&d.job).Elem()
}

// note records what the user should know of a body that was converted.
func (d *decoder) note(format string, args ...any) {
	if len(d.notes) < MaxProblems {
		d.notes = append(d.notes, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) fail(code errcode.Code, path, format string, args ...any) {
	if len(d.problems) < MaxProblems {
		d.problems = append(d.problems, Problem{Code: code, Field: path, Detail: fmt.Sprintf(format, args...)})
	}
}

// failUnknown reports a field that the object at path does not have.
func (d *decoder) failUnknown(s *shape, path, name string) {
	if len(d.problems) == MaxProblems {
		return // a suggestion costs more than the rest
	}
	detail := "has no field " + validation.Quote(name)
	if near := validation.Nearest(name, s.names); near != "" {
		detail += "; did you mean " + near + "?"
	}
	if path == "" {
		detail = d.action.name + " " + detail
	}
	d.fail(errcode.UnknownParameter, path, "%s", detail)
}

// failType reports a value of the wrong type.
func (d *decoder) failType(s *shape, path, got string) {
	what := ""
	if path == "" {
		what = "the body "
	}
	d.fail(errcode.InvalidParameter, path, "%smust be %s, got %s", what, s.kind, got)
}

// join appends a name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
