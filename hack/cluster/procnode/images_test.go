// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNormalizeImage(t *testing.T) {
	for ref, want := range map[string]string{
		"busybox":                                "docker.io/library/busybox:latest",
		"busybox:1.37":                           "docker.io/library/busybox:1.37",
		"docker.io/busybox:1.37":                 "docker.io/library/busybox:1.37",
		"index.docker.io/library/busybox:1.37":   "docker.io/library/busybox:1.37",
		"docker.io/library/busybox:1.37":         "docker.io/library/busybox:1.37",
		"user/tool":                              "docker.io/user/tool:latest",
		"registry.k8s.io/pause:3.10":             "registry.k8s.io/pause:3.10",
		"localhost/tool":                         "localhost/tool:latest",
		"localhost:5000/a/b":                     "localhost:5000/a/b:latest",
		"busybox@sha256:0123":                    "docker.io/library/busybox@sha256:0123",
		"registry.test:5000/a/b/c:1@sha256:0123": "registry.test:5000/a/b/c:1@sha256:0123",
	} {
		if got := normalizeImage(ref); got != want {
			t.Errorf("%s: got %s, want %s", ref, got, want)
		}
	}
}

func TestFindImage(t *testing.T) {
	cfg := Config{Root: t.TempDir(), Images: map[string]string{"busybox:1.37": "/given", "tool:1": "/old"}}
	find := func(ref, want string) {
		t.Helper()
		if got, err := findImage(cfg, ref); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", ref, got, err, want)
		}
	}
	find("docker.io/library/busybox:1.37", "/given")
	find("busybox:1.36", "")
	find("tool:1", "/old")
	file := filepath.Join(cfg.Root, imagesFile)
	if err := os.WriteFile(file, []byte(`{"docker.io/library/tool:1":"/new","busybox":"/latest"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	find("tool:1", "/new")
	find("busybox:latest", "/latest")
	find("busybox:1.37", "/given")
	if err := os.WriteFile(file, []byte(`{`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := findImage(cfg, "tool:1"); err == nil {
		t.Error("a broken images file is not reported")
	}
}
