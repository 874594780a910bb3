// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"reflect"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/params"
)

// exceptions are the fields whose API name is not their JSON name with a capital first
// letter, by struct and JSON name; empty: the API does not have the field.
var exceptions = map[reflect.Type]map[string]string{
	reflect.TypeFor[v1alpha1.InstanceTypeOptions](): {"cpu": "CPU"},
	reflect.TypeFor[v1alpha1.AnonymousComputeEnv](): {"kubernetes": ""},
	reflect.TypeFor[v1alpha1.ComputeEnvSpec]():      {"kubernetes": ""},
	reflect.TypeFor[v1alpha1.Task]():                {"taskTemplate": ""},
	reflect.TypeFor[v1alpha1.InternetAccessible]():  {"ipv4AddressType": "IPv4AddressType", "ipv6AddressType": "IPv6AddressType"},
}

// alwaysWritten are fields that the API requires and that may be empty.
var alwaysWritten = map[reflect.Type]string{
	reflect.TypeFor[v1alpha1.EnvVar]():   "value",
	reflect.TypeFor[v1alpha1.EventVar](): "value",
	reflect.TypeFor[v1alpha1.Tag]():      "value",
}

// secretSuffix ends the JSON name of a reference that stands for a credential; what is
// before it is the credential's name.
const secretSuffix = "SecretRef"

// action is an action of the API whose bodies are converted.
type action struct {
	name  string
	kind  string        // of the object that a body becomes
	shape *params.Shape // of a body
}

// The actions. They are built once and only read.
var (
	submitJob        = &action{"SubmitJob", "BatchJob", shapeOf(reflect.TypeFor[v1alpha1.BatchJobSpec]())}
	createComputeEnv = &action{"CreateComputeEnv", "ComputeEnv", shapeOfCreateComputeEnv()}
	actions          = []*action{submitJob, createComputeEnv}
	taskShape        = shapeOf(reflect.TypeFor[v1alpha1.Task]())
)

// shapeOfCreateComputeEnv is that of a ComputeEnv's spec, in which the fields that are none
// of the request itself are in the object ComputeEnv. The first SDKs had one notification
// there, not a list.
func shapeOfCreateComputeEnv() *params.Shape {
	env, top := &params.Shape{Kind: params.KindObject}, &params.Shape{Kind: params.KindObject}
	add := func(to *params.Shape, f params.Field) {
		to.Fields, to.Names = append(to.Fields, f), append(to.Names, f.Name)
	}
	add(top, params.Field{Name: "ComputeEnv", Index: -1, Shape: env, Inline: true})
	for _, f := range shapeOf(reflect.TypeFor[v1alpha1.ComputeEnvSpec]()).Fields {
		switch f.Name {
		case "Placement", "ClientToken":
			add(top, f)
			continue
		case "Notifications":
			f.Shape.OrItem = true
		}
		add(env, f)
	}
	return top
}

// shapeOf follows the nesting of Go types.
func shapeOf(t reflect.Type) *params.Shape {
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Slice:
		return &params.Shape{Kind: params.KindList, Item: shapeOf(t.Elem())}
	case reflect.Struct:
		if t == reflect.TypeFor[v1alpha1.SecretRef]() {
			return &params.Shape{Kind: params.KindSecret}
		}
		return objectOf(t)
	case reflect.Int64:
		return &params.Shape{Kind: params.KindNumber}
	case reflect.Bool:
		return &params.Shape{Kind: params.KindSwitch}
	default:
		return &params.Shape{Kind: params.KindText}
	}
}

func objectOf(t reflect.Type) *params.Shape {
	s := &params.Shape{Kind: params.KindObject}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		name, exception := exceptions[t][tag]
		if !exception {
			name = apiName(tag)
		}
		if name == "" {
			continue
		}
		s.Fields = append(s.Fields, params.Field{Name: name, Index: i, Shape: shapeOf(f.Type), Always: alwaysWritten[t] == tag})
		s.Names = append(s.Names, name)
	}
	return s
}

// apiName is a JSON name with a capital first letter, and without the suffix of a
// reference to a Secret.
func apiName(tag string) string {
	tag = strings.TrimSuffix(tag, secretSuffix)
	return strings.ToUpper(tag[:1]) + tag[1:]
}
