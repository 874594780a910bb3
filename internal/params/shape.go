// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Kind is what a field takes. Its text completes the sentence "must be …".
type Kind string

// The kinds of fields.
const (
	KindObject Kind = "an object"
	KindList   Kind = "a list"
	KindText   Kind = "a text"
	KindNumber Kind = "a whole number"
	KindSwitch Kind = "true or false"
	// KindSecret is a text in a body; what it becomes is up to Decoder.Secret.
	KindSecret Kind = "a text, which becomes a Secret"
	// kindRaw is an object that is decoded later.
	kindRaw Kind = "a JSON object"
)

// Shape is a type as both sides see it. Pointers are not part of it: they only say
// that a value may be absent.
type Shape struct {
	Kind   Kind
	Item   *Shape   // of a list
	Fields []Field  // of an object
	Names  []string // API names of fields
	// OrItem is set for a list in whose place its only item may stand.
	OrItem bool
}

// Field is a field of an object.
type Field struct {
	Name  string // the API's
	Index int    // in the Go struct
	Shape *Shape
	// Required is set for a field that must be there.
	Required bool
	// Always is set for texts that the API requires although they may be empty.
	Always bool
	// Inline is set for an object of the API whose fields are those of the Go struct
	// that it is in. Its index is -1.
	Inline bool
}

// Of returns the field's value in the Go struct v.
func (f Field) Of(v reflect.Value) reflect.Value {
	if f.Inline {
		return v
	}
	return v.Field(f.Index)
}

// Field returns the field with the API's name.
func (s *Shape) Field(name string) (Field, bool) {
	for _, f := range s.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// fieldAt returns the field that has the position in the Go struct.
func (s *Shape) fieldAt(index int) Field {
	i, _ := slices.BinarySearchFunc(s.Fields, index, func(f Field, index int) int { return f.Index - index })
	return s.Fields[i]
}

// The values of the struct tag params.
const (
	tagRequired = "required"
	tagOrItem   = "orItem"
)

// shapeOf follows the nesting of Go types. See Object.Decode for those that there may be.
func shapeOf(t reflect.Type) *Shape {
	switch t.Kind() {
	case reflect.Pointer:
		return shapeOf(t.Elem())
	case reflect.Slice:
		return &Shape{Kind: KindList, Item: shapeOf(t.Elem())}
	case reflect.Struct:
		if t == objectType {
			return &Shape{Kind: kindRaw}
		}
		return structShape(t)
	case reflect.Int64:
		return &Shape{Kind: KindNumber}
	case reflect.Bool:
		return &Shape{Kind: KindSwitch}
	case reflect.String:
		return &Shape{Kind: KindText}
	default:
		panic(fmt.Sprintf("params: a request cannot have a field of type %v", t))
	}
}

func structShape(t reflect.Type) *Shape {
	s := &Shape{Kind: KindObject}
	for i := range t.NumField() {
		f := t.Field(i)
		options := strings.Split(f.Tag.Get("params"), ",")
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		field := Field{Name: cmp.Or(name, f.Name), Index: i, Shape: shapeOf(f.Type), Required: slices.Contains(options, tagRequired)}
		field.Shape.OrItem = slices.Contains(options, tagOrItem)
		s.Fields, s.Names = append(s.Fields, field), append(s.Names, field.Name)
	}
	return s
}
