// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

func TestKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		keys []string
		want string
	}{
		"file and directory":      {[]string{"p/a", "p/a-b", "p/a/b"}, `"p/a": it has to be a file, and a directory for "p/a/b"`},
		"file and marker":         {[]string{"p/a", "p/a/"}, `"p/a": it has to be a file`},
		"parent":                  {[]string{"p/../x"}, `"p/../x": the name has the part ..`},
		"hidden parent":           {[]string{"p/a/../../x"}, "the name has the part .."},
		"empty part":              {[]string{"p/a//b"}, "empty part"},
		"absolute":                {[]string{"p//a"}, "starts with /"},
		"dot":                     {[]string{"p/./a"}, "the part ."},
		"NUL":                     {[]string{"p/a\x00b"}, "NUL"},
		"long":                    {[]string{"p/" + strings.Repeat("x", 256)}, "longer than 255"},
		"reserved":                {[]string{"p/.batchcompute-unfinished/1"}, "reserved"},
		"directory with contents": {[]string{"p/a/"}, "name of a directory"},
		"nothing":                 {[]string{"q"}, `"p/": there is no object below it`},
	} {
		t.Run(name, func(t *testing.T) {
			w, dst := newWorld(t), t.TempDir()
			for _, k := range append(tc.keys, "p/0-good") {
				if tc.keys[0] == "q" {
					k = "q"
				}
				w.Set(k, []byte("x"), nil)
			}
			if name == "file and marker" {
				w.Set("p/a/", nil, nil)
			}
			r := w.stage(t, "p/", dst)
			if r.Class != agentapi.Permanent || !strings.Contains(r.Message, tc.want) || !strings.HasPrefix(r.Message, "inputMappings[0]: ") {
				t.Errorf("result %+v, want %s", r, tc.want)
			}
			if got := read(t, dst); len(got) != 0 {
				t.Errorf("files were copied: %v", got)
			}
			t.Log(r.Message)
		})
	}
}

// TestMarkers reads a tree as consoles of stores make it.
func TestMarkers(t *testing.T) {
	w, dst := newWorld(t), t.TempDir()
	for _, k := range []string{"p/", "p/a/", "p/a/b/"} {
		w.Set(k, nil, nil)
	}
	w.Set("p/a/f", []byte("x"), nil)
	check(t, w.stage(t, "p/", dst))
	if got := read(t, dst); len(got) != 2 || got["a/f"].Data != "x" || !got["a/b/"].Mode.IsDir() {
		t.Errorf("%v", got)
	}
	check(t, w.stage(t, "", t.TempDir()))
}

// TestRefusals are errors that do not pass, with the field, and without a retry.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.Set("p/a", []byte("x"), nil)
	w.SetKeys(s3test.AccessKey, "")
	src := t.TempDir()
	tree{"f": {"x", 0o644, 1}}.write(t, src)
	for name, tc := range map[string]struct {
		change func(*agentapi.Store)
		fault  s3test.Fault
		want   string
	}{
		"wrong key":      {func(s *agentapi.Store) { s.Credentials = s3test.Credentials(t, "nobody", "planted-secret", "") }, s3test.Fault{}, "does not accept the key"},
		"denied":         {nil, s3test.Fault{Status: 403, Code: "AccessDenied"}, "does not allow this in bucket"},
		"missing bucket": {func(s *agentapi.Store) { s.Bucket = "missing" }, s3test.Fault{}, `bucket "missing" does not exist`},
		"wrong region":   {nil, s3test.Fault{Status: 400, Code: "AuthorizationHeaderMalformed"}, "another region"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := *w
			if tc.change != nil {
				tc.change(&bad.store)
			}
			n := 0
			w.faults.Plan = func(int, *http.Request) s3test.Fault { n++; return tc.fault }
			dst := t.TempDir()
			r := bad.stage(t, "p/", dst)
			if r.Class != agentapi.Permanent || !strings.Contains(r.Message, "inputMappings[0]: ") || !strings.Contains(r.Message, tc.want) || n != 1 {
				t.Errorf("stage: %d requests, %+v", n, r)
			}
			t.Log(r.Message)
			n = 0
			r = bad.push(t, src, "p/")
			if r.Class != agentapi.Permanent || !strings.Contains(r.Message, "outputMappings[0]: ") || !strings.Contains(r.Message, tc.want) || n > 4 {
				t.Errorf("store: %d requests, %+v", n, r)
			}
			if strings.Contains(r.Message, "planted") {
				t.Errorf("a secret: %s", r.Message)
			}
			t.Log(r.Message)
		})
	}
}

