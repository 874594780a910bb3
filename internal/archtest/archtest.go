// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package archtest has the rules that the tree as a whole keeps, and the tests that check them.
//
// The first rule is who may import whom:
//
//	cmd  ->  controllers, internal I/O  ->  internal stateful  ->  internal pure  ->  api
//
// A pure package computes: no I/O, no locks, channels or goroutines, no clock, no random numbers. A
// stateful package keeps something in memory for several goroutines, so it may lock and is given a
// clock; it does no I/O either. This package reads the sources itself instead of asking `go list`, so
// that files for other systems and build tags count too, and go test knows what its cached result
// depends on.
//
// It also reads the pages in docs/, for the tests that compare them with the CRDs, with the warnings
// of admission, with the manager's role, and with each other.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the path of the module under test.
const module = "batchcompute.dev/operator"

// The packages of internal/, by layer. A new package must be entered here; a directory below one of another
// layer may have its own entry. The lists of depguard in
// .golangci.yml are the same; TestDepguard compares them.
var (
	purePkgs  = []string{"agentapi", "catalog", "conditions", "convert", "dag", "dockerrun", "errcode", "gateway/apikey", "gateway/refusal", "gateway/signature", "gateway/view", "naming", "notify/backlog", "notify/event", "params", "plan", "podspec", "proof", "ranges", "resolve", "retry", "sanitize", "validation"}
	statePkgs = []string{"fairqueue", "fairrate", "flow", "gateway/ratelimit", "membudget", "nodes"}
	ioPkgs    = []string{"catalogfile", "certs", "gateway", "logging", "lookup", "metrics", "nodepool", "notify", "podkey", "server", "staging", "uninstall", "webhook", "wrapper"}
	testPkgs  = []string{"archtest", "testutil"}
)

// shared are the I/O packages that reconcilers may use. foundations are those that other I/O
// packages may use as well.
var (
	shared      = []string{"lookup", "metrics", "nodepool", "notify"}
	foundations = []string{"lookup"}
)

// thirdParty are the import paths, with all below them, that a pure or stateful package may use
// beside the standard library.
var thirdParty = []string{"k8s.io/api", "k8s.io/apimachinery"}

// exceptions are further import paths of one pure or stateful package each.
var exceptions = map[string][]string{
	"catalog":      {"go.yaml.in/yaml/v3"},                              // its errors name lines; decoding bytes is no I/O
	"dockerrun":    {"github.com/spf13/pflag", "mvdan.cc/sh/v3/syntax"}, // parse a text as docker and a shell do; neither runs anything
	"fairrate":     {"k8s.io/utils/clock"},
	"flow":         {"k8s.io/utils/clock"},
	"notify/event": {"github.com/cloudevents/sdk-go/v2/event"}, // the CloudEvent as a value, and its JSON
	"fairqueue": { // the interface that it implements, and the clock
		"k8s.io/client-go/util/workqueue", "k8s.io/utils/clock",
		"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue", "sigs.k8s.io/controller-runtime/pkg/reconcile",
	},
}

// impure are the packages of the standard library that neither a pure nor a stateful package may use,
// with all below them, less those in harmless. concurrent are those that a pure package may not use
// in addition.
var (
	impure = []string{
		"crypto/rand", "database", "expvar", "io/fs", "io/ioutil", "log", "math/rand", "net", "os", "path/filepath",
		"plugin", "runtime", "syscall", "testing", "unsafe",
	}
	harmless   = []string{"net/netip", "net/url"}
	concurrent = []string{"sync"}
)

// clocks are the functions of package time that depend on the moment.
var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// Package is what the rules look at: a package without its tests.
type Package struct {
	// Dir is the directory below the module's root, with slashes.
	Dir string
	// Imports are the import paths, sorted.
	Imports []string
	// Clocks are the positions where package time is asked for the current time.
	Clocks []string
	// Concurrency are the positions of channel types, go statements and select statements.
	Concurrency []string
}

