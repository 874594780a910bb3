// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/validation"
)

// Parameter is one field of a flattened body: Key is its path, with the positions of
// list items counted from 0, as in Job.Tasks.0.TaskName.
type Parameter struct{ Key, Value string }

// decodeForm reads an encoded form (a=b&c=d). A form with spaces in it was not encoded, or not
// wholly: what could be read in two ways then, an empty parameter (the && of a shell?) and one
// with + or %, is refused.
func (d *decoder) decodeForm(body string) {
	var params []Parameter
	pairs := strings.Split(queryOf(body), "&")
	spaces := slices.ContainsFunc(pairs, func(pair string) bool { return strings.Contains(pair, " ") && !isPlaceholder(pair) })
	count := 0
	for i, pair := range pairs {
		if pair == "" && (!spaces || i == 0) {
			continue
		}
		count++
		if isPlaceholder(pair) {
			d.skipped(pair)
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if spaces && !commonParameters[key] && (pair == "" || strings.ContainsAny(pair, "+%")) {
			d.fail(errcode.InvalidParameter, "", "parameter %d is empty or has + or %%, and the body has spaces, so it is not URL-encoded as a whole: "+
				"encode all of it, or write it as JSON", count)
			continue
		}
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if !ok || keyErr != nil || valueErr != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			d.fail(errcode.InvalidParameter, "", "parameter %d must be a key, = and a value, both UTF-8 and encoded for a URL", count)
			continue
		}
		params = append(params, Parameter{key, value})
	}
	d.parameters(params)
}

