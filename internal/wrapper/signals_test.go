// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignalsForwarded(t *testing.T) {
	for _, s := range []struct {
		name   string
		signal os.Signal
	}{{"HUP", unix.SIGHUP}, {"INT", unix.SIGINT}, {"QUIT", unix.SIGQUIT}, {"USR1", unix.SIGUSR1}, {"USR2", unix.SIGUSR2}, {"TERM", unix.SIGTERM}, {"ALRM", unix.SIGALRM}, {"WINCH", unix.SIGWINCH}} {
		t.Run(s.name, func(t *testing.T) {
			p := newProcess(t, fmt.Sprintf(`trap 'echo got %s; exit 9' %[1]s; echo ready >"$DIR/ready"; while :; do sleep 0.01; done`, s.name))
			ready := p.newFifo("ready")
			p.start()
			ready.expect("ready")
			p.signal(s.signal)
			if code := p.wait(); code != 9 || p.stdout.String() != "got "+s.name+"\n" {
				t.Errorf("code %d, %q", code, p.stdout.String())
			}
		})
	}
}

// TestTerminated covers what SIGTERM does to a command and to what it started.
func TestTerminated(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		grace  int
		code   int
		stdout string
	}{
		"ends the command":                     {`ready; exec sleep 1000`, 60, 143, ""},
		"reaches what a shell runs":            {`ready; sleep 1000; echo not reached`, 60, 143, ""},
		"is handled at once by a shell":        {`trap 'echo bye; exit 8' TERM; sh -c 'echo ready >"$DIR/ready"; exec sleep 1000'; :`, 60, 8, "bye\n"},
		"is ignored, so the command is killed": {`trap '' TERM; echo before; ready; sleep 1000`, 1, 137, "before\n"},
		"without grace":                        {`trap '' TERM; ready; sleep 1000`, 0, 137, ""},
		"waits for children that clean up":     {`(trap 'sleep 0.3; echo cleaned; exit' TERM; ready; while :; do sleep 0.01; done); echo not reached`, 60, 143, "cleaned\n"},
		"kills children that ignore it":        {`(trap '' TERM; ready; sleep 1000); echo not reached`, 1, 143, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, `exec 9>"$DIR/alive"; ready() { echo ready >"$DIR/ready"; }; `+tc.script, func(r *request) {
				r.GraceSeconds, r.HoldSeconds = tc.grace, 1000 // what is stopped is not held
			})
			ready, alive := p.newFifo("ready"), p.newFifo("alive")
			p.start()
			ready.expect("ready")
			p.signal(unix.SIGTERM)
			code, end := p.wait(), p.ended()
			alive.expectGone()
			if code != tc.code || end.Exit.Code != tc.code || p.stdout.String() != tc.stdout || p.read("stdout") != tc.stdout {
				t.Errorf("code %d, in the file %d, %q", code, end.Exit.Code, p.stdout.String())
			}
		})
	}
}

// TestBackground checks that processes that the command leaves behind neither keep the container nor cost output.
func TestBackground(t *testing.T) {
	lines := strings.Repeat("line\n", 10_000)
	for name, tc := range map[string]struct {
		script string
		stdout string
		more   bool // than stdout
	}{
		"keeps the pipes open":    {`sleep 1000 & seq 10000 | sed 's/.*/line/'; exit 6`, lines, false},
		"closes the pipes":        {`sleep 1000 >/dev/null 2>&1 & echo done; exit 6`, "done\n", false},
		"writes a little more":    {`(sleep 0.05; echo more) & echo done; exit 6`, "done\nmore\n", false},
		"never stops writing":     {`echo done; yes & exit 6`, "done\n", true},
		"fills the pipe and ends": {`sleep 1000 & head -c 65536 /dev/zero | tr '\0' x; exit 6`, strings.Repeat("x", 65536), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, `exec 9>"$DIR/alive"; `+tc.script)
			alive := p.newFifo("alive")
			code, end := p.start().wait(), p.ended()
			alive.expectGone()
			got, log := p.read("stdout"), p.stdout.String()
			if code != 6 || end.Exit.Code != 6 || !strings.HasPrefix(got, tc.stdout) || !tc.more && got != tc.stdout {
				t.Errorf("code %d, in the file %d, %d bytes of stdout", code, end.Exit.Code, len(got))
			}
			if !strings.HasPrefix(log, got) {
				t.Errorf("%d bytes in the log, %d in the file", len(log), len(got))
			}
		})
	}
}

func TestHold(t *testing.T) {
	p := newProcess(t, `exec 9>"$DIR/alive"; sleep 1000 & echo failed >&2; exit 3`, func(r *request) { r.HoldSeconds = 1000 })
	alive := p.newFifo("alive")
	p.start()
	end := p.ended() // it does not wait for the end of the hold
	if end.Exit.Code != 3 || end.Tail != "failed\n" {
		t.Fatalf("%+v", end)
	}
	_ = unix.SetNonblock(int(alive.f.Fd()), true)
	if n, err := unix.Read(int(alive.f.Fd()), make([]byte, 1)); err != unix.EAGAIN {
		t.Errorf("the processes of a held container are gone: %d, %v", n, err)
	}
	p.signal(unix.SIGHUP) // changes nothing
	p.signal(unix.SIGTERM)
	if code := p.wait(); code != 3 {
		t.Errorf("code %d, want 3", code)
	}
	_ = unix.SetNonblock(int(alive.f.Fd()), false)
	alive.expectGone()

	for name, tc := range map[string]struct {
		script string
		hold   int
		code   int
	}{
		"success":           {"exit 0", 1000, 0},
		"not wanted":        {"exit 3", 0, 3},
		"over after a time": {"exit 3", 1, 3},
		"not even started":  {"", 1, 127},
	} {
		_, code := run(t, tc.script, func(r *request) {
			if r.HoldSeconds = tc.hold; tc.script == "" {
				r.Command = []string{"/no/such/program"}
			}
		})
		if code != tc.code {
			t.Errorf("%s: code %d, want %d", name, code, tc.code)
		}
	}
}

// TestHoldReaps checks that a held container collects no zombies: of kubectl exec, too.
func TestHoldReaps(t *testing.T) {
	p := newProcess(t, `(while [ ! -e "$DIR/go" ]; do sleep 0.01; done
		for i in 1 2 3 4 5; do (sh -c : &); done
		while cat /proc/[0-9]*/stat 2>/dev/null | grep -qE "\) Z $PARENT "; do sleep 0.01; done
		echo reaped >"$DIR/reaped") & exit 3`, func(r *request) {
		r.HoldSeconds = 1000
		r.Command[2] = "PARENT=$PPID; " + r.Command[2]
	})
	reaped := p.newFifo("reaped")
	p.start()
	p.ended()
	if err := os.WriteFile(p.dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reaped.expect("reaped")
	p.signal(unix.SIGTERM)
	p.wait()
}
