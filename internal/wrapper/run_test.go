// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"batchcompute.dev/operator/internal/agentapi"
)

// script makes an executable file in a directory, and returns its name.
func script(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// elf is the head of a program for a machine.
func elf(machine uint16) string {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 2)
	binary.LittleEndian.PutUint16(b[18:], machine)
	return string(b)
}

func TestExitCodes(t *testing.T) {
	other := map[string]uint16{"amd64": 183, "arm64": 62}[runtime.GOARCH]
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := os.WriteFile(locked, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		command []string // nil: the script
		script  string
		code    int
		error   string // part of it; empty for a command that could be started
	}{
		"success":              {script: "exit 0"},
		"failure":              {script: "exit 1", code: 1},
		"another":              {script: "exit 3", code: 3},
		"largest":              {script: "exit 255", code: 255},
		"not found in a shell": {script: "/no/such/program", code: 127},
		"not executable there": {script: locked, code: 126},
		"killed itself":        {script: "kill -9 $$", code: 137},
		"ended itself":         {script: "kill -TERM $$", code: 143},
		"aborted":              {script: "kill -ABRT $$", code: 134},
		"no program":           {command: []string{"/no/such/program"}, code: 127, error: "the image has no /no/such/program"},
		"file for a directory": {command: []string{locked + "/x"}, code: 127, error: "the image has no " + locked + "/x"},
		"not in the PATH":      {command: []string{"no-such-program"}, code: 127, error: "no-such-program is not in the PATH of the image"},
		"in the PATH":          {command: []string{"sh", "-c", "exit 5"}, code: 5},
		"not executable":       {command: []string{locked}, code: 126, error: locked + " is not executable: permission denied"},
		"directory":            {command: []string{dir}, code: 126, error: dir + " is not executable: permission denied"},
		"no interpreter":       {command: []string{script(t, dir, "interpreter", "#!/no/such/sh -e\n")}, code: 127, error: `needs the interpreter "/no/such/sh", which the image does not have`},
		"text":                 {command: []string{script(t, dir, "text", "exit 0\n")}, code: 126, error: "is no program: a script starts with #!"},
		"empty":                {command: []string{script(t, dir, "empty", "")}, code: 126, error: "is no program"},
		"wrong architecture":   {command: []string{script(t, dir, "elf", elf(other))}, code: 126, error: ", and this machine is " + runtime.GOARCH},
		"odd architecture":     {command: []string{script(t, dir, "odd", elf(0xfeed))}, code: 126, error: "another architecture (ELF machine 65261)"},
		"broken program":       {command: []string{script(t, dir, "broken", elf(machineOf(runtime.GOARCH)))}, code: 126, error: "broken"},
		"argument too long":    {command: []string{"/bin/sh", "-c", strings.Repeat(":;", 100_000)}, code: 126, error: "too long for the kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			p, code := run(t, tc.script, func(r *request) {
				if tc.command != nil {
					r.Command = tc.command
				}
			})
			end, told := p.ended(), p.told()
			if code != tc.code || end.Exit.Code != tc.code || told.Code != tc.code || !end.Started {
				t.Errorf("code %d, in the file %d, in the report %d; want %d", code, end.Exit.Code, told.Code, tc.code)
			}
			if !strings.Contains(end.Exit.Error, tc.error) || tc.error == "" && end.Exit.Error != "" || told.Result.Message != end.Exit.Error || told.Result.Class != "" {
				t.Errorf("error %q, result %+v; want %q", end.Exit.Error, told.Result, tc.error)
			}
			if want := "agent: " + end.Exit.Error + "\n"; tc.error != "" && (end.Tail != want || p.stderr.String() != want || p.read("stderr") != want) {
				t.Errorf("stderr %q, tail %q; want %q", p.stderr.String(), end.Tail, want)
			}
		})
	}
}

// machineOf returns e_machine of a GOARCH.
func machineOf(arch string) uint16 {
	for number, name := range machines {
		if name == arch {
			return number
		}
	}
	return 0
}

