// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// starter starts processes from one operating system thread that lives as long
// as it does. Pdeathsig needs that: Linux sends the signal when the thread that
// created the process ends, and Go ends threads as it pleases.
type starter struct {
	calls chan func()
	logs  logSet
}

func newStarter() *starter {
	s := &starter{calls: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for call := range s.calls {
			call()
		}
		runtime.UnlockOSThread() // so that the thread itself goes on living
	}()
	return s
}

// close ends the starter's goroutine; nothing can be started afterwards.
func (s *starter) close() { close(s.calls) }

// command is what to start. Path is the program's file, args[0] its name.
type command struct {
	path string
	args []string
	env  []string
	dir  string
}

// lookupPath returns the PATH that the process will see.
func (c *command) lookupPath() string {
	for _, v := range c.env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			return path
		}
	}
	return ""
}

// process is a running process group; its id is the first process's.
type process struct {
	pid   int
	start string // see startTime
}

// start runs cmd in a session and process group of its own, its output going to
// log. When the first process has ended, its group has been killed and the log
// is complete and closed, onExit is called once with the exit code, 128+n for
// signal n. After an error the log is closed and onExit is never called.
func (s *starter) start(cmd command, log *logFile, onExit func(code int32)) (*process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	defer in.Close()

	attr := &os.ProcAttr{Dir: cmd.dir, Env: cmd.env, Files: []*os.File{null, in, in}, Sys: processAttributes()}
	var p *os.Process
	done := make(chan struct{})
	s.calls <- func() {
		p, err = os.StartProcess(cmd.path, cmd.args, attr)
		close(done)
	}
	<-done
	if err != nil {
		return nil, errors.Join(err, out.Close(), log.Close())
	}

	// The process is not reaped before the goroutine below waits for it, so the
	// pid is still its own here. Where the start time can't be read, the process
	// runs all the same and is only harder to prove ours later.
	start, _ := startTime(p.Pid)
	copied := make(chan struct{})
	go func() {
		log.copyFrom(out)
		close(copied)
	}()
	go func() {
		code := int32(128)
		if state, err := p.Wait(); err == nil {
			code = exitCode(state)
		}
		// What the first process leaves behind ends with it, as in a container.
		// Its pid can't have gone to another process within this moment: pids are
		// handed out in turn.
		killGroup(p.Pid, syscall.SIGKILL)
		// A process that left the group may hold the pipe open; don't wait for it.
		out.SetReadDeadline(time.Now().Add(time.Second))
		<-copied
		out.Close()
		log.Close()
		onExit(code)
	}()
	return &process{pid: p.Pid, start: start}, nil
}

// killGroup sends sig to a process group. That the group may have ended is no
// error for any caller.
func killGroup(pid int, sig syscall.Signal) {
	_ = syscall.Kill(-pid, sig)
}

func exitCode(state *os.ProcessState) int32 {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int32(ws.Signal())
	}
	return int32(state.ExitCode())
}

// findProgram returns the file of a command: below the image's directory, then,
// for a bare name, in the directories of path, else on the host. Its errors are
// worded as container runtimes word them.
func findProgram(name, image, path string) (string, error) {
	var candidates []string
	switch {
	case filepath.IsAbs(name):
		candidates = []string{filepath.Join(image, name), name}
	case strings.Contains(name, "/"):
		return name, nil // relative to the working directory
	default:
		for _, dir := range filepath.SplitList(path) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	failure := fmt.Errorf("exec: %q: executable file not found in $PATH", name)
	if filepath.IsAbs(name) {
		failure = fmt.Errorf("exec: %q: stat %s: no such file or directory", name, name)
	}
	for _, file := range candidates {
		info, err := os.Stat(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0:
			return file, nil
		default:
			failure = fmt.Errorf("exec: %q: permission denied", name)
		}
	}
	return "", failure
}
