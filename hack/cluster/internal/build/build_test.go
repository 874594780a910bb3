// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goMod = `module x

require k8s.io/kubernetes v1.37.2 // indirect

require (
	github.com/opencontainers/runc v1.5.2 // indirect
)
`

func TestRequiredVersion(t *testing.T) {
	for path, want := range map[string]string{
		"k8s.io/kubernetes": "v1.37.2", "github.com/opencontainers/runc": "v1.5.2", "k8s.io/kube": "", "x": "",
	} {
		if got := requiredVersion(goMod, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestArgsStampVersions(t *testing.T) {
	for want, m := range map[string]module{
		"-X k8s.io/client-go/pkg/version.gitVersion=v1.37.2": kubernetes,
		"-X k8s.io/component-base/version.gitMinor=37":       kubernetes,
		"-X main.version=1.5.2 ":                             runc,
	} {
		if got := strings.Join(m.args(goMod, "/out"), " "); !strings.Contains(got, want) {
			t.Errorf("%s: %q lacks %q", m.name, got, want)
		}
	}
	if got := etcd.args(goMod, "/out"); !slices.Contains(got, "/out/etcd") {
		t.Errorf("etcd: %q does not name its output", got)
	}
}

func TestKeyCoversWhatMatters(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	key := func(m module, goVersion string) string {
		t.Helper()
		k, err := m.key(dir, goVersion)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write("go.mod", goMod)
	write("go.sum", "a")
	base := key(etcd, "go1.26.0")
	if again := key(etcd, "go1.26.0"); again != base {
		t.Errorf("same input: %s and %s", base, again)
	}
	seen := map[string]string{base: "base"}
	differs := func(what, k string) {
		t.Helper()
		if other, ok := seen[k]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		seen[k] = what
	}
	differs("another Go", key(etcd, "go1.26.1"))
	tagged := etcd
	tagged.tags = "some"
	differs("other tags", key(tagged, "go1.26.0"))
	cgo := etcd
	cgo.cgo = true
	differs("cgo", key(cgo, "go1.26.0"))
	write("go.sum", "b")
	differs("another go.sum", key(etcd, "go1.26.0"))
	write("main.go", "package main")
	differs("another file", key(etcd, "go1.26.0"))
}

func TestModulesOfTiers(t *testing.T) {
	names := func(mods []module) (out []string) {
		for _, m := range mods {
			out = append(out, m.name)
		}
		return out
	}
	for name, tc := range map[string]struct {
		tier     Tier
		fake     bool
		fromSrc  bool
		has, not string
	}{
		"control plane":         {ControlPlane, false, false, "k8s", "kwok"},
		"fake":                  {Fake, false, false, "kwok", "containerd"},
		"node":                  {Node, false, true, "runc", "kwok"},
		"node and fake":         {Node, true, true, "kwok", "none"},
		"node with other runc":  {Node, false, false, "containerd", "runc"},
		"process":               {Process, false, false, "python", "containerd"},
		"process and fake ones": {Process, true, false, "kwok", "containerd"},
	} {
		t.Run(name, func(t *testing.T) {
			got := names(modules(tc.tier, tc.fake, tc.fromSrc))
			if !slices.Contains(got, tc.has) || slices.Contains(got, tc.not) {
				t.Errorf("got %v, want it with %s and without %s", got, tc.has, tc.not)
			}
		})
	}
}

func TestWatcherSortsLines(t *testing.T) {
	var log bytes.Buffer
	w := &watcher{what: "x", progress: "1 of 1", log: &log}
	for _, chunk := range []string{"go: downloading a v1\nk8s.io/a", "pi/core\nfmt\n# k8s.io/api\nfile.go:1:2: un", "defined: x\nlast"} {
		if _, err := w.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	if w.fetched != 1 || w.compiled != 2 {
		t.Errorf("got %d fetched and %d compiled, want 1 and 2", w.fetched, w.compiled)
	}
	if got, want := w.tail(), "# k8s.io/api\nfile.go:1:2: undefined: x\nlast"; got != want {
		t.Errorf("tail: got %q, want %q", got, want)
	}
	w.report()
	if !strings.Contains(log.String(), "2 packages compiled") {
		t.Errorf("report: got %q", log.String())
	}
}

func TestComposeLinks(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(b.Cache, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"etcd": "/a/etcd", "cni/bridge": "/b/bridge"}
	dir, err := b.compose(Node, links)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range links {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if again, err := b.compose(Node, links); err != nil || again != dir {
		t.Errorf("again: got %q, %v, want %q", again, err, dir)
	}
	links["etcd"] = "/c/etcd"
	if other, err := b.compose(Node, links); err != nil || other == dir {
		t.Errorf("other links: got %q, %v, want another directory", other, err)
	}
}

func TestFindModDir(t *testing.T) {
	dir, err := findModDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []module{etcd, kubernetes, containerd, cni, kwok, pause, python, runc} {
		if !exists(filepath.Join(dir, m.name, "go.mod")) {
			t.Errorf("%s has no module in %s", m.name, dir)
		}
	}
}
