// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package part

// ID names one process for as long as the machine's files live: a process
// number alone is given out again after the process ended, but not with the
// same start time within one boot of the machine.
type ID struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks since the machine's boot, on macOS microseconds since 1970
	BootID    string `json:"bootID"`
}

// Identify returns the ID of the running process pid.
func Identify(pid int) (*ID, error) { return identify(procDir, pid) }
