// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/params"
)

// encoder writes a spec field by field. A note says what had to be left out.
type encoder struct {
	kind  string // of the object
	notes []string
}

// leaveOut notes a credential.
func (e *encoder) leaveOut(path string, v reflect.Value) {
	ref, _ := v.Interface().(v1alpha1.SecretRef)
	e.notes = append(e.notes, fmt.Sprintf("%s is left out; a %s has it in a Secret, here %s", path, e.kind, strconv.Quote(ref.Name)))
}

// ToJSON returns the body of a request, indented, and a note for each field that is left
// out because it is in a Secret. Fields come in the order of the types; absent ones are not
// written.
func ToJSON(r *Request) (body []byte, notes []string) {
	a, spec := r.action()
	e := &encoder{kind: a.kind}
	var b bytes.Buffer
	e.json(&b, a.shape, spec, "")
	var indented bytes.Buffer
	_ = json.Indent(&indented, b.Bytes(), "", "  ") // what is written above is JSON
	indented.WriteByte('\n')
	return indented.Bytes(), e.notes
}

// TaskToJSON returns a task as a request has it, without its credentials: those are in Secrets.
func TaskToJSON(task *v1alpha1.Task) json.RawMessage {
	e := &encoder{}
	var b bytes.Buffer
	e.json(&b, taskShape, reflect.ValueOf(task).Elem(), "")
	return b.Bytes()
}

// json writes a value that is there. It recurses with the nesting of the types.
func (e *encoder) json(b *bytes.Buffer, s *params.Shape, v reflect.Value, path string) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch s.Kind {
	case params.KindObject:
		separator := "{"
		for _, f := range s.Fields {
			value := f.Of(v)
			if isAbsent(value) && !f.Always {
				continue
			}
			p := params.Join(path, f.Name)
			if f.Shape.Kind == params.KindSecret {
				e.leaveOut(p, value.Elem())
				continue
			}
			b.WriteString(separator + `"` + f.Name + `":`)
			separator = ","
			e.json(b, f.Shape, value, p)
		}
		if separator == "{" {
			b.WriteString("{")
		}
		b.WriteString("}")
	case params.KindList:
		b.WriteString("[")
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(",")
			}
			e.json(b, s.Item, v.Index(i), params.Join(path, strconv.Itoa(i)))
		}
		b.WriteString("]")
	case params.KindText:
		jsonText(b, v.String())
	default:
		b.WriteString(scalarText(s, v))
	}
}

// jsonText writes a text without the escapes that only HTML needs.
func jsonText(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a text can be encoded, and a buffer takes everything
	b.Truncate(b.Len() - 1)
}

// isAbsent says whether a field has nothing to write.
func isAbsent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		return false
	case reflect.Slice:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// scalarText writes a value that is no object and no list.
func scalarText(s *params.Shape, v reflect.Value) string {
	switch s.Kind {
	case params.KindNumber:
		return strconv.FormatInt(v.Int(), 10)
	case params.KindSwitch:
		return strconv.FormatBool(v.Bool())
	default:
		return v.String()
	}
}

// ToParameters returns the flattened body of a request, in the order of the types, and
// notes as ToJSON does. This form has no way to write an empty object or an empty item of a
// list; such a request is an error that names the first.
func ToParameters(r *Request) (list []Parameter, notes []string, err error) {
	a, spec := r.action()
	e := &flatEncoder{encoder: encoder{kind: a.kind}}
	e.value(a.shape, spec, "", false)
	if e.empty != "" {
		return nil, nil, fmt.Errorf("%s is empty, which the flattened form cannot express; write JSON", e.empty)
	}
	return e.params, e.notes, nil
}

type flatEncoder struct {
	encoder
	params []Parameter
	empty  string // the first value that cannot be written
}

// value writes a value that is there; must says that its absence would be a change.
func (e *flatEncoder) value(s *params.Shape, v reflect.Value, path string, must bool) {
	pointer := v.Kind() == reflect.Pointer
	if pointer {
		v = v.Elem()
	}
	before := len(e.params)
	switch s.Kind {
	case params.KindObject:
		for _, f := range s.Fields {
			if value := f.Of(v); !isAbsent(value) {
				e.value(f.Shape, value, params.Join(path, f.Name), f.Inline) // which names the action
			}
		}
	case params.KindList:
		for i := range v.Len() {
			e.value(s.Item, v.Index(i), params.Join(path, strconv.Itoa(i)), true)
		}
	case params.KindSecret:
		e.leaveOut(path, v)
		return // what holds nothing else is not there
	default:
		if value := scalarText(s, v); value != "" {
			e.params = append(e.params, Parameter{Key: path, Value: value})
		}
	}
	if (must || pointer) && len(e.params) == before && e.empty == "" {
		e.empty = path
	}
}

// Lines writes one parameter a line. A value with a line end in it, and one that would be
// read as several parameters, cannot be written so.
func Lines(list []Parameter) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range list {
		if strings.ContainsAny(p.Value, "\r\n") {
			return nil, fmt.Errorf("%s has line ends, which the form lines cannot express; write json or form", p.Key)
		}
		if found, _, unclear := splitLine(p.Key + "=" + p.Value); unclear != "" || len(found) != 1 || found[0] != p {
			return nil, fmt.Errorf("%s has an & that would start a parameter in the form lines; write json or form", p.Key)
		}
		fmt.Fprintf(&b, "%s=%s\n", p.Key, p.Value)
	}
	return b.Bytes(), nil
}

// Form encodes parameters as the body of a POST or the query of a GET.
func Form(list []Parameter) string {
	var b strings.Builder
	for i, p := range list {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.Key) + "=" + url.QueryEscape(p.Value))
	}
	return b.String()
}
