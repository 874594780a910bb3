// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging"
	"batchcompute.dev/operator/internal/testutil/s3test"
)

// maxImage is how large the agent's image may be; it has the program and little else. Unit: bytes.
const maxImage = 10_000_000

// TestProgram checks that the program runs in an empty image, and how large it is.
func TestProgram(t *testing.T) {
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > maxImage-100_000 {
		t.Errorf("the program has %d bytes, so its image has more than %d", info.Size(), maxImage)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs a dynamic linker")
		}
	}
	built, err := buildinfo.ReadFile(program)
	if err != nil || !slices.ContainsFunc(built.Deps, func(m *debug.Module) bool { return m.Path == "golang.org/x/crypto/x509roots/fallback" }) {
		t.Errorf("the program has no certificates, and its image has none either: %v", err)
	}
	if symbols, err := f.Symbols(); err == nil {
		t.Errorf("the program has %d symbols", len(symbols))
	}
}

func TestUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"version":           {[]string{"version"}, 0, "v9.9.9\n"},
		"help":              {[]string{"help"}, 0, usage},
		"nothing":           {nil, agentapi.ExitUsage, "a command is missing"},
		"unknown":           {[]string{"destroy"}, agentapi.ExitUsage, "destroy is no command"},
		"unknown flag":      {[]string{"exec", "-x"}, agentapi.ExitUsage, "not defined: -x"},
		"exec alone":        {[]string{"exec", "--"}, agentapi.ExitUsage, "wrong number of arguments"},
		"stage with more":   {[]string{"stage", "now"}, agentapi.ExitUsage, "stage now is no command"},
		"install alone":     {[]string{"install"}, agentapi.ExitUsage, "wrong number of arguments"},
		"install elsewhere": {[]string{"install", "/no/such/directory"}, agentapi.ExitPermanent, "installing: open /no/such/directory/.agent.tmp: no such file"},
	} {
		c := newPod(t).command("", nil)
		c.Args = append(c.Args[:1], tc.args...)
		if code := c.start().wait(); code != tc.code || !strings.Contains(c.stdout.String()+c.stderr.String(), tc.want) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", name, code, c.stdout.String(), c.stderr.String())
		}
	}
}

func TestConfiguration(t *testing.T) {
	for _, command := range []string{"stage", "exec", "outputs"} {
		for name, tc := range map[string]struct{ text, want string }{
			"none":            {"", "BATCHCOMPUTE_AGENT is not set: it has the configuration"},
			"no JSON":         {"x", "reading the environment variable BATCHCOMPUTE_AGENT"},
			"another version": {`{"version":2}`, "has version 2, and this agent reads version 1"},
		} {
			var args []string
			if command == "exec" {
				args = []string{"true"}
			}
			c := newPod(t).command(command, nil, args...)
			c.Env = append(c.Env, agentapi.ConfigVariable+"="+tc.text)
			code, r := c.start().wait(), c.result()
			if code != agentapi.ExitUsage || r.Class != agentapi.Permanent || !strings.Contains(r.Message, tc.want) || !strings.Contains(c.stderr.String(), tc.want) {
				t.Errorf("%s, %s: code %d, %+v, stderr %q", command, name, code, r, c.stderr.String())
			}
		}
	}
}

