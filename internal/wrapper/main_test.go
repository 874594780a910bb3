// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// The test binary is also the wrapper and, for much output, the command. This variable says which it is.
const role = "WRAPPER_TEST_ROLE"

// request is what a test wants of a wrapper.
type request struct {
	Options
	// KillAfter is the step after which the wrapper kills itself.
	KillAfter string
	// FileLimit is RLIMIT_FSIZE of the wrapper; 0 means none.
	FileLimit uint64
	// Report is a file that gets a report before the container is held.
	Report string
}

// report is what a wrapper tells a test.
type report struct {
	Code   int
	Result agentapi.Result
	Tail   string // of the Result, which its JSON does not have
	Steps  []string
}

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "wrapper":
		os.Exit(runRequest(os.Getenv("REQUEST")))
	case "writer":
		os.Exit(writeStream(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// runRequest runs a wrapper in this process.
func runRequest(path string) int {
	var r request
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		panic(err)
	}
	if r.FileLimit > 0 {
		limit := unix.Rlimit{Cur: r.FileLimit, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			panic(err)
		}
	}
	var out report
	r.step = func(name string) {
		out.Steps = append(out.Steps, name)
		if name == r.KillAfter {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	r.Stdin, r.Stdout, r.Stderr = os.Stdin, os.Stdout, os.Stderr
	ended := Run(r.Options)
	out.Code, out.Result, out.Tail = ended.Code, ended.Result, ended.Result.Tail
	b, err := json.Marshal(out)
	if err == nil && r.Report != "" {
		err = os.WriteFile(r.Report, b, 0o600)
	}
	if err != nil && r.FileLimit == 0 {
		panic(err)
	}
	ended.Hold()
	return ended.Code
}

// process is a wrapper in a process of its own.
type process struct {
	*exec.Cmd
	t      *testing.T
	dir    string // of all files of the test
	state  string
	report string
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// newProcess prepares a wrapper for a shell command, with a state directory of its own.
func newProcess(t *testing.T, script string, change ...func(*request)) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, dir: dir, state: filepath.Join(dir, "state"), report: filepath.Join(dir, "report")}
	if err := os.Mkdir(p.state, 0o777); err != nil {
		t.Fatal(err)
	}
	r := request{Report: p.report}
	r.Command, r.StateDir = []string{"/bin/sh", "-c", script}, p.state
	r.Env = []string{"PATH=" + os.Getenv("PATH"), "DIR=" + dir, "SELF=" + os.Args[0]}
	r.Exec = agentapi.Exec{Version: agentapi.Version, GraceSeconds: 60, KeepStdout: true, KeepStderr: true}
	for _, f := range change {
		f(&r)
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "request"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd = exec.Command(os.Args[0])
	p.Cmd.Env = []string{role + "=wrapper", "REQUEST=" + filepath.Join(dir, "request"), "PATH=" + os.Getenv("PATH")}
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	p.Cmd.WaitDelay = time.Minute // a lost process must not keep the test for ever
	return p
}

// start starts the wrapper.
func (p *process) start() *process {
	p.t.Helper()
	if err := p.Cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Cmd.Wait()
		}
	})
	return p
}

// wait returns the exit code of the wrapper, 128 and more for a signal.
func (p *process) wait() int {
	p.t.Helper()
	err := p.Cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	status := p.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// run runs a wrapper to its end.
func run(t *testing.T, script string, change ...func(*request)) (*process, int) {
	t.Helper()
	p := newProcess(t, script, change...).start()
	return p, p.wait()
}

// told returns the wrapper's report.
func (p *process) told() report {
	p.t.Helper()
	var r report
	if err := json.Unmarshal([]byte(p.read(p.report)), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// read returns a file, whose name may be one in the state directory.
func (p *process) read(name string) string {
	p.t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(p.state, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// ended returns what the container of the outputs finds. It waits for it.
func (p *process) ended() End {
	p.t.Helper()
	end, err := AwaitEnd(p.state, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return end
}

// signal sends a signal to the wrapper.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// fifo is a FIFO that tells when a process is there and when it is gone: nothing has to be polled.
type fifo struct {
	t *testing.T
	f *os.File
}

// newFifo makes the FIFO $DIR/name, before the wrapper is started.
func (p *process) newFifo(name string) *fifo {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := unix.Mkfifo(path, 0o666); err != nil {
		p.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = f.Close() })
	return &fifo{p.t, f}
}

// expect waits until a process has written a line.
func (f *fifo) expect(want string) {
	f.t.Helper()
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\n")); {
		n, err := f.f.Read(b)
		if err != nil && !errors.Is(err, io.EOF) {
			f.t.Fatal(err)
		}
		if n == 0 {
			time.Sleep(time.Millisecond) // no process has opened it yet
		}
		got = append(got, b[:n]...)
	}
	if strings.TrimSpace(string(got)) != want {
		f.t.Fatalf("%q, want %q", got, want)
	}
}

// expectGone waits until no process has the FIFO open.
func (f *fifo) expectGone() {
	f.t.Helper()
	if rest, err := io.ReadAll(f.f); err != nil || len(rest) > 0 {
		f.t.Fatalf("%q, %v", rest, err)
	}
}

// writeStream is a command: it writes so many bytes of a fixed stream to stdout and stderr.
func writeStream(args []string) int {
	for i, f := range []*os.File{os.Stdout, os.Stderr} {
		n, err := strconv.ParseInt(args[i], 10, 64)
		if err != nil {
			panic(err)
		}
		if _, err := io.CopyN(f, newNoise(byte(i)), n); err != nil {
			return 1
		}
	}
	return 0
}

// noise is an endless stream of bytes that looks random, without final newline.
type noise struct{ x uint64 }

func newNoise(seed byte) *noise { return &noise{x: 0x9e3779b97f4a7c15 + uint64(seed)} }

// Read implements io.Reader.
func (n *noise) Read(p []byte) (int, error) {
	for i := range p {
		n.x ^= n.x << 13
		n.x ^= n.x >> 7
		n.x ^= n.x << 17
		p[i] = byte(n.x >> 32)
	}
	return len(p), nil
}
