// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// checkRoundTrip stores a tree with everything in it, and copies it back.
func checkRoundTrip(t *testing.T, w *world) {
	t.Helper()
	src, dst := sampleDir(t), t.TempDir()
	r := w.push(t, src, "p/é +/")
	check(t, r)
	if want := stored(); r.Files != len(want) || r.Skipped != 4 || len(r.Digest) != 64 {
		t.Errorf("stored: %+v, want %d files", r, len(want))
	}
	check(t, w.stage(t, "p/é +/", dst))
	checkTree(t, dst, stored())
	// Once more: nothing is sent, and the digest is the same.
	again := w.push(t, src, "p/é +/")
	check(t, again)
	if again.Files != 0 || again.Bytes != 0 || again.Digest != r.Digest {
		t.Errorf("stored again: %+v, before: %+v", again, r)
	}
	staged := w.stage(t, "p/é +/", dst)
	check(t, staged)
	if staged.Files != 0 || staged.Bytes != 0 {
		t.Errorf("staged again: %+v", staged)
	}
	// What differs is copied again.
	if err := os.WriteFile(filepath.Join(dst, "run.sh"), []byte("#!/bin/xx\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dst, "big"), 3); err != nil {
		t.Fatal(err)
	}
	if staged = w.stage(t, "p/é +/", dst); staged.Files != 2 {
		t.Errorf("staged after changes: %+v", staged)
	}
	checkTree(t, dst, stored())
	if err := os.WriteFile(filepath.Join(src, "run.sh"), []byte("#!/bin/yy\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if again = w.push(t, src, "p/é +/"); again.Files != 1 || again.Digest == r.Digest {
		t.Errorf("stored after a change: %+v", again)
	}
}

func TestRoundTrip(t *testing.T) {
	w := newWorld(t)
	checkRoundTrip(t, w)
	if left := w.Uploads(); len(left) > 0 {
		t.Errorf("uploads are left: %s", left)
	}
}

// TestVersitygw does it with a server that checks signatures. Its parts have at least 5 MiB.
func TestVersitygw(t *testing.T) {
	w := &world{store: s3test.Versitygw(t, bucket), agent: newAgent(t), limits: small}
	w.agent.policy = &attempt.Policy{Stall: 20 * time.Second, NoProgress: 20 * time.Second}
	w.agent.minPart = 5 << 20
	checkRoundTrip(t, w)
	t.Run("parts", func(t *testing.T) {
		src, dst := t.TempDir(), t.TempDir()
		want := tree{"large": {string(text(23<<20 + 5)), 0o644, when.UnixNano()}}
		want.write(t, src)
		r := w.push(t, src, "large/")
		check(t, r)
		check(t, w.stage(t, "large/", dst))
		checkTree(t, dst, want)
		if again := w.push(t, src, "large/"); again.Bytes != 0 || again.Digest != r.Digest {
			t.Errorf("stored again: %+v", again)
		}
	})
}

func TestThroughFaults(t *testing.T) {
	for name, f := range map[string]s3test.Fault{
		"503":                  {Status: 503, Code: "SlowDown"},
		"hang before headers":  {Hang: true, After: -1},
		"hang after headers":   {Hang: true},
		"reset midway":         {Reset: true, After: 2000},
		"reset before headers": {Reset: true, After: -1},
		"reset unread":         {Unread: true},
		"truncated":            {Truncate: true, After: 100},
		"1 KiB at a time":      {Slow: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			// Every third request fails.
			w.faults.Plan = func(n int, _ *http.Request) s3test.Fault {
				if n%3 == 0 {
					return f
				}
				return s3test.Fault{}
			}
			src, dst := sampleDir(t), t.TempDir()
			check(t, w.push(t, src, "p/"))
			check(t, w.stage(t, "p/", dst))
			checkTree(t, dst, stored())
			if left := w.Uploads(); len(left) > 0 {
				t.Errorf("uploads are left: %s", left)
			}
		})
	}
}

// TestOutage is a store that is down for a while, and one that stays down.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	src, dst := sampleDir(t), t.TempDir()
	w.faults.Plan = first(40, s3test.Fault{Unread: true})
	check(t, w.push(t, src, "p/"))
	w.faults.Plan = first(40, s3test.Fault{Unread: true})
	check(t, w.stage(t, "p/", dst))
	checkTree(t, dst, stored())

	short := quick
	short.NoProgress = 50 * time.Millisecond
	w.agent.policy = &short
	w.faults.Plan = first(1<<30, s3test.Fault{Status: 503, Code: "SlowDown"})
	for name, r := range map[string]agentapi.Result{"stage": w.stage(t, "p/", dst), "store": w.push(t, src, "p/")} {
		if r.Class != agentapi.Transient || !strings.Contains(r.Message, "Mappings[0]") || !strings.Contains(r.Message, "without progress for 50ms") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	checkTree(t, dst, stored())
}

// TestChangedObject changes an object while it is read: the new one is there at the end.
func TestChangedObject(t *testing.T) {
	w := newWorld(t)
	w.Set("p/big", text(20_000), nil)
	changes := 0
	w.faults.Plan = func(n int, r *http.Request) s3test.Fault {
		if r.URL.Query().Has("list-type") || changes == 2 {
			return s3test.Fault{}
		}
		changes++
		return s3test.Fault{Do: func() { w.Set("p/big", text(20_000+changes), nil) }}
	}
	dst := t.TempDir()
	check(t, w.stage(t, "p/", dst))
	if got := read(t, dst); len(got) != 1 || got["big"].Data != string(text(20_002)) {
		t.Errorf("%d bytes, %d files", len(got["big"].Data), len(got))
	}
	// One that changes all the time is an error, and leaves nothing.
	changes = 3
	w.faults.Plan = func(int, *http.Request) s3test.Fault {
		return s3test.Fault{Do: func() { changes++; w.Set("p/big", text(20_000+changes), nil) }}
	}
	dst = t.TempDir()
	r := w.stage(t, "p/", dst)
	if r.Class != agentapi.Transient || !strings.Contains(r.Message, "changed while it was read") {
		t.Errorf("result %+v", r)
	}
	if got := read(t, dst); got["big"].Data != "" {
		t.Errorf("files %v", got)
	}
}

// TestCorruptObject has other contents than its checksum says.
func TestCorruptObject(t *testing.T) {
	w := newWorld(t)
	w.Set("p/bad", text(9000), http.Header{"X-Cos-Hash-Crc64ecma": {"5"}})
	if r := w.stage(t, "p/", t.TempDir()); r.Class != agentapi.Transient || !strings.Contains(r.Message, "checksum differs") {
		t.Errorf("result %+v", r)
	}
}

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
		"denied":         {nil, s3test.Fault{Status: 403, Code: "AccessDenied"}, "may not do this"},
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
		"bytes": {agentapi.Limits{MaxBytes: 1999}, "more than 1999 bytes"},
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
	if !strings.HasPrefix(r.Message, "inputMappings[1]") || len(read(t, dst)) != 0 {
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
	if r.Class != agentapi.Transient || !strings.Contains(r.Message, "the disk is full") || !strings.Contains(r.Message, "inputMappings[0]") {
		t.Errorf("%+v", r)
	}
	w.agent.step = nil
	check(t, w.stage(t, "p/", dst))
	checkTree(t, dst, stored())
}

// pack makes an archive of a tree.
func pack(t *testing.T, tr tree) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for name, f := range tr {
		h := &tar.Header{Name: name, Mode: int64(f.Mode.Perm()), Size: int64(len(f.Data)), ModTime: time.Unix(0, f.Time), Format: tar.FormatPAX}
		if f.Mode.IsDir() {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestPackage unpacks a package from a store and from the web, through faults.
func TestPackage(t *testing.T) {
	data := pack(t, sample)
	for name, f := range map[string]s3test.Fault{
		"none":      {},
		"reset":     {Reset: true, After: 400},
		"truncated": {Truncate: true, After: 300},
		"hang":      {Hang: true, After: 200},
		"503":       {Status: 503},
	} {
		for _, web := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, web %t", name, web), func(t *testing.T) {
				w, dst := newWorld(t), t.TempDir()
				w.Set("packages/p.tgz", data, nil)
				w.faults.Plan = first(3, f)
				p := &agentapi.Package{Field: "packagePath", Destination: dst, Store: &w.store, Key: "packages/p.tgz"}
				if web {
					p.Store, p.Key, p.Source = nil, "", w.store.Endpoint+"/"+bucket+"/packages/p.tgz?token=planted-secret"
				}
				check(t, w.agent.stage(t.Context(), agentapi.Stage{Limits: small, Package: p}))
				checkTree(t, dst, sample)
			})
		}
	}
	w := newWorld(t)
	for name, source := range map[string]string{
		"missing":  w.store.Endpoint + "/" + bucket + "/none.tgz?token=planted-secret",
		"no host":  "http://user:planted-secret@127.0.0.1:1/x?token=planted-secret",
		"no URL":   "://planted-secret",
		"no bytes": w.store.Endpoint + "/" + bucket + "/empty",
	} {
		w.Set("empty", nil, nil)
		short := quick
		short.NoProgress = 10 * time.Millisecond
		w.agent.policy = &short
		p := &agentapi.Package{Field: "packagePath", Destination: t.TempDir(), Source: source}
		r := w.agent.stage(t.Context(), agentapi.Stage{Package: p})
		if r.Class == "" || strings.Contains(r.Message, "planted") || !strings.HasPrefix(r.Message, "packagePath: ") {
			t.Errorf("%s: %+v", name, r)
		}
		t.Log(r.Message)
	}
}

