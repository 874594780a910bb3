// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mutation builds small mistakes into Go source, so that a test can show that it finds them.
//
// A comment marks the point of a mistake, on the line before a statement or a case of a switch:
//
//	//mutation:orphan-keeps-finalizer
//	if err := r.removeFinalizers(ctx, orphans); err != nil {
//
// What the mistake does to the statement is a [Mutation]. The marker moves with the code, so a
// refactoring breaks only those mutations whose code names something that was renamed.
package mutation

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// marker is how the comment of a point begins; the name of its mutation follows.
const marker = "//mutation:"

// Mutation is one mistake. Name and exactly one of the others must be set.
type Mutation struct {
	// Name is that of the point, in lower case with hyphens.
	Name string `json:"name"`
	// Why says which promise the mistake breaks.
	Why string `json:"why"`

	// Skip leaves the statement out, or the body of the case.
	Skip bool `json:"skip,omitempty"`
	// Before is run before the statement, or first in the body of the case; After is run after it.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// When is a condition under which that of the statement holds as well, and Unless one under which it
	// does not hold. The condition is that of an if or a case, or the first value that is returned or
	// assigned.
	When   string `json:"when,omitempty"`
	Unless string `json:"unless,omitempty"`
}

// Apply returns the Go files of the directories below root with the mutations in them, and one file more for each
// package that has points, by path relative to root; files without a point are left out. A mistake is made
// where the environment variable has the name of its mutation. Each mutation must have one point, and each
// point one mutation.
func Apply(root string, dirs []string, all []Mutation, variable string) (map[string]string, error) {
	table, points, files := map[string]Mutation{}, map[string]int{}, map[string]string{}
	var errs []error
	for _, m := range all {
		if _, ok := table[m.Name]; ok {
			errs = append(errs, fmt.Errorf("mutation %q is listed twice", m.Name))
		}
		table[m.Name] = m
	}
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", dir, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			if strings.HasSuffix(path, "_test.go") || !strings.Contains(string(text), marker) {
				continue
			}
			f := &file{fset: token.NewFileSet(), text: string(text), points: points}
			mutated, err := f.mutate(filepath.Base(path), table)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s/%s: %w", dir, filepath.Base(path), err))
				continue
			}
			files[filepath.Join(dir, filepath.Base(path))] = mutated
			files[filepath.Join(dir, "zz_mutant.go")] = fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar mutant = os.Getenv(%q)\n", f.pkg, variable)
		}
	}
	for _, m := range all {
		if points[m.Name] != 1 {
			errs = append(errs, fmt.Errorf("mutation %q has %d points in %s, not one", m.Name, points[m.Name], strings.Join(dirs, ", ")))
		}
	}
	return files, errors.Join(errs...)
}

// file is one source file while mistakes are built into it.
type file struct {
	fset   *token.FileSet
	text   string
	pkg    string
	points map[string]int
	// inserted are texts by the offset at which they are inserted, in order.
	inserted map[int][]string
}

func (f *file) mutate(name string, table map[string]Mutation) (string, error) {
	syntax, err := parser.ParseFile(f.fset, name, f.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	f.pkg, f.inserted = syntax.Name.Name, map[int][]string{}
	statements := f.statements(syntax)
	var errs []error
	for _, group := range syntax.Comments {
		for _, comment := range group.List {
			name, ok := strings.CutPrefix(comment.Text, marker)
			if !ok {
				continue
			}
			f.points[name]++
			m, ok := table[name]
			if !ok {
				errs = append(errs, fmt.Errorf("%s: no mutation is called %q", f.fset.Position(comment.Pos()), name))
				continue
			}
			node := statements[f.line(group.End())+1]
			if node == nil {
				errs = append(errs, fmt.Errorf("%s: no statement follows the point of %q", f.fset.Position(comment.Pos()), name))
				continue
			}
			if err := f.insert(m, node); err != nil {
				errs = append(errs, fmt.Errorf("%s: mutation %q: %w", f.fset.Position(comment.Pos()), name, err))
			}
		}
	}
	return f.joined(), errors.Join(errs...)
}

// statements returns the outermost statement or case that starts on each line.
func (f *file) statements(syntax *ast.File) map[int]ast.Stmt {
	found := map[int]ast.Stmt{}
	ast.Inspect(syntax, func(n ast.Node) bool {
		if s, ok := n.(ast.Stmt); ok {
			if _, ok := found[f.line(s.Pos())]; !ok {
				found[f.line(s.Pos())] = s
			}
		}
		return true
	})
	return found
}

// insert builds the mistake into the statement.
func (f *file) insert(m Mutation, s ast.Stmt) error {
	made := fmt.Sprintf("(mutant == %q)", m.Name)
	begin, end := s.Pos(), s.End()
	if c, ok := s.(*ast.CaseClause); ok {
		begin, end = c.Colon+1, c.End()
	}
	switch {
	case m.Skip:
		f.put(begin, "\nif !"+made+" {\n")
		f.put(end, "\n}\n")
	case m.Before != "":
		f.put(begin, "\nif "+made+" {\n"+m.Before+"\n}\n")
	case m.After != "":
		f.put(end, "\nif "+made+" {\n"+m.After+"\n}\n")
	case m.When != "" || m.Unless != "":
		x := condition(s)
		if x == nil {
			return errors.New("the statement has no condition")
		}
		f.put(x.Pos(), "((")
		if m.When != "" {
			f.put(x.End(), ") || "+made+" && ("+m.When+"))")
		} else {
			f.put(x.End(), ") && !("+made+" && ("+m.Unless+")))")
		}
	default:
		return errors.New("it does nothing")
	}
	return nil
}

// condition is that of an if or a case, or the first value that is returned or assigned; nil if there is none.
func condition(s ast.Stmt) ast.Expr {
	var list []ast.Expr
	switch s := s.(type) {
	case *ast.IfStmt:
		return s.Cond
	case *ast.CaseClause:
		list = s.List
	case *ast.ReturnStmt:
		list = s.Results
	case *ast.AssignStmt:
		list = s.Rhs
	}
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

func (f *file) put(p token.Pos, text string) {
	offset := f.fset.Position(p).Offset
	f.inserted[offset] = append(f.inserted[offset], text)
}

// joined returns the text with all that was inserted.
func (f *file) joined() string {
	offsets := make([]int, 0, len(f.inserted))
	for offset := range f.inserted {
		offsets = append(offsets, offset)
	}
	slices.Sort(offsets)
	var out strings.Builder
	last := 0
	for _, offset := range offsets {
		out.WriteString(f.text[last:offset])
		for _, text := range f.inserted[offset] {
			out.WriteString(text)
		}
		last = offset
	}
	out.WriteString(f.text[last:])
	return out.String()
}
