// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package part

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const procDir = "/proc"

func identify(proc string, pid int) (*ID, error) {
	st, err := readStat(proc, pid)
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile(proc + "/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("reading the boot's ID: %w", err)
	}
	return &ID{PID: pid, StartTime: st.startTime, BootID: strings.TrimSpace(string(boot))}, nil
}

// runs tells whether the process is there still, is more than a zombie, and
// executes one of exes. The last is a second guard, for a record that was
// edited or copied from elsewhere.
func (id *ID) runs(proc string, exes ...string) bool {
	st, err := readStat(proc, id.PID)
	if err != nil || st.state == "Z" || st.state == "X" {
		return false
	}
	now, err := identify(proc, id.PID)
	if err != nil || *now != *id {
		return false
	}
	exe, err := os.Readlink(fmt.Sprintf("%s/%d/exe", proc, id.PID))
	if err != nil {
		return false
	}
	exe = strings.TrimSuffix(exe, " (deleted)")
	for _, want := range exes {
		if exe == want {
			return true
		}
	}
	return false
}

type stat struct {
	state     string
	startTime uint64
}

// readStat reads /proc/PID/stat. The second field, the command's name, may hold
// spaces and brackets, so fields are counted from the last closing bracket on.
func readStat(proc string, pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if err != nil {
		return stat{}, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const state, startTime = 0, 19 // fields 3 and 22 of proc_pid_stat(5)
	if len(fields) <= startTime {
		return stat{}, fmt.Errorf("reading the state of process %d: only %d fields", pid, len(fields))
	}
	ticks, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("reading the start time of process %d: %w", pid, err)
	}
	return stat{state: fields[state], startTime: ticks}, nil
}
