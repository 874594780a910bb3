// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   string // statements with a point called x
		with Mutation
		want string
	}{
		{"skip a statement", "//mutation:x\nf()", Mutation{Skip: true}, `if !(mutant == "x") { f() }`},
		{"skip the body of a case", "switch {\n//mutation:x\ncase a:\nf()\n}", Mutation{Skip: true}, `switch { case a: if !(mutant == "x") { f() } }`},
		{"before", "//mutation:x\nf()", Mutation{Before: "g()"}, `if (mutant == "x") { g() } f()`},
		{"after", "//mutation:x\nf()\nh()", Mutation{After: "g()"}, `f() if (mutant == "x") { g() } h()`},
		{"an if", "//mutation:x\nif b := f(); b {\n}", Mutation{When: "true"}, `if b := f(); ((b) || (mutant == "x") && (true)) { }`},
		{"a case", "switch {\n//mutation:x\ncase a:\n}", Mutation{Unless: "c"}, `switch { case ((a) && !((mutant == "x") && (c))): }`},
		{"a value", "//mutation:x\nb := f()", Mutation{Unless: "true"}, `b := ((f()) && !((mutant == "x") && (true)))`},
		{"a value that is returned", "// A comment.\n//mutation:x\nreturn f(), 1", Mutation{When: "true"}, `return ((f()) || (mutant == "x") && (true)), 1`},
		{"a comment below", "//mutation:x\n// A comment.\nf()", Mutation{Skip: true}, `// A comment. if !(mutant == "x") { f() }`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.with.Name = "x"
			files, err := Apply(write(t, tc.in), []string{"p"}, []Mutation{tc.with}, "V")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := format.Source([]byte(files["p/a.go"])); err != nil {
				t.Errorf("the mutant is no Go: %v", err)
			}
			if got := flat(files["p/a.go"]); !strings.Contains(got, tc.want) {
				t.Errorf("got %s, want in it %s", got, tc.want)
			}
			if got, want := flat(files["p/zz_mutant.go"]), `package p import "os" var mutant = os.Getenv("V")`; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestSeveralAtOnePoint(t *testing.T) {
	in := "//mutation:x\n//mutation:y\nif a {\n}"
	files, err := Apply(write(t, in), []string{"p"}, []Mutation{{Name: "x", When: "true"}, {Name: "y", Unless: "true"}}, "V")
	if err != nil {
		t.Fatal(err)
	}
	want := `if ((((a) || (mutant == "x") && (true))) && !((mutant == "y") && (true))) { }`
	if got := flat(files["p/a.go"]); !strings.Contains(got, want) {
		t.Errorf("got %s, want in it %s", got, want)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		with     []Mutation
		want     string
	}{
		{"no point", "f()", []Mutation{{Name: "x", Skip: true}}, `mutation "x" has 0 points`},
		{"two points", "//mutation:x\nf()\n//mutation:x\nf()", []Mutation{{Name: "x", Skip: true}}, `mutation "x" has 2 points`},
		{"no mutation", "//mutation:x\nf()", nil, `no mutation is called "x"`},
		{"two mutations", "//mutation:x\nf()", []Mutation{{Name: "x", Skip: true}, {Name: "x", Skip: true}}, `"x" is listed twice`},
		{"no statement", "f()\n//mutation:x\n", []Mutation{{Name: "x", Skip: true}}, "no statement follows"},
		{"no condition", "//mutation:x\nf()", []Mutation{{Name: "x", When: "true"}}, "the statement has no condition"},
		{"nothing", "//mutation:x\nf()", []Mutation{{Name: "x"}}, "it does nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Apply(write(t, tc.in), []string{"p"}, tc.with, "V")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got the error %v, want in it %s", err, tc.want)
			}
		})
	}
}

// write makes a tree whose package p has the statements in a function.
func write(t *testing.T, statements string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "p"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "package p\n\nfunc all() (bool, int) {\n" + statements + "\n}\n"
	if err := os.WriteFile(filepath.Join(root, "p", "a.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

var points = regexp.MustCompile(marker + `\w`)

func flat(s string) string { return strings.Join(strings.Fields(points.ReplaceAllString(s, "")), " ") }
