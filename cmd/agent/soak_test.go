// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/store"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

var (
	soakTime = flag.Duration("agent.soak", 2*time.Second, "how long TestSoak starts instances")
	soakSeed = flag.Uint64("agent.seed", 0, "seed of TestSoak; 0 takes one from the clock")
)

// soakFiles are the inputs of each instance: the large one is stored in two parts.
var soakFiles = map[string][]byte{
	"empty":         nil,
	"small":         []byte("small\n"),
	"dir/ü + % #":   []byte("a name"),
	"dir/deep/file": bytes.Repeat([]byte("0123456789\n"), 3000),
	"large":         bytes.Repeat([]byte("abcdefghijklmno\n"), 6<<16),
}

// soak is a store behind a proxy that fails at random, and what was stored.
type soak struct {
	direct, faulty agentapi.Store
	client         *store.Client

	instances, attempts, kills, faults atomic.Int64
}

// TestSoak runs instances as the operator does, with real processes and a real server: their containers are killed at
// random, and each tenth request fails. At the end each object is there once, whole, and no upload is left.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	s := &soak{direct: s3test.Versitygw(t, "data")}
	s.faulty = s.direct
	s.faulty.Endpoint = s3test.Serve(t, &s3test.Faults{Next: s3test.Proxy(t, s.direct.Endpoint), Plan: s.plan})
	var err error
	if s.client, err = store.New(s.direct, store.Options{Policy: attempt.Policy{Stall: time.Minute, NoProgress: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	source := t.TempDir()
	for name, data := range soakFiles {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := staging.Store(t.Context(), agentapi.Outputs{Outputs: []agentapi.Output{{Store: s.direct, Source: source, Prefix: "in/"}}}, staging.Command{Succeeded: true}, nil)
	if r.Class != "" {
		t.Fatal(r.Message)
	}
	end := time.Now().Add(*soakTime)
	t.Run("instances", func(t *testing.T) {
		for worker := range 3 {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, uint64(worker)))
				for n := 0; n == 0 || time.Now().Before(end); n++ {
					s.instance(t, rnd, fmt.Sprintf("%d-%d", worker, n))
				}
			})
		}
	})
	keys, want := 0, int(s.instances.Load())*(len(soakFiles)+2)
	for _, err := range s.client.List(t.Context(), "out/") {
		if err != nil {
			t.Fatal(err)
		}
		keys++
	}
	if keys != want {
		t.Errorf("%d objects, want %d", keys, want)
	}
	for u, err := range s.client.Uploads(t.Context(), "") {
		t.Errorf("an upload of %s is left, %v", u.Key, err)
	}
	t.Logf("soak: data: seed %d, %d instances, %d attempts, %d kills, %d failed requests: %d objects, all whole; no upload left",
		seed, s.instances.Load(), s.attempts.Load(), s.kills.Load(), s.faults.Load(), keys)
}

// plan breaks each tenth request.
func (s *soak) plan(int, *http.Request) s3test.Fault {
	if rand.N(10) > 0 {
		return s3test.Fault{}
	}
	s.faults.Add(1)
	faults := []s3test.Fault{
		{Status: 503, Code: "SlowDown"}, {Status: 500, Code: "InternalError"}, {Unread: true},
		{Reset: true, After: -1}, {Reset: true, After: 1000}, {Truncate: true, After: 100},
	}
	if rand.N(20) == 0 {
		return s3test.Fault{Hang: true, After: 50}
	}
	return faults[rand.N(len(faults))]
}

