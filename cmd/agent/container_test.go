// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// user is the user and group of the command, as the operator sets it.
const user = 65532

// becomeContainer turns this process, which is PID 1 of its own namespaces, into a container: a read-only root, with
// the directory shared at /tmp, its own /proc, an arbitrary user without privileges. The root is that of this
// machine, or empty. Then it executes the command.
func becomeContainer(root, shared string, command []string) error {
	if root == "" {
		root = filepath.Join(shared, "root")
		if err := unix.Mount("/", root, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting the root: %w", err)
		}
		if err := unix.Mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mounting /dev: %w", err)
		}
	}
	if err := unix.Mount(shared, filepath.Join(root, "tmp"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", shared, err)
	}
	if err := unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	runtime.LockOSThread()
	for _, err := range []error{
		os.Chdir("/"), unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
		syscall.Setgroups(nil), syscall.Setgid(user), syscall.Setuid(user),
	} {
		if err != nil {
			return fmt.Errorf("becoming a user: %w", err)
		}
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AGENT_TEST_ROLE=") {
			env = append(env, v)
		}
	}
	return unix.Exec(command[0], command, env)
}

// containerize makes a command of the agent run in a container of its own, whose /tmp is the Pod's directory.
func (c *container) containerize(root string) *container {
	p := c.pod
	p.t.Helper()
	if os.Getuid() != 0 {
		p.t.Skip("namespaces need root")
	}
	p.mkdir("root")
	if err := os.WriteFile(filepath.Join(p.dir, "agent"), mustRead(p.t, program), 0o755); err != nil {
		p.t.Fatal(err)
	}
	// As the kubelet makes it.
	message := filepath.Join(p.dir, c.message)
	if err := os.WriteFile(message, nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(message, 0o666); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Chmod(p.dir, 0o777); err != nil {
		p.t.Fatal(err)
	}
	args := []string{"test", root, p.dir}
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(strings.Replace(a, program, "/tmp/agent", 1), p.dir, "/tmp"))
	}
	c.Path, c.Args = os.Args[0], args
	c.Env = append(c.Env, "AGENT_TEST_ROLE=container", "DIR=/tmp")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS}
	return c
}

// TestContainer runs commands as they run in a Pod: the agent is PID 1, the root is read-only, the user is arbitrary
// and has no privileges. The outputs, in another container with another user, always learn the code.
func TestContainer(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		config agentapi.Exec
		code   int
		stdout string
	}{
		"restricted":             {script: "id -u; echo x >/var/x || echo read-only; exit 3", code: 3, stdout: "65532\nread-only\n"},
		"kills itself":           {script: "kill -9 $$", code: 137},
		"ends itself":            {script: "kill $$", code: 143},
		"cannot kill the agent":  {script: "kill -9 1; kill -9 $PPID; kill -STOP 1; exit 4", code: 4},
		"kills everybody":        {script: "kill -9 -1; exit 4", code: 4},
		"leaves a process":       {script: `setsid sleep 1000 >/dev/null 2>&1 & exit 5`, code: 5},
		"local redirect":         {script: "echo out; exit 6", config: agentapi.Exec{LocalStdout: "/tmp/state/deep/out"}, code: 6, stdout: "out\n"},
		"orphans are reaped":     {script: `for i in 1 2 3 4 5; do (sh -c : &); done; while cat /proc/[0-9]*/stat 2>/dev/null | grep -q ') Z 1 '; do sleep 0.01; done; exit 7`, code: 7},
		"no terminal, not PID 1": {script: `[ -t 1 ] || [ $$ = 1 ] || echo right`, stdout: "right\n"},
		"the agent is hidden": {
			script: `env | grep BATCHCOMPUTE; cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep BATCHCOMPUTE; ls /proc/1/fd 2>/dev/null; cat /proc/1/environ || exit 8`,
			code:   8,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			c := p.exec(tc.script, tc.config).containerize("")
			outputs := p.outputs().start()
			if code := c.start().wait(); code != tc.code || c.stdout.String() != tc.stdout {
				t.Errorf("code of exec %d, want %d; stdout %q, stderr %q", code, tc.code, c.stdout.String(), c.stderr.String())
			}
			if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != tc.code {
				t.Errorf("code of outputs %d, %+v", code, r)
			}
			if r := c.result(); r.Class != "" || r.Tail != tc.stdout {
				t.Errorf("%+v", r)
			}
			if tc.config.LocalStdout != "" && p.read("state/deep/out") != tc.stdout {
				t.Errorf("local stdout %q", p.read("state/deep/out"))
			}
		})
	}
}