// Load reads the packages below the directory root of fsys, which is the module's. A
// directory that holds a module of its own is left out.
func Load(fsys fs.FS) ([]Package, error) {
	files := map[string][]string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." {
			_, notModule := fs.Stat(fsys, path.Join(name, "go.mod"))
			if notModule == nil || d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			files[path.Dir(name)] = append(files[path.Dir(name)], name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for packages: %w", err)
	}
	var pkgs []Package
	for _, dir := range slices.Sorted(maps.Keys(files)) {
		p, err := load(fsys, dir, files[dir])
		if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
	return pkgs, nil
}

// load reads one package.
func load(fsys fs.FS, dir string, files []string) (Package, error) {
	p := Package{Dir: dir}
	fset := token.NewFileSet()
	for _, name := range files {
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return p, fmt.Errorf("reading %s: %w", name, err)
		}
		f, err := parser.ParseFile(fset, filepath.FromSlash(name), src, parser.SkipObjectResolution)
		if err != nil {
			return p, fmt.Errorf("parsing: %w", err)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return p, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
			}
			p.Imports = append(p.Imports, imported)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
					p.Clocks = append(p.Clocks, fset.Position(n.Pos()).String()+": time."+n.Sel.Name)
				}
			case *ast.ChanType, *ast.GoStmt, *ast.SelectStmt:
				p.Concurrency = append(p.Concurrency, fset.Position(n.Pos()).String())
			}
			return true
		})
	}
	slices.Sort(p.Imports)
	p.Imports = slices.Compact(p.Imports)
	return p, nil
}

// Breaches returns a sentence for each import that the rules forbid, in the order of
// the packages.
func Breaches(pkgs []Package) []string {
	var out []string
	for _, p := range pkgs {
		kind := kindOf(p.Dir)
		if kind == "" {
			out = append(out, p.Dir+" is in no layer: add it to the pure, stateful or I/O packages in internal/archtest")
			continue
		}
		for _, imported := range p.Imports {
			if why := forbidden(kind, p.Dir, imported); why != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", p.Dir, imported, why))
			}
		}
		if kind == "pure" || kind == "state" {
			for _, c := range p.Clocks {
				out = append(out, c+": a pure or stateful package is given the time")
			}
		}
		if kind == "pure" {
			for _, c := range p.Concurrency {
				out = append(out, c+": a pure package has no channels or goroutines; a package that needs them is stateful")
			}
		}
	}
	return out
}

// kindOf returns the layer of a directory: api, pure, state, io, test, controllers, cmd,
// hack, or "" for none.
func kindOf(dir string) string {
	top, rest, _ := strings.Cut(dir, "/")
	switch {
	case top == "api" || top == "controllers" || top == "cmd" || top == "hack":
		return top
	case top == "internal" && below(rest, purePkgs):
		return "pure"
	case top == "internal" && below(rest, statePkgs):
		return "state"
	case top == "internal" && below(rest, ioPkgs):
		return "io"
	case top == "internal" && below(rest, testPkgs):
		return "test"
	}
	return ""
}

// forbidden says why a package of a layer may not import another, "" if it may.
func forbidden(kind, dir, imported string) string {
	if target, ours := strings.CutPrefix(imported, module+"/"); ours {
		return forbiddenOurs(kind, dir, target)
	}
	if kind != "api" && kind != "pure" && kind != "state" {
		return ""
	}
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case strings.Contains(first, "."): // of another module
		if !below(imported, thirdParty) && !below(imported, exceptions[strings.TrimPrefix(dir, "internal/")]) {
			return "only k8s.io/api, k8s.io/apimachinery and the standard library are allowed here"
		}
	case kind != "api" && below(imported, impure) && !below(imported, harmless):
		return "a pure or stateful package does no I/O and is given the time and random numbers"
	case kind == "pure" && below(imported, concurrent):
		return "a pure package has no locks; a package that needs them is stateful"
	}
	return ""
}

// forbiddenOurs is forbidden for a package of this module.
func forbiddenOurs(kind, dir, target string) string {
	to := kindOf(target)
	own := unit(target) == unit(dir)
	switch {
	case to == "test" && kind != "test" && kind != "hack":
		return "it is for tests only"
	case to == "hack" && kind != "hack":
		return "hack is no library"
	case to == "cmd" && !own:
		return "a program is no library"
	case kind == "api" && to != "api":
		return "api imports nothing of ours"
	case kind == "pure" && to != "pure" && to != "api":
		return "a pure package imports only pure packages and api"
	case kind == "state" && to != "state" && to != "pure" && to != "api":
		return "a stateful package imports only stateful and pure packages and api"
	case kind == "io" && (to == "controllers" || to == "io" && !own && !slices.Contains(foundations, path.Base(target))):
		return "no I/O package imports another or a reconciler; what two share moves down to a pure one"
	case kind == "controllers" && to == "controllers" && !own:
		return "a reconciler does not use another kind's helpers"
	case kind == "controllers" && to == "io" && !below(strings.TrimPrefix(target, "internal/"), shared):
		return "of the I/O packages a reconciler uses only " + strings.Join(shared, " and ")
	}
	return ""
}

// unit returns the first two parts of a directory: packages below one directory may use each other.
func unit(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// below tells whether an import path is one of paths or below one.
func below(imported string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return imported == p || strings.HasPrefix(imported, p+"/")
	})
}
