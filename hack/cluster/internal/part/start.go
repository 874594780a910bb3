// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package part

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/hack/cluster/internal/cache"
)

// ExecCommand is the hidden subcommand of this program that carries out [Exec].
const ExecCommand = "exec-part"

// lockFD is where a child finds the cluster's lock.
const lockFD = 3

// Start runs the part r describes as a daemon and returns once it is on record.
//
// Between starting a process and writing down its number, the starter could be
// killed and the process be lost. So the process itself writes the record
// first and becomes the wanted program only then, and it holds on to the
// cluster's lock until that moment: whoever takes the lock next finds every
// process on record.
func Start(dir, self string, lock *cache.Lock, r Record) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of records: %w", err)
	}
	r.ID = nil
	if err := r.Save(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Log), 0o755); err != nil {
		return fmt.Errorf("making the log directory: %w", err)
	}
	log, err := os.OpenFile(r.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", r.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(self, ExecCommand, dir, r.Name)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock.File}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", r.Name, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // reaps it, should it end while we live
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if now, err := Load(dir, r.Name); err == nil && now.settled(self) {
			return nil
		}
		select {
		case err := <-exited:
			return fmt.Errorf("starting %s: it ended at once; see %s: %w", r.Name, r.Log, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("starting %s: it did not report within 20 s; see %s", r.Name, r.Log)
}

// settled tells whether the part's process has become what it is to be.
func (r *Record) settled(self string) bool {
	want := r.Exe
	if r.Restart {
		want = self
	}
	return r.ID != nil && r.ID.runs(procDir, want)
}

// Exec writes the record of the part called name and turns the calling process
// into that part. It returns only if that fails.
func Exec(dir, name string) error {
	r, err := Load(dir, name)
	if err != nil {
		return err
	}
	if r.ID, err = Identify(os.Getpid()); err != nil {
		return err
	}
	if err := r.Save(dir); err != nil {
		return err
	}
	if r.Restart {
		if err := unix.Close(lockFD); err != nil {
			return fmt.Errorf("releasing the cluster's lock: %w", err)
		}
		return keepRunning(r)
	}
	// The kernel drops the lock late in the exec. Before that there is a moment
	// in which this process looks like a zombie.
	unix.CloseOnExec(lockFD)
	argv := append([]string{r.Exe}, r.Args...)
	if err := unix.Exec(r.Exe, argv, append(os.Environ(), r.Env...)); err != nil {
		return fmt.Errorf("becoming %s: %w", r.Exe, err)
	}
	return nil
}

// restartWait is how long a part that ended stays down; it may have ended for
// lack of another one that is about to come back.
const restartWait = time.Second

// keepRunning runs the part as a child, again and again. Whatever ends this
// process, the kernel ends the child with it.
func keepRunning(r *Record) error {
	runtime.LockOSThread() // the kernel watches the thread that started the child
	for {
		cmd := exec.Command(r.Exe, r.Args...)
		cmd.Env = append(os.Environ(), r.Env...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = endWithParent()
		err := cmd.Run()
		fmt.Fprintf(os.Stderr, "%s has ended (%v) and is started again\n", r.Name, err)
		time.Sleep(restartWait)
	}
}

// Running tells whether the part's process is there and is really the part's.
// self is the program that starts parts: for a moment, a part still is that.
func (r *Record) Running(self string) bool {
	return r.ID != nil && r.ID.runs(procDir, r.Exe, self)
}

// Stop sends sig to the part, and SIGKILL should it not have ended after
// grace. It returns when the process is gone, and does nothing when the
// recorded process has ended or is not ours.
func Stop(ctx context.Context, self string, r *Record, sig syscall.Signal, grace time.Duration) error {
	if r.ID == nil {
		return nil
	}
	// On Linux this holds a handle on the process, so that it is the process
	// checked on the next line that is signalled, and no later one of the same number.
	p, err := os.FindProcess(r.ID.PID)
	if err != nil || !r.Running(self) {
		return nil
	}
	defer func() { _ = p.Release() }()
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s (process %d): %w", r.Name, r.ID.PID, err)
	}
	hard := time.Now().Add(grace)
	for deadline := hard.Add(30 * time.Second); r.Running(self); {
		switch now := time.Now(); {
		case now.After(deadline):
			return fmt.Errorf("stopping %s: process %d does not end", r.Name, r.ID.PID)
		case now.After(hard):
			_ = p.Signal(syscall.SIGKILL) // its error is that the process is gone
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// LogTail returns the last lines of the part's log, for an error message.
func (r *Record) LogTail(lines int) string {
	data, err := os.ReadFile(r.Log)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
