// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libDirs are where a Linux keeps its libraries, Debian's directory first.
var libDirs = []string{"/lib/*-linux-gnu", "/usr/lib/*-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// SharedLibraries returns files for the dynamic linker and for every shared
// library of this machine that the programs need, under the same paths. skip
// names libraries that come from elsewhere.
func SharedLibraries(skip func(lib string) bool, programs ...string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	todo := slices.Clone(programs)
	for len(todo) > 0 {
		program := todo[0]
		todo = todo[1:]
		linker, libs, err := needs(program)
		if err != nil {
			return nil, err
		}
		if linker != "" && !seen[linker] {
			seen[linker] = true
			files = append(files, File{Path: linker, Source: linker})
		}
		for _, lib := range libs {
			if seen[lib] || (skip != nil && skip(lib)) || strings.HasPrefix(lib, "ld-linux") {
				continue
			}
			seen[lib] = true
			p, err := findLib(lib)
			if err != nil {
				return nil, fmt.Errorf("finding what %s needs: %w", filepath.Base(program), err)
			}
			files = append(files, File{Path: p, Source: p})
			todo = append(todo, p)
		}
	}
	return files, nil
}

// needs returns a program's dynamic linker, "" for a library or a static
// program, and the names of the libraries it asks for itself.
func needs(program string) (linker string, libs []string, err error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", nil, fmt.Errorf("reading %s: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			return "", nil, fmt.Errorf("reading %s: %w", program, err)
		}
		linker = strings.TrimRight(string(data), "\x00")
	}
	libs, err = f.ImportedLibraries()
	if err != nil {
		return "", nil, fmt.Errorf("reading %s: %w", program, err)
	}
	return linker, libs, nil
}

// IsStatic tells whether a program runs without anything beside it.
func IsStatic(program string) bool {
	linker, libs, err := needs(program)
	return err == nil && linker == "" && len(libs) == 0
}

func findLib(lib string) (string, error) {
	for _, pattern := range libDirs {
		found, err := filepath.Glob(filepath.Join(pattern, lib))
		if err != nil {
			return "", err
		}
		for _, p := range found {
			if _, err := os.Stat(p); err == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%s is in none of %v", lib, libDirs)
}
