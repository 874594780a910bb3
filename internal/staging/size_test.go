// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/store"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

var (
	largeMiB = flag.Int64("staging.large", 64, "the size of the large object of tests and benchmarks, in MiB")
	many     = flag.Int("staging.many", 2000, "the number of small files of tests and benchmarks")
	scratch  = flag.String("staging.scratch", "", "the directory for their files; empty means that of the system")
)

// childVariable has the work of a process that is measured, in JSON.
const childVariable = "BATCHCOMPUTE_STAGING_CHILD"

// child is what a process does whose memory is measured: the agent alone, without the server.
type child struct {
	Stage *agentapi.Stage
	Store *agentapi.Outputs
	// Get and Put do with plain requests what the others do, in parts of equal size.
	Get, Put *plain
}

// plain is a transfer with net/http alone.
type plain struct {
	URL, File string
	CA        string
	Size      int64
	PartBytes int64
	Workers   int
	Objects   int
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
	var r agentapi.Result
	switch {
	case c.Stage != nil:
		r = Stage(context.Background(), *c.Stage, nil)
	case c.Store != nil:
		r = Store(context.Background(), *c.Store, true, nil)
	case c.Get != nil:
		c.Get.run(http.MethodGet)
	case c.Put != nil:
		c.Put.run(http.MethodPut)
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{r, peak()})
}

// report is what a child prints.
type report struct {
	Result agentapi.Result
	// Peak is the peak of its memory, in bytes; 0 if it is not known.
	Peak int64
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

// run transfers all parts of all objects.
func (p *plain) run(method string) {
	transport, err := store.Transport(store.TransportOptions{Connections: p.Workers, CA: p.CA})
	if err != nil {
		panic(err)
	}
	type part struct {
		object       int
		offset, size int64
	}
	parts := make(chan part)
	var workers sync.WaitGroup
	for range p.Workers {
		workers.Go(func() {
			buf := make([]byte, 128<<10)
			for part := range parts {
				name := p.File
				if p.Objects > 1 {
					name = filepath.Join(p.File, s3test.Key(part.object))
				}
				f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
				if err != nil {
					panic(err)
				}
				body := io.Reader(http.NoBody)
				if method == http.MethodPut {
					body = io.NewSectionReader(f, part.offset, part.size)
				}
				r, err := http.NewRequest(method, p.URL+"/"+s3test.Key(part.object), body)
				if err != nil {
					panic(err)
				}
				if method == http.MethodPut {
					r.ContentLength = part.size
				} else if p.Objects == 1 {
					r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", part.offset, part.offset+part.size-1))
				}
				answer, err := transport.RoundTrip(r)
				if err != nil {
					panic(err)
				}
				to := io.Writer(io.NewOffsetWriter(f, part.offset))
				if method == http.MethodPut {
					to = io.Discard
				}
				if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{answer.Body}, buf); err != nil {
					panic(err)
				}
				answer.Body.Close()
				f.Close()
			}
		})
	}
	for o := range max(1, p.Objects) {
		for offset := int64(0); offset < p.Size; offset += p.PartBytes {
			parts <- part{o, offset, min(p.PartBytes, p.Size-offset)}
		}
	}
	close(parts)
	workers.Wait()
}

