// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"fmt"
	"reflect"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/params"
)

// MaxProblems is how many problems Problems has at most.
const MaxProblems = params.MaxProblems

// Problem is one thing that is wrong with a body.
type Problem = params.Problem

// Problems is the error of a body that cannot be converted.
type Problems = params.Problems

// decoder holds what decoding has found so far. action says which of job and env the body
// is decoded into.
type decoder struct {
	params.Decoder
	action  *action
	job     v1alpha1.BatchJobSpec
	env     v1alpha1.ComputeEnvSpec
	notes   []string
	secrets []string // by the number that stands for them
	named   string   // the action in the headers of an HTTP request, if there are any
}

// begin sets the action of the body.
func (d *decoder) begin(a *action) {
	d.action = a
	d.Action, d.Shape, d.Common, d.Secret = a.name, a.shape, d.checkCommon, d.setSecret
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