// TestBadFiles are files that cannot be stored: the others are, and the first is named.
func TestBadFiles(t *testing.T) {
	outside := t.TempDir()
	tree{"secret": {"x", 0o600, 1}}.write(t, outside)
	for name, tc := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"not UTF-8":         {func(dir string) error { return os.WriteFile(dir+"/bad\xff", nil, 0o600) }, "not UTF-8"},
		"link outside":      {func(dir string) error { return os.Symlink(outside+"/secret", dir+"/link") }, "leads outside"},
		"relative outside":  {func(dir string) error { return os.Symlink("../../etc/passwd", dir+"/link") }, "leads outside"},
		"directory outside": {func(dir string) error { return os.Symlink(outside, dir+"/link") }, "leads outside"},
		"dangling":          {func(dir string) error { return os.Symlink("nothing", dir+"/link") }, "link to nothing"},
		"circle":            {func(dir string) error { return os.Symlink("link", dir+"/link") }, "circle"},
		"link to parent":    {func(dir string) error { return os.Symlink("..", dir+"/sub/link") }, "a directory that it is in"},
		"long key":          {deep, "1024 are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			w, src := newWorld(t), t.TempDir()
			tree{"a": {"x", 0o644, 1}, "sub/z": {"y", 0o644, 1}}.write(t, src)
			if err := tc.make(src); err != nil {
				t.Fatal(err)
			}
			r := w.push(t, src, "p/")
			if r.Class != agentapi.Permanent || !strings.Contains(r.Message, tc.want) || !strings.HasPrefix(r.Message, "outputMappings[0]: ") || r.Digest != "" {
				t.Errorf("result %+v", r)
			}
			for _, k := range []string{"p/a", "p/sub/z"} {
				if _, ok := w.Get(k); !ok {
					t.Errorf("%s was not stored", k)
				}
			}
			for _, k := range w.Keys() {
				if o, _ := w.Get(k); strings.Contains(k, "link") || string(o.Data) == "secret" {
					t.Errorf("%s was stored", k)
				}
			}
			t.Log(r.Message)
		})
	}
}

func deep(dir string) error {
	for range 5 {
		dir += "/" + strings.Repeat("x", 250)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(dir+"/f", nil, 0o600)
}

// TestLimits refuses before the first byte.
func TestLimits(t *testing.T) {
	w, dst := newWorld(t), t.TempDir()
	for i := range 20 {
		w.Set(fmt.Sprintf("p/%02d", i), text(100), nil)
	}
	for name, tc := range map[string]struct {
		limits agentapi.Limits
		want   string
	}{
		"bytes": {agentapi.Limits{MaxBytes: 1999, MaxBytesField: "envData.systemDisk.diskSize"}, "the objects have more than 2.0 KiB, the limit of envData.systemDisk.diskSize; raise it"},
		"files": {agentapi.Limits{MaxFiles: 19}, "more than 19 objects"},
	} {
		r := w.agent.stage(t.Context(), agentapi.Stage{Limits: tc.limits, Inputs: []agentapi.Input{w.input("p/", dst)}})
		if r.Class != agentapi.Permanent || !strings.Contains(r.Message, tc.want) || len(read(t, dst)) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := w.agent.stage(t.Context(), agentapi.Stage{Limits: agentapi.Limits{MaxBytes: 2000}, Inputs: []agentapi.Input{w.input("p/", dst)}})
	check(t, r)
	// Together two inputs are too much: the first is not copied either.
	dst = t.TempDir()
	in := []agentapi.Input{w.input("p/", dst), w.input("p/", t.TempDir())}
	in[1].Field = "inputMappings[1]"
	r = w.agent.stage(t.Context(), agentapi.Stage{Limits: agentapi.Limits{MaxBytes: 2500}, Inputs: in})
	if !strings.HasPrefix(r.Message, "inputMappings[1]") || !strings.Contains(r.Message, "the limit of the Pod (2.4 KiB) less what other data take (2.0 KiB)") || len(read(t, dst)) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestDiskFull has a disk that gets full while files are copied.
func TestDiskFull(t *testing.T) {
	w, dst := newWorld(t), t.TempDir()
	check(t, w.push(t, sampleDir(t), "p/"))
	n := 0
	var mu sync.Mutex
	w.agent.step = func(what string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; what == "write" && n > 20 {
			return syscall.ENOSPC
		}
		return nil
	}
	r := w.stage(t, "p/", dst)
	if r.Class != agentapi.Transient || !strings.Contains(r.Message, "the disk of the cluster node is full; ask for more disk by systemDisk.diskSize") || !strings.Contains(r.Message, "inputMappings[0]") {
		t.Errorf("%+v", r)
	}
	w.agent.step = nil
	check(t, w.stage(t, "p/", dst))
	checkTree(t, dst, stored())
}
