// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// Parameter is one field of a flattened body: Key is its path, with the positions of
// list items counted from 0, as in Job.Tasks.0.TaskName.
type Parameter struct{ Key, Value string }

// decodeForm reads an encoded form (a=b&c=d) into spec.
func (d *decoder) decodeForm(body string, spec *v1alpha1.BatchJobSpec) {
	var params []Parameter
	count := 0
	for pair := range strings.SplitSeq(queryOf(body), "&") {
		if pair == "" {
			continue
		}
		count++
		key, value, ok := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if !ok || keyErr != nil || valueErr != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			d.fail(errcode.InvalidParameter, "", "parameter %d must be a key, = and a value, both UTF-8 and encoded for a URL", count)
			continue
		}
		params = append(params, Parameter{key, value})
	}
	d.parameters(params, spec)
}

// decodeLines reads lines of the form key=value into spec. Values stand as they are. An
// & before a key, as the vendor's pages print it, and a URL before the first are passed
// over.
func (d *decoder) decodeLines(body string, spec *v1alpha1.BatchJobSpec) {
	var params []Parameter
	line := 0
	for text := range strings.SplitSeq(body, "\n") {
		line++
		text = strings.TrimPrefix(strings.TrimSpace(text), "&")
		if len(params) == 0 {
			text = queryOf(text)
		}
		if text == "" {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			d.fail(errcode.InvalidParameter, "", "line %d must be a key, = and a value", line)
			continue
		}
		params = append(params, Parameter{key, value})
	}
	d.parameters(params, spec)
}

// queryOf cuts off what stands before the query of a URL.
func queryOf(s string) string {
	if strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") {
		_, s, _ = strings.Cut(s, "?")
	}
	return s
}

// place is where a parameter belongs: positions of fields and of list items by turns
// as the shapes have it.
type place struct {
	steps []int
	leaf  *shape
	key   string
	value string
}

// parameters reads flattened fields into spec, in whatever order they come.
func (d *decoder) parameters(params []Parameter, spec *v1alpha1.BatchJobSpec) {
	places := make([]place, 0, len(params))
	for _, p := range params {
		if commonParameters[p.Key] {
			if p.Key == actionParameter && p.Value != submitJob {
				d.failAction()
			}
			continue
		}
		if at, ok := d.find(p); ok {
			places = append(places, at)
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return slices.Compare(a.steps, b.steps) })
	root := reflect.ValueOf(spec).Elem()
	for i, at := range places {
		if i > 0 && slices.Equal(at.steps, places[i-1].steps) {
			d.fail(errcode.InvalidParameter, at.key, "must be given once")
			continue
		}
		d.put(root, at)
	}
}

// find follows the path of a parameter through the shapes. It never goes deeper than
// they are.
func (d *decoder) find(p Parameter) (place, bool) {
	s, rest, done := request, p.Key, ""
	at := place{key: p.Key, value: p.Value}
	for s.kind == object || s.kind == list {
		if rest == "" {
			d.failType(s, done, "a text")
			return at, false
		}
		name, tail, _ := strings.Cut(rest, ".")
		if s.kind == list {
			i, ok := position(name)
			if !ok {
				d.fail(errcode.InvalidParameter, done, "must be followed by the position of an item, such as 0, got %s", validation.Quote(name))
				return at, false
			}
			at.steps, s = append(at.steps, i), s.item
		} else {
			f, ok := s.field(name)
			if !ok {
				d.failUnknown(s, done, name)
				return at, false
			}
			at.steps, s = append(at.steps, f.index), f.shape
		}
		done, rest = join(done, name), tail
	}
	if done != p.Key {
		d.failType(s, done, "an object")
		return at, false
	}
	at.leaf = s
	return at, true
}

// position reads the position of an item: a number without sign and leading zeros.
func position(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil && strconv.FormatUint(n, 10) == s
}

// put sets the field at a place. Places come sorted, so that the items of a list arrive
// in order: one that is neither the last nor the next shows that an item is missing.
// That is reported and not made up for, since a list as long as any number that is
// written in a body would not fit anywhere.
func (d *decoder) put(v reflect.Value, at place) {
	s, path := request, ""
	for _, step := range at.steps {
		if s.kind == object {
			f := fieldAt(s, step)
			v, s, path = present(v).Field(step), f.shape, join(path, f.name)
			continue
		}
		if step > v.Len() {
			d.fail(errcode.InvalidParameter, path, "must have its items from 0 on without a gap, item %d is missing", v.Len())
			return
		}
		if step == v.Len() {
			grow(v)
		}
		v, s, path = v.Index(step), s.item, join(path, strconv.Itoa(step))
	}
	d.scalar(at.leaf, v, at.key, at.value, "a text")
}

// fieldAt returns the field of s that has the position in the Go struct.
func fieldAt(s *shape, index int) fieldInfo {
	i, _ := slices.BinarySearchFunc(s.fields, index, func(f fieldInfo, index int) int { return f.index - index })
	return s.fields[i]
}
