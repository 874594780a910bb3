// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package localdir writes a tree of files below one directory. Nothing outside of it is touched, whatever
// the names and the links in it are, and a file appears whole only.
package localdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/internal/staging/fault"
)

// Unfinished is the directory in the root for files that are not complete. It is removed at the start and at
// the end.
const Unfinished = ".batchcompute-unfinished"

// Bounds of names. Unit: bytes.
const (
	maxName = 255
	maxPath = 4000
)

// Step is called before each change, with its name. An error of it is that of the change. Tests stop with it
// where a kill could.
type Step func(what string) error

// Dir is an open directory. Its methods can be used by several goroutines.
type Dir struct {
	root   *os.Root
	shown  string
	step   Step
	serial atomic.Int64
	// made is the directory that was made last, so that not each file in it asks.
	made atomic.Pointer[string]
}

// Open opens a directory that exists, and removes what an earlier run left unfinished. shown is what errors call
// it: the user knows it by another path than the agent. If it is empty they have paths below the directory.
func Open(name, shown string, step Step) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fault.OfFile(shown, err)
	}
	if step == nil {
		step = func(string) error { return nil }
	}
	d := &Dir{root: root, shown: shown, step: step}
	if err := d.removeUnfinished(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// Finish removes the directory of unfinished files. It is called when everything is there.
func (d *Dir) Finish() error { return d.removeUnfinished() }

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

func (d *Dir) removeUnfinished() error {
	return d.change("remove", Unfinished, func() error { return d.root.RemoveAll(Unfinished) })
}

// change calls f as one step, and explains its error.
func (d *Dir) change(what, name string, f func() error) error {
	err := d.step(what)
	if err == nil {
		err = f()
	}
	if err != nil {
		return fault.OfFile(path.Join(d.shown, name), err)
	}
	return nil
}

// CheckName checks that a relative path, with slashes, can be a file below the root. display is the name in
// the error.
func CheckName(name, display string) error {
	bad := func(why string) error {
		return fault.Final(fault.Name, display, why, "rename it")
	}
	switch {
	case !utf8.ValidString(name):
		return bad("the name is not UTF-8")
	case strings.ContainsRune(name, 0):
		return bad("the name has a NUL byte")
	case len(name) > maxPath:
		return bad(fmt.Sprintf("the name is longer than %d bytes", maxPath))
	case strings.HasPrefix(name, "/"):
		return bad("the name starts with /")
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return bad("the name has an empty part (//)")
		case part == "." || part == "..":
			return bad("the name has the part " + part)
		case len(part) > maxName:
			return bad(fmt.Sprintf("a part of the name is longer than %d bytes", maxName))
		}
	}
	if name == Unfinished || strings.HasPrefix(name, Unfinished+"/") {
		return bad("the name is reserved")
	}
	return nil
}

// Mkdir makes a directory and those above it.
func (d *Dir) Mkdir(name string) error {
	if name == "." {
		return nil
	}
	if made := d.made.Load(); made != nil && *made == name {
		return nil
	}
	err := d.change("mkdir", name, func() error {
		err := d.root.MkdirAll(name, 0o755)
		if errors.Is(err, fs.ErrExist) {
			return unix.ENOTDIR
		}
		return err
	})
	if err == nil {
		d.made.Store(&name)
	}
	return err
}

// File is a file that is being written.
type File struct {
	dir       *Dir
	f         *os.File
	temporary string
	name      string
}

