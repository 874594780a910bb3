// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package part

import "syscall"

// endWithParent does nothing where the kernel cannot; no part runs there.
func endWithParent() *syscall.SysProcAttr { return nil }
