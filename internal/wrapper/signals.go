// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wrapper

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The range of real-time signals that the Go runtime and C libraries leave alone.
const (
	firstRealTime = 35
	lastRealTime  = 64
)

// takeSignals starts to receive signals. Those that the runtime, a terminal or a fault of this process sends are
// not forwarded.
func (w *wrapper) takeSignals() {
	signal.Notify(w.children, unix.SIGCHLD)
	// A log that nobody reads and a limit on the size of files must not end this process. Nobody reads the channel:
	// an ignored signal would stay ignored in the command.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE, unix.SIGXFSZ)
	forwarded := []os.Signal{
		unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH, unix.SIGCONT,
	}
	for n := firstRealTime; n <= lastRealTime; n++ {
		forwarded = append(forwarded, syscall.Signal(n))
	}
	signal.Notify(w.signals, forwarded...)
}

// pendingStop tells whether SIGTERM has come, before the command is started.
func (w *wrapper) pendingStop() bool {
	for {
		select {
		case s := <-w.signals:
			w.stopped = w.stopped || s == unix.SIGTERM
		default:
			return w.stopped
		}
	}
}

// supervise forwards signals and reaps processes until the command has ended; after SIGTERM, until no
// process is left in its group or GraceSeconds are over.
func (w *wrapper) supervise() {
	var grace <-chan time.Time
	killed := false
	for w.running || w.stopped && !killed && w.groupAlive() {
		select {
		case s := <-w.signals:
			w.forward(s)
			if s == unix.SIGTERM && grace == nil {
				w.stopped = true
				grace = time.After(time.Duration(w.GraceSeconds) * time.Second)
			}
		case <-w.children:
			w.reap()
		case <-grace:
			killed = true
			w.kill()
		}
	}
}

// forward passes a signal on: SIGTERM to the process group, others to the command.
func (w *wrapper) forward(s os.Signal) {
	number, ok := s.(syscall.Signal)
	switch {
	case !ok:
	case number == unix.SIGTERM:
		_ = unix.Kill(-w.pid, number)
	case w.running: // else the number may be another process's
		_ = unix.Kill(w.pid, number)
	}
}

// reap collects all processes that have ended, the orphans of the container among them. It tells whether there
// are others.
func (w *wrapper) reap() bool {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || pid == 0:
			return err == nil
		case pid == w.pid && w.running:
			w.status, w.running = status, false
		}
	}
}

// groupAlive tells whether a process is left in the command's group.
func (w *wrapper) groupAlive() bool { return !errors.Is(unix.Kill(-w.pid, 0), unix.ESRCH) }

// kill kills the process group of the command; as PID 1, all other processes of the container.
func (w *wrapper) kill() {
	_ = unix.Kill(-w.pid, unix.SIGKILL)
	if os.Getpid() == 1 {
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

// killLeft kills what the command left behind, and waits until it is gone.
func (w *wrapper) killLeft() {
	over := time.After(killTime)
	for more := w.reap(); more; more = w.reap() {
		w.kill()
		if os.Getpid() != 1 && !w.groupAlive() {
			return
		}
		select {
		case <-w.children:
		case <-over:
			return
		}
	}
}
