// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/store"
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

// TestVersitygw does it with a server that checks signatures.
func TestVersitygw(t *testing.T) { checkServer(t, s3test.Versitygw(t, bucket)) }

// TestMinIO does it with another.
func TestMinIO(t *testing.T) { s3test.MinIO(t, bucket, checkServer) }

// checkServer does with a real server what its protocol is needed for. Its parts have at least 5 MiB.
func checkServer(t *testing.T, s agentapi.Store) {
	t.Helper()
	w := &world{store: s, agent: newAgent(t), limits: small}
	w.agent.policy = &attempt.Policy{Stall: 20 * time.Second, NoProgress: 20 * time.Second}
	w.agent.minPart = 5 << 20
	checkRoundTrip(t, w)
	src := t.TempDir()
	want := tree{"large": {string(text(23<<20 + 5)), 0o644, when.UnixNano()}}
	want.write(t, src)
	t.Run("parts", func(t *testing.T) {
		dst := t.TempDir()
		r := w.push(t, src, "large/")
		check(t, r)
		check(t, w.stage(t, "large/", dst))
		checkTree(t, dst, want)
		if again := w.push(t, src, "large/"); again.Bytes != 0 || again.Digest != r.Digest {
			t.Errorf("stored again: %+v", again)
		}
	})
	t.Run("old uploads", func(t *testing.T) {
		c, err := store.New(s, store.Options{Policy: *w.agent.policy})
		if err != nil {
			t.Fatal(err)
		}
		// Those of an object that is not there, of one that is, and of one that is somebody else's.
		for _, key := range []string{"old/large", "large/large", "old/other"} {
			for range 2 {
				id, _, err := c.Begin(t.Context(), key, store.Meta{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.PutPart(t.Context(), key, id, 1, store.Source{File: strings.NewReader("12345"), Size: 5}); err != nil {
					t.Fatal(err)
				}
			}
		}
		check(t, w.push(t, src, "old/"))
		check(t, w.push(t, src, "large/"))
		for key, want := range map[string]int{"old/large": 0, "large/large": 0, "old/other": 2} {
			left := 0
			for _, err := range c.Uploads(t.Context(), key) {
				if err != nil {
					t.Fatal(err)
				}
				left++
			}
			if left != want {
				t.Errorf("%d uploads of %s are left, want %d", left, key, want)
			}
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
			w.agent.policy = &shortStall
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
// One request follows the other: of several at once, all may be answered before the object changes.
func TestChangedObject(t *testing.T) {
	w := newWorld(t)
	w.limits.Workers = 1
	w.Set("p/big", text(20_000), nil)
	var changes atomic.Int64
	change := s3test.Fault{Do: func() { w.Set("p/big", text(20_000+int(changes.Load())), nil) }}
	w.faults.Plan = func(_ int, r *http.Request) s3test.Fault {
		if r.URL.Query().Has("list-type") || changes.Load() == 2 {
			return s3test.Fault{}
		}
		changes.Add(1)
		return change
	}
	dst := t.TempDir()
	check(t, w.stage(t, "p/", dst))
	if got := read(t, dst); len(got) != 1 || got["big"].Data != string(text(20_002)) {
		t.Errorf("%d bytes, %d files", len(got["big"].Data), len(got))
	}
	// One that changes all the time is an error, and leaves nothing.
	w.faults.Plan = func(int, *http.Request) s3test.Fault {
		changes.Add(1)
		return change
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

// TestChangedObjectAtOnce reads an object with several requests at once: the file is one whole version of it, never a
// mixture.
func TestChangedObjectAtOnce(t *testing.T) {
	w := newWorld(t)
	versions := []string{string(text(20_000)), strings.Repeat("b", 20_000), strings.Repeat("c", 20_000)}
	w.Set("p/big", []byte(versions[0]), nil)
	var changes atomic.Int64
	w.faults.Plan = func(_ int, r *http.Request) s3test.Fault {
		if n := changes.Load(); !r.URL.Query().Has("list-type") && n < 2 && changes.CompareAndSwap(n, n+1) {
			return s3test.Fault{Do: func() { w.Set("p/big", []byte(versions[n+1]), nil) }}
		}
		return s3test.Fault{}
	}
	dst := t.TempDir()
	check(t, w.stage(t, "p/", dst))
	if got := read(t, dst)["big"].Data; !slices.Contains(versions, got) {
		t.Errorf("%d bytes that are no version of the object", len(got))
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
type reports struct {
	last     map[string]Progress
	retrying []string
}

func (r *reports) Progress(p Progress) { r.last[p.Phase] = p }

func (r *reports) Retrying(reason string) { r.retrying = append(r.retrying, reason) }

// TestRetrying: the log says why nothing happens while a store is away, and not for each of many requests.
func TestRetrying(t *testing.T) {
	w := newWorld(t)
	check(t, w.push(t, sampleDir(t), "p/"))
	r := &reports{last: map[string]Progress{}}
	w.agent.report = r
	refusals := 2
	w.faults.Plan = func(int, *http.Request) s3test.Fault {
		if refusals--; refusals >= 0 {
			return s3test.Fault{Status: http.StatusServiceUnavailable}
		}
		return s3test.Fault{}
	}
	check(t, w.stage(t, "p/", t.TempDir()))
	if len(r.retrying) != 1 || !strings.HasPrefix(r.retrying[0], "inputMappings[0]: ") || !strings.Contains(r.retrying[0], "the store cannot serve the request now") {
		t.Errorf("told %q, want one reason", r.retrying)
	}
}

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
