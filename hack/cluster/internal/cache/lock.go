// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive lock held through a file. The kernel drops it when the
// last process that has the file open ends, so a killed program leaves no lock.
type Lock struct {
	// File is passed on to a child that must finish its first step before the
	// next holder may look.
	File *os.File
}

// Acquire locks path, creating it as needed, and waits as long as ctx allows.
// waiting, if not nil, is called once when somebody else holds the lock.
func Acquire(ctx context.Context, path string, waiting func()) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the lock's directory: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the lock: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && stillAt(f, path) {
			return &Lock{File: f}, nil
		}
		f.Close()
		if err == nil {
			continue // removed by its last holder between our open and our lock
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Release gives the lock up.
func (l *Lock) Release() { l.File.Close() }

// Remove gives the lock up and removes its file.
func (l *Lock) Remove() error {
	err := os.Remove(l.File.Name())
	l.File.Close()
	return err
}

func stillAt(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
