// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"reflect"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
)

// kind is what a field takes.
type kind string

const (
	object kind = "an object"
	list   kind = "a list"
	text   kind = "a text"
	number kind = "a whole number"
	toggle kind = "true or false"
	// secret is a text in a body, and a reference to a Secret in a BatchJob.
	secret kind = "a text, which becomes a Secret"
)

// shape is a type as both sides see it. Pointers are not part of it: they only say
// that a value may be absent.
type shape struct {
	kind   kind
	item   *shape      // of a list
	fields []fieldInfo // of an object
	names  []string    // API names of fields
	// orItem is set for a list in whose place its only item may stand.
	orItem bool
}

type fieldInfo struct {
	name  string // the API's
	index int    // in the Go struct
	shape *shape
	// always is set for texts that the API requires although they may be empty.
	always bool
	// inline is set for an object of the API whose fields are those of the Go struct
	// that it is in. Its index is -1.
	inline bool
}

// of returns the field's value in the Go struct v.
func (f fieldInfo) of(v reflect.Value) reflect.Value {
	if f.inline {
		return v
	}
	return v.Field(f.index)
}

// exceptions are the fields whose API name is not their JSON name with a capital first
// letter, by struct and JSON name; empty: the API does not have the field.
var exceptions = map[reflect.Type]map[string]string{
	reflect.TypeFor[v1alpha1.InstanceTypeOptions](): {"cpu": "CPU"},
	reflect.TypeFor[v1alpha1.AnonymousComputeEnv](): {"kubernetes": ""},
	reflect.TypeFor[v1alpha1.ComputeEnvSpec]():      {"kubernetes": ""},
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
	kind  string // of the object that a body becomes
	shape *shape // of a body
}

// The actions. They are built once and only read.
var (
	submitJob        = &action{"SubmitJob", "BatchJob", shapeOf(reflect.TypeFor[v1alpha1.BatchJobSpec]())}
	createComputeEnv = &action{"CreateComputeEnv", "ComputeEnv", shapeOfCreateComputeEnv()}
	actions          = []*action{submitJob, createComputeEnv}
)

// shapeOfCreateComputeEnv is that of a ComputeEnv's spec, in which the fields that are none
// of the request itself are in the object ComputeEnv. The first SDKs had one notification
// there, not a list.
func shapeOfCreateComputeEnv() *shape {
	env, top := &shape{kind: object}, &shape{kind: object}
	add := func(to *shape, f fieldInfo) {
		to.fields, to.names = append(to.fields, f), append(to.names, f.name)
	}
	add(top, fieldInfo{name: "ComputeEnv", index: -1, shape: env, inline: true})
	for _, f := range shapeOf(reflect.TypeFor[v1alpha1.ComputeEnvSpec]()).fields {
		switch f.name {
		case "Placement", "ClientToken":
			add(top, f)
			continue
		case "Notifications":
			f.shape.orItem = true
		}
		add(env, f)
	}
	return top
}

// shapeOf follows the nesting of Go types.
func shapeOf(t reflect.Type) *shape {
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Slice:
		return &shape{kind: list, item: shapeOf(t.Elem())}
	case reflect.Struct:
		if t == reflect.TypeFor[v1alpha1.SecretRef]() {
			return &shape{kind: secret}
		}
		return objectOf(t)
	case reflect.Int64:
		return &shape{kind: number}
	case reflect.Bool:
		return &shape{kind: toggle}
	default:
		return &shape{kind: text}
	}
}

func objectOf(t reflect.Type) *shape {
	s := &shape{kind: object}
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
		s.fields = append(s.fields, fieldInfo{name: name, index: i, shape: shapeOf(f.Type), always: alwaysWritten[t] == tag})
		s.names = append(s.names, name)
	}
	return s
}

// apiName is a JSON name with a capital first letter, and without the suffix of a
// reference to a Secret.
func apiName(tag string) string {
	tag = strings.TrimSuffix(tag, secretSuffix)
	return strings.ToUpper(tag[:1]) + tag[1:]
}

// field returns the field with the API's name.
func (s *shape) field(name string) (fieldInfo, bool) {
	for _, f := range s.fields {
		if f.name == name {
			return f, true
		}
	}
	return fieldInfo{}, false
}
