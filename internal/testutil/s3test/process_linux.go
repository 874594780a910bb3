// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import "syscall"

// dieWithParent ends a server whose test was killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
