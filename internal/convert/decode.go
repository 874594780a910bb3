// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"encoding/json"
	"reflect"
	"strconv"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

const (
	actionParameter  = "Action"
	versionParameter = "Version"
	// version is the only one of the API that there is.
	version = "2017-03-12"
)

// decodeJSON reads a JSON body.
func (d *decoder) decodeJSON(data []byte) {
	d.begin(actionOfJSON(data, d.named))
	d.JSON(data, d.root())
}

// actionOfJSON says which action a body is meant for: the one that it names, else the one with the
// name, else the one whose object it has.
func actionOfJSON(data []byte, name string) *action {
	var top map[string]json.RawMessage
	if json.Unmarshal(data, &top) != nil {
		return submitJob // what is wrong is said later
	}
	if own := ""; json.Unmarshal(top[actionParameter], &own) == nil {
		name = own
	}
	_, env := top["ComputeEnv"]
	_, job := top["Job"]
	return actionOf(name, env && !job)
}

// actionOf returns the action with the name; env says what it is if there is no such one.
func actionOf(name string, env bool) *action {
	for _, a := range actions {
		if a.name == name {
			return a
		}
	}
	if env {
		return createComputeEnv
	}
	return submitJob
}

// checkCommon checks a common parameter.
func (d *decoder) checkCommon(name, value string) {
	switch {
	case name == actionParameter && value != d.action.name:
		d.Fail(errcode.InvalidParameterValue, name, "must be %s or %s", submitJob.name, createComputeEnv.name)
	case name == versionParameter && value != version:
		d.Fail(errcode.InvalidParameterValue, name, "must be %s, got %s", version, validation.Quote(value))
	}
}

// setSecret keeps a credential, and refers to it by its number.
func (d *decoder) setSecret(v reflect.Value, value string) {
	ref, _ := v.Addr().Interface().(*v1alpha1.SecretRef)
	ref.Name = strconv.Itoa(len(d.secrets))
	d.secrets = append(d.secrets, value)
}
