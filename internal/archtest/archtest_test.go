// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestImports checks the code against the rules.
func TestImports(t *testing.T) {
	pkgs, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"api/v1alpha1", "internal/catalog", "internal/archtest", "cmd/manager"} {
		if !slices.ContainsFunc(pkgs, func(p Package) bool { return p.Dir == dir }) {
			t.Errorf("%s was not checked", dir)
		}
	}
	for _, name := range slices.Concat(purePkgs, statePkgs, ioPkgs, testPkgs) {
		if !slices.ContainsFunc(pkgs, func(p Package) bool { return below(p.Dir, []string{"internal/" + name}) }) {
			t.Errorf("there is no package internal/%s: remove it from its list", name)
		}
	}
	for _, b := range Breaches(pkgs) {
		t.Error(b)
	}
}

// TestBreaches proves that each rule can fail, and that it accepts what it must accept.
func TestBreaches(t *testing.T) {
	ours := func(dir string) string { return module + "/" + dir }
	tests := map[string]struct {
		dir, imported string
		want          string // part of the breach, "" for none
	}{
		"api, std":                       {"api/v1alpha1", "net/http", ""},
		"api, apimachinery":              {"api/v1alpha1", "k8s.io/apimachinery/pkg/runtime", ""},
		"api, controller-runtime":        {"api/v1alpha1", "sigs.k8s.io/controller-runtime/pkg/scheme", "only k8s.io/api"},
		"api, a name that looks alike":   {"api/v1alpha1", "k8s.io/apiserver/pkg/server", "only k8s.io/api"},
		"api, pure":                      {"api/v1alpha1", ours("internal/errcode"), "api imports nothing of ours"},
		"pure, api":                      {"internal/plan", ours("api/v1alpha1"), ""},
		"pure, pure":                     {"internal/plan", ours("internal/dag"), ""},
		"pure, std":                      {"internal/plan", "net/url", ""},
		"pure, I/O of std":               {"internal/plan", "net/http", "does no I/O"},
		"pure, files":                    {"internal/plan", "os", "does no I/O"},
		"pure, random numbers":           {"internal/plan", "math/rand/v2", "does no I/O"},
		"pure, locks":                    {"internal/plan", "sync/atomic", "has no locks"},
		"pure, stateful":                 {"internal/plan", ours("internal/flow"), "only pure packages"},
		"stateful, locks":                {"internal/flow", "sync", ""},
		"stateful, pure":                 {"internal/flow", ours("internal/dag"), ""},
		"stateful, I/O of std":           {"internal/flow", "net/http", "does no I/O"},
		"stateful, I/O":                  {"internal/flow", ours("internal/metrics"), "only stateful and pure"},
		"stateful, client-go":            {"internal/flow", "k8s.io/client-go/kubernetes", "only k8s.io/api"},
		"pure, log":                      {"internal/plan", "log/slog", "does no I/O"},
		"pure, client-go":                {"internal/plan", "k8s.io/client-go/kubernetes", "only k8s.io/api"},
		"pure, metrics library":          {"internal/plan", "github.com/prometheus/client_golang/prometheus", "only k8s.io/api"},
		"pure, an exception":             {"internal/catalog", "go.yaml.in/yaml/v3", ""},
		"pure, an exception of another":  {"internal/plan", "go.yaml.in/yaml/v3", "only k8s.io/api"},
		"pure, I/O":                      {"internal/plan", ours("internal/metrics"), "only pure packages"},
		"pure, reconciler":               {"internal/plan", ours("controllers/batchjob"), "only pure packages"},
		"pure, below I/O":                {"internal/gateway/signature", "net/http", "does no I/O"},
		"stateful, below I/O":            {"internal/gateway/ratelimit", ours("internal/gateway/wire"), "only stateful and pure"},
		"I/O, pure":                      {"internal/webhook", ours("internal/validation"), ""},
		"I/O, anything":                  {"internal/webhook", "sigs.k8s.io/controller-runtime", ""},
		"I/O, I/O":                       {"internal/webhook", ours("internal/certs"), "no I/O package imports another"},
		"I/O, its own part":              {"internal/server", ours("internal/server/conns"), ""},
		"I/O, parts of one":              {"internal/staging/push", ours("internal/staging/store"), ""},
		"I/O, reconciler":                {"internal/webhook", ours("controllers/batchjob"), "no I/O package imports another"},
		"reconciler, pure":               {"controllers/batchjob", ours("internal/plan"), ""},
		"reconciler, metrics":            {"controllers/batchjob", ours("internal/metrics"), ""},
		"reconciler, webhook":            {"controllers/batchjob", ours("internal/webhook"), "only lookup and metrics and nodepool and notify"},
		"reconciler, another reconciler": {"controllers/batchjob", ours("controllers/computeenv"), "another kind's helpers"},
		"program, anything":              {"cmd/manager", ours("internal/webhook"), ""},
		"program, its own part":          {"cmd/manager", ours("cmd/manager/flags"), ""},
		"program, another program":       {"cmd/manager", ours("cmd/gateway"), "no library"},
		"code, test code":                {"internal/plan", ours("internal/testutil"), "tests only"},
		"program, test code":             {"cmd/manager", ours("internal/testutil"), "tests only"},
		"code, hack":                     {"cmd/manager", ours("hack/e2e"), "no library"},
		"hack, anything":                 {"hack/demo", ours("internal/testutil"), ""},
		"unknown package":                {"internal/util", "fmt", "in no layer"},
		"unknown top":                    {"pkg/x", "fmt", "in no layer"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := Breaches([]Package{{Dir: tc.dir, Imports: []string{tc.imported}}})
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("breach %q, want none", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("breaches %q, want one with %q", got, tc.want)
			}
		})
	}
}

