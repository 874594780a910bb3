// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cputime

import "time"

var start = time.Now()

// thread returns the time since the program began: other systems do not tell a thread's processor
// time to Go. The best of several samples has little of what else the machine does.
func thread() time.Duration { return time.Since(start) }
