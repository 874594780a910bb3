// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// guardScript is the program of a guard, which leads a container's process group.
// Its input is a pipe that only we hold open, so that the input's end is our own,
// be it by kill -9. Then it kills its group, and the one we have told it, if any.
const guardScript = `trap "" HUP INT QUIT USR1 USR2 TERM; read -r pid; read -r end; kill -9 "-$pid"; kill -9 "-$$"`

// runProcess runs cmd in the process group of a guard, its output going to a new
// file. The group gets SIGTERM when stopping ends and SIGKILL when killing does,
// or when cmd has ended: as in a container, that is the end of all. started is
// called with the pid once cmd runs. runProcess returns the exit code, 128+n for
// signal n; or an error when nothing ran.
func runProcess(stopping, killing context.Context, cmd *exec.Cmd, logPath string, started func(pid int)) (int32, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	guard := exec.Command("/bin/sh", "-c", guardScript)
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tell, err := guard.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := guard.Start(); err != nil {
		return 0, err
	}
	group := guard.Process.Pid // stays taken until Wait, so that nobody else gets our signals
	defer func() {
		_ = syscall.Kill(-group, syscall.SIGKILL)
		_ = guard.Wait()
	}()

	// A pipe and not the file itself, which a program that opens /dev/stderr would truncate.
	out, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	err = cmd.Start()
	in.Close()
	if err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	fmt.Fprintln(tell, pid)
	started(pid)
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(log, out) // a full disk loses output and must not stop the container
		close(copied)
	}()

	signal := func(sig syscall.Signal) {
		_ = syscall.Kill(-group, sig)
		_ = syscall.Kill(-pid, sig) // some, like timeout, begin with a group of their own
	}
	cancelStop := context.AfterFunc(stopping, func() { signal(syscall.SIGTERM) })
	cancelKill := context.AfterFunc(killing, func() { signal(syscall.SIGKILL) })
	err = cmd.Wait()
	cancelStop()
	cancelKill()
	signal(syscall.SIGKILL) // pids are handed out in turn, so ours is nobody else's yet
	// A process that left the groups may hold the pipe open; don't wait for it.
	_ = out.SetReadDeadline(time.Now().Add(time.Second))
	<-copied

	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int32(status.Signal()), nil
	}
	return int32(cmd.ProcessState.ExitCode()), nil
}
