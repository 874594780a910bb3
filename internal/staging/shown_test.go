// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
)

// TestShownPaths: messages have the paths of the job, not those at which the agent has the same directories.
func TestShownPaths(t *testing.T) {
	outputs := func(make func(dir string) error) func(*world, string) agentapi.Result {
		return func(w *world, dir string) agentapi.Result {
			if err := make(dir); err != nil {
				t.Fatal(err)
			}
			out := w.output(dir, "p/")
			out.Path = "/frames/1"
			return w.agent.store(t.Context(), agentapi.Outputs{Limits: w.limits, Outputs: []agentapi.Output{out}}, true)
		}
	}
	full := func(w *world) {
		w.agent.step = func(what string) error {
			if what == "write" {
				return syscall.ENOSPC
			}
			return nil
		}
	}
	for name, tc := range map[string]struct {
		do   func(*world, string) agentapi.Result
		want string
	}{
		"a name":    {outputs(func(dir string) error { return os.WriteFile(dir+"/bad\xff", nil, 0o600) }), `outputMappings[0]: "/frames/1/bad\xff": `},
		"a link":    {outputs(func(dir string) error { return os.Symlink(dir, dir+"/up") }), `outputMappings[0]: "/frames/1/up": `},
		"no output": {outputs(func(dir string) error { return os.Remove(dir) }), `outputMappings[0]: "/frames/1": the directory does not exist; have the command create it`},
		"an input": {func(w *world, dir string) agentapi.Result {
			w.Set("p/sub/a", []byte("x"), nil)
			full(w)
			in := w.input("p/", dir)
			in.Path = "/scenes"
			return w.agent.stage(t.Context(), agentapi.Stage{Limits: w.limits, Inputs: []agentapi.Input{in}})
		}, `inputMappings[0]: "/scenes/sub/a": the disk of the cluster node is full`},
		"no input": {func(w *world, dir string) agentapi.Result {
			in := w.input("p/", filepath.Join(dir, "missing"))
			in.Path = "/scenes"
			return w.agent.stage(t.Context(), agentapi.Stage{Limits: w.limits, Inputs: []agentapi.Input{in}})
		}, `inputMappings[0]: "/scenes": no such file or directory`},
		"a package": {func(w *world, dir string) agentapi.Result {
			w.Set("p.tgz", pack(t, tree{"bin/run": {"x", 0o755, 1}}), nil)
			full(w)
			p := &agentapi.Package{Field: "application.packagePath", Destination: dir, Store: &w.store, Key: "p.tgz"}
			return w.agent.stage(t.Context(), agentapi.Stage{Limits: small, Package: p})
		}, `application.packagePath: "bin/run": the disk of the cluster node is full`},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), filepath.Join(t.TempDir(), "agent")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			r := tc.do(w, dir)
			if r.Class == "" || !strings.HasPrefix(r.Message, tc.want) || strings.Contains(r.Message, dir) || strings.Contains(r.Message, w.agent.stateDir) {
				t.Errorf("%s: %s, want %s", r.Class, r.Message, tc.want)
			}
		})
	}
}

// TestEmptyOutput: a directory that the command left empty stores nothing, and is no failure.
func TestEmptyOutput(t *testing.T) {
	w := newWorld(t)
	if r := w.push(t, t.TempDir(), "p/"); r.Class != "" || r.Message != "" || r.Files != 0 || len(w.Keys()) != 0 {
		t.Errorf("empty: %+v, objects %q", r, w.Keys())
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := w.push(t, dir, "p/")
	if keys := w.Keys(); r.Class != "" || len(keys) != 1 || keys[0] != "p/a/b/" {
		t.Errorf("empty directories: %+v, objects %q", r, keys)
	}
}

// TestAbsoluteLinks: a command writes links with the paths that it knows, which the agent does not have.
func TestAbsoluteLinks(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	tree{"a": {"x", 0o644, 1}}.write(t, dir)
	if err := os.Symlink("/frames/a", filepath.Join(dir, "latest")); err != nil {
		t.Fatal(err)
	}
	out := w.output(dir, "p/")
	out.Path = "/frames"
	check(t, w.agent.store(t.Context(), agentapi.Outputs{Limits: w.limits, Outputs: []agentapi.Output{out}}, true))
	if o, ok := w.Get("p/latest"); !ok || string(o.Data) != "x" {
		t.Errorf("the link was not stored as what it leads to: %v, %v", o, ok)
	}
}
