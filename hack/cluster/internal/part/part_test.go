// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/cache"
)

// TestMain lets the test binary start parts, as the real program does.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == ExecCommand {
		fmt.Fprintln(os.Stderr, Exec(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fakeProc lays out a /proc with one process, number 42.
func fakeProc(t *testing.T, stat, exe string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{"42/stat": stat, "sys/kernel/random/boot_id": "boot-1\n"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(exe, filepath.Join(dir, "42", "exe")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// statLine is what proc_pid_stat(5) shows for a process.
func statLine(name, state string, start uint64) string {
	return fmt.Sprintf("42 (%s) %s 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 1 2 3\n", name, state, start)
}

func TestRunsOnlyIfItIsTheSameProcess(t *testing.T) {
	recorded := ID{PID: 42, StartTime: 700, BootID: "boot-1"}
	for name, tc := range map[string]struct {
		stat, exe string
		id        ID
		want      bool
	}{
		"the very process":        {statLine("etcd", "S", 700), "/bin/etcd", recorded, true},
		"a name with brackets":    {statLine("a) S (b", "S", 700), "/bin/etcd", recorded, true},
		"its program was rebuilt": {statLine("etcd", "S", 700), "/bin/etcd (deleted)", recorded, true},
		"another start time":      {statLine("etcd", "S", 701), "/bin/etcd", recorded, false},
		"another program":         {statLine("etcd", "S", 700), "/bin/sh", recorded, false},
		"before a reboot":         {statLine("etcd", "S", 700), "/bin/etcd", ID{PID: 42, StartTime: 700, BootID: "boot-0"}, false},
		"a zombie":                {statLine("etcd", "Z", 700), "/bin/etcd", recorded, false},
		"gone":                    {statLine("etcd", "S", 700), "/bin/etcd", ID{PID: 43, StartTime: 700, BootID: "boot-1"}, false},
		"nonsense":                {"42 (etcd", "/bin/etcd", recorded, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.id.runs(fakeProc(t, tc.stat, tc.exe), "/bin/etcd"); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func startSleep(t *testing.T) (dir, self string, r *Record) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "parts")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := filepath.EvalSymlinks("/bin/sleep")
	if err != nil {
		t.Skip("no sleep to run:", err)
	}
	lock, err := cache.Acquire(t.Context(), filepath.Join(t.TempDir(), "lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	err = Start(dir, self, lock, Record{Name: "sleeper", Exe: sleep, Args: []string{"60"}, Log: filepath.Join(dir, "log", "sleeper.log")})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Load(dir, "sleeper"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Stop(t.Context(), self, r, syscall.SIGKILL, time.Second) })
	return dir, self, r
}

func TestStartAndStop(t *testing.T) {
	dir, self, r := startSleep(t)
	if !r.Running(self) {
		t.Fatal("it does not run after Start")
	}
	all, err := List(dir)
	if err != nil || len(all) != 1 || all[0].ID.PID != r.ID.PID {
		t.Errorf("List: got %v, %v", all, err)
	}
	if err := Stop(t.Context(), self, r, syscall.SIGTERM, time.Second); err != nil {
		t.Fatal(err)
	}
	if r.Running(self) {
		t.Error("it runs after Stop")
	}
	if err := Stop(t.Context(), self, r, syscall.SIGTERM, time.Second); err != nil {
		t.Errorf("Stop again: %v", err)
	}
}

func TestStopSparesOtherProcesses(t *testing.T) {
	_, self, r := startSleep(t)
	for name, id := range map[string]ID{
		"another start time": {PID: r.ID.PID, StartTime: r.ID.StartTime + 1, BootID: r.ID.BootID},
		"another boot":       {PID: r.ID.PID, StartTime: r.ID.StartTime, BootID: "another"},
	} {
		stale := *r
		stale.ID = &id
		if err := Stop(t.Context(), self, &stale, syscall.SIGKILL, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := *r
	other.Exe = "/bin/another"
	if err := Stop(t.Context(), self, &other, syscall.SIGKILL, 0); err != nil {
		t.Error(err)
	}
	if !r.Running(self) {
		t.Error("a stale record's process was killed")
	}
}

func TestRestart(t *testing.T) {
	lock, err := cache.Acquire(t.Context(), filepath.Join(t.TempDir(), "lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// It writes its number, and lives only the second time.
	script := fmt.Sprintf("echo $$ >>%[1]s/pids; test -e %[1]s/again || { touch %[1]s/again; exit 1; }; exec sleep 60", dir)
	err = Start(dir, self, lock, Record{Name: "x", Exe: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(dir, "x.log"), Restart: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Load(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	lock.Release() // from here on nobody may hold it, the part least of all
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if lock, err = cache.Acquire(ctx, lock.File.Name(), nil); err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	var pids []string
	for deadline := time.Now().Add(10 * time.Second); len(pids) < 2 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		data, _ := os.ReadFile(filepath.Join(dir, "pids"))
		pids = strings.Fields(string(data))
	}
	if len(pids) != 2 {
		t.Fatalf("started as %v, want twice", pids)
	}
	if err := Stop(t.Context(), self, r, syscall.SIGKILL, time.Second); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + pids[1] + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			break // gone; or a zombie, where nobody reaps orphans
		}
		if time.Now().After(deadline) {
			t.Fatal("the part outlives the process that keeps it running")
		}
	}
}

func TestStartReportsEarlyEnd(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := cache.Acquire(t.Context(), filepath.Join(t.TempDir(), "lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	dir := t.TempDir()
	for _, exe := range []string{"/bin/false", "/does/not/exist"} {
		// Ended within a moment or never started: the one that was too quick to be
		// seen may pass for started, but then must not for running.
		r := Record{Name: "x", Exe: exe, Log: filepath.Join(dir, "x.log")}
		if err := Start(dir, self, lock, r); err == nil && r.Running(self) {
			t.Errorf("%s: no error though it does not run", exe)
		}
	}
}

func TestLoadWithoutRecord(t *testing.T) {
	if _, err := Load(t.TempDir(), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if all, err := List(filepath.Join(t.TempDir(), "none")); err != nil || all != nil {
		t.Errorf("got %v, %v, want nothing", all, err)
	}
}