// TestContainerKilled kills the agent as the kernel does for lack of memory: all processes of the container end.
func TestContainerKilled(t *testing.T) {
	p := newPod(t)
	c := p.exec(`setsid sleep 1000 & echo last words >&2; echo ready >"$DIR/ready"; sleep 1000`, agentapi.Exec{}).containerize("")
	ready := p.fifo("ready")
	outputs := p.outputs().start()
	c.start()
	ready()
	c.stderr.await(t, "last words\n")
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != 137 || r.Tail != "last words\n" {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
	if code := c.wait(); code != 137 { // which waits for the end of all that could write
		t.Errorf("code of exec %d", code)
	}
}

// TestContainerStopped stops a container whose command ignores it: the end of its output is kept.
func TestContainerStopped(t *testing.T) {
	p := newPod(t)
	c := p.exec(`trap '' TERM; setsid sleep 1000 & echo before; echo ready >"$DIR/ready"; while :; do sleep 0.05; done`, agentapi.Exec{GraceSeconds: 1, HoldSeconds: 1000}).containerize("")
	ready := p.fifo("ready")
	outputs := p.outputs().start()
	outputs.stderr.await(t, waiting)
	c.start()
	ready()
	for _, process := range []*os.Process{c.Process, outputs.Process} {
		if err := process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if code, r := c.wait(), c.result(); code != 137 || r.Tail != "before\n" {
		t.Errorf("code of exec %d, %+v", code, r)
	}
	if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != 137 || p.read("state/stdout") != "before\n" {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
}

// TestContainerEmpty runs commands in an image without any file.
func TestContainerEmpty(t *testing.T) {
	for name, tc := range map[string]struct {
		command []string
		want    string
	}{
		"no shell":       {[]string{"/bin/sh", "-c", "exit 0"}, "the image has no /bin/sh, which runs the command: use an image with a shell"},
		"nothing at all": {[]string{"python3"}, "python3 is not in the PATH of the image: give its whole path, or use an image that has it"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			c := p.command("exec", agentapi.Exec{Version: agentapi.Version}, append([]string{"--"}, tc.command...)...)
			empty := p.mkdir("empty")
			for _, dir := range []string{"empty/tmp", "empty/proc"} {
				p.mkdir(dir)
			}
			// A mount of its own can be made read-only.
			if err := unix.Mount(empty, empty, "", unix.MS_BIND, ""); err != nil {
				t.Skip("namespaces need root")
			}
			defer func() { _ = unix.Unmount(empty, unix.MNT_DETACH) }()
			outputs := p.outputs().start()
			if code, r := c.containerize(empty).start().wait(), c.result(); code != 127 || r.Message != tc.want || r.Class != "" {
				t.Errorf("code %d, %+v, %s", code, r, c.stderr.String())
			}
			if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != 127 || r.Message != tc.want || r.Tail != "agent: "+tc.want+"\n" {
				t.Errorf("code of outputs %d, %+v", code, r)
			}
		})
	}
}

// TestContainerHold checks that a held container can be entered, and collects no zombies.
func TestContainerHold(t *testing.T) {
	p := newPod(t)
	c := p.exec("exit 3", agentapi.Exec{HoldSeconds: 1000}).containerize("")
	outputs := p.outputs().start()
	c.start()
	if code, r := outputs.wait(), outputs.result(); code != 0 || *r.Code != 3 {
		t.Errorf("code of outputs %d, %+v", code, r)
	}
	if enter, err := exec.LookPath("nsenter"); err == nil {
		out, err := exec.Command(enter, "-t", fmt.Sprint(c.Process.Pid), "-p", "-m", "-r", "/bin/sh", "-c",
			"(sh -c : &); while cat /proc/[0-9]*/stat 2>/dev/null | grep -q ') Z 1 '; do sleep 0.01; done; cat /tmp/state/started").CombinedOutput()
		if string(out) != "started\n" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	}
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(); code != 3 {
		t.Errorf("code %d", code)
	}
}
