// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/params"
	"batchcompute.dev/operator/internal/validation"
)

// Parameter is one field of a flattened body.
type Parameter = params.Parameter

// decodeForm reads an encoded form (a=b&c=d). A form with spaces in it was not encoded, or not
// wholly: what could be read in two ways then, an empty parameter (the && of a shell?) and one
// with + or %, is refused.
func (d *decoder) decodeForm(body string) {
	var list []Parameter
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
		if spaces && !params.IsCommon(key) && (pair == "" || strings.ContainsAny(pair, "+%")) {
			d.Fail(errcode.InvalidParameter, "", "parameter %d is empty or has + or %%, and the body has spaces, so it is not URL-encoded as a whole: "+
				"encode all of it, or write it as JSON", count)
			continue
		}
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if !ok || keyErr != nil || valueErr != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			d.Fail(errcode.InvalidParameter, "", "parameter %d must be a key, = and a value, both UTF-8 and encoded for a URL", count)
			continue
		}
		list = append(list, Parameter{Key: key, Value: value})
	}
	d.parameters(list)
}

// decodeLines reads lines of the form key=value. Values stand as they are, spaces at their
// end included. An & before a key, as the vendor's pages print it, and a URL before the
// first are passed over. A line may have several parameters with & between them: see
// splitLine.
func (d *decoder) decodeLines(body string) {
	var list []Parameter
	line := 0
	for text := range strings.SplitSeq(body, "\n") {
		line++
		text = strings.TrimSuffix(strings.TrimLeftFunc(text, unicode.IsSpace), "\r")
		text = strings.TrimPrefix(text, "&")
		if len(list) == 0 {
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
			d.Fail(errcode.InvalidParameter, "", "line %d must be a key, = and a value; if it belongs to the value before, write the body as JSON or URL-encoded", line)
			continue
		}
		found, placeholder, unclear := splitLine(text)
		if unclear != "" {
			d.Fail(errcode.InvalidParameter, "", "line %d has &%s= in a value: write the parameter on a line of its own, "+
				"or, if it belongs to the value, the body as JSON or URL-encoded", line, unclear)
			continue
		}
		if placeholder != "" {
			d.skipped(placeholder)
		}
		list = append(list, found...)
	}
	d.parameters(list)
}

// splitLine splits a line at each & that a parameter follows. A value may be a command, in
// which & means something, so only what no shell would take for an assignment begins a
// parameter: a name with a dot whose first part is an object of a body. Behind a common
// parameter, the value of which never has an &, any parameter's name does. Elsewhere unclear
// is such a name without a dot: it could be either, and nothing is to be lost.
// placeholder is what a page prints for the common parameters, if it ends the line.
func splitLine(text string) (list []Parameter, placeholder, unclear string) {
	for {
		key, value, _ := strings.Cut(text, "=")
		common := params.IsCommon(key) || key == clientToken
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
				return append(list, Parameter{Key: key, Value: value[:i]}), rest, ""
			case common && strings.HasPrefix(rest, "<") && strings.Contains(rest, ">&"):
				next = i
				placeholder, rest, _ = strings.Cut(rest, "&")
			case !assigned:
			case looksLikeParameter(name):
				return nil, "", name
			case dotted && bodyObjects[first]:
				next = i
			case params.IsCommon(name) || name == clientToken:
				if !common {
					return nil, "", name
				}
				next = i
			}
		}
		if next < 0 {
			return append(list, Parameter{Key: key, Value: value}), placeholder, ""
		}
		list = append(list, Parameter{Key: key, Value: value[:next]})
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
		return plain == clientToken && plain != name || copied && params.IsCommon(plain)
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

// actionOfParameters is actionOfJSON for flattened fields.
func actionOfParameters(list []Parameter, name string) *action {
	env, job := false, false
	for _, p := range list {
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
func (d *decoder) isAction(list []Parameter) bool {
	before := len(d.Problems())
	for _, p := range list {
		if p.Key == actionParameter {
			d.checkCommon(p.Key, strings.TrimSpace(p.Value))
		}
	}
	return len(d.Problems()) == before
}

// parameters reads flattened fields, in whatever order they come.
func (d *decoder) parameters(list []Parameter) {
	d.begin(actionOfParameters(list, d.named))
	if d.isAction(list) { // else its fields are none of ours
		d.Parameters(list, d.root())
	}
}
