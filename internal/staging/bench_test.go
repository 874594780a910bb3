// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package staging

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/store"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// rcloneVariable names a program of rclone; without one there is no comparison with it.
const rcloneVariable = "RCLONE"

// Bars of BenchmarkTransfer.
const (
	// leastOfRaw is how fast a large object must be, as a part of what raw requests reach.
	leastOfRaw = 0.9
	// leastOfRclone is the same for rclone, less what two equal programs differ in a run.
	leastOfRclone = 0.95
	// mostCPU is how many seconds of CPU time a GiB may take.
	mostCPU = 4.0
)

// BenchmarkTransfer measures a large object and many small files, both ways, against versitygw on the loopback
// interface. In each round the agent's library, raw parallel requests and rclone do the same, one after the
// other. of-raw and of-rclone are quotients of the shortest times of all rounds, so that what else the machine does
// counts little: 1 means that both take the same, and more that the agent is faster. cpu-of-raw and cpu-of-rclone are
// those of the CPU time that client and server take together, which say the same on a machine that is too busy to
// measure times. It fails if a bar is not reached.
func BenchmarkTransfer(b *testing.B) {
	for _, scheme := range []string{"http", "https"} {
		b.Run(scheme+"-large", func(b *testing.B) { transfer(b, scheme, 1, *largeMiB<<20) })
		b.Run(scheme+"-small", func(b *testing.B) { transfer(b, scheme, *many, 4096) })
	}
}

// transfers is the state of one comparison.
type transfers struct {
	store agentapi.Store
	files int
	size  int64
	dir   string
	api   *minio.Client
	round int
	// source has the files that are uploaded, which are those below prefix source/ that are downloaded.
	source string
}

func transfer(b *testing.B, scheme string, files int, size int64) {
	b.Helper()
	tr := &transfers{files: files, size: size, dir: b.TempDir()}
	if scheme == "http" {
		tr.store = s3test.Versitygw(b, bucket)
	} else {
		tr.store = s3test.VersitygwTLS(b, bucket)
	}
	tr.connect(b)
	tr.source = filepath.Join(tr.dir, "source")
	content := s3test.NewSynthetic(files, size)
	for i := range files {
		if err := content.Write(filepath.Join(tr.source, fileName(i))); err != nil {
			b.Fatal(err)
		}
	}
	tr.child(agentapi.Outputs{Outputs: []agentapi.Output{{Field: "out", Store: tr.store, Prefix: "source/", Source: tr.source}}}).do(b)
	b.Run("stage", func(b *testing.B) { tr.compare(b, false) })
	b.Run("store", func(b *testing.B) { tr.compare(b, true) })
}

func (tr *transfers) child(work any) child {
	switch w := work.(type) {
	case agentapi.Stage:
		return child{Stage: &w}
	case agentapi.Outputs:
		return child{Store: &w}
	}
	panic(work)
}

// connect makes the client that cleans up.
func (tr *transfers) connect(b *testing.B) {
	b.Helper()
	host, secure := strings.CutPrefix(tr.store.Endpoint, "https://")
	transport, err := store.Transport(store.TransportOptions{CA: tr.store.CA})
	if err != nil {
		b.Fatal(err)
	}
	tr.api, err = minio.New(strings.TrimPrefix(host, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Secure: secure, Region: tr.store.Region, Transport: transport,
	})
	if err != nil {
		b.Fatal(err)
	}
}

// empty removes the objects below a prefix.
func (tr *transfers) empty(b *testing.B, prefix string) {
	b.Helper()
	ctx := context.Background()
	n := 0
	for o := range tr.api.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err == nil {
			o.Err = tr.api.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{})
		}
		if o.Err != nil {
			b.Fatal(o.Err)
		}
		if o.Size != tr.size {
			b.Fatalf("%s has %d bytes", o.Key, o.Size)
		}
		n++
	}
	if n != tr.files {
		b.Fatalf("%d objects below %s, want %d", n, prefix, tr.files)
	}
}