// remove removes the files of a run.
func (p *plain) remove(b *testing.B) {
	b.Helper()
	err := filepath.WalkDir(p.File, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		return os.Remove(name)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// usage is what a process took.
type usage struct {
	rss     int64 // peak, in bytes
	cpu     time.Duration
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
	u.rss = r.Peak
	return u
}

// sized is a server and the work with it.
type sized struct {
	*s3test.Synthetic
	url, ca string
	dir     string
}

func newSized(t testing.TB, objects int, size int64, useTLS bool) *sized {
	t.Helper()
	s := &sized{Synthetic: s3test.NewSynthetic(objects, size)}
	var err error
	if useTLS {
		server := httptest.NewTLSServer(s.Synthetic)
		t.Cleanup(server.Close)
		s.url, s.ca = server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	} else {
		s.url = s3test.Serve(t, s.Synthetic)
	}
	if s.dir, err = os.MkdirTemp(*scratch, "staging-"); err != nil { //nolint:usetesting // it may be on another disk
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	return s
}

func (s *sized) store(t testing.TB) agentapi.Store {
	t.Helper()
	return agentapi.Store{Endpoint: s.url, Bucket: bucket, PathStyle: true, CA: s.ca, Credentials: s3test.Credentials(t, "id", "key", "")}
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
		f, err := os.Open(filepath.Join(dir, s3test.Key(i)[2:]))
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
	if raceEnabled {
		t.Skip("the race detector takes memory itself")
	}
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
			s := newSized(t, tc.objects, tc.size, false)
			in := s.stage(t, s.dir).do(t)
			s.check(t, s.dir)
			out := s.push(t, s.dir).do(t)
			if want := int64(tc.objects) * tc.size; s.Received.Load() < want {
				t.Errorf("%d bytes were sent, want %d", s.Received.Load(), want)
			}
			for way, u := range map[string]usage{"stage": in, "store": out} {
				t.Logf("%s: %.1f MiB, %.2f s CPU, %.2f s", way, float64(u.rss)/mib, u.cpu.Seconds(), u.elapsed.Seconds())
				if u.rss > tc.most {
					t.Errorf("%s: peak of %.1f MiB, want at most %d", way, float64(u.rss)/mib, tc.most/mib)
				}
			}
		})
	}
}

// BenchmarkTransfer compares a large object and many small files with plain parallel requests of the same
// parts, in turns. speed is 1 if both take the same time, and more if the agent is faster.
func BenchmarkTransfer(b *testing.B) {
	for _, scheme := range []string{"http", "https"} {
		b.Run(scheme+"/large", func(b *testing.B) { transfer(b, newSized(b, 1, *largeMiB<<20, scheme == "https")) })
		b.Run(scheme+"/small", func(b *testing.B) { transfer(b, newSized(b, *many, 4096, scheme == "https")) })
	}
}

// transfer measures both directions.
func transfer(b *testing.B, s *sized) {
	b.Helper()
	p := plain{
		URL: s.url + "/" + bucket, CA: s.ca, File: filepath.Join(s.dir, "plain"), Size: s.Size,
		PartBytes: defaultPartBytes, Workers: defaultWorkers, Objects: s.Objects,
	}
	for i := range s.Objects {
		if s.Objects == 1 {
			break
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(p.File, s3test.Key(i))), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("stage", func(b *testing.B) {
		compare(b, s, func() child {
			dir, err := os.MkdirTemp(s.dir, "in-") //nolint:usetesting // it may be on another disk
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { os.RemoveAll(dir) })
			return s.stage(b, dir)
		}, child{Get: &p})
	})
	source := filepath.Join(s.dir, "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		b.Fatal(err)
	}
	s.stage(b, source).do(b)
	b.Run("store", func(b *testing.B) {
		compare(b, s, func() child { return s.push(b, source) }, child{Put: &p})
	})
}

// compare runs both in turns.
func compare(b *testing.B, s *sized, ours func() child, theirs child) {
	b.Helper()
	b.SetBytes(int64(s.Objects) * s.Size)
	var a, p usage
	var peak int64
	for b.Loop() {
		u := ours().do(b)
		a.elapsed, a.cpu, peak = a.elapsed+u.elapsed, a.cpu+u.cpu, max(peak, u.rss)
		if theirs.Get != nil {
			// It also writes new files: to replace what is in memory is faster.
			theirs.Get.remove(b)
		}
		u = theirs.do(b)
		p.elapsed, p.cpu = p.elapsed+u.elapsed, p.cpu+u.cpu
	}
	gib := float64(b.N) * float64(s.Objects) * float64(s.Size) / (1 << 30)
	b.ReportMetric(p.elapsed.Seconds()/a.elapsed.Seconds(), "speed")
	b.ReportMetric(a.cpu.Seconds()/gib, "cpu-s/GiB")
	b.ReportMetric(p.cpu.Seconds()/gib, "plain-cpu-s/GiB")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
}
