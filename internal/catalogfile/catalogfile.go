// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalogfile reads the catalogue from its file and follows it: a change takes
// effect without a restart, and one that is in error leaves the last good catalogue in use.
//
// The file is that of a ConfigMap volume. The kubelet changes it by turning a symbolic link
// of its directory over, so it is the directory that is watched. A watch can fail or miss
// something, so the file is also read every now and then.
package catalogfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/internal/catalog"
)

const (
	// debounce is how long after the first of several changes the file is read.
	debounce = 200 * time.Millisecond
	// recheck is how often the file is read in any case, and a watch that was lost is
	// established again.
	recheck = 30 * time.Second
)

// File is a catalogue that follows its file. It is a Runnable of a manager.
type File struct {
	path              string
	current           atomic.Pointer[catalog.Catalog]
	seen              [sha256.Size]byte // of what was read last, good or not
	told              func(context.Context, error)
	debounce, recheck time.Duration
}

// New reads the file, which must be in order. No path stands for catalog.Default.
func New(path string) (*File, error) {
	f := &File{path: path, told: func(context.Context, error) {}, debounce: debounce, recheck: recheck}
	if path == "" {
		f.current.Store(catalog.Default())
		return f, nil
	}
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	c, err := catalog.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog %s: %w", path, err)
	}
	f.seen = sum(data, nil)
	f.current.Store(c)
	return f, nil
}

// Current returns the last good catalogue. Never nil.
func (f *File) Current() *catalog.Catalog { return f.current.Load() }

// OnReload has told called for each change of the file's content: with nil when the new
// content is in use, else with what is wrong with it. To be called before Start.
func (f *File) OnReload(told func(ctx context.Context, err error)) { f.told = told }

// NeedLeaderElection reports that every replica follows the file.
func (f *File) NeedLeaderElection() bool { return false }

// Start follows the file until ctx ends.
func (f *File) Start(ctx context.Context) error {
	if f.path == "" {
		return nil
	}
	for {
		err := f.follow(ctx)
		if err == nil {
			return nil
		}
		log.FromContext(ctx).Error(err, "Lost the watch of the catalogue", "file", f.path, "retryAfter", f.recheck)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.recheck):
		}
	}
}

// follow follows the file until ctx ends, or, with an error, until the watch is lost.
func (f *File) follow(ctx context.Context) error {
	dir := filepath.Dir(f.path)
	w, err := watch(dir)
	f.reload(ctx) // what changed before there was a watch, or while there is none
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	ticker := time.NewTicker(f.recheck)
	defer ticker.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if e.Name == dir && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				f.reload(ctx)
				return errors.New("the directory is gone")
			}
			if due == nil { // else changes without end would put it off without end
				due = time.After(f.debounce)
			}
		case err := <-w.Errors:
			return fmt.Errorf("watching %s: %w", dir, err)
		case <-due:
			due = nil
			f.reload(ctx)
		case <-ticker.C:
			f.reload(ctx)
		}
	}
}

func watch(dir string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("making a watch: %w", err)
	}
	if err := w.Add(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("watching %s: %w", dir, err), w.Close())
	}
	return w, nil
}

// reload reads the file and, if its content is new, takes it into use or tells why not.
func (f *File) reload(ctx context.Context) {
	data, err := read(f.path)
	seen := sum(data, err)
	if seen == f.seen {
		return
	}
	f.seen = seen
	var c *catalog.Catalog
	if err == nil {
		c, err = catalog.Parse(data)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "Refused the catalogue, the last good one stays in use", "file", f.path)
	} else {
		f.current.Store(c)
		log.FromContext(ctx).Info("Read the catalogue", "file", f.path)
	}
	f.told(ctx, err)
}

// read reads the file, and no more of it than shows that it is too large.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, catalog.MaxSize+1))
}

// sum tells contents apart, and reasons why there is none.
func sum(data []byte, err error) [sha256.Size]byte {
	if err != nil {
		return sha256.Sum256([]byte("\x00" + err.Error())) // no good file has such a byte
	}
	return sha256.Sum256(data)
}
