// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"reflect"
	"strconv"
	"strings"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// Decoder decodes one body into a Go value by a shape.
type Decoder struct {
	// Action is the name of the action, for messages.
	Action string
	// Shape is that of the body.
	Shape *Shape
	// Common is told of each common parameter among the fields of the body; nil: they are passed over.
	Common func(name, value string)
	// Secret sets a field of KindSecret, which v is, to a text that is not empty.
	Secret func(v reflect.Value, value string)

	base     string // the path of what is decoded, empty for a whole body
	problems Problems
	null     bool // the JSON value that was read last was null
}

// common are what every action of the vendor's API takes beside its own
// fields. They speak of the call, not of what it does.
// Source: Tencent Cloud API, Common Params.
var common = map[string]bool{
	"Action": true, "Version": true, "Region": true, "Timestamp": true, "Nonce": true, "SecretId": true, "Signature": true,
	"SignatureMethod": true, "Token": true, "Language": true, "RequestClient": true,
}

// IsCommon reports whether a name is that of a common parameter, one of the call itself.
func IsCommon(name string) bool { return common[name] }

// common hands over a common parameter.
func (d *Decoder) common(name, value string) {
	if d.Common != nil {
		d.Common(name, value)
	}
}

// grow appends a zero item to a list and returns it.
func grow(v reflect.Value) reflect.Value {
	v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	return v.Index(v.Len() - 1)
}

// present makes a value that may be absent present, and returns it.
func present(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// missing reports the required fields of an object that are not in seen.
func (d *Decoder) missing(s *Shape, seen map[string]bool, path string) {
	for _, f := range s.Fields {
		if f.Required && !seen[f.Name] {
			d.Fail(errcode.MissingParameter, Join(path, f.Name), "must be given")
		}
	}
}

// scalar sets a field to a value that is written as a text; got is what it is said to
// be when the field takes something else.
func (d *Decoder) scalar(s *Shape, v reflect.Value, path, value, got string) {
	switch s.Kind {
	case KindText:
		present(v).SetString(value)
	case KindSecret:
		if value != "" {
			d.Secret(present(v), value)
		}
	case KindNumber:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			d.Fail(errcode.InvalidParameter, path, "must be %s, got %s", KindNumber, validation.Quote(value))
			return
		}
		present(v).SetInt(n)
	case KindSwitch:
		switch strings.ToLower(value) {
		case "true":
			present(v).SetBool(true)
		case "false":
			present(v).SetBool(false)
		default:
			d.failType(s, path, "another text")
		}
	default:
		d.failType(s, path, got)
	}
}
