// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/cache"
)

// Builder makes programs and keeps them below Cache.
type Builder struct {
	ModDir string    // the directory mod/ of this program's source
	Cache  string    // absolute
	Log    io.Writer // progress, for people
}

// New returns a Builder for this machine's cache.
func New(log io.Writer) (*Builder, error) {
	mod, err := findModDir()
	if err != nil {
		return nil, err
	}
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	return &Builder{ModDir: mod, Cache: root, Log: log}, nil
}

// Dir makes sure that every program of tier is built, and returns the directory
// that holds links to all of them, the network plugins in its folder cni.
func (b *Builder) Dir(ctx context.Context, tier Tier, fake bool) (string, error) {
	goVersion, err := goVersion(ctx)
	if err != nil {
		return "", err
	}
	var runcPath string
	fromSource := false
	if tier == Node {
		if runcPath, err = b.otherRunc(ctx); err != nil {
			return "", err
		}
		fromSource = runcPath == ""
	}
	mods := modules(tier, fake, fromSource)
	links := map[string]string{} // path in the composed directory -> program
	for i, m := range mods {
		dir, err := b.ensure(ctx, m, goVersion, fmt.Sprintf("%d of %d", i+1, len(mods)))
		if err != nil {
			return "", err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", fmt.Errorf("listing the programs of %s: %w", m.what, err)
		}
		for _, e := range entries {
			links[filepath.Join(m.subdir, e.Name())] = filepath.Join(dir, e.Name())
		}
	}
	if runcPath != "" {
		links["runc"] = runcPath
	}
	return b.compose(tier, links)
}

// ensure returns the directory of m's programs, building them unless they are
// there. Two programs that want the same build share one.
func (b *Builder) ensure(ctx context.Context, m module, goVersion, progress string) (string, error) {
	key, err := m.key(filepath.Join(b.ModDir, m.name), goVersion)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, "bin", m.name+"-"+key)
	if exists(dir) {
		return dir, nil
	}
	lock, err := cache.Acquire(ctx, filepath.Join(b.Cache, "bin", "."+m.name+".lock"), func() {
		fmt.Fprintf(b.Log, "Waiting for another build of %s ...\n", m.what)
	})
	if err != nil {
		return "", err
	}
	defer lock.Release()
	if exists(dir) {
		return dir, nil
	}
	tmp, err := b.freshDir(m)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp) // no longer there when all went well
	if err := b.build(ctx, m, tmp, progress); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("putting the programs of %s in place: %w", m.what, err)
	}
	return dir, nil
}

// freshDir makes a directory to build m into, after it removed what killed
// builds left: the caller holds the lock, so nobody else builds m. The name is
// a new one, because the go command of a killed build may still be at work.
func (b *Builder) freshDir(m module) (string, error) {
	pattern := ".building-" + m.name + "-*"
	old, err := filepath.Glob(filepath.Join(b.Cache, "bin", pattern))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("removing what a killed build left: %w", err)
		}
	}
	dir, err := os.MkdirTemp(filepath.Join(b.Cache, "bin"), pattern)
	if err != nil {
		return "", fmt.Errorf("making the build directory: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the build directory: %w", err)
	}
	return dir, nil
}

func (b *Builder) build(ctx context.Context, m module, out, progress string) error {
	src := filepath.Join(b.ModDir, m.name)
	goMod, err := os.ReadFile(filepath.Join(src, "go.mod"))
	if err != nil {
		return fmt.Errorf("reading the module of %s: %w", m.what, err)
	}
	var env []string
	if m.prepare != nil {
		if env, err = m.prepare(b); err != nil {
			return fmt.Errorf("preparing to build %s: %w", m.what, err)
		}
	}
	cmd := exec.CommandContext(ctx, "go", m.args(string(goMod), out)...)
	cmd.Dir = src
	// What the caller set for its own builds (-mod=vendor, a workspace, another
	// target platform) must not reach this one.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=", "CGO_ENABLED="+bit(m.cgo))
	cmd.Env = append(cmd.Env, env...)
	watch := &watcher{what: m.what, progress: progress, log: b.Log, start: time.Now()}
	cmd.Stdout, cmd.Stderr = watch, watch
	stop := watch.begin()
	err = cmd.Run()
	stop()
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", m.what, err, watch.tail())
	}
	fmt.Fprintf(b.Log, "Built %s (%s) in %s\n", m.what, progress, watch.elapsed())
	return nil
}

// compose returns a directory of links, named by what it links to.
func (b *Builder) compose(tier Tier, links map[string]string) (string, error) {
	h := sha256.New()
	for _, name := range sortedKeys(links) {
		fmt.Fprintln(h, name, links[name])
	}
	dir := filepath.Join(b.Cache, "bin", string(tier)+"-"+shortHash(h.Sum(nil)))
	if exists(dir) {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".composing-*")
	if err != nil {
		return "", fmt.Errorf("composing the programs of tier %s: %w", tier, err)
	}
	defer os.RemoveAll(tmp)
	for name, target := range links {
		link := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return "", fmt.Errorf("composing the programs of tier %s: %w", tier, err)
		}
		if err := os.Symlink(target, link); err != nil {
			return "", fmt.Errorf("composing the programs of tier %s: %w", tier, err)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("composing the programs of tier %s: %w", tier, err)
	}
	if err := os.Rename(tmp, dir); err != nil && !exists(dir) {
		return "", fmt.Errorf("composing the programs of tier %s: %w", tier, err)
	}
	return dir, nil
}

func goVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("the go command is not in PATH; it builds the cluster's programs")
	}
	if err != nil {
		return "", fmt.Errorf("asking for the Go version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
