// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// TestKilledAtEveryStep kills the wrapper after each of its steps. The outputs always learn the right code: that
// of SIGKILL until the exit is in its place. The command dies with the wrapper, and is never started twice.
func TestKilledAtEveryStep(t *testing.T) {
	p, _ := run(t, "exit 3")
	steps := p.told().Steps
	if want := []string{"locked", "exit reserved", "streams opened", "started marked", "command started", "command ended",
		"streams complete", "processes killed", "exit written", "exit in place", "unlocked"}; !slices.Equal(steps, want) {
		t.Fatalf("steps %q, want %q", steps, want)
	}
	for n, step := range steps {
		t.Run(fmt.Sprintf("%02d %s", n+1, step), func(t *testing.T) {
			script := "echo output; exit 3"
			if step == "command started" {
				script = `exec 9>"$DIR/alive"; exec sleep 1000`
			}
			p := newProcess(t, script, func(r *request) { r.KillAfter = step })
			alive := p.newFifo("alive")
			if code := p.start().wait(); code != agentapi.ExitKilled {
				t.Fatalf("code of the wrapper %d", code)
			}
			alive.expectGone()
			stop := make(chan os.Signal, 1)
			if n < slices.Index(steps, "started marked") {
				stop <- unix.SIGTERM // else it would wait for ever
			}
			end, err := AwaitEnd(p.state, stop)
			if err != nil {
				t.Fatal(err)
			}
			want := End{Started: n >= slices.Index(steps, "started marked")}
			switch {
			case n >= slices.Index(steps, "exit in place"):
				want.Exit.Code = 3
			case want.Started:
				want.Exit.Code = agentapi.ExitKilled
			}
			if end != want {
				t.Errorf("%+v, want %+v", end, want)
			}
			// The container of the outputs may be killed and started again.
			if again, err := AwaitEnd(p.state, nil); again != want || err != nil {
				t.Errorf("%+v, %v; want %+v again", again, err, want)
			}
			// Before that the end of the output may still be in the pipe, and is lost with the wrapper.
			if n >= slices.Index(steps, "streams complete") && p.read("stdout") != "output\n" {
				t.Errorf("stdout %q", p.read("stdout"))
			}
			again := newProcess(t, `echo again >"$DIR/again"`, func(r *request) { r.StateDir = p.state })
			if code := again.start().wait(); code != agentapi.ExitTransient {
				t.Errorf("code of a second wrapper %d", code)
			}
		})
	}
}

// TestCommandKilled checks that the end of the command's process, however it comes, is reported.
func TestCommandKilled(t *testing.T) {
	p := newProcess(t, `echo $$ >"$DIR/pid"; echo ready >"$DIR/ready"; echo error >&2; exec sleep 1000`)
	ready := p.newFifo("ready")
	p.start()
	ready.expect("ready")
	var pid int
	if _, err := fmt.Sscan(p.read(p.dir+"/pid"), &pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code, end := p.wait(), p.ended(); code != 137 || end.Exit.Code != 137 || end.Exit.Error != "" {
		t.Errorf("code %d, %+v", code, end)
	}
}

// TestAwaitEndStopped checks who wins when a Pod is stopped while its command starts: either the command
// is never started, or its end is waited for.
func TestAwaitEndStopped(t *testing.T) {
	stop := make(chan os.Signal, 1)
	stop <- unix.SIGTERM
	p := newProcess(t, "exit 3")
	for range 2 { // the container of the outputs may be started again
		if end, err := AwaitEnd(p.state, stop); err != nil || end.Started {
			t.Fatalf("%+v, %v", end, err)
		}
	}
	if code := p.start().wait(); code != agentapi.ExitTransient || !strings.Contains(p.told().Result.Message, "the Pod was stopped") {
		t.Errorf("code %d, %+v", code, p.told())
	}

	p = newProcess(t, `echo ready >"$DIR/ready"; read line <"$DIR/end"; exit 4`)
	ready := p.newFifo("ready")
	if err := unix.Mkfifo(p.dir+"/end", 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	ready.expect("ready")
	stop <- unix.SIGTERM
	done := make(chan End)
	go func() {
		end, _ := AwaitEnd(p.state, stop)
		done <- end
	}()
	select {
	case end := <-done:
		t.Fatalf("%+v before the command ended", end)
	default:
	}
	if err := os.WriteFile(p.dir+"/end", []byte("end\n"), 0); err != nil {
		t.Fatal(err)
	}
	if end := <-done; !end.Started || end.Exit.Code != 4 {
		t.Errorf("%+v", end)
	}
}

// TestAwaitEndHostile checks that what the command put into the state directory reveals nothing of the
// other container and blocks nobody.
func TestAwaitEndHostile(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secretKey")
	if err := os.WriteFile(secret, []byte("{\"code\":0,\"error\":\"planted\"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		script string
		want   string // part of the error
	}{
		"link for the exit":   {"ln -s " + secret + " %s/exit.json; kill -9 $PPID", "not known"},
		"FIFO for the exit":   {"mkfifo %s/exit.json; kill -9 $PPID", "no regular file"},
		"no JSON as the exit": {"echo 0 >%s/exit.json; kill -9 $PPID", "reading the command's exit"},
		"link for stderr":     {"rm %[1]s/stderr; ln -s " + secret + " %[1]s/stderr; exit 3", ""},
		"FIFO for stderr":     {"rm %[1]s/stderr; mkfifo %[1]s/stderr; exit 3", ""},
		"no lock":             {"rm %s/lock; exit 3", ""},
		"link for the lock":   {"rm %[1]s/lock; ln -s " + secret + " %[1]s/lock; exit 3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, "")
			text := tc.script
			if strings.Contains(text, "%") {
				text = fmt.Sprintf(text, p.state)
			}
			q := newProcess(t, text, func(r *request) { r.StateDir = p.state })
			q.start().wait()
			end := p.ended()
			wantCode := 3
			if tc.want != "" {
				wantCode = agentapi.ExitKilled
			}
			if end.Exit.Code != wantCode || !strings.Contains(end.Exit.Error, tc.want) || strings.Contains(fmt.Sprint(end), "planted") || end.Tail != "" {
				t.Errorf("%+v", end)
			}
		})
	}
}
