// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package push copies a directory to objects under a prefix.
package push

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"batchcompute.dev/operator/internal/staging/fault"
)

// maxKey is the length of keys that S3 allows. Unit: bytes.
const maxKey = 1024

// maxLinks bounds symbolic links one after another.
const maxLinks = 40

// entry is a file or an empty directory that becomes an object.
type entry struct {
	// key is that of the object, without the prefix; it ends with / for a directory. name is the path
	// below the root: another one below a link.
	key, name string
	info      fs.FileInfo
}

// walker walks a tree in the order of the keys.
type walker struct {
	root   *os.Root
	name   string // of the root, for the command
	prefix string
	// visit gets each entry; its error ends the walk.
	visit func(entry) error
	// bad gets what cannot be an object, and the walk continues.
	bad func(error)
	// skipped counts what is neither file, directory nor link.
	skipped func()
}

// walk walks the directory at the path name, whose keys start with key. above are the directories that it is
// in.
func (w *walker) walk(name, key string, above []fs.FileInfo) error {
	names, err := w.list(name)
	if err != nil {
		w.bad(fault.OfFile(w.display(key), err))
		return nil
	}
	found := len(names) > 0
	for _, n := range names {
		n = strings.TrimSuffix(n, "/")
		if err := w.one(path.Join(name, n), key+n, above); err != nil {
			return err
		}
	}
	if !found && key != "" {
		info, err := w.root.Stat(name)
		if err != nil {
			w.bad(fault.OfFile(w.display(key), err))
			return nil
		}
		return w.visit(entry{key: key, name: name, info: info})
	}
	return nil
}

// list returns the names in a directory, those of directories with / at their end, and sorted: then the keys
// come in the order of their bytes.
func (w *walker) list(name string) ([]string, error) {
	d, err := w.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var names []string
	for {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			n := e.Name()
			if e.IsDir() {
				n += "/"
			}
			names = append(names, n)
		}
		if len(entries) == 0 || err != nil {
			slices.Sort(names)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return names, err
		}
	}
}

// one looks at what is in a directory.
func (w *walker) one(name, key string, above []fs.FileInfo) error {
	if err := w.checkKey(key); err != nil {
		w.bad(err)
		return nil
	}
	name, info, err := w.resolve(name)
	if err != nil {
		w.bad(w.explain(key, err))
		return nil
	}
	switch {
	case info.IsDir():
		if slices.ContainsFunc(above, func(i fs.FileInfo) bool { return os.SameFile(i, info) }) {
			w.bad(fault.Final(fault.Local, w.display(key), "it is a link to a directory that it is in", "remove it"))
			return nil
		}
		return w.walk(name, key+"/", append(slices.Clip(above), info))
	case info.Mode().IsRegular():
		return w.visit(entry{key: key, name: name, info: info})
	}
	w.skipped()
	return nil
}

// resolve follows symbolic links that stay below the root, and returns the path of what they lead to. One
// that is absolute, but leads below the root, is followed, too.
func (w *walker) resolve(name string) (string, fs.FileInfo, error) {
	for range maxLinks {
		info, err := w.root.Lstat(name)
		if err != nil {
			return name, nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return name, info, nil
		}
		target, err := w.root.Readlink(name)
		if err != nil {
			return name, nil, err
		}
		if filepath.IsAbs(target) {
			if target, err = filepath.Rel(w.name, target); err != nil {
				return name, nil, errOutside
			}
		} else {
			target = filepath.Join(filepath.Dir(name), target)
		}
		if !filepath.IsLocal(target) {
			return name, nil, errOutside
		}
		name = target
	}
	return name, nil, syscall.ELOOP
}

var errOutside = errors.New("it is a link that leads outside of the directory")

// explain explains why an entry cannot be looked at.
func (w *walker) explain(key string, err error) error {
	switch {
	case errors.Is(err, errOutside) || strings.Contains(err.Error(), "path escapes"):
		return fault.Final(fault.Name, w.display(key), errOutside.Error(), "copy the file instead").Because(err)
	case errors.Is(err, syscall.ELOOP):
		return fault.Final(fault.Name, w.display(key), "the links lead in a circle", "remove them").Because(err)
	case errors.Is(err, fs.ErrNotExist):
		return fault.Final(fault.Name, w.display(key), "it is a link to nothing, or was removed meanwhile", "remove it").Because(err)
	}
	return fault.OfFile(w.display(key), err)
}

// display returns the path for an error.
func (w *walker) display(key string) string { return path.Join(w.name, key) }

// checkKey checks that a key is one that S3 accepts.
func (w *walker) checkKey(key string) error {
	if !utf8.ValidString(key) {
		return fault.Final(fault.Name, w.display(key), "the name is not UTF-8, so it cannot be the name of an object", "rename the file")
	}
	if n := len(w.prefix) + len(key); n > maxKey {
		return fault.Final(fault.Name, w.display(key), fmt.Sprintf("the name of the object would have %d bytes, and %d are allowed", n, maxKey), "shorten it")
	}
	return nil
}
