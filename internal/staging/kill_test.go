// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/fault"
)

// killer ends a run at step n, as kill -9 does: the step does not happen, nor does anything after it. Steps
// are changes of local files, requests before they are sent, answers before they are read, and the parts of
// their bodies.
type killer struct {
	mu     sync.Mutex
	n, at  int
	killed string
}

var errKilled = fault.Final(fault.Stopped, "", "killed", "")

func (k *killer) step(what string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.killed == "" {
		if k.n++; k.n == k.at {
			k.killed = what
		}
	}
	if k.killed != "" {
		return errKilled
	}
	return nil
}

func (k *killer) wrap(next http.RoundTripper) http.RoundTripper { return &mortal{next, k} }

// mortal is a transport that stops.
type mortal struct {
	next http.RoundTripper
	k    *killer
}

func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := m.k.step("send " + r.Method + " " + r.URL.RawQuery); err != nil {
		return nil, err
	}
	answer, err := m.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if err := m.k.step("answer of " + r.Method + " " + r.URL.RawQuery); err != nil {
		answer.Body.Close()
		return nil, err
	}
	answer.Body = &mortalBody{answer.Body, m.k}
	return answer, nil
}

type mortalBody struct {
	io.ReadCloser

	k *killer
}

func (m *mortalBody) Read(p []byte) (int, error) {
	if err := m.k.step("body"); err != nil {
		return 0, err
	}
	return m.ReadCloser.Read(p[:min(len(p), 3000)])
}

// killEverywhere runs start, which returns a run, killed at each step, then whole, and calls check at the
// end of each; with one worker, so that each step is found, and with several, so that others are in flight; the store
// of those lists uploads of whole keys only.
func killEverywhere(t *testing.T, start func(t *testing.T) (w *world, run func() agentapi.Result, check func(t *testing.T))) {
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) { killEach(t, workers, start) })
	}
}

func killEach(t *testing.T, workers int, start func(t *testing.T) (w *world, run func() agentapi.Result, check func(t *testing.T))) {
	kinds := map[string]int{}
	for at := 1; ; at++ {
		w, run, verify := start(t)
		w.limits.Workers, w.WholeKeys = workers, workers > 1
		k := &killer{at: at}
		w.agent.step, w.agent.wrap = k.step, k.wrap
		r := run()
		if k.killed == "" {
			check(t, r)
			verify(t)
			t.Logf("%d steps: %v", at-1, kinds)
			if at < 20 {
				t.Error("there were hardly any steps")
			}
			return
		}
		if r.Class == "" && !strings.HasPrefix(k.killed, "remove") && !strings.HasPrefix(k.killed, "body") {
			t.Errorf("step %d, %s: killed, and the run says that it succeeded", at, k.killed)
		}
		kind, _, _ := strings.Cut(k.killed, "?")
		kinds[strings.Join(strings.Fields(kind)[:min(3, len(strings.Fields(kind)))], " ")]++
		w.agent.step, w.agent.wrap = nil, nil
		if r := run(); r.Class != "" {
			t.Fatalf("step %d, %s: the next run: %+v", at, k.killed, r)
		}
		verify(t)
		if t.Failed() {
			t.Fatalf("step %d, %s", at, k.killed)
		}
	}
}

// little is a tree with all kinds of objects, and few steps.
var little = tree{
	"a":      {"a", 0o600, when.UnixNano()},
	"big":    {string(text(2*partBytes + 5)), 0o755, when.UnixNano()},
	"none":   {"", 0o644, when.UnixNano()},
	"empty/": sample["nothing/in here/"],
}

func TestKillStageAtEveryStep(t *testing.T) {
	t.Parallel()
	killEverywhere(t, func(t *testing.T) (*world, func() agentapi.Result, func(*testing.T)) {
		w, src, dst := newWorld(t), t.TempDir(), t.TempDir()
		little.write(t, src)
		check(t, w.push(t, src, "p/"))
		// One object has no checksum, as those of other programs.
		w.Set("p/foreign", []byte("foreign"), nil)
		return w, func() agentapi.Result { return w.stage(t, "p/", dst) }, func(t *testing.T) {
			got := read(t, dst)
			if got["foreign"].Data != "foreign" {
				t.Errorf("%q", got["foreign"].Data)
			}
			delete(got, "foreign")
			if len(got) != len(little) {
				t.Errorf("%d files", len(got))
			}
			for name, want := range little {
				if got[name] != want {
					t.Errorf("%s differs", name)
				}
			}
		}
	})
}

