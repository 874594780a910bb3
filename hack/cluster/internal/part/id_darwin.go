// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// procDir is there on Linux only.
const procDir = ""

// zombie is SZOMB of sys/proc.h.
const zombie = 5

func identify(_ string, pid int) (*ID, error) {
	proc, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return nil, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	if proc.Proc.P_stat == zombie {
		return nil, fmt.Errorf("process %d has ended", pid)
	}
	boot, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return nil, fmt.Errorf("reading the time of the boot: %w", err)
	}
	start := proc.Proc.P_starttime
	return &ID{PID: pid, StartTime: uint64(start.Sec)*1e6 + uint64(start.Usec), BootID: fmt.Sprint(boot.Sec)}, nil
}

// runs tells whether the process is there still, is more than a zombie, and
// executes one of exes.
func (id *ID) runs(_ string, exes ...string) bool {
	now, err := identify("", id.PID)
	if err != nil || *now != *id {
		return false
	}
	args, err := unix.SysctlRaw("kern.procargs2", id.PID) // a number, then the program's path
	if err != nil || len(args) < 4 {
		return false
	}
	exe, _, _ := bytes.Cut(args[4:], []byte{0})
	return slices.Contains(exes, string(exe))
}
