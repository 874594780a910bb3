// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls are those the kubelet insists on, all of the whole machine. It is
// shown files in their place, so that the machine's stay as they are.
var sysctls = map[string]string{"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}

// mounts lays out the node's file system in a fresh mount namespace: this
// machine's, except for what the node would write to.
func mounts(stateDir string) error {
	// First of all cut the ties: from here on nothing is seen outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo") // before the cgroups go out of sight
	if err != nil {
		return fmt.Errorf("listing the mounts: %w", err)
	}
	hs, err := hierarchies(string(mountinfo))
	if err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("hiding this machine's /sys: %w", err)
	}
	if err := mount("sysfs", "/sys", "sysfs", ""); err != nil {
		return err
	}
	if err := mountCgroups(hs); err != nil {
		return err
	}
	state, err := os.Open(stateDir) // may go out of sight with /run
	if err != nil {
		return fmt.Errorf("opening the node's state: %w", err)
	}
	defer state.Close()
	for _, dir := range []string{"/run", "/var/log"} {
		if err := mount("tmpfs", dir, "tmpfs", "mode=755"); err != nil {
			return err
		}
	}
	if err := bind(fmt.Sprintf("/proc/self/fd/%d", state.Fd()), stateMount); err != nil {
		return err
	}
	if err := coverVarLib(); err != nil {
		return err
	}
	if err := maskSysctls(); err != nil {
		return err
	}
	if err := maskResolver(); err != nil {
		return err
	}
	// The kubelet and containerd hand mounts on to containers.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the mounts within the node: %w", err)
	}
	return nil
}

// mountCgroups shows the node its own part of each hierarchy, as the whole of it.
func mountCgroups(hs []hierarchy) error {
	const top = "/sys/fs/cgroup"
	if hs[0].v2 {
		return mount("cgroup2", top, "cgroup2", "")
	}
	if err := mount("tmpfs", top, "tmpfs", "mode=755"); err != nil {
		return err
	}
	for _, h := range hs {
		dir := filepath.Join(top, filepath.Base(h.mount))
		options := strings.Join(h.controllers, ",")
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if err := mount("cgroup", dir, "cgroup", options); err != nil {
			return err
		}
		for _, c := range h.controllers { // "cpu" beside "cpu,cpuacct"
			if link := filepath.Join(top, c); len(h.controllers) > 1 && link != dir {
				if err := os.Symlink(filepath.Base(dir), link); err != nil {
					return fmt.Errorf("linking a cgroup controller: %w", err)
				}
			}
		}
	}
	return nil
}

// delegateCgroups turns on, in version 2, what the kubelet hands down to Pods.
// A cgroup that does so may hold no process, so this one moves into a leaf.
func delegateCgroups() error {
	const top = "/sys/fs/cgroup"
	if !exists(top + "/cgroup.controllers") {
		return nil // version 1
	}
	leaf := top + "/init"
	if err := os.Mkdir(leaf, 0o755); err != nil {
		return fmt.Errorf("making a cgroup for the node's daemons: %w", err)
	}
	if err := enterCgroups([]string{leaf}); err != nil {
		return err
	}
	have, err := os.ReadFile(top + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("reading the cgroup controllers: %w", err)
	}
	on := "+" + strings.Join(strings.Fields(string(have)), " +")
	if err := os.WriteFile(top+"/cgroup.subtree_control", []byte(on), 0o644); err != nil {
		return fmt.Errorf("turning the cgroup controllers on: %w", err)
	}
	return nil
}

// coverVarLib lets the node see this machine's /var/lib and keep its own
// changes: the kubelet and the network plugins write to fixed places in there.
func coverVarLib() error {
	const upper, work = "/run/var-lib/upper", "/run/var-lib/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("covering /var/lib: %w", err)
		}
	}
	return mount("overlay", "/var/lib", "overlay", "lowerdir=/var/lib,upperdir="+upper+",workdir="+work)
}

func maskSysctls() error {
	for name, value := range sysctls {
		file := filepath.Join("/run/sysctl", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("masking the sysctl %s: %w", name, err)
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("masking the sysctl %s: %w", name, err)
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("masking the sysctl %s: %w", name, err)
		}
	}
	return nil
}

// maskResolver shows the node a name server that is not there. The node has no route to
// the outside: this machine's server would never answer, and an image that cannot be
// pulled would hang instead of failing at once.
func maskResolver() error {
	const file, here = "/etc/resolv.conf", "/run/resolv.conf"
	if !exists(file) {
		return nil // none, or it went out of sight with /run: nobody is asked then
	}
	if err := os.WriteFile(here, []byte("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n"), 0o644); err != nil {
		return fmt.Errorf("masking the resolver's configuration: %w", err)
	}
	if err := unix.Mount(here, file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("masking the resolver's configuration: %w", err)
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func mount(source, dir, fstype, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fstype, dir, err)
	}
	if err := unix.Mount(source, dir, fstype, 0, options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fstype, dir, err)
	}
	return nil
}

func bind(from, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("mounting the node's state: %w", err)
	}
	if err := unix.Mount(from, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the node's state: %w", err)
	}
	return nil
}