// decodeLines reads lines of the form key=value. Values stand as they are, spaces at their
// end included. An & before a key, as the vendor's pages print it, and a URL before the
// first are passed over. A line may have several parameters with & between them: see
// splitLine.
func (d *decoder) decodeLines(body string) {
	var params []Parameter
	line := 0
	for text := range strings.SplitSeq(body, "\n") {
		line++
		text = strings.TrimSuffix(strings.TrimLeftFunc(text, unicode.IsSpace), "\r")
		text = strings.TrimPrefix(text, "&")
		if len(params) == 0 {
			text = queryOf(text)
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		if isPlaceholder(text) {
			d.skipped(text)
			continue
		}
		if !strings.Contains(text, "=") {
			d.fail(errcode.InvalidParameter, "", "line %d must be a key, = and a value; if it belongs to the value before, write the body as JSON or URL-encoded", line)
			continue
		}
		found, placeholder, unclear := splitLine(text)
		if unclear != "" {
			d.fail(errcode.InvalidParameter, "", "line %d has &%s= in a value: write the parameter on a line of its own, "+
				"or, if it belongs to the value, the body as JSON or URL-encoded", line, unclear)
			continue
		}
		if placeholder != "" {
			d.skipped(placeholder)
		}
		params = append(params, found...)
	}
	d.parameters(params)
}

// splitLine splits a line at each & that a parameter follows. A value may be a command, in
// which & means something, so only what no shell would take for an assignment begins a
// parameter: a name with a dot whose first part is an object of a body. Behind a common
// parameter, the value of which never has an &, any parameter's name does. Elsewhere unclear
// is such a name without a dot: it could be either, and nothing is to be lost.
// placeholder is what a page prints for the common parameters, if it ends the line.
func splitLine(text string) (params []Parameter, placeholder, unclear string) {
	for {
		key, value, _ := strings.Cut(text, "=")
		common := commonParameters[key] || key == clientToken
		next, rest := -1, ""
		for i := 0; i < len(value) && next < 0; i++ {
			if value[i] != '&' {
				continue
			}
			rest = value[i+1:]
			name, _, assigned := strings.Cut(rest, "=")
			first, _, dotted := strings.Cut(name, ".")
			switch {
			case common && isPlaceholder(rest):
				return append(params, Parameter{key, value[:i]}), rest, ""
			case common && strings.HasPrefix(rest, "<") && strings.Contains(rest, ">&"):
				next = i
				placeholder, rest, _ = strings.Cut(rest, "&")
			case !assigned:
			case looksLikeParameter(name):
				return nil, "", name
			case dotted && bodyObjects[first]:
				next = i
			case commonParameters[name] || name == clientToken:
				if !common {
					return nil, "", name
				}
				next = i
			}
		}
		if next < 0 {
			return append(params, Parameter{key, value}), placeholder, ""
		}
		params = append(params, Parameter{key, value[:next]})
		text = rest
	}
}

// looksLikeParameter reports whether a name is that of a parameter except for its case, spaces around it, or
// the amp; of a page's source. A space before a common parameter's name is no sign: a shell assigns like that.
func looksLikeParameter(name string) bool {
	plain, copied := strings.CutPrefix(strings.TrimSpace(name), "amp;")
	plain = strings.TrimSpace(plain)
	first, _, dotted := strings.Cut(plain, ".")
	if !dotted {
		return plain == clientToken && plain != name || copied && commonParameters[plain]
	}
	for object := range bodyObjects {
		if strings.EqualFold(first, object) {
			return plain != name || first != object
		}
	}
	return false
}

// clientToken is the only parameter of a body without a dot.
const clientToken = "ClientToken"

// bodyObjects are the objects of the bodies.
var bodyObjects = map[string]bool{"Placement": true, "Job": true, "ComputeEnv": true}

// isPlaceholder says whether a text is <…>, which the vendor's pages print in the place of
// the common parameters.
func isPlaceholder(s string) bool {
	s = strings.TrimSpace(s)
	return strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") && strings.Count(s, "<") == 1
}

// skipped notes a placeholder.
func (d *decoder) skipped(placeholder string) {
	d.note("%s is a placeholder and was ignored", validation.Quote(strings.TrimSpace(placeholder)))
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

// actionOfParameters is actionOfJSON for flattened fields.
func actionOfParameters(params []Parameter, name string) *action {
	env, job := false, false
	for _, p := range params {
		switch first, _, _ := strings.Cut(p.Key, "."); {
		case p.Key == actionParameter:
			name = strings.TrimSpace(p.Value)
		case first == "ComputeEnv":
			env = true
		case first == "Job":
			job = true
		}
	}
	return actionOf(name, env && !job)
}

// isAction checks the action that parameters name, if they do.
func (d *decoder) isAction(params []Parameter) bool {
	before := len(d.problems)
	for _, p := range params {
		if p.Key == actionParameter {
			d.checkCommon(p.Key, strings.TrimSpace(p.Value))
		}
	}
	return len(d.problems) == before
}

// parameters reads flattened fields, in whatever order they come.
func (d *decoder) parameters(params []Parameter) {
	d.action = actionOfParameters(params, d.named)
	if !d.isAction(params) {
		return // its fields are none of ours
	}
	places := make([]place, 0, len(params))
	for _, p := range params {
		if p.Key == actionParameter {
			continue
		}
		if commonParameters[p.Key] {
			d.checkCommon(p.Key, strings.TrimSpace(p.Value))
			continue
		}
		if at, ok := d.find(p); ok {
			places = append(places, at)
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return slices.Compare(a.steps, b.steps) })
	root := d.root()
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
	s, rest, done := d.action.shape, p.Key, ""
	at := place{key: p.Key, value: p.Value}
	for s.kind == object || s.kind == list {
		if rest == "" {
			d.failType(s, done, "a text")
			return at, false
		}
		name, tail, _ := strings.Cut(rest, ".")
		if s.kind == list {
			i, ok := position(name)
			if _, item := s.item.field(name); !ok && s.orItem && item {
				at.steps, s = append(at.steps, 0), s.item
				continue
			}
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
	s, path := d.action.shape, ""
	for _, step := range at.steps {
		if s.kind == object {
			f := fieldAt(s, step)
			v, s, path = f.of(present(v)), f.shape, join(path, f.name)
			continue
		}
		if step > v.Len() {
			d.fail(errcode.InvalidParameter, path, "must have items from 0 on without a gap: item %d is missing", v.Len())
			return
		}
		if step == v.Len() {
			grow(v)
		}
		v, s, path = v.Index(step), s.item, join(path, strconv.Itoa(step))
	}
	value := at.value
	if at.leaf.kind == number || at.leaf.kind == toggle {
		value = strings.TrimSpace(value)
	}
	d.scalar(at.leaf, v, at.key, value, "a text")
}

// fieldAt returns the field of s that has the position in the Go struct.
func fieldAt(s *shape, index int) fieldInfo {
	i, _ := slices.BinarySearchFunc(s.fields, index, func(f fieldInfo, index int) int { return f.index - index })
	return s.fields[i]
}
