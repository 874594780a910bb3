// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"batchcompute.dev/operator/hack/cluster/internal/debian"
)

// seccompEnv fetches libseccomp's headers and static library, and returns the
// environment that makes cgo find them without installing them.
func seccompEnv(b *Builder) ([]string, error) {
	root := filepath.Join(b.Cache, "debian", "libseccomp-dev")
	if !exists(root) {
		fmt.Fprintln(b.Log, "Fetching libseccomp's headers (apt-get download libseccomp-dev)")
	}
	if err := debian.Unpack(context.Background(), root, "libseccomp-dev"); err != nil {
		return nil, err
	}
	libs, err := filepath.Glob(filepath.Join(root, "usr/lib/*/libseccomp.a"))
	if err != nil || len(libs) == 0 {
		return nil, errors.New("libseccomp-dev has no static library")
	}
	// The Go package asks pkg-config for the flags, which a small machine may
	// lack and which knows nothing of our directory. This answers in its place.
	script := filepath.Join(root, "pkg-config")
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*--cflags*) echo '-I%s' ;;\n*--libs*) echo '-L%s -lseccomp' ;;\nesac\n",
		filepath.Join(root, "usr/include"), filepath.Dir(libs[0]))
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return nil, fmt.Errorf("writing a stand-in for pkg-config: %w", err)
	}
	return []string{"PKG_CONFIG=" + script}, nil
}

// otherRunc returns the runc to use where it cannot be built, for lack of a C
// compiler or of apt-get to fetch libseccomp with. "" means: build it.
func (b *Builder) otherRunc(ctx context.Context) (string, error) {
	_, noGCC := exec.LookPath("gcc")
	_, noApt := exec.LookPath("apt-get")
	if noGCC == nil && noApt == nil {
		return "", nil
	}
	if path, err := exec.LookPath("runc"); err == nil {
		return path, nil
	}
	if noApt != nil {
		return "", errors.New("no runc: it is not in PATH, and building it takes gcc and apt-get")
	}
	fmt.Fprintln(b.Log, "Fetching runc, since there is no gcc to build it (apt-get download runc)")
	root := filepath.Join(b.Cache, "debian", "runc")
	if err := debian.Unpack(ctx, root, "runc"); err != nil {
		return "", fmt.Errorf("fetching runc: %w", err)
	}
	return filepath.Join(root, "usr/sbin/runc"), nil
}
