// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// program is the agent as it is released; TestMain builds it.
var program string

func TestMain(m *testing.M) {
	if os.Getenv("AGENT_TEST_ROLE") == "container" {
		fmt.Fprintln(os.Stderr, becomeContainer(os.Args[1], os.Args[2], os.Args[3:]))
		os.Exit(200)
	}
	os.Exit(buildAndRun(m))
}

// buildAndRun builds the agent and runs the tests.
func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v9.9.9", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	return m.Run()
}

// pod is a directory that the containers of a Pod share.
type pod struct {
	t   *testing.T
	dir string
}

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{t, t.TempDir()}
	p.mkdir("state")
	return p
}

// mkdir makes a directory of the Pod that any user may write to, as an emptyDir is.
func (p *pod) mkdir(name string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// read returns a file of the Pod.
func (p *pod) read(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// container is a running command of the agent.
type container struct {
	*exec.Cmd
	pod            *pod
	message        string // the file of its termination message
	stdout, stderr log
}

// command prepares a command of the agent, with a configuration; nil means none.
func (p *pod) command(name string, config any, args ...string) *container {
	p.t.Helper()
	c := &container{pod: p, message: name + "-log"}
	flags := []string{name, "-termination-log", filepath.Join(p.dir, c.message), "-state", filepath.Join(p.dir, "state")}
	c.Cmd = exec.Command(program, append(flags, args...)...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "DIR=" + p.dir}
	if config != nil {
		for _, v := range agentapi.Variables(config) {
			c.Env = append(c.Env, v.Name+"="+v.Value)
		}
	}
	c.Cmd.Stdout, c.Cmd.Stderr = &c.stdout, &c.stderr
	c.WaitDelay = time.Minute
	return c
}

// exec prepares a shell command.
func (p *pod) exec(script string, config agentapi.Exec) *container {
	config.Version = agentapi.Version
	if config.GraceSeconds == 0 {
		config.GraceSeconds = 60
	}
	config.KeepStdout, config.KeepStderr = true, true
	return p.command("exec", config, "--", "/bin/sh", "-c", script)
}

// outputs prepares the container that stores the outputs.
func (p *pod) outputs() *container {
	return p.command("outputs", agentapi.Outputs{Version: agentapi.Version})
}

// start starts a container.
func (c *container) start() *container {
	c.pod.t.Helper()
	if err := c.Start(); err != nil {
		c.pod.t.Fatal(err)
	}
	c.pod.t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Cmd.Wait()
		}
	})
	return c
}

// wait returns the exit code of a container.
func (c *container) wait() int {
	c.pod.t.Helper()
	err := c.Cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		c.pod.t.Fatal(err)
	}
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// result returns the termination message, which must be JSON.
func (c *container) result() agentapi.Result {
	c.pod.t.Helper()
	text := c.pod.read(c.message)
	if !json.Valid([]byte(text)) {
		c.pod.t.Fatalf("termination message %q", text)
	}
	return agentapi.ParseResult(text)
}

// fifo makes a FIFO in the Pod, and returns a function that waits for a line.
func (p *pod) fifo(name string) (wait func()) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		p.t.Helper()
		b, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(b), "\n") {
			p.t.Fatalf("%q, %v", b, err)
		}
	}
}

// log is a stream of a container.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // of capacity 1
}

// Write implements io.Writer.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
	return l.text.Write(p)
}

// String returns what was written.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the stream has a text.
func (l *log) await(t *testing.T, text string) {
	t.Helper()
	l.mu.Lock()
	l.more = make(chan struct{}, 1)
	l.mu.Unlock()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.more:
		case <-time.After(time.Minute):
			t.Fatalf("%q, want %q", l.String(), text)
		}
	}
}