// TestStreams uploads the command's streams, also when it failed.
func TestStreams(t *testing.T) {
	w, src := newWorld(t), t.TempDir()
	tree{"result": {"x", 0o644, 1}}.write(t, src)
	tree{"stdout": {"out\n", 0o600, 1}, "stderr": {string(text(3 * partBytes)), 0o600, 1}}.write(t, w.agent.stateDir)
	c := agentapi.Outputs{
		Limits: small, Outputs: []agentapi.Output{w.output(src, "p/")},
		Stdout: &agentapi.Redirect{Field: "stdoutRedirectPath", Store: w.store, Key: "logs/a.log"},
		Stderr: &agentapi.Redirect{Field: "stderrRedirectPath", Store: w.store, Key: "logs/b.log"},
	}
	check(t, w.agent.store(t.Context(), c, false))
	if got := fmt.Sprint(w.Keys()); got != "[logs/a.log logs/b.log]" {
		t.Errorf("after a failed command: %s", got)
	}
	c.OnFailure = true
	check(t, w.agent.store(t.Context(), c, false))
	if got := fmt.Sprint(w.Keys()); got != "[logs/a.log logs/b.log p/result]" {
		t.Errorf("after a failed command, with outputs: %s", got)
	}
	if o, _ := w.Get("logs/b.log"); !bytes.Equal(o.Data, text(3*partBytes)) {
		t.Errorf("%d bytes of stderr", len(o.Data))
	}
	// A store that is missing does not keep the others from being stored.
	c.Stdout.Store.Bucket = "missing"
	c.Outputs[0].Prefix = "q/"
	r := w.agent.store(t.Context(), c, true)
	if _, ok := w.Get("q/result"); !ok || r.Class != agentapi.Permanent || !strings.HasPrefix(r.Message, "stdoutRedirectPath") {
		t.Errorf("%+v, %t", r, ok)
	}
	// A command that was not started has no streams.
	w.agent.stateDir = t.TempDir()
	c.Outputs = nil
	check(t, w.agent.store(t.Context(), c, true))
}

