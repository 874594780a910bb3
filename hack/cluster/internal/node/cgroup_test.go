// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const v1Mounts = `30 1 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 1 8:1 / /mnt rw - ext4 /dev/sda1 rw
`

const v2Mounts = "30 1 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw,nsdelegate\n"

func TestHierarchies(t *testing.T) {
	for name, tc := range map[string]struct {
		mounts string
		want   []hierarchy
	}{
		"version 1": {v1Mounts, []hierarchy{
			{mount: "/sys/fs/cgroup/cpu,cpuacct", controllers: []string{"cpu", "cpuacct"}},
			{mount: "/sys/fs/cgroup/systemd", controllers: []string{"name=systemd"}},
		}},
		"version 2": {v2Mounts, []hierarchy{{mount: "/sys/fs/cgroup", v2: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hierarchies(tc.mounts)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(hierarchy{})); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
	if _, err := hierarchies("34 1 8:1 / /mnt rw - ext4 /dev/sda1 rw\n"); err == nil {
		t.Error("no error though there are no cgroups")
	}
}

func TestOwn(t *testing.T) {
	const cgroup = "5:cpu,cpuacct:/a:b/c\n1:name=systemd:/d\n0::/e\n"
	for want, h := range map[string]hierarchy{
		"/a:b/c": {controllers: []string{"cpu", "cpuacct"}},
		"/d":     {controllers: []string{"name=systemd"}},
		"/e":     {v2: true},
		"/":      {controllers: []string{"memory"}},
	} {
		if got := h.own(cgroup); got != want {
			t.Errorf("%v: got %q, want %q", h, got, want)
		}
	}
}

func TestParentInVersion2(t *testing.T) {
	top := t.TempDir()
	write := func(dir, on string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, dir, "cgroup.subtree_control"), []byte(on), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := hierarchy{mount: top, v2: true}
	write("", "cpu io")
	write("user", "cpu memory pids io\n")
	write("user/session", "\n")
	got, err := h.parent("0::/user/session\n")
	if want := filepath.Join(top, "user"); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	write("user", "cpu")
	if _, err := h.parent("0::/user/session\n"); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("got %v, want an error that names the controllers", err)
	}
}

func TestMakeCgroupsFillsCpusets(t *testing.T) {
	parent := t.TempDir()
	if err := os.WriteFile(filepath.Join(parent, "cpuset.cpus"), []byte("0-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "batchcompute-x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cpuset.cpus"), []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := MakeCgroups([]string{dir}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "cpuset.cpus")); err != nil || string(got) != "0-1\n" {
		t.Errorf("got %q, %v, want the parent's", got, err)
	}
}

func TestRemoveCgroupsIsRepeatable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "batchcompute-x")
	if err := os.MkdirAll(filepath.Join(dir, "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := RemoveCgroups(t.Context(), []string{dir}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("got %v, want it gone", err)
		}
	}
}
