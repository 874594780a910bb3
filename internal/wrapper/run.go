// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/agentapi"
)

// killTime bounds how long Run waits for processes that it has killed. Only those that wait for a file system that
// does not answer take longer than an instant.
const killTime = time.Second

// Options is what Run needs.
type Options struct {
	// Command is the program and its arguments; it must not be empty.
	Command []string
	// Exec is how it runs. Its HoldSeconds are not waited for: see Ended.Hold.
	agentapi.Exec
	// StateDir is agentapi.StateDir.
	StateDir string
	// Env is the environment of the command.
	Env []string
	// Stdin is the command's. Stdout and Stderr are the container's own streams, and get a copy.
	Stdin, Stdout, Stderr *os.File

	// step is called after each step, with its name; nil outside of tests.
	step func(string)
}

// Ended is what became of a command.
type Ended struct {
	// Code is the exit code of the command, or of the agent if the Result has a class.
	Code   int
	Result agentapi.Result

	w *wrapper
}

// wrapper runs one command.
type wrapper struct {
	Options
	signals  chan os.Signal // those to be forwarded
	children chan os.Signal // SIGCHLD
	stopped  bool           // SIGTERM came

	pid     int // the command's, and its process group's; 0 before it is started
	running bool
	status  syscall.WaitStatus
}

// Run runs a command and returns when it has ended, all its files are complete and the state directory is
// unlocked. It changes the process: it takes its signals, reaps its children, and keeps the calling thread.
func Run(o Options) *Ended {
	runtime.LockOSThread() // its end would kill the command
	if o.step == nil {
		o.step = func(string) {}
	}
	w := &wrapper{Options: o, signals: make(chan os.Signal, 64), children: make(chan os.Signal, 1)}
	w.takeSignals()
	// Orphans are reaped here even where the container is not alone in its PID namespace. A program of the same
	// user must not read this process's environment, nor write to its streams through /proc, past the copies.
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)

	state, err := openState(o.StateDir, o.step)
	if err != nil {
		return w.failed(err)
	}
	stdout, outEnd, err := newStream(streamOptions{"stdout", o.Stdout, filepath.Join(o.StateDir, agentapi.StdoutFile), o.KeepStdout, o.LocalStdout})
	if err != nil {
		return w.failed(err)
	}
	stderr, errEnd, err := newStream(streamOptions{"stderr", o.Stderr, filepath.Join(o.StateDir, agentapi.StderrFile), o.KeepStderr, o.LocalStderr})
	if err != nil {
		return w.failed(err)
	}
	o.step("streams opened")
	if w.pendingStop() {
		return w.failed(errors.New("the Pod was stopped before the command was started"))
	}
	if err := mark(o.StateDir, markStarted); err != nil {
		return w.failed(err)
	}
	o.step("started marked")
	exit := w.command(stdout, stderr, outEnd, errEnd)
	var missing []string
	for _, s := range []*stream{stdout, stderr} {
		if text := s.incomplete(); text != "" {
			missing = append(missing, text)
		}
	}
	exit.Incomplete = strings.Join(missing, "; ")
	texts := append([]string{exit.Error}, missing...)
	if err := state.ended(exit, o.step); err != nil {
		texts = append(texts, err.Error())
	}
	e := &Ended{Code: exit.Code, w: w, Result: agentapi.Result{Version: agentapi.Version, Tail: stdout.end()}}
	if exit.Code == agentapi.ExitTransient && exit.Error != "" {
		e.Result.Class = agentapi.Transient
	}
	e.Result.Message = strings.TrimPrefix(strings.Join(texts, "; "), "; ")
	if exit.Error == "" { // which is in the log already, as a line of stderr
		w.log(e.Result.Message)
	}
	return e
}

// log writes a sentence, which may be empty, to the container's log.
func (w *wrapper) log(text string) {
	if text != "" {
		_, _ = w.Stderr.WriteString("agent: " + text + "\n")
	}
}

// command starts the command, waits for its end, and completes its streams.
func (w *wrapper) command(stdout, stderr *stream, outEnd, errEnd *os.File) agentapi.Exit {
	pid, serr := start(w.Command, w.Env, []*os.File{w.Stdin, outEnd, errEnd})
	_, _ = outEnd.Close(), errEnd.Close()
	if serr != nil {
		stderr.write([]byte("agent: " + serr.Error() + "\n"))
	}
	go stdout.copy()
	go stderr.copy()
	if serr != nil {
		<-stdout.done
		<-stderr.done
		return agentapi.Exit{Code: serr.code, Error: serr.text}
	}
	w.pid, w.running = pid, true
	w.step("command started")
	w.supervise()
	w.step("command ended")
	code := w.status.ExitStatus()
	if w.status.Signaled() {
		code = 128 + int(w.status.Signal())
	}
	end := time.Now().Add(drainTime)
	give := make(chan struct{})
	defer time.AfterFunc(drainTime+logTime, func() { close(give) }).Stop()
	for _, s := range []*stream{stdout, stderr} {
		s.setEnd(end)
	}
	for _, s := range []*stream{stdout, stderr} {
		s.await(give)
	}
	w.step("streams complete")
	if !w.holds(code) {
		w.killLeft()
	}
	w.step("processes killed")
	return agentapi.Exit{Code: code}
}

// holds tells whether the container is to be held after this code.
func (w *wrapper) holds(code int) bool { return code != 0 && w.HoldSeconds > 0 && !w.stopped }

// Hold keeps the container alive if its command failed and it is to be held: until SIGTERM, at most
// for HoldSeconds.
func (e *Ended) Hold() {
	if e.Result.Class != "" || !e.w.holds(e.Code) {
		return
	}
	if e.w.pid > 0 { // the command was started
		defer e.w.killLeft()
	}
	over := time.After(time.Duration(e.w.HoldSeconds) * time.Second)
	for {
		select {
		case <-over:
			return
		case s := <-e.w.signals:
			if s == unix.SIGTERM {
				return
			}
		case <-e.w.children:
			e.w.reap()
		}
	}
}

// failed is the end of a wrapper that could not start the command. Nobody then waits for the end of the command.
func (w *wrapper) failed(err error) *Ended {
	_ = mark(w.StateDir, markStopped)
	e := &Ended{Code: agentapi.ExitTransient, w: w, Result: agentapi.Result{Version: agentapi.Version, Class: agentapi.Transient, Message: err.Error()}}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EROFS) {
		e.Code, e.Result.Class = agentapi.ExitPermanent, agentapi.Permanent
	}
	w.log(e.Result.Message)
	return e
}
