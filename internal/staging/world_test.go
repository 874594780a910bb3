// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

const bucket = "data"

// quick is a policy for tests: little time is spent between attempts, and a slow machine makes no request twice.
var quick = attempt.Policy{Stall: 20 * time.Second, Slow: 20 * time.Second, NoProgress: 20 * time.Second, First: time.Millisecond, Most: 20 * time.Millisecond}

// shortStall is quick, but finds at once what stands still: for tests whose server hangs.
var shortStall = attempt.Policy{Stall: 200 * time.Millisecond, Slow: 200 * time.Millisecond, NoProgress: quick.NoProgress, First: quick.First, Most: quick.Most}

// partBytes is small, so that small files have parts.
const partBytes = 4096

var small = agentapi.Limits{Workers: 4, PartBytes: partBytes}

// world is a store in memory behind faults, and an agent that works with it.
type world struct {
	*s3test.Memory
	faults *s3test.Faults
	store  agentapi.Store
	agent  *agent
	limits agentapi.Limits
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Memory: s3test.NewMemory(bucket), limits: small}
	w.PageSize = 7
	w.faults = &s3test.Faults{Next: w.Memory}
	w.store = agentapi.Store{
		Endpoint: s3test.Serve(t, w.faults), Bucket: bucket, PathStyle: true,
		Credentials: s3test.Credentials(t, s3test.AccessKey, s3test.SecretKey, ""),
	}
	w.agent = newAgent(t)
	return w
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	return &agent{stateDir: t.TempDir(), policy: &quick, minPart: 1}
}

// stage copies a prefix to a directory.
func (w *world) stage(t *testing.T, prefix, dir string) agentapi.Result {
	t.Helper()
	return w.agent.stage(t.Context(), agentapi.Stage{Limits: w.limits, Inputs: []agentapi.Input{w.input(prefix, dir)}})
}

func (w *world) input(prefix, dir string) agentapi.Input {
	return agentapi.Input{Field: "inputMappings[0]", Source: "cos://x/", Store: w.store, Prefix: prefix, Destination: dir}
}

// push copies a directory to a prefix.
func (w *world) push(t *testing.T, dir, prefix string) agentapi.Result {
	t.Helper()
	return w.agent.store(t.Context(), agentapi.Outputs{Limits: w.limits, Outputs: []agentapi.Output{w.output(dir, prefix)}}, true)
}

func (w *world) output(dir, prefix string) agentapi.Output {
	return agentapi.Output{Field: "outputMappings[0]", Source: dir, Store: w.store, Prefix: prefix}
}

// first returns a plan that gives f to the first n requests.
func first(n int32, f s3test.Fault) func(int, *http.Request) s3test.Fault {
	var seen atomic.Int32
	return func(int, *http.Request) s3test.Fault {
		if seen.Add(1) > n {
			return s3test.Fault{}
		}
		return f
	}
}

// text returns n bytes that differ.
func text(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7 + i/251)
	}
	return out
}

// file is what is compared of a file.
type file struct {
	Data string
	Mode fs.FileMode
	Time int64
}

// tree is a tree of files by path; a directory that is empty ends with / and has no contents.
type tree map[string]file

// when is the time of the files of sample.
var when = time.Unix(1600000000, 123456789)

// sample has everything that a tree can have, in the form that comes back.
var sample = tree{
	"empty":                     {"", 0o644, when.UnixNano()},
	"run.sh":                    {"#!/bin/sh\n", 0o755, when.UnixNano()},
	"secret":                    {"x", 0o600, when.Add(-time.Hour).UnixNano()},
	"big":                       {string(text(5*partBytes + 17)), 0o640, when.UnixNano()},
	"one part":                  {string(text(partBytes)), 0o644, when.UnixNano()},
	"dir/a":                     {"a", 0o644, when.UnixNano()},
	"dir/a-b":                   {"a-b", 0o644, when.UnixNano()},
	"dir-x/é/日本 + % #?&=":       {"unicode", 0o644, when.UnixNano()},
	"dir-x/new\nline":           {"newline", 0o644, when.UnixNano()},
	"dir-x/a%2Fb":               {"percent", 0o644, when.UnixNano()},
	"dir-x/\"'<>`;|\\ ~!@$^*()": {"signs", 0o644, when.UnixNano()},
	"dir-x/.hidden":             {"hidden", 0o644, when.UnixNano()},
	"nothing/in here/":          {"", fs.ModeDir, 0},
}

// write makes a tree.
func (tr tree) write(t testing.TB, dir string) {
	t.Helper()
	for name, f := range tr {
		p := filepath.Join(dir, name)
		if f.Mode.IsDir() {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(f.Data), f.Mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, time.Unix(0, f.Time), time.Unix(0, f.Time)); err != nil {
			t.Fatal(err)
		}
	}
}

// read reads a tree.
func read(t testing.TB, dir string) tree {
	t.Helper()
	tr := tree{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if d.IsDir() {
			entries, err := os.ReadDir(p)
			if len(entries) == 0 {
				tr[name+"/"] = file{Mode: fs.ModeDir}
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		tr[name] = file{string(data), info.Mode(), info.ModTime().UnixNano()}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// checkTree compares a directory with a tree.
func checkTree(t *testing.T, dir string, want tree) {
	t.Helper()
	if diff := cmp.Diff(want, read(t, dir)); diff != "" {
		t.Errorf("the tree (-want +got):\n%s", diff)
	}
}

// check checks that a result is that of success.
func check(t *testing.T, r agentapi.Result) {
	t.Helper()
	if r.Class != "" || r.Message != "" || r.Version != agentapi.Version {
		t.Fatalf("result %+v", r)
	}
}

// sampleDir makes the sample, with links and files that cannot be stored.
func sampleDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	want := tree{}
	for k, v := range sample {
		want[k] = v
	}
	// dir/a-b is a link to a file, and dir-x one to a directory, by its absolute path.
	delete(want, "dir/a-b")
	want["far/a-b"] = sample["dir/a-b"]
	want.write(t, dir)
	for name, target := range map[string]string{"dir/a-b": "../far/link", "far/link": filepath.Join(dir, "far/a-b"), "linked": "dir"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, mode := range []uint32{syscall.S_IFIFO, syscall.S_IFSOCK} {
		if err := syscall.Mknod(filepath.Join(dir, "dir", fmt.Sprint("special", i)), mode|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stored is what of sampleDir comes back.
func stored() tree {
	want := tree{}
	for k, v := range sample {
		want[k] = v
	}
	for _, name := range []string{"far/a-b", "far/link", "linked/a-b"} {
		want[name] = sample["dir/a-b"]
	}
	want["linked/a"] = sample["dir/a"]
	return want
}