// ignoredSignals are the signals that this process ignores; the lowest bit is signal 1.
func ignoredSignals(t *testing.T) (mask uint64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if text, ok := strings.CutPrefix(line, "SigIgn:\t"); ok {
			if mask, err = strconv.ParseUint(text, 16, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return mask
}

// TestEnvironment checks what the command inherits.
func TestEnvironment(t *testing.T) {
	p, code := run(t, `
		env -u PWD -u OLDPWD -u SHLVL -u _ -u DIR -u SELF | grep -v ^PATH=
		tr '\0' '\n' </proc/self/environ | grep -c ^REQUEST=
		[ $$ != 1 ] && [ $(ps -o pgid= $$ | tr -d ' ') = $$ ] && echo leader
		[ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo no terminal
		grep -E '^Sig(Ign|Blk):' /proc/self/status
		exit 0`, func(r *request) { r.Env = append(r.Env, "MINE=1") })
	// The runtime leaves two signals of the C library alone, which whoever started the test may ignore.
	want := fmt.Sprintf("MINE=1\n0\nleader\nno terminal\nSigBlk:\t%016x\nSigIgn:\t%016x\n", 0, ignoredSignals(t)&(1<<31|1<<32))
	if code != 0 || p.stdout.String() != want {
		t.Errorf("code %d, %q, want %q", code, p.stdout.String(), want)
	}
	const inherited = "ulimit -n; ls /proc/self/fd"
	limit, code := run(t, inherited)
	plain := newProcess(t, "")
	plain.Cmd.Path, plain.Cmd.Args = "/bin/sh", []string{"sh", "-c", inherited}
	plain.start().wait()
	if code != 0 || limit.stdout.String() != plain.stdout.String() {
		t.Errorf("code %d, limit and open files %q, want %q", code, limit.stdout.String(), plain.stdout.String())
	}
}

// TestRunTwice checks that the command of a Pod is started once, however often its container is.
func TestRunTwice(t *testing.T) {
	p, code := run(t, `echo ran >>"$DIR/ran"; exit 3`)
	if code != 3 {
		t.Fatalf("code %d", code)
	}
	again := newProcess(t, "", func(r *request) { r.StateDir = p.state })
	if code := again.start().wait(); code != agentapi.ExitTransient || again.told().Result.Class != agentapi.Transient {
		t.Errorf("code %d, %+v", code, again.told())
	}
	if end := p.ended(); end.Exit.Code != 3 || p.read(p.dir+"/ran") != "ran\n" {
		t.Errorf("%+v, ran %q", end, p.read(p.dir+"/ran"))
	}
}

func TestStateDirectory(t *testing.T) {
	p, code := run(t, "exit 3", func(r *request) { r.StateDir = filepath.Join(r.StateDir, "missing") })
	if r := p.told().Result; code != agentapi.ExitPermanent || r.Class != agentapi.Permanent || !strings.Contains(r.Message, "creating the lock") {
		t.Errorf("code %d, %+v", code, r)
	}
	if !strings.HasPrefix(p.stderr.String(), "agent: creating the lock: ") {
		t.Errorf("stderr %q", p.stderr.String())
	}
	if _, err := AwaitEnd(filepath.Join(p.state, "missing"), nil); err == nil {
		t.Error("no error for a directory that is missing")
	}
}

// TestNotStarted checks that nobody waits for a command that could not be started, and that the marker alone, of an
// exec that was killed just then, does not count as a start.
func TestNotStarted(t *testing.T) {
	p := newProcess(t, "exit 3")
	if err := os.Mkdir(filepath.Join(p.state, agentapi.StderrFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if code := p.start().wait(); code != agentapi.ExitTransient || p.told().Result.Class != agentapi.Transient {
		t.Errorf("code %d, %+v", code, p.told())
	}
	if end := p.ended(); end != (End{}) {
		t.Errorf("%+v", end)
	}

	p = newProcess(t, "")
	for _, name := range []string{agentapi.LockFile, agentapi.StartedFile} {
		if err := os.WriteFile(filepath.Join(p.state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if end := p.ended(); end != (End{}) {
		t.Errorf("%+v", end)
	}
}

// TestZombies checks that orphans are reaped while the command runs.
func TestZombies(t *testing.T) {
	_, code := run(t, `
		for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c : & sh -c 'exit 3' &) ; done
		while cat /proc/[0-9]*/stat 2>/dev/null | grep -qE "\) Z $PPID "; do sleep 0.01; done
		exit 7`)
	if code != 7 {
		t.Errorf("code %d, want 7", code)
	}
}