// TestLoad proves that a breach is found in all sources, and that tests, other modules and
// build output are left out.
func TestLoad(t *testing.T) {
	src := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	pkgs, err := Load(fstest.MapFS{
		"internal/plan/a.go":          src("package plan\n\nimport \"time\"\n\nvar t = time.Now()\n"),
		"internal/plan/a_windows.go":  src("package plan\n\nimport _ \"os\"\n"),
		"internal/plan/a_test.go":     src("package plan\n\nimport _ \"net/http\"\n"),
		"internal/plan/c.go":          src("package plan\n\nvar c chan int\n"),
		"internal/plan/testdata/b.go": src("package b\n\nimport _ \"net/http\"\n"),
		"internal/certs/c.go":         src("package certs\n\nimport \"time\"\n\nvar t = time.Now()\n"),
		"hack/cluster/go.mod":         src("module x\n"),
		"hack/cluster/main.go":        src("package main\n"),
		"bin/x.go":                    src("package x\n"),
		".git/x.go":                   src("package x\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"internal/plan imports os: a pure or stateful package does no I/O and is given the time and random numbers",
		"internal/plan/a.go:5:9: time.Now: a pure or stateful package is given the time",
		"internal/plan/c.go:3:7: a pure package has no channels or goroutines; a package that needs them is stateful",
	}
	if got := Breaches(pkgs); !slices.Equal(got, want) {
		t.Errorf("breaches %q, want %q", got, want)
	}
	if len(pkgs) != 2 {
		t.Errorf("%d packages, want 2", len(pkgs))
	}
	if _, err := Load(fstest.MapFS{"api/x.go": src("no go")}); err == nil {
		t.Error("no error for a file that is no Go")
	}
}

// TestDepguard compares depguard's lists in .golangci.yml with the lists of this package, which
// are the source.
func TestDepguard(t *testing.T) {
	text, err := os.ReadFile("../../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct{ Files, Allow []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	rules := config.Linters.Settings.Depguard.Rules
	files := func(pkgs []string) []string {
		var out []string
		for _, p := range pkgs {
			out = append(out, "**/internal/"+p+"/**/*.go")
		}
		return append(out, "!$test")
	}
	allowed := append([]string{"$gostd", module + "/api"}, thirdParty...)
	for _, p := range purePkgs {
		allowed = append(append(allowed, module+"/internal/"+p), exceptions[p]...)
	}
	for name, lists := range map[string]struct{ got, want []string }{
		"pure.files":            {rules["pure"].Files, files(purePkgs)},
		"pure.allow":            {rules["pure"].Allow, allowed},
		"pure-concurrent.files": {rules["pure-concurrent"].Files, files(purePkgs)},
		"no-io.files":           {rules["no-io"].Files, files(slices.Concat(purePkgs, statePkgs))},
	} {
		slices.Sort(lists.got)
		slices.Sort(lists.want)
		if diff := cmp.Diff(lists.want, lists.got); diff != "" {
			t.Errorf(".golangci.yml, linters.settings.depguard.rules.%s (-want +got):\n%s", name, diff)
		}
	}
}
