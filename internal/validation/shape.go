// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"reflect"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
)

// shape is a type as its JSON form has it. Size, comparison and the tables of
// warnings walk over a spec by it, so a field that is added to the API is part of them
// without further code.
type shape struct {
	// kind is Struct, Pointer, Slice, String, Bool or Int64, or Invalid for a type that
	// is taken whole, because it encodes itself or is none of these.
	kind   reflect.Kind
	elem   *shape       // of a pointer or slice
	fields []fieldShape // of a struct
}

type fieldShape struct {
	name      string // JSON name
	index     int    // position in the Go struct
	omitEmpty bool
	shape     *shape
}

// specShape, envShape and templateShape are the shapes of spec, of a BatchJob, a ComputeEnv and a TaskTemplate, taskShape that of a task, and
// kubernetesShape and affinityShape those of kubernetes in both and of its affinity. They are built
// once and only read.
var (
	specShape       = shapeOf(reflect.TypeFor[v1alpha1.BatchJobSpec]())
	envShape        = shapeOf(reflect.TypeFor[v1alpha1.ComputeEnvSpec]())
	taskShape       = shapeOf(reflect.TypeFor[v1alpha1.Task]())
	templateShape   = shapeOf(reflect.TypeFor[v1alpha1.TaskTemplateSpec]())
	kubernetesShape = shapeOf(reflect.TypeFor[v1alpha1.KubernetesOptions]())
	affinityShape   = shapeOf(reflect.TypeFor[v1alpha1.Affinity]())
)

// shapeOf follows the nesting of Go types, which is no user's choice and not deep.
func shapeOf(t reflect.Type) *shape {
	marshaler := reflect.TypeFor[json.Marshaler]()
	if t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		return &shape{}
	}
	switch k := t.Kind(); k {
	case reflect.Struct:
		return &shape{kind: k, fields: fieldsOf(t)}
	case reflect.Pointer, reflect.Slice:
		return &shape{kind: k, elem: shapeOf(t.Elem())}
	case reflect.String, reflect.Bool, reflect.Int64:
		return &shape{kind: k}
	default:
		return &shape{}
	}
}

func fieldsOf(t reflect.Type) []fieldShape {
	fields := make([]fieldShape, 0, t.NumField())
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, fieldShape{
			name: name, index: i, omitEmpty: strings.Contains(options, "omitempty"), shape: shapeOf(t.Field(i).Type),
		})
	}
	return fields
}

// field returns the field with the JSON name.
func (s *shape) field(name string) (fieldShape, bool) {
	for _, f := range s.fields {
		if f.name == name {
			return f, true
		}
	}
	return fieldShape{}, false
}
