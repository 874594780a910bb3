// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// commonParameters are what every action of the vendor's API takes beside its own
// fields. They speak of the call, not of the job, and are passed over.
// Source: Tencent Cloud API, Common Params.
var commonParameters = map[string]bool{
	"Action": true, "Version": true, "Region": true, "Timestamp": true, "Nonce": true, "SecretId": true, "Signature": true,
	"SignatureMethod": true, "Token": true, "Language": true, "RequestClient": true,
}

const (
	actionParameter  = "Action"
	versionParameter = "Version"
	// version is the only one of the API that there is.
	version = "2017-03-12"
)

// decodeJSON reads a JSON body.
func (d *decoder) decodeJSON(data []byte) {
	d.action = actionOfJSON(data, d.named)
	if at := loneSurrogate(data); at >= 0 {
		d.fail(errcode.InvalidParameter, "", "the body has half a surrogate pair at byte %d; escape the whole character", at)
		return
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if bytes.Equal(data, []byte("null")) {
		d.failType(d.action.shape, "", "null")
		return
	}
	err := d.value(dec, d.action.shape, d.root(), "")
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return
		}
		err = errors.New("must end after the first value")
	}
	d.fail(errcode.InvalidParameter, "", "the body is no valid JSON: %s at byte %d", jsonFault(err), dec.InputOffset())
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

// loneSurrogate returns where JSON has an escaped surrogate without its other half, for
// which the decoder would put another character; -1 if nowhere. A backslash stands only in
// texts.
func loneSurrogate(data []byte) int {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch high := escaped(data[i:]); {
		case utf16.IsSurrogate(high):
			if utf16.DecodeRune(high, escaped(data[min(i+6, len(data)):])) == unicode.ReplacementChar {
				return i
			}
			i += 11
		default:
			i++ // what is escaped may be a backslash
		}
	}
	return -1
}

// escaped returns the character of the escape that data begins with, 0 for none of the form
// \uXXXX.
func escaped(data []byte) rune {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// jsonFault describes a syntax error without repeating the body.
func jsonFault(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	case errors.As(err, &syntax):
		return "a character is out of place"
	default:
		return err.Error()
	}
}

// value reads the next value into v. It returns an error only when the JSON itself is
// broken. It recurses with the nesting of the types, not of the body.
func (d *decoder) value(dec *json.Decoder, s *shape, v reflect.Value, path string) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case nil: // as good as absent
		d.null = true
		return nil
	case json.Delim:
		switch {
		case t == '{' && s.kind == object:
			return d.object(dec, s, present(v), path)
		case t == '[' && s.kind == list:
			return d.list(dec, s, v, path)
		case t == '{' && s.kind == list && s.orItem:
			v.Set(reflect.MakeSlice(v.Type(), 0, 1))
			return d.object(dec, s.item, present(grow(v)), path)
		}
		got := "an object"
		if t == '[' {
			got = "a list"
		}
		d.failType(s, path, got)
		return skip(dec)
	case string:
		d.scalar(s, v, path, t, "a text")
	case json.Number:
		d.jsonNumber(s, v, path, t.String())
	case bool:
		if s.kind == toggle {
			present(v).SetBool(t)
		} else {
			d.failType(s, path, "true or false")
		}
	}
	return nil
}

// object reads the fields of an object whose brace has been read.
func (d *decoder) object(dec *json.Decoder, s *shape, v reflect.Value, path string) error {
	seen := make(map[string]bool, len(s.fields))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder has made sure of it
		f, known := s.field(name)
		switch {
		case known && !seen[name]:
			seen[name] = true
			err = d.value(dec, f.shape, f.of(v), join(path, name))
		case known:
			d.fail(errcode.InvalidParameter, join(path, name), "must be given once")
			err = skipValue(dec)
		case s == d.action.shape && commonParameters[name]:
			err = d.common(dec, name)
		default:
			d.failUnknown(s, path, name)
			err = skipValue(dec)
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.Token()
	d.null = false
	return err
}

// common passes over a common parameter; an action and a version must be known.
func (d *decoder) common(dec *json.Decoder, name string) error {
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return err
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		s = "" // is none of those that are known
	}
	d.checkCommon(name, s)
	return nil
}

// checkCommon checks a common parameter.
func (d *decoder) checkCommon(name, value string) {
	switch {
	case name == actionParameter && value != d.action.name:
		d.fail(errcode.InvalidParameterValue, name, "must be %s or %s", submitJob.name, createComputeEnv.name)
	case name == versionParameter && value != version:
		d.fail(errcode.InvalidParameterValue, name, "must be %s, got %s", version, validation.Quote(value))
	}
}

// list reads the items of a list whose bracket has been read.
func (d *decoder) list(dec *json.Decoder, s *shape, v reflect.Value, path string) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i := 0; dec.More(); i++ {
		item := join(path, strconv.Itoa(i))
		d.null = false
		if err := d.value(dec, s.item, grow(v), item); err != nil {
			return err
		}
		if d.null { // as good as absent, and a list has no absent items
			d.failType(s.item, item, "null")
			d.null = false
		}
	}
	_, err := dec.Token()
	d.null = false
	return err
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

// skipValue passes over the next value.
func skipValue(dec *json.Decoder) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if delim, ok := token.(json.Delim); ok && (delim == '{' || delim == '[') {
		return skip(dec)
	}
	return nil
}

// skip passes over the rest of an object or list whose beginning has been read, however
// deep it is nested.
func skip(dec *json.Decoder) error {
	for depth := 1; depth > 0; {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// jsonNumber sets a field to what stands as a bare number in the body.
func (d *decoder) jsonNumber(s *shape, v reflect.Value, path, value string) {
	if s.kind != number {
		d.failType(s, path, "a number")
		return
	}
	d.scalar(s, v, path, value, "")
}

// scalar sets a field to a value that is written as a text; got is what it is said to
// be when the field takes something else.
func (d *decoder) scalar(s *shape, v reflect.Value, path, value, got string) {
	switch s.kind {
	case text:
		present(v).SetString(value)
	case secret:
		if value != "" {
			present(v).Addr().Interface().(*v1alpha1.SecretRef).Name = strconv.Itoa(len(d.secrets))
			d.secrets = append(d.secrets, value)
		}
	case number:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			d.fail(errcode.InvalidParameter, path, "must be %s, got %s", number, validation.Quote(value))
			return
		}
		present(v).SetInt(n)
	case toggle:
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
