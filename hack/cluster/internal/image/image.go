// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image packs container images without a container engine.
package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec describes an image of one layer for Linux on this machine's architecture.
type Spec struct {
	Name       string // with a tag, e.g. "busybox:1.37"
	Entrypoint []string
	Cmd        []string
	User       string // e.g. "65532:65532"; "" is root
	Env        []string
	Labels     map[string]string
	Files      []File // in the order in which they go into the layer
}

// File is one entry of an image: a copy of a file or of a whole directory of
// this machine, a symbolic link, or given content. One of the last three is set.
type File struct {
	Path    string // in the image, absolute
	Source  string // on this machine; a symbolic link is followed here, but not within a directory
	Target  string // what the link points to
	Content []byte
	Skip    func(rel string) bool // leaves out what is in the directory Source
}

// ParseFile reads PATH=HOSTFILE or PATH->TARGET.
func ParseFile(s string) (File, error) {
	if p, target, ok := strings.Cut(s, "->"); ok && path.IsAbs(p) && target != "" {
		return File{Path: p, Target: target}, nil
	}
	if p, source, ok := strings.Cut(s, "="); ok && path.IsAbs(p) && source != "" {
		return File{Path: p, Source: source}, nil
	}
	return File{}, fmt.Errorf("must be /PATH=HOSTFILE or /PATH->TARGET, got %q", s)
}

// epoch is the time of everything in an image, so that the same input always
// yields the same bytes.
var epoch = time.Unix(0, 0).UTC()

// WriteFile packs spec into a docker-archive at out, which docker load, kind
// load image-archive and ctr images import all take. It appears whole or not at all.
func WriteFile(out string, spec Spec) error {
	tag, err := name.NewTag(spec.Name, name.WithDefaultRegistry(""))
	if err != nil {
		return fmt.Errorf("reading the image's name: %w", err)
	}
	img, err := build(spec)
	if err != nil {
		return fmt.Errorf("packing the image %s: %w", spec.Name, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return fmt.Errorf("making the image's file: %w", err)
	}
	defer os.Remove(tmp.Name()) // no longer there when all went well
	err = tarball.Write(tag, img, tmp)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return fmt.Errorf("writing the image %s: %w", spec.Name, err)
	}
	if err := os.Rename(tmp.Name(), out); err != nil {
		return fmt.Errorf("writing the image %s: %w", spec.Name, err)
	}
	return nil
}

func build(spec Spec) (v1.Image, error) {
	layer, err := layerOf(spec.Files)
	if err != nil {
		return nil, err
	}
	// Not compressed: it is written once and read at once, on the same machine.
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerUncompressedLayer))
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", runtime.GOARCH, v1.Time{Time: epoch}
	config.Config = v1.Config{Entrypoint: spec.Entrypoint, Cmd: spec.Cmd, User: spec.User, Env: spec.Env, Labels: spec.Labels}
	return mutate.ConfigFile(img, config)
}

// layerOf makes the layer's tar.
func layerOf(files []File) ([]byte, error) {
	var buf bytes.Buffer
	l := &layerWriter{tw: tar.NewWriter(&buf), seen: map[string]bool{}}
	for _, dir := range []string{"tmp", "etc", "proc", "sys", "dev"} {
		if err := l.dirs(dir); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if err := l.add(f); err != nil {
			return nil, fmt.Errorf("adding %s: %w", f.Path, err)
		}
	}
	if err := l.tw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

type layerWriter struct {
	tw   *tar.Writer
	seen map[string]bool // paths in the layer
}

func (l *layerWriter) add(f File) error {
	dst := strings.Trim(path.Clean(f.Path), "/")
	switch {
	case f.Target != "":
		return l.link(dst, f.Target)
	case f.Source == "":
		return l.file(dst, 0o644, int64(len(f.Content)), bytes.NewReader(f.Content))
	}
	source, err := filepath.EvalSymlinks(f.Source)
	if err != nil {
		return err
	}
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		if f.Skip != nil && f.Skip(filepath.ToSlash(rel)) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return l.copy(path.Join(dst, filepath.ToSlash(rel)), p, d)
	})
}

func (l *layerWriter) copy(dst, src string, d fs.DirEntry) error {
	switch {
	case d.IsDir():
		return l.dirs(dst)
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return l.link(dst, target)
	case !d.Type().IsRegular():
		return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", src)
	}
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// Not the file's own mode: the umask it was made under must not change the image.
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return l.file(dst, mode, info.Size(), f)
}

func (l *layerWriter) dirs(dir string) error {
	if dir == "" || dir == "." || l.seen[dir] {
		return nil
	}
	if err := l.dirs(path.Dir(dir)); err != nil {
		return err
	}
	l.seen[dir] = true
	mode := int64(0o755)
	if dir == "tmp" {
		mode = 0o1777
	}
	return l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: epoch})
}

func (l *layerWriter) link(dst, target string) error {
	if err := l.claim(dst); err != nil {
		return err
	}
	return l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dst, Linkname: target, Mode: 0o777, ModTime: epoch})
}

func (l *layerWriter) file(dst string, mode, size int64, r io.Reader) error {
	if err := l.claim(dst); err != nil {
		return err
	}
	if err := l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dst, Mode: mode, Size: size, ModTime: epoch}); err != nil {
		return err
	}
	_, err := io.Copy(l.tw, r)
	return err
}

func (l *layerWriter) claim(dst string) error {
	if l.seen[dst] {
		return fmt.Errorf("%s is in the image twice", dst)
	}
	if err := l.dirs(path.Dir(dst)); err != nil {
		return err
	}
	l.seen[dst] = true
	return nil
}
