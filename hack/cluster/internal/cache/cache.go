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
// is not created here.
func Root() (string, error) {
	if dir := os.Getenv(RootEnv); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory (set %s to choose one): %w", RootEnv, err)
	}
	return filepath.Join(dir, "batchcompute"), nil
}
