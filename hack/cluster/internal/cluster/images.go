// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/cache"
	"batchcompute.dev/operator/hack/cluster/internal/debian"
	"batchcompute.dev/operator/hack/cluster/internal/image"
)

// Images every cluster with a real or a process node has.
const (
	busyboxImage = "busybox:1.37"
	pythonImage  = "python:3.13-slim"
	pauseImage   = "localhost/pause:1"
)

// packing is raised when images change that are packed here, so that those of
// an older program in the cache are not taken for them.
const packing = "1"

// preloaded is an image as the nodes take it.
type preloaded struct {
	ref string
	tar string // for a real node
	dir string // for a process node: what goes into PATH is in its bin/
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n"

const group = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n"

func accounts() []image.File {
	return []image.File{{Path: "/etc/passwd", Content: []byte(passwd)}, {Path: "/etc/group", Content: []byte(group)}}
}

// preloadedImages packs the images of the cluster's tier, unless the cache has them.
func (c *Cluster) preloadedImages(ctx context.Context) ([]preloaded, error) {
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory for images: %w", err)
	}
	lock, err := cache.Acquire(ctx, filepath.Join(dir, ".lock"), func() { c.say("Waiting for another program that packs images ...") })
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	pythonDir, err := c.unpackPython(ctx, dir)
	if err != nil {
		return nil, err
	}
	if c.Tier == build.Process {
		none := filepath.Join(dir, "busybox") // what it would have is this machine's own
		if err := os.MkdirAll(none, 0o755); err != nil {
			return nil, fmt.Errorf("making an image's directory: %w", err)
		}
		return []preloaded{{ref: busyboxImage, dir: none}, {ref: pythonImage, dir: pythonDir}}, nil
	}
	busybox, err := c.busybox(ctx)
	if err != nil {
		return nil, err
	}
	shell, err := busyboxFiles(ctx, busybox)
	if err != nil {
		return nil, err
	}
	python, err := pythonFiles(pythonDir)
	if err != nil {
		return nil, err
	}
	pause, err := filepath.EvalSymlinks(c.bin("pause"))
	if err != nil {
		return nil, fmt.Errorf("finding pause: %w", err)
	}
	specs := []image.Spec{
		{Name: pauseImage, Entrypoint: []string{"/pause"}, User: "65535:65535", Files: []image.File{{Path: "/pause", Source: pause}}},
		{Name: busyboxImage, Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}, Files: append(accounts(), shell...)},
		{Name: pythonImage, Cmd: []string{"python3"}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
			Files: append(append(accounts(), shell...), python...)},
	}
	var images []preloaded
	for _, s := range specs {
		tar, err := c.pack(dir, s)
		if err != nil {
			return nil, err
		}
		images = append(images, preloaded{ref: s.Name, tar: tar})
	}
	return images, nil
}

// pack returns the tar of an image, named by what goes into it.
func (c *Cluster) pack(dir string, s image.Spec) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, packing, s.Name, s.Entrypoint, s.Cmd, s.User, s.Env)
	for _, f := range s.Files {
		fmt.Fprintln(h, f.Path, f.Source, f.Target, len(f.Content))
		h.Write(f.Content)
		if f.Source == "" {
			continue
		}
		info, err := os.Stat(f.Source)
		if err != nil {
			return "", fmt.Errorf("packing the image %s: %w", s.Name, err)
		}
		fmt.Fprintln(h, info.Size(), info.ModTime().UnixNano())
	}
	base := strings.NewReplacer("/", "-", ":", "-").Replace(s.Name)
	tar := filepath.Join(dir, base+"-"+hex.EncodeToString(h.Sum(nil)[:8])+".tar")
	if _, err := os.Stat(tar); err == nil {
		return tar, nil
	}
	c.say("Packing the image %s", s.Name)
	return tar, image.WriteFile(tar, s)
}

