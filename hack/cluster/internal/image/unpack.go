// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Names returns the names of the images in a docker-archive.
func Names(archive string) ([]string, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil {
		return nil, fmt.Errorf("reading the image %s: %w", archive, err)
	}
	var names []string
	for _, m := range manifest {
		names = append(names, m.RepoTags...)
	}
	return names, nil
}

// Unpack writes the files of the named image in archive into dir, which must
// not exist. Owners and devices are left out.
func Unpack(archive, ref, dir string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("reading the image's name: %w", err)
	}
	img, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		return fmt.Errorf("reading the image %s: %w", ref, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpacking the image %s: %w", ref, err)
	}
	root, err := os.OpenRoot(dir) // no entry of the image gets out of here
	if err != nil {
		return fmt.Errorf("unpacking the image %s: %w", ref, err)
	}
	defer root.Close()
	content := mutate.Extract(img)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackEntry(root, header, r)
		}
		if err != nil {
			return fmt.Errorf("unpacking the image %s: %w", ref, err)
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, r io.Reader) error {
	p := filepath.Clean(filepath.FromSlash(h.Name))
	if p == "." {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(p, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, p)
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), p)
	case tar.TypeReg:
		f, err := root.OpenFile(p, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, h.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	return nil
}
