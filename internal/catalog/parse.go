// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"batchcompute.dev/operator/internal/sanitize"
)

// maxProblems is how many problems of a file are told at once.
const maxProblems = 50

// Parse reads a configuration file. The error joins everything that is wrong with
// it, a line each in the order of the file: "line 12: FIELD: must be …, got …".
func Parse(data []byte) (*Catalog, error) {
	root, err := document(data)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	c := r.catalog(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// document returns the only document of the file, as it is written.
func document(data []byte) (field, error) {
	if len(data) > MaxSize {
		return field{}, fmt.Errorf("line %d: the file must be at most %d bytes, got %d", lineAt(data, MaxSize), MaxSize, len(data))
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if i := firstIllegal(data); i < len(data) {
		return field{}, fmt.Errorf("line %d: must be UTF-8 text without control characters", lineAt(data, i))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); errors.Is(err, io.EOF) {
		return field{line: 1}, nil
	} else if err != nil {
		return field{}, syntaxError(data, err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return field{}, fmt.Errorf("line %d: must be a single YAML document", second.Line)
	case !errors.Is(err, io.EOF):
		return field{}, syntaxError(data, err)
	}
	return field{node: first.Content[0], line: first.Content[0].Line}, nil
}

// firstIllegal returns where the first byte is that the library would refuse without
// saying its line; len(data) if there is none.
func firstIllegal(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' ||
			r >= 0x7f && r < 0xa0 && r != 0x85 || r == '\ufeff' || r == 0xfffe || r == 0xffff {
			return i
		}
		i += n
	}
	return len(data)
}

func lineAt(data []byte, offset int) int { return bytes.Count(data[:offset], []byte("\n")) + 1 }

var (
	hasLine       = regexp.MustCompile(`^line \d+: `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError returns an error of the library with its line, which the library leaves
// out on the first line and for an alias.
func syntaxError(data []byte, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if hasLine.MatchString(text) {
		return errors.New(text)
	}
	offset := 0
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		offset = max(0, bytes.Index(data, []byte("*"+m[1])))
	}
	return fmt.Errorf("line %d: %s", lineAt(data, offset), text)
}

// reader decodes the nodes of a file and collects what is wrong.
type reader struct {
	problems []problem
}

type problem struct {
	line int
	text string
}

// err joins the problems in the order of their lines; nil for none.
func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for i, p := range r.problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("line %d: %d more problems from here on", p.line, len(r.problems)-i))
			break
		}
		errs = append(errs, fmt.Errorf("line %d: %s", p.line, p.text))
	}
	return errors.Join(errs...)
}

// field is a value of the file.
type field struct {
	name string     // its key; "" in a list
	node *yaml.Node // nil: it is not there
	line int        // of its key
	path string     // as in instanceTypes.S5.MEDIUM4.cpu; "" for the whole file
}

// fail notes what is wrong with a field.
func (r *reader) fail(f field, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f.path != "" {
		text = f.path + ": " + text
	}
	r.problems = append(r.problems, problem{f.line, text})
}

// unknown notes that a mapping has no such field.
func (r *reader) unknown(f field, known ...string) {
	r.fail(f, "unknown field; must be one of %s", strings.Join(known, ", "))
}

// given reports whether a field has a value. One without is as one that is not there.
func (f field) given() bool {
	return f.node != nil && (f.node.Kind != yaml.ScalarNode || f.node.ShortTag() != "!!null")
}

// entries returns the fields of a mapping in their order, less those that are given twice.
func (r *reader) entries(f field) []field {
	if !f.given() {
		return nil
	}
	if f.node.Kind != yaml.MappingNode {
		r.fail(f, "must be a mapping, got %s", describe(f.node))
		return nil
	}
	lines := make(map[string]int, len(f.node.Content)/2)
	out := make([]field, 0, len(f.node.Content)/2)
	for i := 0; i < len(f.node.Content); i += 2 {
		key := f.node.Content[i]
		if key.Kind != yaml.ScalarNode {
			r.fail(field{line: key.Line, path: f.path}, "a key must be text, got %s", describe(key))
			continue
		}
		e := field{name: key.Value, node: f.node.Content[i+1], line: key.Line, path: join(f.path, key.Value)}
		if first, twice := lines[e.name]; twice {
			r.fail(e, "given twice, first on line %d", first)
			continue
		}
		lines[e.name] = e.line
		out = append(out, e)
	}
	return out
}

// items returns the values of a list.
func (r *reader) items(f field) []field {
	if !f.given() {
		return nil
	}
	if f.node.Kind != yaml.SequenceNode {
		r.fail(f, "must be a list, got %s", describe(f.node))
		return nil
	}
	out := make([]field, len(f.node.Content))
	for i, n := range f.node.Content {
		out[i] = field{node: n, line: n.Line, path: f.path + "[" + strconv.Itoa(i) + "]"}
	}
	return out
}

// text returns a text, "" when it is not given.
func (r *reader) text(f field) (string, bool) {
	if !f.given() {
		return "", true
	}
	if f.node.Kind != yaml.ScalarNode || f.node.ShortTag() != "!!str" {
		hint := ""
		if f.node.Kind == yaml.ScalarNode {
			hint = "; write it in quotes"
		}
		r.fail(f, "must be text, got %s%s", describe(f.node), hint)
		return "", false
	}
	return f.node.Value, true
}

// required returns a text that must be given and for which is reports true; what says
// what it must be.
func (r *reader) required(f field, what string, is func(string) bool) string {
	s, ok := r.text(f)
	if ok && !is(s) {
		r.fail(f, "must be %s, got %s", what, quote(s))
	}
	return s
}

// oneOf returns a text that is one of some words; "" when it is not given.
func (r *reader) oneOf(f field, words []string) string {
	s, ok := r.text(f)
	if ok && s != "" && !slices.Contains(words, s) {
		r.fail(f, "must be one of %s, got %s", strings.Join(words, ", "), quote(s))
	}
	return s
}

// integer returns a whole number from low to high.
func (r *reader) integer(f field, low, high int64) (int64, bool) {
	if f.given() && f.node.Kind == yaml.ScalarNode {
		if n, err := strconv.ParseInt(f.node.Value, 10, 64); err == nil && f.node.ShortTag() == "!!int" && low <= n && n <= high {
			return n, true
		}
	}
	r.fail(f, "must be a whole number from %d to %d, got %s", low, high, describe(f.node))
	return 0, false
}

// toggle returns true or false; false when it is not given.
func (r *reader) toggle(f field) bool {
	if !f.given() {
		return false
	}
	if f.node.Kind != yaml.ScalarNode || f.node.ShortTag() != "!!bool" {
		r.fail(f, "must be true or false, got %s", describe(f.node))
		return false
	}
	return strings.EqualFold(f.node.Value, "true")
}

// simpleName is what a path shows without quotes.
var simpleName = regexp.MustCompile(`^[A-Za-z0-9._/:-]{1,128}$`)

// join returns the path of a field of a mapping.
func join(path, name string) string {
	if !simpleName.MatchString(name) {
		name = quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// describe says what somebody wrote.
func describe(n *yaml.Node) string {
	switch {
	case n == nil:
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str":
		return quote(n.Value)
	}
	text := quote(n.Value)
	return text[1 : len(text)-1]
}

// maxQuoted is how much of a value a message repeats at most. Unit: bytes.
const maxQuoted = 64

// quote returns a text as a message repeats it.
func quote(s string) string { return sanitize.Quote(s, maxQuoted) }
