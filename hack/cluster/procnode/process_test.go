// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// runScript runs a shell script as a container's process would be, and returns
// its exit code and output.
func runScript(stopping, killing context.Context, t *testing.T, dir, script string) (int32, string) {
	t.Helper()
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: dir}
	code, err := runProcess(stopping, killing, cmd, filepath.Join(dir, "log"), func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return code, string(log)
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]int32{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137, "kill -TERM $$": 143} {
		if code, _ := runScript(t.Context(), t.Context(), t, t.TempDir(), script); code != want {
			t.Errorf("%s: got %d, want %d", script, code, want)
		}
	}
}

func TestOutput(t *testing.T) {
	script := "echo one; echo two > /dev/stderr; cat; echo three >&2"
	if _, log := runScript(t.Context(), t.Context(), t, t.TempDir(), script); log != "one\ntwo\nthree\n" {
		t.Errorf("got %q", log)
	}
}

// The end of the first process is the end of all, though one ignores signals.
func TestGroupEndsWithFirstProcess(t *testing.T) {
	dir := t.TempDir()
	code, _ := runScript(t.Context(), t.Context(), t, dir, `(trap "" TERM; sleep 1000) & echo $! > pid; exit 7`)
	if code != 7 { // and it came at all before the 1000 s were over
		t.Errorf("exit code %d", code)
	}
	waitGone(t, readPid(t, filepath.Join(dir, "pid")))
}

func TestStopAndKill(t *testing.T) {
	for script, want := range map[string]int32{
		"sleep 1000 & echo $! > pid; wait":                                                   143,
		`trap "exit 5" TERM; sleep 1000 & echo $! > pid; wait`:                               5,
		"exec timeout 1000 sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done'": 137, // leaves the group
		`trap "" TERM; sleep 1000 & echo $! > pid; while :; do wait; done`:                   137,
	} {
		dir := t.TempDir()
		stopping, stop := context.WithCancel(t.Context())
		killing, kill := context.WithCancel(t.Context())
		go func() {
			readPid(t, filepath.Join(dir, "pid"))
			stop()
			time.Sleep(300 * time.Millisecond)
			kill()
		}()
		if code, _ := runScript(stopping, killing, t, dir, script); code != want {
			t.Errorf("%s: got %d, want %d", script, code, want)
		}
		waitGone(t, readPid(t, filepath.Join(dir, "pid")))
	}
}
