// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"unicode"
	"unicode/utf16"

	"batchcompute.dev/operator/internal/errcode"
)

// JSON decodes a JSON body into root, a value that can be set of the type that d.Shape is of.
func (d *Decoder) JSON(data []byte, root reflect.Value) {
	if at := loneSurrogate(data); at >= 0 {
		d.Fail(errcode.InvalidParameter, "", "the body has half a surrogate pair at byte %d; escape the whole character", at)
		return
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if bytes.Equal(data, []byte("null")) {
		d.failType(d.Shape, d.base, "null")
		return
	}
	err := d.value(dec, d.Shape, root, d.base)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return
		}
		err = errors.New("must end after the first value")
	}
	d.Fail(errcode.InvalidParameter, "", "the body is no valid JSON: %s at byte %d", jsonFault(err), dec.InputOffset())
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
func (d *Decoder) value(dec *json.Decoder, s *Shape, v reflect.Value, path string) error {
	if s.Kind == kindRaw {
		return d.raw(dec, s, v, path)
	}
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
		case t == '{' && s.Kind == KindObject:
			return d.object(dec, s, present(v), path)
		case t == '[' && s.Kind == KindList:
			return d.list(dec, s, v, path)
		case t == '{' && s.Kind == KindList && s.OrItem:
			v.Set(reflect.MakeSlice(v.Type(), 0, 1))
			return d.object(dec, s.Item, present(grow(v)), path)
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
		if s.Kind == KindSwitch {
			present(v).SetBool(t)
		} else {
			d.failType(s, path, "true or false")
		}
	}
	return nil
}

// object reads the fields of an object whose brace has been read.
func (d *Decoder) object(dec *json.Decoder, s *Shape, v reflect.Value, path string) error {
	seen := make(map[string]bool, len(s.Fields)) // true: and it was not null
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // the decoder has made sure of it
		f, known := s.Field(name)
		_, again := seen[name]
		switch {
		case known && !again:
			d.null = false
			err = d.value(dec, f.Shape, f.Of(v), Join(path, name))
			seen[name] = !d.null
		case known:
			d.Fail(errcode.InvalidParameter, Join(path, name), "must be given once")
			err = skipValue(dec)
		case s == d.Shape && d.base == "" && IsCommon(name):
			err = d.passCommon(dec, name)
		default:
			d.failUnknown(s, path, name)
			err = skipValue(dec)
		}
		if err != nil {
			return err
		}
	}
	d.missing(s, seen, path)
	_, err := dec.Token()
	d.null = false
	return err
}

// raw keeps an object that is decoded later.
func (d *Decoder) raw(dec *json.Decoder, s *Shape, v reflect.Value, path string) error {
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return err
	}
	switch {
	case bytes.Equal(value, []byte("null")):
		d.null = true
	case value[0] != '{':
		d.failType(s, path, "another value")
	default:
		present(v).Set(reflect.ValueOf(Object{action: d.Action, path: path, json: value}))
	}
	return nil
}

// passCommon hands over the common parameter that is next; a value that is no text is handed over as "".
func (d *Decoder) passCommon(dec *json.Decoder, name string) error {
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return err
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		s = "" // is none of those that are known
	}
	d.common(name, s)
	return nil
}

// list reads the items of a list whose bracket has been read.
func (d *Decoder) list(dec *json.Decoder, s *Shape, v reflect.Value, path string) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i := 0; dec.More(); i++ {
		item := Join(path, strconv.Itoa(i))
		d.null = false
		if err := d.value(dec, s.Item, grow(v), item); err != nil {
			return err
		}
		if d.null { // as good as absent, and a list has no absent items
			d.failType(s.Item, item, "null")
			d.null = false
		}
	}
	_, err := dec.Token()
	d.null = false
	return err
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
func (d *Decoder) jsonNumber(s *Shape, v reflect.Value, path, value string) {
	if s.Kind != KindNumber {
		d.failType(s, path, "a number")
		return
	}
	d.scalar(s, v, path, value, "")
}