func TestKillPackageAtEveryStep(t *testing.T) {
	t.Parallel()
	data := pack(t, little)
	killEverywhere(t, func(t *testing.T) (*world, func() agentapi.Result, func(*testing.T)) {
		w, dst := newWorld(t), t.TempDir()
		w.Set("p.tgz", data, nil)
		p := &agentapi.Package{Field: "packagePath", Store: &w.store, Key: "p.tgz", Destination: dst}
		return w, func() agentapi.Result {
			return w.agent.stage(t.Context(), agentapi.Stage{Limits: w.limits, Package: p})
		}, func(t *testing.T) { checkTree(t, dst, little) }
	})
}

func TestKillStoreAtEveryStep(t *testing.T) {
	t.Parallel()
	var digest string
	killEverywhere(t, func(t *testing.T) (*world, func() agentapi.Result, func(*testing.T)) {
		w, src := newWorld(t), t.TempDir()
		little.write(t, src)
		tree{"stdout": {string(text(partBytes + 3)), 0o600, 1}}.write(t, w.agent.stateDir)
		w.Set("p/big", make([]byte, 2*partBytes+5), nil) // there already, with other contents: it is replaced
		w.Set("other", []byte("x"), nil)
		c := agentapi.Outputs{
			Outputs: []agentapi.Output{w.output(src, "p/")},
			Stdout:  &agentapi.Redirect{Field: "stdoutRedirectPath", Store: w.store, Key: "log"},
		}
		run := func() agentapi.Result {
			c.Limits = w.limits
			r := w.agent.store(t.Context(), c, true)
			if r.Class == "" && digest == "" {
				digest = r.Digest
			}
			if r.Class == "" && (r.Digest != digest || digest == "") {
				t.Errorf("digest %s, before %s", r.Digest, digest)
			}
			return r
		}
		return w, run, func(t *testing.T) {
			if left := w.Uploads(); len(left) > 0 {
				t.Errorf("uploads are left: %s", left)
			}
			if got := fmt.Sprint(w.Keys()); got != "[log other p/a p/big p/empty/ p/none]" {
				t.Errorf("keys %s", got)
			}
			for key, want := range map[string]string{"log": string(text(partBytes + 3)), "p/a": "a", "p/big": little["big"].Data, "p/none": ""} {
				if o, _ := w.Get(key); string(o.Data) != want {
					t.Errorf("%s has %d bytes", key, len(o.Data))
				}
			}
		}
	})
}

// stopper stops a run at step n, as the end of a Pod's grace period does: what is in flight is interrupted.
type stopper struct {
	killer
	stop context.CancelFunc
}

func (s *stopper) step(what string) {
	if s.killer.step(what) != nil {
		s.stop()
	}
}

func (s *stopper) wrap(next http.RoundTripper) http.RoundTripper { return &stopping{next, s} }

// stopping is a transport that stops the run that uses it, and works for what comes after.
type stopping struct {
	next http.RoundTripper
	s    *stopper
}

func (m *stopping) RoundTrip(r *http.Request) (*http.Response, error) {
	m.s.step("send " + r.Method + " " + r.URL.RawQuery)
	answer, err := m.next.RoundTrip(r)
	if err == nil {
		m.s.step("answer of " + r.Method + " " + r.URL.RawQuery)
	}
	return answer, err
}

// TestStopStoreAtEveryStep: whenever outputs are stopped, no upload is left in the store, and the next run stores all.
func TestStopStoreAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 3} {
		for at := 1; ; at++ {
			w, src := newWorld(t), t.TempDir()
			little.write(t, src)
			ctx, stop := context.WithCancel(t.Context())
			s := &stopper{killer{at: at}, stop}
			w.agent.wrap = s.wrap
			c := agentapi.Outputs{Outputs: []agentapi.Output{w.output(src, "p/")}, Limits: w.limits}
			c.Limits.Workers = workers
			r := w.agent.store(ctx, c, true)
			stop()
			if left := w.Uploads(); len(left) > 0 {
				t.Fatalf("%d workers, stopped at step %d, %s: uploads are left: %s", workers, at, s.killed, left)
			}
			if s.killed == "" {
				check(t, r)
				if at < 10 {
					t.Errorf("there were only %d steps", at)
				}
				break
			}
			if r.Class != "" && (r.Class != agentapi.Transient || !strings.Contains(r.Message, "the transfer was stopped")) {
				t.Fatalf("%d workers, step %d, %s: %+v", workers, at, s.killed, r)
			}
			w.agent.wrap = nil
			check(t, w.push(t, src, "p/"))
		}
	}
}
