// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLockKeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "lock")
	first, err := Acquire(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := Acquire(ctx, path, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second holder: got %v, want it to wait until its deadline", err)
	}
	if !waited {
		t.Error("nobody was told of the wait")
	}
	first.Release()
	second, err := Acquire(t.Context(), path, nil)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	second.Release()
}

func TestLockFollowsRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Acquire(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { // opens the file that is removed below, and must not be content with it
		l, err := Acquire(t.Context(), path, nil)
		if err == nil && !stillAt(l.File, path) {
			err = errors.New("it holds a file that is gone")
		}
		got <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("next holder: %v", err)
	}
}

func TestRootFollowsEnvironment(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv(RootEnv, filepath.Join(link, "sub"))
	if got, err := Root(); err != nil || got != filepath.Join(dir, "sub") {
		t.Errorf("got %q, %v, want it below %q", got, err, dir)
	}
}