func TestInstall(t *testing.T) {
	p := newPod(t)
	for range 2 {
		c := p.command("install", nil)
		c.Args = append(c.Args[:2], p.dir+"/state")
		if code := c.start().wait(); code != 0 {
			t.Fatalf("code %d, %s", code, c.stderr.String())
		}
	}
	entries, err := os.ReadDir(p.dir + "/state")
	if err != nil || len(entries) != 1 || entries[0].Name() != agentapi.AgentFile {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o555 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	out, err := exec.Command(p.dir+"/state/agent", "version").Output()
	if err != nil || string(out) != "v9.9.9\n" || p.read("state/agent") != string(mustRead(t, program)) {
		t.Errorf("%q, %v", out, err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStage checks that stage reports and ends.
func TestStage(t *testing.T) {
	c := newPod(t).command("stage", agentapi.Stage{Version: agentapi.Version})
	if code, r := c.start().wait(), c.result(); code != 0 || r.Class != "" || r.Version != agentapi.Version {
		t.Errorf("code %d, %+v", code, r)
	}
}

// TestExecAndOutputs runs the two containers of a Pod together: what each of them reports.
func TestExecAndOutputs(t *testing.T) {
	for name, tc := range map[string]struct {
		script  string
		code    int
		message string // of outputs
		tails   [2]string
	}{
		"success":     {"echo out; echo err >&2", 0, "", [2]string{"out\n", "err\n"}},
		"failure":     {"echo err >&2; exit 3", 3, "", [2]string{"", "err\n"}},
		"killed":      {"printf x; kill -9 $$", 137, "", [2]string{"x", ""}},
		"exec killed": {"kill -9 $PPID; exit 3", 137, "", [2]string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			outputs := p.outputs().start()
			c := p.exec(tc.script, agentapi.Exec{}).start()
			if code := c.wait(); code != tc.code {
				t.Errorf("code of exec %d, want %d", code, tc.code)
			}
			if code, r := outputs.wait(), outputs.result(); code != 0 || r.Class != "" || r.Code == nil || *r.Code != tc.code || r.Message != tc.message || r.Tail != tc.tails[1] {
				t.Errorf("code of outputs %d, %+v", code, r)
			}
			if name == "exec killed" {
				return
			}
			if r := c.result(); r.Class != "" || r.Code != nil || r.Message != "" || r.Tail != tc.tails[0] {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestOutputsFailed checks that outputs that cannot be stored are no success, whatever the command's code, and that
// this code is kept.
func TestOutputsFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoint, credentials string
		code                  int // of outputs
		class                 agentapi.Class
	}{
		"store does not answer": {"http://127.0.0.1:1", "", agentapi.ExitTransient, agentapi.Transient},
		"keys are missing":      {"http://127.0.0.1:1", "/no/such/directory", agentapi.ExitPermanent, agentapi.Permanent},
	} {
		for _, want := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, code %d", name, want), func(t *testing.T) {
				p := newPod(t)
				config := agentapi.Outputs{Version: agentapi.Version, OnFailure: true, Limits: agentapi.Limits{NoProgressSeconds: 1}, Outputs: []agentapi.Output{{
					Field: "outputMappings[0]", Source: p.mkdir("results"), Store: agentapi.Store{Endpoint: tc.endpoint, Bucket: "bucket", PathStyle: true, Credentials: tc.credentials},
				}}}
				outputs := p.command("outputs", config).start()
				c := p.exec(fmt.Sprintf(`echo result >"$DIR/results/a"; echo last words >&2; exit %d`, want), agentapi.Exec{}).start()
				if code := c.wait(); code != want {
					t.Errorf("code of exec %d, want %d", code, want)
				}
				code, r := outputs.wait(), outputs.result()
				if code != tc.code || r.Class != tc.class || *r.Code != want || r.Tail != "last words\n" || !strings.Contains(r.Message, "outputMappings[0]") {
					t.Errorf("code of outputs %d, %+v, of the command %d", code, r, *r.Code)
				}
				t.Log(r.Message)
			})
		}
	}
}

// waiting is what outputs says once it can be stopped.
const waiting = "agent: waiting for the end of the command\n"

// TestOutputsStopped checks that SIGTERM ends outputs before the command is started, and not after.
func TestOutputsStopped(t *testing.T) {
	p := newPod(t)
	outputs := p.outputs().start()
	outputs.stderr.await(t, waiting)
	c := p.exec(`echo ready >"$DIR/ready"; read line <"$DIR/continue"; echo late >&2; exit 4`, agentapi.Exec{})
	ready := p.fifo("ready")
	p.fifo("continue")
	c.start()
	ready()
	for range 3 {
		if err := outputs.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(p.dir+"/continue", []byte("now\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 4 {
		t.Errorf("code of exec %d", code)
	}
	if code, r := outputs.wait(), outputs.result(); code != 0 || r.Code == nil || *r.Code != 4 || r.Tail != "late\n" {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
}

// TestOutputsStoppedWhileStoring checks that SIGTERM stops a transfer when the grace period is over, and that no upload is
// left in the store then.
func TestOutputsStoppedWhileStoring(t *testing.T) {
	p, memory := newPod(t), s3test.NewMemory("data")
	sending := make(chan struct{}, 10)
	endpoint := s3test.Serve(t, &s3test.Faults{Next: memory, Plan: func(_ int, r *http.Request) s3test.Fault {
		if r.URL.Query().Get("partNumber") != "2" {
			return s3test.Fault{}
		}
		sending <- struct{}{}
		return s3test.Fault{Hang: true, After: -1}
	}})
	outputs := p.command("outputs", agentapi.Outputs{Version: agentapi.Version, GraceSeconds: 1, Outputs: []agentapi.Output{{
		Field: "outputMappings[0]", Source: p.mkdir("results"), Prefix: "p/",
		Store: agentapi.Store{Endpoint: endpoint, Bucket: "data", PathStyle: true, Credentials: s3test.Credentials(t, s3test.AccessKey, s3test.SecretKey, "")},
	}}}).start()
	if code := p.exec(`truncate -s 40M "$DIR/results/large"`, agentapi.Exec{}).start().wait(); code != 0 {
		t.Fatalf("code of exec %d", code)
	}
	<-sending
	if left := memory.Uploads(); len(left) != 1 {
		t.Fatalf("the upload has not started: %s", left)
	}
	if err := outputs.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	code, r := outputs.wait(), outputs.result()
	if code != agentapi.ExitTransient || !strings.Contains(r.Message, "the transfer was stopped") || r.Code == nil || *r.Code != 0 {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
	if left := memory.Uploads(); len(left) > 0 || len(memory.Keys()) > 0 {
		t.Errorf("uploads are left: %s; objects %s", left, memory.Keys())
	}
}

// TestOutputsWithoutCommand checks that SIGTERM ends outputs with success if there was no command.
func TestOutputsWithoutCommand(t *testing.T) {
	p := newPod(t)
	c := p.outputs().start()
	c.stderr.await(t, waiting)
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 0 {
		t.Fatalf("code %d, %s", code, c.stderr.String())
	}
	if r := c.result(); r.Class != "" || r.Code != nil || r.Message != "the command was not started, so nothing is stored" {
		t.Errorf("%+v", r)
	}
}

// TestMessageLimits checks the messages of a Pod with six containers.
func TestMessageLimits(t *testing.T) {
	p := newPod(t)
	limit := agentapi.MessageBytes(6)
	config := agentapi.Exec{MessageBytes: limit}
	c := p.exec("seq 1000; seq 2000 >&2", config).start()
	outputs := p.command("outputs", agentapi.Outputs{Version: agentapi.Version, MessageBytes: limit}).start()
	for name, tc := range map[string]struct {
		c    *container
		last string
	}{"exec": {c, "\n999\n1000\n"}, "outputs": {outputs, "\n1999\n2000\n"}} {
		if code := tc.c.wait(); code != 0 {
			t.Errorf("%s: code %d", name, code)
		}
		if n, r := len(p.read(tc.c.message)), tc.c.result(); n > limit || n < limit-10 || !strings.HasSuffix(r.Tail, tc.last) {
			t.Errorf("%s: %d bytes, limit %d, tail %q", name, n, limit, r.Tail)
		}
	}
}

// TestOwnMessage checks that a termination message of the command itself is not lost.
func TestOwnMessage(t *testing.T) {
	p := newPod(t)
	c := p.exec(`printf 'the \377 reason\n' >"$DIR/exec-log"; exit 3`, agentapi.Exec{})
	if code := c.start().wait(); code != 3 || c.result().Message != "the \uFFFD reason" {
		t.Errorf("code %d, %+v", code, c.result())
	}
	c = p.exec("exit 3", agentapi.Exec{})
	c.Args[3] = "/no/such/log"
	p2 := newPod(t)
	c.Args[5] = filepath.Join(p2.dir, "state")
	if code := c.start().wait(); code != 3 || !strings.Contains(c.stderr.String(), "agent: writing the termination message: open /no/such/log") {
		t.Errorf("code %d, %q", code, c.stderr.String())
	}
}

// TestHold checks that the result of a held command is there before its container has ended.
func TestHold(t *testing.T) {
	p := newPod(t)
	c := p.exec("echo out; exit 3", agentapi.Exec{HoldSeconds: 1000}).start()
	outputs := p.outputs().start()
	if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != 3 {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Errorf("the container was not held: %v", err)
	}
	if code := c.wait(); code != 3 || c.result().Tail != "out\n" {
		t.Errorf("code %d, %+v", code, c.result())
	}
}

func TestProgress(t *testing.T) {
	var b strings.Builder
	p := progress{&b}
	p.Progress(staging.Progress{Phase: "inputMappings[0]", Files: 3, Bytes: 1000})
	p.Progress(staging.Progress{Phase: "package", Files: 1, TotalFiles: 2, Bytes: 1 << 10, TotalBytes: 5 << 40})
	p.Retrying("the store does not answer")
	if want := "agent: inputMappings[0]: 3 files, 1000 B\nagent: package: 1 of 2 files, 1.0 KiB of 5.0 TiB\nagent: trying again: the store does not answer\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
