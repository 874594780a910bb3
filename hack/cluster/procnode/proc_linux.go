// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes puts a process in a session of its own and lets it die with
// us, even when we are killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// startTime tells one use of a pid from the next, also across reboots: clock
// ticks since the boot, and the first digits of the boot's id.
func startTime(pid int) (string, error) {
	stat, err := readStat(pid)
	if err != nil {
		return "", fmt.Errorf("reading the start time of process %d: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(boot) < 8 {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return stat[19] + "." + string(boot[:8]), nil
}

// readStat returns the fields of /proc/PID/stat from the third (state) on; the
// second is a name that may contain anything. Source: proc_pid_stat(5).
func readStat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("process %d: short stat line", pid)
	}
	return fields, nil
}

// groupHasVariable tells whether a member of a process group was started with
// the variable ("NAME=value"). It proves a group ours whose first process ended.
func groupHasVariable(pgid int, variable string) bool {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := readStat(pid)
		if err != nil || stat[2] != strconv.Itoa(pgid) {
			continue
		}
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+variable+"\x00")) {
			return true
		}
	}
	return false
}

// totalMemory returns the host's memory in bytes.
func totalMemory() (int64, error) {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("reading the memory size: %w", err)
	}
	return int64(info.Totalram) * int64(info.Unit), nil
}
