// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package params

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// Parameter is one field of a flattened body: Key is its path, with the positions of
// list items counted from 0, as in Job.Tasks.0.TaskName.
type Parameter struct{ Key, Value string }

// place is where a parameter belongs: positions of fields and of list items by turns
// as the shapes have it.
type place struct {
	steps []int
	leaf  *Shape
	key   string
	value string
}

// Parameters decodes flattened fields, in whatever order they come, into root, a value
// that can be set of the type that d.Shape is of.
func (d *Decoder) Parameters(params []Parameter, root reflect.Value) {
	places := make([]place, 0, len(params))
	for _, p := range params {
		if d.base == "" && IsCommon(p.Key) {
			d.common(p.Key, strings.TrimSpace(p.Value))
			continue
		}
		if at, ok := d.find(p); ok {
			places = append(places, at)
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return slices.Compare(a.steps, b.steps) })
	for i, at := range places {
		if i > 0 && slices.Equal(at.steps, places[i-1].steps) && at.leaf.Kind != kindRaw {
			d.Fail(errcode.InvalidParameter, at.key, "must be given once")
			continue
		}
		d.put(root, at)
	}
	d.missingFlat(places, d.Shape, d.base, 0)
}

// missingFlat reports the required fields that no place is in. places are sorted, and alike in their first depth steps.
func (d *Decoder) missingFlat(places []place, s *Shape, path string, depth int) {
	seen := map[string]bool{}
	for len(places) > 0 && (s.Kind == KindObject || s.Kind == KindList) {
		step := places[0].steps[depth]
		n := slices.IndexFunc(places, func(p place) bool { return p.steps[depth] != step })
		if n < 0 {
			n = len(places)
		}
		if s.Kind == KindList {
			d.missingFlat(places[:n], s.Item, Join(path, strconv.Itoa(step)), depth+1)
		} else {
			f := s.fieldAt(step)
			seen[f.Name] = true
			d.missingFlat(places[:n], f.Shape, Join(path, f.Name), depth+1)
		}
		places = places[n:]
	}
	if s.Kind == KindObject {
		d.missing(s, seen, path)
	}
}

// find follows the path of a parameter through the shapes. It never goes deeper than
// they are.
func (d *Decoder) find(p Parameter) (place, bool) {
	s, rest, done := d.Shape, strings.TrimPrefix(strings.TrimPrefix(p.Key, d.base), "."), d.base
	at := place{key: p.Key, value: p.Value}
	for s.Kind == KindObject || s.Kind == KindList {
		if rest == "" {
			d.failType(s, done, "a text")
			return at, false
		}
		name, tail, _ := strings.Cut(rest, ".")
		if s.Kind == KindList {
			i, ok := position(name)
			if _, item := s.Item.Field(name); !ok && s.OrItem && item {
				at.steps, s = append(at.steps, 0), s.Item
				continue
			}
			if !ok {
				d.Fail(errcode.InvalidParameter, done, "must be followed by the position of an item, such as 0, got %s", validation.Quote(name))
				return at, false
			}
			at.steps, s = append(at.steps, i), s.Item
		} else {
			f, ok := s.Field(name)
			if !ok {
				d.failUnknown(s, done, name)
				return at, false
			}
			at.steps, s = append(at.steps, f.Index), f.Shape
		}
		done, rest = Join(done, name), tail
	}
	switch {
	case s.Kind == kindRaw && rest == "":
		d.failType(s, done, "a text")
		return at, false
	case s.Kind != kindRaw && done != p.Key:
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
func (d *Decoder) put(v reflect.Value, at place) {
	s, path := d.Shape, d.base
	for _, step := range at.steps {
		if s.Kind == KindObject {
			f := s.fieldAt(step)
			v, s, path = f.Of(present(v)), f.Shape, Join(path, f.Name)
			continue
		}
		if step > v.Len() {
			d.Fail(errcode.InvalidParameter, path, "must have items from 0 on without a gap: item %d is missing", v.Len())
			return
		}
		if step == v.Len() {
			grow(v)
		}
		v, s, path = v.Index(step), s.Item, Join(path, strconv.Itoa(step))
	}
	if s.Kind == kindRaw {
		o, _ := present(v).Addr().Interface().(*Object)
		o.action, o.path, o.flat = d.Action, path, append(o.flat, Parameter{at.key, at.value})
		return
	}
	value := at.value
	if at.leaf.Kind == KindNumber || at.leaf.Kind == KindSwitch {
		value = strings.TrimSpace(value)
	}
	d.scalar(at.leaf, v, at.key, value, "a text")
}
