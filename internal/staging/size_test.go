// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

var (
	largeMiB = flag.Int64("staging.large", 64, "the size of the large object of tests and benchmarks, in MiB")
	many     = flag.Int("staging.many", 2000, "the number of small files of tests and benchmarks")
)

// childVariable has the work of a process that is measured, in JSON.
const childVariable = "BATCHCOMPUTE_STAGING_CHILD"

// child is what a process does whose memory is measured: the agent alone, without the server.
type child struct {
	Stage *agentapi.Stage
	Store *agentapi.Outputs
	// Raw does what the others do with requests of net/http alone.
	Raw *raw
}

func TestMain(m *testing.M) {
	if work := os.Getenv(childVariable); work != "" {
		var c child
		if err := json.Unmarshal([]byte(work), &c); err != nil {
			panic(err)
		}
		c.run()
		return
	}
	os.Exit(m.Run())
}

// run does the work, and prints a result.
func (c child) run() {
	debug.SetGCPercent(GCPercent)
	var r agentapi.Result
	switch {
	case c.Stage != nil:
		r = Stage(context.Background(), *c.Stage, nil)
	case c.Store != nil:
		r = Store(context.Background(), *c.Store, Command{Succeeded: true}, nil)
	case c.Raw != nil:
		c.Raw.run()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	_ = json.NewEncoder(os.Stdout).Encode(report{r, peak(), memory.Mallocs})
}

// report is what a child prints.
type report struct {
	Result agentapi.Result
	// Peak is the peak of its memory, in bytes; 0 if it is not known.
	Peak int64
	// Mallocs is how many objects it allocated.
	Mallocs uint64
}

// peak returns the peak of this process's memory. What wait returns includes that of the parent, before exec.
func peak() int64 {
	status, _ := os.ReadFile("/proc/self/status") // other systems do not have it
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// usage is what a process took.
type usage struct {
	rss     int64 // peak, in bytes
	mallocs uint64
	cpu     time.Duration
	server  time.Duration // CPU time of the server meanwhile, if it is measured
	elapsed time.Duration
}

// do runs a child, and returns what it took.
func (c child) do(t testing.TB) usage {
	t.Helper()
	work, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(work))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	u := usage{elapsed: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Result.Class != "" {
		t.Fatalf("%s: %v", out.String(), err)
	}
	u.rss, u.mallocs = r.Peak, r.Mallocs
	return u
}

// sized is a server and the work with it.
type sized struct {
	*s3test.Synthetic
	url string
	dir string
}

func newSized(t testing.TB, objects int, size int64) *sized {
	t.Helper()
	s := &sized{Synthetic: s3test.NewSynthetic(objects, size), dir: t.TempDir()}
	s.url = s3test.Serve(t, s.Synthetic)
	return s
}

func (s *sized) store(t testing.TB) agentapi.Store {
	t.Helper()
	return agentapi.Store{Endpoint: s.url, Bucket: bucket, PathStyle: true, Credentials: s3test.Credentials(t, "id", "key", "")}
}

func (s *sized) stage(t testing.TB, dir string) child {
	t.Helper()
	return child{Stage: &agentapi.Stage{Inputs: []agentapi.Input{{Field: "in", Store: s.store(t), Prefix: "p/", Destination: dir}}}}
}

func (s *sized) push(t testing.TB, dir string) child {
	t.Helper()
	return child{Store: &agentapi.Outputs{Outputs: []agentapi.Output{{Field: "out", Store: s.store(t), Prefix: "out/", Source: dir}}}}
}

// check compares what was copied.
func (s *sized) check(t testing.TB, dir string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for i := range s.Objects {
		f, err := os.Open(filepath.Join(dir, fileName(i)))
		if err != nil {
			t.Fatal(err)
		}
		var offset int64
		for offset < s.Size {
			n, err := io.ReadFull(f, buf[:min(int64(len(buf)), s.Size-offset)])
			if err != nil || !s.Check(buf[:n], offset) {
				t.Fatalf("%s differs near %d: %v", s3test.Key(i), offset, err)
			}
			offset += int64(n)
		}
		f.Close()
	}
}

// TestMemory bounds the peak memory of the process: of a large object, and of many small files.
func TestMemory(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		objects int
		size    int64
		most    int64
	}{
		"large object": {1, *largeMiB * mib, 32 * mib},
		"many files":   {*many, 4096, 64 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSized(t, tc.objects, tc.size)
			in := s.stage(t, s.dir).do(t)
			s.check(t, s.dir)
			out := s.push(t, s.dir).do(t)
			if want := int64(tc.objects) * tc.size; s.Received.Load() < want {
				t.Errorf("%d bytes were sent, want %d", s.Received.Load(), want)
			}
			for way, u := range map[string]usage{"stage": in, "store": out} {
				t.Logf("%s: %.1f MiB, %.2f s CPU, %.2f s", way, float64(u.rss)/mib, u.cpu.Seconds(), u.elapsed.Seconds())
				if u.rss > tc.most && !raceEnabled { // the race detector takes memory itself
					t.Errorf("%s: peak of %.1f MiB, want at most %d", way, float64(u.rss)/mib, tc.most/mib)
				}
			}
		})
	}
}

// TestLarge copies a large object, and many small files, to a real server and back, whole and in little memory.
func TestLarge(t *testing.T) {
	checkLarge(t, func(t *testing.T) agentapi.Store { return s3test.Versitygw(t, bucket) })
}

// TestLargeMinIO does it with another server.
func TestLargeMinIO(t *testing.T) {
	s3test.MinIO(t, bucket, func(t *testing.T, s agentapi.Store) {
		checkLarge(t, func(*testing.T) agentapi.Store { return s })
	})
}

func checkLarge(t *testing.T, server func(*testing.T) agentapi.Store) {
	t.Helper()
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		objects int
		size    int64
		most    int64
	}{
		"large object": {1, *largeMiB*mib + 1, 32 * mib},
		"many files":   {*many, 4096, 64 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sized{Synthetic: s3test.NewSynthetic(tc.objects, tc.size), dir: t.TempDir()}
			source := t.TempDir()
			for i := range tc.objects {
				if err := s.Write(filepath.Join(source, fileName(i))); err != nil {
					t.Fatal(err)
				}
			}
			to, prefix := server(t), name+"/"
			u := map[string]usage{
				"store": child{Store: &agentapi.Outputs{Outputs: []agentapi.Output{{Field: "out", Store: to, Prefix: prefix, Source: source}}}}.do(t),
				"stage": child{Stage: &agentapi.Stage{Inputs: []agentapi.Input{{Field: "in", Store: to, Prefix: prefix, Destination: s.dir}}}}.do(t),
			}
			s.check(t, s.dir)
			for way, u := range u {
				t.Logf("%s: %.1f MiB, %.2f s CPU, %.2f s", way, float64(u.rss)/mib, u.cpu.Seconds(), u.elapsed.Seconds())
				if u.rss > tc.most && !raceEnabled {
					t.Errorf("%s: peak of %.1f MiB, want at most %d", way, float64(u.rss)/mib, tc.most/mib)
				}
			}
		})
	}
}
