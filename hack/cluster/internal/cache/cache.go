// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cache knows where the local cluster keeps its files.
package cache

import (
	"fmt"
	"os"
	"path/filepath"
)

// RootEnv names the environment variable that moves the cache somewhere else.
const RootEnv = "BATCHCOMPUTE_CACHE"

// Root returns the absolute path below which everything is kept: binaries and
// images, shared by all clusters, and one state directory for each cluster. It
// makes the directory, and follows symbolic links on the way to it, since the
// kernel names a process's program by the path without any.
func Root() (string, error) {
	dir := os.Getenv(RootEnv)
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding the cache directory (set %s to choose one): %w", RootEnv, err)
		}
		dir = filepath.Join(base, "batchcompute")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache directory (set %s to choose another): %w", RootEnv, err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	return filepath.EvalSymlinks(dir)
}