// instance runs attempts until one has stored everything.
func (s *soak) instance(t *testing.T, rnd *rand.Rand, name string) {
	t.Helper()
	s.instances.Add(1)
	for tries := 0; ; tries++ {
		s.attempts.Add(1)
		if s.attempt(t, rnd, name, tries < 5) {
			break
		}
	}
	// Everything is there: with another prefix than the operator's nothing else could be.
	back := t.TempDir()
	defer os.RemoveAll(back)
	r := staging.Stage(t.Context(), agentapi.Stage{Inputs: []agentapi.Input{{Store: s.direct, Prefix: "out/" + name + "/", Destination: back}}}, nil)
	if r.Class != "" {
		t.Fatal(r.Message)
	}
	for file, data := range soakFiles {
		if got, err := os.ReadFile(filepath.Join(back, "data", file)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("instance %s: %s has %d bytes, want %d: %v", name, file, len(got), len(data), err)
		}
	}
	for _, file := range []string{"data/result", "log"} {
		if got, err := os.ReadFile(filepath.Join(back, file)); err != nil || string(got) != "instance "+name+"\n" {
			t.Errorf("instance %s: %s is %q: %v", name, file, got, err)
		}
	}
}

// attempt is one Pod. It returns false if the command or its wrapper was killed, so that another attempt follows.
func (s *soak) attempt(t *testing.T, rnd *rand.Rand, name string, mayKill bool) bool {
	t.Helper()
	p := newPod(t)
	defer os.RemoveAll(p.dir)
	limits := agentapi.Limits{Workers: 4, PartBytes: 5 << 20, StallSeconds: 2}
	in, out := p.mkdir("in"), p.mkdir("results")
	stage := agentapi.Stage{Version: agentapi.Version, Limits: limits, Inputs: []agentapi.Input{{Store: s.faulty, Prefix: "in/", Destination: in}}}
	s.untilDone(t, rnd, mayKill, func() *container { return p.command("stage", stage) })

	config := agentapi.Outputs{
		Version: agentapi.Version, Limits: limits, Outputs: []agentapi.Output{{Store: s.faulty, Source: out, Prefix: "out/" + name + "/data/"}},
		Stdout: &agentapi.Redirect{Store: s.faulty, Key: "out/" + name + "/log"},
	}
	c := p.exec(fmt.Sprintf(`echo run >>"$DIR/runs"; cp -r "$DIR/in/." "$DIR/results/"; echo "instance %s" | tee "$DIR/results/result"`, name), agentapi.Exec{}).start()
	killed := mayKill && rnd.IntN(5) == 0
	if killed {
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		s.kill(c)
	}
	code := c.wait()
	if _, err := os.Stat(filepath.Join(p.dir, "state", agentapi.StartedFile)); err != nil {
		return false // it was killed before it had started the command: the operator ends the Pod
	}
	outputs := s.untilDone(t, rnd, mayKill, func() *container { return p.command("outputs", config) })
	// A wrapper that is killed may have told already that the command ended with 0.
	if *outputs.Code != code && !(killed && code == 137 && *outputs.Code == 0) {
		t.Errorf("outputs say that the command ended with %d, and exec with %d", *outputs.Code, code)
	}
	runs, err := os.ReadFile(filepath.Join(p.dir, "runs"))
	if n := bytes.Count(runs, []byte("\n")); n > 1 || n == 0 && !(killed && code == 137) {
		t.Errorf("the command ran %d times in one attempt: %v", n, err)
	}
	return code == 0
}

// kill kills a container as the kernel does.
func (s *soak) kill(c *container) {
	s.kills.Add(1)
	_ = c.Process.Kill() // it may have ended already
}

// untilDone starts a container again and again until it has succeeded, and kills it some times.
func (s *soak) untilDone(t *testing.T, rnd *rand.Rand, mayKill bool, prepare func() *container) agentapi.Result {
	t.Helper()
	for tries := 0; ; tries++ {
		c := prepare().start()
		kill := mayKill && tries < 6 && rnd.IntN(2) == 0
		if kill {
			time.Sleep(time.Duration(rnd.IntN(600)) * time.Millisecond)
			s.kill(c)
		}
		switch code := c.wait(); {
		case code == 0:
			return c.result()
		case !kill || !slices.Contains([]int{137}, code):
			t.Fatalf("exit code %d: %s", code, c.stderr.String())
		}
	}
}
