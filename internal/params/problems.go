// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"fmt"
	"strings"

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
	return string(p.Code) + ": " + p.Message()
}

// Message returns "Job.Tasks.0.TaskName: detail".
func (p Problem) Message() string {
	if p.Field == "" {
		return p.Detail
	}
	return p.Field + ": " + p.Detail
}

// Problems is the error of a body that cannot be decoded: at least one problem, in
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

// Fail adds a problem. path is the field, empty for the body as a whole.
func (d *Decoder) Fail(code errcode.Code, path, format string, args ...any) {
	if len(d.problems) < MaxProblems {
		d.problems = append(d.problems, Problem{Code: code, Field: path, Detail: fmt.Sprintf(format, args...)})
	}
}

// Problems returns what was wrong so far.
func (d *Decoder) Problems() Problems { return d.problems }

// failUnknown reports a field that the object at path does not have.
func (d *Decoder) failUnknown(s *Shape, path, name string) {
	if len(d.problems) == MaxProblems {
		return // a suggestion costs more than the rest
	}
	detail := "has no field " + validation.Quote(name)
	if near := validation.Nearest(name, s.Names); near != "" {
		detail += "; did you mean " + near + "?"
	}
	if path == "" {
		detail = d.Action + " " + detail
	}
	d.Fail(errcode.UnknownParameter, path, "%s", detail)
}

// failType reports a value of the wrong type.
func (d *Decoder) failType(s *Shape, path, got string) {
	what := ""
	if path == "" {
		what = "the body "
	}
	d.Fail(errcode.InvalidParameter, path, "%smust be %s, got %s", what, s.Kind, got)
}

// Join appends a name to a path.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