// once measures one subject, in a new place that is removed.
func (tr *transfers) once(b *testing.B, put bool, do func(prefix, dir string) usage) usage {
	b.Helper()
	tr.round++
	if put {
		prefix := fmt.Sprintf("out-%d/", tr.round)
		defer tr.empty(b, prefix)
		return tr.measure(do, prefix, tr.source)
	}
	dir := filepath.Join(tr.dir, fmt.Sprint("in-", tr.round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	u := tr.measure(do, "source/", dir)
	for i := range tr.files {
		if info, err := os.Stat(filepath.Join(dir, fileName(i))); err != nil || info.Size() != tr.size {
			b.Fatalf("%s: %v", fileName(i), err)
		}
	}
	return u
}

// measure adds what the server takes meanwhile.
func (tr *transfers) measure(do func(prefix, dir string) usage, prefix, dir string) usage {
	before := serverTime()
	u := do(prefix, dir)
	u.server = serverTime() - before
	return u
}

// serverTime returns the CPU time of the processes that this one has started and that still run, which is the server.
func serverTime() time.Duration {
	var sum time.Duration
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // other systems do not have it
	for _, name := range files {
		text, _ := os.ReadFile(name) // it may have ended
		_, rest, _ := strings.Cut(string(text), ") ")
		var user, system int64 // in hundredths of a second
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err == nil {
			sum += time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return sum
}

// ours, raw and rclone are the subjects.
func (tr *transfers) ours(b *testing.B, put bool) usage {
	b.Helper()
	return tr.once(b, put, func(prefix, dir string) usage {
		if put {
			return tr.child(agentapi.Outputs{Outputs: []agentapi.Output{{Field: "out", Store: tr.store, Prefix: prefix, Source: dir}}}).do(b)
		}
		return tr.child(agentapi.Stage{Inputs: []agentapi.Input{{Field: "in", Store: tr.store, Prefix: prefix, Destination: dir}}}).do(b)
	})
}

func (tr *transfers) raw(b *testing.B, put bool) usage {
	b.Helper()
	return tr.once(b, put, func(prefix, dir string) usage {
		r := &raw{
			Store: tr.store, Prefix: prefix, Dir: dir, Files: tr.files, Size: tr.size, Put: put, PartBytes: defaultPartBytes, Workers: defaultWorkers,
		}
		if !put {
			if err := r.directories(); err != nil {
				b.Fatal(err)
			}
		}
		return child{Raw: r}.do(b)
	})
}

// rclone copies with the same parts and as many transfers.
func (tr *transfers) rclone(b *testing.B, program string, put bool) usage {
	b.Helper()
	return tr.once(b, put, func(prefix, dir string) usage {
		from, to := "s:"+bucket+"/"+prefix, dir
		if put {
			from, to = to, from
		}
		cmd := exec.Command(program, "copy", from, to, "--config=", "--transfers=32", "--checkers=32", "--s3-chunk-size=16Mi", "--s3-upload-cutoff=16Mi",
			"--s3-upload-concurrency=32", "--multi-thread-cutoff=16Mi", "--multi-thread-chunk-size=16Mi", "--multi-thread-streams=32", "--s3-no-check-bucket")
		ca := filepath.Join(tr.dir, "ca")
		if err := os.WriteFile(ca, []byte(tr.store.CA), 0o600); err != nil {
			b.Fatal(err)
		}
		if tr.store.CA != "" {
			cmd.Args = append(cmd.Args, "--ca-cert="+ca)
		}
		cmd.Env = append(os.Environ(), "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Other", "RCLONE_CONFIG_S_ACCESS_KEY_ID="+s3test.AccessKey,
			"RCLONE_CONFIG_S_SECRET_ACCESS_KEY="+s3test.SecretKey, "RCLONE_CONFIG_S_ENDPOINT="+tr.store.Endpoint, "RCLONE_CONFIG_S_REGION="+tr.store.Region)
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("rclone: %v: %s", err, out)
		}
		return usage{elapsed: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	})
}

// compare runs all in turns.
func (tr *transfers) compare(b *testing.B, put bool) {
	b.Helper()
	program := os.Getenv(rcloneVariable)
	var ours, raws, rclones []time.Duration
	var sum, rawSum, rcloneSum usage
	var peak int64
	tr.ours(b, put) // what comes first pays for the memory of the disk's cache
	for b.Loop() {
		var u, r usage
		if len(ours)%2 == 0 {
			u, r = tr.ours(b, put), tr.raw(b, put)
		} else {
			r, u = tr.raw(b, put), tr.ours(b, put)
		}
		ours, raws = append(ours, u.elapsed), append(raws, r.elapsed)
		sum, rawSum, peak = sum.plus(u), rawSum.plus(r), max(peak, u.rss)
		if program != "" {
			c := tr.rclone(b, program, put)
			rclones, rcloneSum = append(rclones, c.elapsed), rcloneSum.plus(c)
		}
	}
	b.Logf("times of the agent %v, of raw requests %v, of rclone %v; CPU time %v, %v, %v, and of the server %v, %v, %v",
		ours, raws, rclones, sum.cpu, rawSum.cpu, rcloneSum.cpu, sum.server, rawSum.server, rcloneSum.server)
	gib := float64(b.N) * float64(tr.files) * float64(tr.size) / (1 << 30)
	b.ReportMetric(0, "ns/op") // it has all subjects in it
	b.ReportMetric(slices.Min(ours).Seconds(), "s")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(quotient(raws, ours), "of-raw")
	b.ReportMetric((rawSum.cpu+rawSum.server).Seconds()/(sum.cpu+sum.server).Seconds(), "cpu-of-raw")
	if tr.files == 1 {
		b.ReportMetric(sum.cpu.Seconds()/gib, "cpu-s/GiB")
		b.ReportMetric(rawSum.cpu.Seconds()/gib, "raw-cpu-s/GiB")
	} else {
		n := float64(b.N) * float64(tr.files)
		b.ReportMetric(float64(sum.cpu.Microseconds())/n, "cpu-us/file")
		b.ReportMetric(float64(rawSum.cpu.Microseconds())/n, "raw-cpu-us/file")
		b.ReportMetric(float64(sum.mallocs)/n, "allocs/file")
	}
	if tr.files == 1 {
		least(b, "of the speed of raw requests", quotient(raws, ours), leastOfRaw)
		most(b, "s of CPU time for a GiB", sum.cpu.Seconds()/gib, mostCPU)
	}
	if mib := float64(peak) / (1 << 20); tr.files < 100_000 {
		most(b, "MiB of memory", mib, 32)
	} else {
		most(b, "MiB of memory", mib, 64)
	}
	if program != "" {
		b.ReportMetric(quotient(rclones, ours), "of-rclone")
		b.ReportMetric(rcloneSum.cpu.Seconds()/sum.cpu.Seconds(), "rclone-cpu")
		b.ReportMetric((rcloneSum.cpu+rcloneSum.server).Seconds()/(sum.cpu+sum.server).Seconds(), "cpu-of-rclone")
		least(b, "of the speed of rclone", quotient(rclones, ours), leastOfRclone)
	}
}

// least and most check a bar.
func least(b *testing.B, what string, got, bar float64) {
	b.Helper()
	if got < bar {
		b.Errorf("%.2f %s, want at least %.2f", got, what, bar)
	}
}

func most(b *testing.B, what string, got, bar float64) {
	b.Helper()
	if got > bar {
		b.Errorf("%.2f %s, want at most %.1f", got, what, bar)
	}
}

// plus adds what another process took.
func (u usage) plus(v usage) usage {
	return usage{elapsed: u.elapsed + v.elapsed, cpu: u.cpu + v.cpu, server: u.server + v.server, mallocs: u.mallocs + v.mallocs}
}

// quotient returns how many times as long the shortest of one subject takes as that of another.
func quotient(of, by []time.Duration) float64 {
	return slices.Min(of).Seconds() / slices.Min(by).Seconds()
}
