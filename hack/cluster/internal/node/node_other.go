// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package node

import (
	"context"
	"errors"

	"batchcompute.dev/operator/hack/cluster/internal/cache"
)

var errLinux = errors.New("a real node takes Linux")

// Possible says no.
func Possible(context.Context, string, string) error { return errLinux }

// Start says no.
func Start(string, string, string, string, string, *cache.Lock) error { return errLinux }

// Enter says no.
func Enter(string, string, string, string, string) error { return errLinux }

// Init says no.
func Init(string) error { return errLinux }

// Probe says no.
func Probe(string) error { return errLinux }
