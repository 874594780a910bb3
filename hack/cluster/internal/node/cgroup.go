// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	mount       string   // where it is mounted
	controllers []string // version 1: as given to mount, e.g. "cpu" or "name=systemd"; version 2: nil
	v2          bool
}

// needed are the controllers a version 2 hierarchy must have on for the kubelet.
var needed = []string{"cpu", "memory", "pids"}

// hierarchies returns the cgroup file systems of this machine that the node
// needs. That is every one of version 1, or the one of version 2. On a machine
// with both ("hybrid"), the controllers are in those of version 1.
//
// Version 2 could not be tried out on the machines this was written on.
func hierarchies(mountinfo string) ([]hierarchy, error) {
	var v1, v2 []hierarchy
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /mount/point rw,... optional fields ... - type source superoptions
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		switch g[0] {
		case "cgroup":
			h := hierarchy{mount: f[4]}
			for o := range strings.SplitSeq(g[2], ",") {
				if !slices.Contains([]string{"rw", "ro", "xattr", "clone_children", "none"}, o) && !strings.HasPrefix(o, "release_agent=") {
					h.controllers = append(h.controllers, o)
				}
			}
			v1 = append(v1, h)
		case "cgroup2":
			v2 = append(v2, hierarchy{mount: f[4], v2: true})
		}
	}
	if len(v1) > 0 {
		return v1, nil
	}
	if len(v2) > 0 {
		return v2[:1], nil
	}
	return nil, errors.New("no cgroup file system is mounted")
}

// own returns the path of a process's cgroup within h, from /proc/PID/cgroup.
func (h hierarchy) own(procCgroup string) string {
	for line := range strings.Lines(procCgroup) {
		// 4:memory:/path for version 1, 0::/path for version 2
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && f[1] == strings.Join(h.controllers, ",") {
			return f[2]
		}
	}
	return "/"
}

// parent returns the directory below which the node's cgroup goes: the caller's
// own, so that limits set on the caller hold for the node too. In version 2 a
// cgroup that has processes cannot hand controllers down, except the topmost;
// then it is the nearest one above that does.
func (h hierarchy) parent(procCgroup string) (string, error) {
	dir := filepath.Join(h.mount, h.own(procCgroup))
	if !h.v2 {
		return dir, nil
	}
	for ; ; dir = filepath.Dir(dir) {
		on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return "", fmt.Errorf("reading which controllers are on: %w", err)
		}
		have := strings.Fields(string(on))
		if !slices.ContainsFunc(needed, func(c string) bool { return !slices.Contains(have, c) }) {
			return dir, nil
		}
		if dir == h.mount {
			return "", fmt.Errorf("the cgroup controllers %s are not all on", strings.Join(needed, ", "))
		}
	}
}

// CgroupDirs returns the directories that a node of that name would have, one
// in each hierarchy. Nothing is made.
func CgroupDirs(name string) ([]string, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing the mounts: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("reading this program's cgroups: %w", err)
	}
	hs, err := hierarchies(string(mountinfo))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range hs {
		parent, err := h.parent(string(own))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, filepath.Join(parent, "batchcompute-"+name))
	}
	return dirs, nil
}

// MakeCgroups makes the directories.
func MakeCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		// In version 1 a new cpuset is empty, and then nothing may enter it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil || strings.TrimSpace(string(have)) != "" {
				continue
			}
			from, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), from, 0o644)
			}
			if err != nil && filepath.Base(filepath.Dir(dir)) != "unified" && len(from) > 0 {
				return fmt.Errorf("setting up a cpuset: %w", err)
			}
		}
	}
	return nil
}

// enterCgroups moves this process, all its threads, into the directories.
func enterCgroups(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return fmt.Errorf("entering a cgroup: %w", err)
		}
	}
	return nil
}

// RemoveCgroups kills whatever is left in the directories, which by being in
// there is the node's, and removes them.
func RemoveCgroups(ctx context.Context, dirs []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		var left error
		for _, dir := range dirs {
			if err := removeTree(dir); err != nil {
				left = err
			}
		}
		if left == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("removing the node's cgroups: %w", left)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// removeTree kills the processes in dir and below, and removes what is empty
// already. It returns an error for what is not, yet.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(dirs) // what is inside comes first
	var errs []error
	for _, d := range dirs {
		procs, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		for pid := range strings.FieldsSeq(string(procs)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 && n != os.Getpid() {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
