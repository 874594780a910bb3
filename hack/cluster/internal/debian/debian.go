// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package debian fetches what no Go module has from Debian's packages, where
// apt-get is there to do it.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoApt says that this machine has no apt-get.
var ErrNoApt = errors.New("apt-get is not there")

// Unpack puts the files of the packages into dir without installing them, once:
// a later call finds them there. It appears whole or not at all.
func Unpack(ctx context.Context, dir string, packages ...string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(parent(dir), ".unpack-*")
	if err != nil {
		return fmt.Errorf("making a directory to unpack into: %w", err)
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "root")
	if err := apt(ctx, tmp, append([]string{"download", "-qq"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpacking %s: %w\n%s", filepath.Base(deb), err, out)
		}
	}
	if err := os.Rename(root, dir); err != nil {
		return fmt.Errorf("putting the unpacked files in place: %w", err)
	}
	return nil
}

// Install installs packages on this machine.
func Install(ctx context.Context, packages ...string) error {
	return apt(ctx, "/", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)...)
}

// apt runs apt-get in dir. A fresh machine has no package lists, so the first
// failure is followed by an update and another try.
func apt(ctx context.Context, dir string, args ...string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ErrNoApt
	}
	if run(ctx, dir, args...) == nil {
		return nil
	}
	if err := run(ctx, dir, "update", "-qq"); err != nil {
		return err
	}
	return run(ctx, dir, args...)
}

func run(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %v: %w\n%s", args, err, out.Bytes())
	}
	return nil
}

func parent(dir string) string {
	p := filepath.Dir(dir)
	_ = os.MkdirAll(p, 0o755) // the next step says what is wrong
	return p
}
