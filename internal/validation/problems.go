// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/sanitize"
)

// Bounds of an answer.
const (
	// MaxProblems is how many problems an answer has at most, the one that counts
	// what was left out included.
	MaxProblems = 50
	// MaxDetail is the length of Problem.Detail. Unit: bytes.
	MaxDetail = 300
	// maxQuoted is how much of a user's value a message repeats at most, escapes included.
	// Unit: bytes.
	maxQuoted = 79
)

// Problem is one thing that is wrong with an object.
type Problem struct {
	Code  errcode.Code
	Field *field.Path
	// Detail is one sentence for the user: "must be …, got …". It has at most
	// MaxDetail bytes, is valid UTF-8 and has no control characters.
	Detail string
}

// Error returns "CODE: spec.job.tasks[0].taskName: detail".
func (p Problem) Error() string {
	return string(p.Code) + ": " + p.Field.String() + ": " + p.Detail
}

// action is what two actions of the API have differently: the codes of some mistakes, and
// events that only one of them has.
type action struct {
	instanceType, imageID errcode.Code
	events                []string
}

// The actions. Source: BatchCompute, SubmitJob, CreateComputeEnv, CreateTaskTemplate and
// ModifyTaskTemplate, error codes.
var (
	submitJob          = action{instanceType: errcode.CvmParameters, imageID: errcode.CvmParameters}
	createTaskTemplate = action{instanceType: errcode.CvmParameters, imageID: errcode.ImageIDMalformed}
	modifyTaskTemplate = action{instanceType: errcode.CvmParameters, imageID: errcode.CvmParameters}
	createComputeEnv   = action{instanceType: errcode.InstanceType, imageID: errcode.ImageIDMalformed, events: []string{"COMPUTE_ENV_CREATED", "COMPUTE_ENV_DELETED"}}
)

// checker collects problems while it walks over an object. Its checks take the
// value and the path of the object that it is a field of; the path of the field itself
// is made only when there is a problem, since most requests have none.
type checker struct {
	Validator
	action     action
	offers     offers   // nil: not asked
	zones      []string // that nodes are in, if knowsZones
	knowsZones bool
	topics     *topics // nil: not asked

	problems []Problem
	total    int
	names    nearest
	types    *nearest        // the catalogue's machine types, once one was not found
	mounted  map[string]bool // where something is mounted in the task at hand
}

// full says that further problems are only counted.
func (c *checker) full() bool { return len(c.problems) == MaxProblems }

// fail records a problem of the field name of the object at path; with no name, of
// the object itself.
func (c *checker) fail(code errcode.Code, path *field.Path, name, format string, args ...any) {
	c.total++
	if c.full() {
		return
	}
	if name != "" {
		path = path.Child(name)
	}
	c.problems = append(c.problems, Problem{Code: code, Field: path, Detail: sanitize.Truncate(fmt.Sprintf(format, args...), MaxDetail)})
}

// single stands for the index of a value that is no item of a list.
const single = -1

// failItem is fail for item i of the list name.
func (c *checker) failItem(code errcode.Code, path *field.Path, name string, i int, format string, args ...any) {
	if i != single {
		path, name = path.Child(name).Index(i), ""
	}
	c.fail(code, path, name, format, args...)
}

// result returns the problems. When there are more than an answer may have, the last
// one gives way to a count.
func (c *checker) result() []Problem {
	if more := c.total - len(c.problems); more > 0 {
		last := &c.problems[MaxProblems-1]
		last.Detail = fmt.Sprintf("this and %d more problems are not shown; fix those above first", more)
	}
	return c.problems
}

// The checks that many fields share.

func (c *checker) required(value string, path *field.Path, name string) bool {
	if value == "" {
		c.fail(errcode.MissingParameter, path, name, "must be given")
	}
	return value != ""
}

// notNegative returns the number behind v, and whether it is given and not negative.
func (c *checker) notNegative(v *int64, path *field.Path, name string) (int64, bool) {
	if v == nil {
		return 0, false
	}
	if *v < 0 {
		c.fail(errcode.Negative, path, name, "must not be negative, got %d", *v)
	}
	return *v, *v >= 0
}

// within checks a number that may be absent: not negative, and from low to high.
func (c *checker) within(v *int64, low, high int64, code errcode.Code, path *field.Path, name string) {
	if n, ok := c.notNegative(v, path, name); ok && (n < low || n > high) {
		c.fail(code, path, name, "must be from %d to %d, got %d", low, high, n)
	}
}

// oneOf checks an enumeration value that may be absent.
func (c *checker) oneOf(value string, allowed []string, code errcode.Code, path *field.Path, name string) {
	if value == "" {
		return
	}
	for _, a := range allowed {
		if a == value {
			return
		}
	}
	c.fail(code, path, name, "must be %s, got %s", either(allowed), quote(value))
}

// either writes "A, B or C".
func either(words []string) string {
	var b []byte
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b = append(b, " or "...)
		case i > 0:
			b = append(b, ", "...)
		}
		b = append(b, w...)
	}
	return string(b)
}

// longerThan says whether s has more than limit characters. It does not count on.
func longerThan(s string, limit int) bool {
	return len(s) > limit && utf8.RuneCountInString(s) > limit
}

// Quote returns a user's text as the messages of this package repeat it: see sanitize.Quote.
func Quote(s string) string { return quote(s) }

func quote(s string) string { return sanitize.Quote(s, maxQuoted) }
