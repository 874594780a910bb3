// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"bytes"
	"net/url"
	"reflect"
	"strings"
	"unicode/utf8"

	"batchcompute.dev/operator/internal/errcode"
)

// The bounds of a request. What an object of the cluster can hold is well below MaxValues.
const (
	// MaxValues is how many fields and list items a request may have.
	MaxValues = 100_000
	// MaxDepth is how deep objects and lists may be nested.
	MaxDepth = 32
)

// Object is what a request says beside the common parameters, as it came. The zero value has no
// fields. It is not changed by decoding.
type Object struct {
	action string
	path   string // of an object inside a request
	json   []byte // nil: flattened
	flat   []Parameter
}

var objectType = reflect.TypeFor[Object]()

// FromJSON returns the parameters of a JSON body, which is kept, not copied. An empty body has none. action is
// for messages. The error is of type Problems, and only about bounds and the character set: what is no JSON is
// found by decoding. Cost: one look at each byte.
func FromJSON(action string, body []byte) (*Object, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return &Object{action: action}, nil
	}
	if !utf8.Valid(body) {
		return nil, refused("the body must be UTF-8")
	}
	if err := checkBounds(body); err != nil {
		return nil, err
	}
	return &Object{action: action, json: body}, nil
}

// checkBounds counts what JSON has, and how deep it is nested. Other bytes have a count as well.
func checkBounds(body []byte) error {
	values, depth := 0, 0
	text := false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case text:
			if c == '\\' {
				i++
			} else if c == '"' {
				text = false
			}
		case c == '"':
			text = true
		case c == '{' || c == '[':
			values++
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		}
		if values > MaxValues || depth > MaxDepth {
			return outOfBounds(values > MaxValues)
		}
	}
	return nil
}

// FromParameters returns the parameters of the flattened form, which are kept, not copied. Common parameters are
// passed over. action is for messages. The error is of type Problems, and only about bounds.
func FromParameters(action string, params []Parameter) (*Object, error) {
	if len(params) > MaxValues {
		return nil, outOfBounds(true)
	}
	for _, p := range params {
		if strings.Count(p.Key, ".") >= MaxDepth {
			return nil, outOfBounds(false)
		}
	}
	return &Object{action: action, flat: params}, nil
}

// ParseQuery decodes a URL's query, or a form, in its order: the flattened form with common parameters.
// Names and values must be UTF-8. The error is of type Problems.
func ParseQuery(query string) ([]Parameter, error) {
	n := strings.Count(query, "&") + 1
	if n > MaxValues {
		return nil, outOfBounds(true)
	}
	params := make([]Parameter, 0, n)
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if keyErr != nil || valueErr != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, refused("each parameter must be a key, = and a value, both UTF-8 and encoded for a URL")
		}
		params = append(params, Parameter{key, value})
	}
	return params, nil
}

func refused(detail string) Problems {
	return Problems{{Code: errcode.InvalidParameter, Detail: detail}}
}

func outOfBounds(many bool) Problems {
	d := &Decoder{}
	if many {
		d.Fail(errcode.InvalidParameter, "", "the request must have at most %d fields and list items", MaxValues)
	} else {
		d.Fail(errcode.InvalidParameter, "", "the request must be nested at most %d deep", MaxDepth)
	}
	return d.problems
}

// Action returns the name of the action.
func (o *Object) Action() string { return o.action }

// Decode decodes the parameters into a struct, the fields of which are called as the API calls them, or have that name as
// their JSON tag:
//
//	type DescribeJobsRequest struct {
//		JobIds  []string
//		Filters []Filter `params:"orItem"` // where a client may write its only item in place of the list
//		Limit   *int64
//		JobID   string   `json:"JobId" params:"required"`
//	}
//
// A field is an int64, a bool, a string, a struct of such fields, a slice of one of these, or a pointer
// to one, which stays nil when the parameter is absent or null. An Object, or a pointer to one, keeps
// what is to be decoded later. A required field must be there and not be null; it may be empty.
// into must be a pointer to a zero struct; it is undefined after an error, which is of type Problems.
// Decode panics if the struct has other types of fields.
func (o *Object) Decode(into any) error {
	root := reflect.ValueOf(into).Elem()
	d := &Decoder{Action: o.action, Shape: shapeOf(root.Type())}
	d.Object(o, root)
	if len(d.problems) > 0 {
		return d.problems
	}
	return nil
}

// Object decodes o into root, a value that can be set of the type that d.Shape is of.
func (d *Decoder) Object(o *Object, root reflect.Value) {
	d.base = o.path
	if o.json != nil {
		d.JSON(o.json, root)
		return
	}
	d.Parameters(o.flat, root)
}
