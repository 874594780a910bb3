//go:build !linux

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package s3test

import "syscall"

// dieWithParent ends nothing here: other systems do not have it.
func dieWithParent() *syscall.SysProcAttr { return nil }
