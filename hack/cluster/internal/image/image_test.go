// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func spec(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"prog": 0o700, "tree/a": 0o600, "tree/sub/b": 0o644, "tree/skipped": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte("content of "+path), mode); err != nil {
			t.Fatal(err)
		}
		// Times differ between two calls, and must not matter.
		if err := os.Chtimes(filepath.Join(dir, path), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return Spec{
		Name: "test/image:1", Entrypoint: []string{"/prog", "-x"}, Cmd: []string{"arg"}, User: "65532:65532",
		Env: []string{"A=b"}, Labels: map[string]string{"k": "v"},
		Files: []File{
			{Path: "/prog", Source: filepath.Join(dir, "prog")},
			{Path: "/opt/tree", Source: filepath.Join(dir, "tree"), Skip: func(rel string) bool { return rel == "skipped" }},
			{Path: "/bin/link", Target: "../prog"},
			{Path: "/etc/passwd", Content: []byte("root")},
		},
	}
}

func write(t *testing.T, s Spec) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := WriteFile(out, s); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSameInputSameBytes(t *testing.T) {
	a, err := os.ReadFile(write(t, spec(t)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(write(t, spec(t)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two packings of the same input differ")
	}
}

func TestConfig(t *testing.T) {
	out := write(t, spec(t))
	img, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.OS != "linux" || c.Config.User != "65532:65532" || c.Config.Labels["k"] != "v" {
		t.Errorf("got %+v", c)
	}
	if d := cmp.Diff([]string{"/prog", "-x"}, c.Config.Entrypoint); d != "" {
		t.Errorf("entrypoint (-want +got)\n%s", d)
	}
	names, err := Names(out)
	if d := cmp.Diff([]string{"test/image:1"}, names); err != nil || d != "" {
		t.Errorf("names: %v (-want +got)\n%s", err, d)
	}
}

func TestUnpackGivesBackWhatWasPacked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	if err := Unpack(write(t, spec(t)), "test/image:1", dir); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"prog": "content of prog", "opt/tree/a": "content of tree/a", "opt/tree/sub/b": "content of tree/sub/b",
		"bin/link": "content of prog", "etc/passwd": "root",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "opt/tree/skipped")); !os.IsNotExist(err) {
		t.Errorf("skipped: got %v, want it not there", err)
	}
	info, err := os.Stat(filepath.Join(dir, "prog"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("prog: got %v, %v, want mode 0755", info.Mode(), err)
	}
}

func TestBadSpecs(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image.tar")
	for name, s := range map[string]Spec{
		"no name":          {},
		"missing file":     {Name: "a:1", Files: []File{{Path: "/a", Source: "/does/not/exist"}}},
		"path given twice": {Name: "a:1", Files: []File{{Path: "/a", Target: "b"}, {Path: "/a", Target: "c"}}},
	} {
		if err := WriteFile(out, s); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: it left a file", name)
		}
	}
}

func TestParseFile(t *testing.T) {
	for in, want := range map[string]File{
		"/a=b":      {Path: "/a", Source: "b"},
		"/a->b":     {Path: "/a", Target: "b"},
		"/a=b->c=d": {},
		"a=b":       {},
		"/a":        {},
		"/a=":       {},
	} {
		got, err := ParseFile(in)
		if in == "/a=b->c=d" { // a link whose path has a "="
			want = File{Path: "/a=b", Target: "c=d"}
		}
		if (err != nil) != (want.Path == "") || got.Path != want.Path || got.Source != want.Source || got.Target != want.Target {
			t.Errorf("%s: got %+v, %v, want %+v", in, got, err, want)
		}
	}
}

func TestSharedLibraries(t *testing.T) {
	files, err := SharedLibraries(nil, "/bin/ls")
	if err != nil {
		t.Skip("no /bin/ls linked to a C library we know:", err)
	}
	found := false
	for _, f := range files {
		found = found || filepath.Base(f.Path) == "libc.so.6"
	}
	if len(files) > 0 && !found {
		t.Errorf("got %v, want libc among them", files)
	}
	if len(files) > 0 && IsStatic("/bin/ls") {
		t.Error("a linked program passes for a static one")
	}
}
