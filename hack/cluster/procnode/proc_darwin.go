// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttributes puts a process in a session of its own. macOS has nothing
// that ends it when we are killed; the next start finds it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true}
}

// startTime tells one use of a pid from the next: seconds and microseconds.
func startTime(pid int) (string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", fmt.Errorf("reading the start time of process %d: %w", pid, err)
	}
	start := info.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", start.Sec, start.Usec), nil
}

// groupHasVariable can't be answered on macOS; no is the safe answer.
func groupHasVariable(int, string) bool { return false }

// totalMemory returns the host's memory in bytes.
func totalMemory() (int64, error) {
	size, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, fmt.Errorf("reading the memory size: %w", err)
	}
	return int64(size), nil
}