// TestStopped ends when the container is stopped.
func TestStopped(t *testing.T) {
	w := newWorld(t)
	check(t, w.push(t, sampleDir(t), "p/"))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	w.faults.Plan = func(int, *http.Request) s3test.Fault {
		if n++; n == 5 {
			cancel()
		}
		return s3test.Fault{}
	}
	r := w.agent.stage(ctx, agentapi.Stage{Limits: small, Inputs: []agentapi.Input{w.input("p/", t.TempDir())}})
	if r.Class != agentapi.Transient || !strings.Contains(r.Message, "stopped") {
		t.Errorf("%+v", r)
	}
}

// reports collects what is reported.
type reports struct{ last map[string]Progress }

func (r *reports) Progress(p Progress) { r.last[p.Phase] = p }

func TestProgress(t *testing.T) {
	w, src := newWorld(t), sampleDir(t)
	r := &reports{last: map[string]Progress{}}
	w.agent.report = r
	check(t, w.push(t, src, "p/"))
	check(t, w.stage(t, "p/", t.TempDir()))
	var size int64
	for _, f := range stored() {
		size += int64(len(f.Data))
	}
	out, in := r.last["outputMappings[0]"], r.last["inputMappings[0]"]
	if out.Files != len(stored()) || out.TotalFiles != len(stored()) || out.Bytes != size || out.TotalBytes != size {
		t.Errorf("outputs: %+v, want %d bytes", out, size)
	}
	if in.Files != len(stored())-1 || in.TotalFiles != in.Files || in.Bytes != size || in.TotalBytes != size {
		t.Errorf("inputs: %+v, want %d bytes", in, size)
	}
}