// busybox returns a static busybox.
func (c *Cluster) busybox(ctx context.Context) (string, error) {
	if p, err := exec.LookPath("busybox"); err == nil && image.IsStatic(p) {
		return p, nil
	}
	root, err := cache.Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "debian", "busybox-static")
	if _, err := os.Stat(dir); err != nil {
		c.say("Fetching busybox (apt-get download busybox-static)")
	}
	if err := debian.Unpack(ctx, dir, "busybox-static"); err != nil {
		return "", fmt.Errorf("no static busybox: %w", err)
	}
	for _, p := range []string{"bin/busybox", "usr/bin/busybox"} {
		if p = filepath.Join(dir, p); image.IsStatic(p) {
			return p, nil
		}
	}
	return "", errors.New("no static busybox in the package busybox-static")
}

func busyboxFiles(ctx context.Context, busybox string) ([]image.File, error) {
	out, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing what busybox can be: %w", err)
	}
	files := []image.File{{Path: "/bin/busybox", Source: busybox}}
	for applet := range strings.FieldsSeq(string(out)) {
		if applet != "busybox" {
			files = append(files, image.File{Path: "/bin/" + applet, Target: "busybox"})
		}
	}
	return files, nil
}

// unpackPython returns the directory of a standalone CPython, whose bin/ has
// python and python3.
func (c *Cluster) unpackPython(ctx context.Context, dir string) (string, error) {
	unpack, err := filepath.EvalSymlinks(c.bin("python-unpack"))
	if err != nil {
		return "", fmt.Errorf("finding Python: %w", err)
	}
	to := filepath.Join(dir, filepath.Base(filepath.Dir(unpack))) // carries the hash of what it came from
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	c.say("Unpacking Python")
	tmp := filepath.Join(dir, ".python") // one at most: we hold the lock
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("removing what was half unpacked: %w", err)
	}
	if out, err := exec.CommandContext(ctx, unpack, tmp).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking Python: %w\n%s", err, out)
	}
	// Its library carries 80 MB for debuggers. Where nothing can take them out
	// they stay: it only takes longer.
	if strip, err := exec.LookPath("strip"); err == nil {
		libs, _ := filepath.Glob(filepath.Join(tmp, "lib", "libpython*.so.*"))
		for _, lib := range libs {
			if out, err := exec.CommandContext(ctx, strip, "--strip-debug", lib).CombinedOutput(); err != nil {
				return "", fmt.Errorf("stripping Python's library: %w\n%s", err, out)
			}
		}
	}
	if err := os.Rename(tmp, to); err != nil {
		return "", fmt.Errorf("putting Python in place: %w", err)
	}
	return to, nil
}

// pythonFiles returns what goes into the image: the interpreter and its
// library, and of this machine the C library it is linked to.
func pythonFiles(dir string) ([]image.File, error) {
	interpreter := filepath.Join(dir, "bin", "python3")
	own := func(lib string) bool { return strings.HasPrefix(path.Base(lib), "libpython") }
	libs, err := filepath.Glob(filepath.Join(dir, "lib", "libpython*.so.*"))
	if err != nil || len(libs) == 0 {
		return nil, errors.New("the unpacked Python has no library")
	}
	files := []image.File{
		{Path: "/usr/local/bin/python3", Source: interpreter},
		{Path: "/usr/local/bin/python", Target: "python3"},
		{Path: "/usr/local/lib", Source: filepath.Join(dir, "lib"), Skip: skipInPython},
	}
	shared, err := image.SharedLibraries(own, append(libs, interpreter)...)
	if err != nil {
		return nil, err
	}
	return append(files, shared...), nil
}

// skipInPython leaves out what no job needs: a second copy of the library,
// compiled files that Python would write again, tests and the graphical parts.
func skipInPython(rel string) bool {
	base := path.Base(rel)
	switch base {
	case "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages":
		return true
	}
	return strings.HasPrefix(base, "config-") || (strings.HasPrefix(base, "libpython") && strings.HasSuffix(base, ".so"))
}
