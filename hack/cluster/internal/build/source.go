// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// findModDir finds the wrapper modules. They cannot be embedded, since a
// directory with a go.mod belongs to no other module; so they are looked for
// where this file was compiled, and else (built with -trimpath) beside the
// program's directory, the working directory, and above both.
func findModDir() (string, error) {
	var starts []string
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			for _, candidate := range []string{filepath.Join(dir, "mod"), filepath.Join(dir, "hack", "cluster", "mod")} {
				if exists(filepath.Join(candidate, kubernetes.name, "go.mod")) {
					return candidate, nil
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("hack/cluster/mod was not found; run this inside the repository")
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