// Create starts a file.
func (d *Dir) Create(name string) (*File, error) {
	if err := d.Mkdir(path.Dir(name)); err != nil {
		return nil, err
	}
	w := &File{dir: d, name: name, temporary: fmt.Sprintf("%s/%d", Unfinished, d.serial.Add(1))}
	err := d.change("create", name, func() (err error) {
		for range 2 {
			w.f, err = d.root.OpenFile(w.temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err := d.root.Mkdir(Unfinished, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, w.f.Close())
	}
	return w, nil
}

// WriteAt writes a part.
func (w *File) WriteAt(p []byte, off int64) (n int, err error) {
	err = w.dir.change("write", w.name, func() (err error) {
		n, err = w.f.WriteAt(p, off)
		return err
	})
	return n, err
}

// Commit puts the file in its place, with mode and time; 0 and the zero time mean the defaults.
func (w *File) Commit(mode fs.FileMode, when time.Time) error {
	if mode != 0 {
		if err := w.dir.change("chmod", w.name, func() error { return w.f.Chmod(mode.Perm()) }); err != nil {
			return errors.Join(err, w.f.Close())
		}
	}
	if err := w.dir.change("close", w.name, w.f.Close); err != nil {
		return err
	}
	if !when.IsZero() {
		if err := w.dir.change("time", w.name, func() error { return w.dir.root.Chtimes(w.temporary, when, when) }); err != nil {
			return err
		}
	}
	return w.dir.change("rename", w.name, func() error { return w.dir.root.Rename(w.temporary, w.name) })
}

// Discard removes the file.
func (w *File) Discard() {
	_ = w.f.Close()                                                                            // nobody needs it
	_ = w.dir.change("remove", w.name, func() error { return w.dir.root.Remove(w.temporary) }) // the next start does it
}

// Symlink makes a symbolic link, and replaces a file or a link.
func (d *Dir) Symlink(target, name string) error {
	return d.replace(name, func() error { return d.root.Symlink(target, name) })
}

// Link makes a hard link to a file below the root, and replaces a file or a link.
func (d *Dir) Link(target, name string) error {
	return d.replace(name, func() error { return d.root.Link(target, name) })
}

// replace makes name with f, when it is not there or was removed.
func (d *Dir) replace(name string, f func() error) error {
	if err := d.Mkdir(path.Dir(name)); err != nil {
		return err
	}
	if info, err := d.root.Lstat(name); err == nil {
		if info.IsDir() {
			return fault.OfFile(path.Join(d.shown, name), unix.EISDIR)
		}
		if err := d.change("remove", name, func() error { return d.root.Remove(name) }); err != nil {
			return err
		}
	}
	return d.change("link", name, f)
}

// Chmod changes a directory's mode.
func (d *Dir) Chmod(name string, mode fs.FileMode) error {
	return d.change("chmod", name, func() error { return d.root.Chmod(name, mode) })
}

// Lstat looks at a file; nil if it is not there.
func (d *Dir) Lstat(name string) fs.FileInfo {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil
	}
	return info
}

// CheckLink returns an error if a symbolic link leads outside of the root. One that leads nowhere does not.
func (d *Dir) CheckLink(name string) error {
	if _, err := d.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Read opens a file.
func (d *Dir) Read(name string) (*os.File, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, fault.OfFile(path.Join(d.shown, name), err)
	}
	return f, nil
}

// Space returns what is free on the file system, and its size, in bytes.
func (d *Dir) Space() (free, size int64, err error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, 0, fault.OfFile(d.shown, err)
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, 0, fault.OfFile(d.shown, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil //nolint:unconvert // other systems have other types
}

// CheckSpace returns an error if need bytes do not fit.
func (d *Dir) CheckSpace(need int64) error {
	free, size, err := d.Space()
	if err != nil || need <= free {
		return err
	}
	reason := fmt.Sprintf("%s are needed, and %s of %s are free on the disk of the cluster node", fault.FormatBytes(need), fault.FormatBytes(free), fault.FormatBytes(size))
	if need > size {
		return fault.Final(fault.Disk, d.shown, reason, fault.MoreDisk)
	}
	return fault.Temporary(fault.Disk, d.shown, reason, fault.MoreDisk)
}

// Remove removes a file or a link.
func (d *Dir) Remove(name string) error {
	return d.change("remove", name, func() error { return d.root.Remove(name) })
}

// SameDisk tells whether two directories are on one file system.
func (d *Dir) SameDisk(other *Dir) bool {
	var ids [2]uint64
	for i, dir := range []*Dir{d, other} {
		info, err := dir.root.Stat(".")
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		ids[i] = uint64(stat.Dev) //nolint:unconvert // it has another type on other systems
	}
	return ids[0] == ids[1]
}
