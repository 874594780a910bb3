// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package build makes the programs of a cluster from their Go modules and keeps
// them in a cache, so that only the first build of a version costs minutes.
package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// module is one wrapper module below mod/: a go.mod that pins an upstream whose
// commands we need, with that upstream's own replacements, which is why one
// go.mod cannot hold them all.
type module struct {
	name string
	what string // for people, said while it builds

	pkg    string // what to build; "tool" is every command the go.mod lists as a tool
	out    string // the program's name where pkg is a single one, else empty
	subdir string // where in the composed directory its programs go
	cgo    bool
	tags   string
	// ldflags gets the wrapper's go.mod, to stamp the version it pins.
	ldflags func(goMod string) string
	// prepare returns further environment for the build.
	prepare func(b *Builder) ([]string, error)
}

const strip = "-s -w"

func stripped(string) string { return strip }

var (
	etcd = module{name: "etcd", what: "etcd", pkg: "go.etcd.io/etcd/server/v3", out: "etcd", ldflags: stripped}

	kubernetes = module{name: "k8s", what: "Kubernetes", pkg: "tool", ldflags: kubernetesLdflags}

	containerd = module{name: "containerd", what: "containerd", pkg: "tool", tags: "no_btrfs no_devmapper no_zfs",
		ldflags: func(goMod string) string {
			return strip + " -X github.com/containerd/containerd/v2/version.Version=" +
				requiredVersion(goMod, "github.com/containerd/containerd/v2")
		}}

	cni = module{name: "cni", what: "the network plugins", pkg: "tool", subdir: "cni", ldflags: stripped}

	kwok = module{name: "kwok", what: "kwok", pkg: "tool", ldflags: stripped}

	pause = module{name: "pause", what: "pause", pkg: ".", out: "pause", ldflags: stripped}

	python = module{name: "python", what: "Python", pkg: ".", out: "python-unpack", ldflags: stripped}

	// The kubelet asks for the RuntimeDefault seccomp profile for each Pod's
	// sandbox, so runc needs libseccomp, linked statically.
	runc = module{name: "runc", what: "runc", pkg: "github.com/opencontainers/runc", out: "runc", cgo: true,
		tags: "seccomp netgo osusergo", prepare: seccompEnv,
		ldflags: func(goMod string) string {
			v := strings.TrimPrefix(requiredVersion(goMod, "github.com/opencontainers/runc"), "v")
			return strip + " -X main.version=" + v + " -extldflags -static"
		}}
)

// kubernetesLdflags stamps the version, which the API server hands out and
// clients compare.
func kubernetesLdflags(goMod string) string {
	version := requiredVersion(goMod, "k8s.io/kubernetes")
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	for len(parts) < 2 {
		parts = append(parts, "0")
	}
	flags := []string{strip}
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, kv := range [][2]string{
			{"gitVersion", version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]}, {"gitTreeState", "clean"},
			{"gitCommit", strings.Repeat("0", 40)}, {"buildDate", "2026-01-01T00:00:00Z"},
		} {
			flags = append(flags, "-X "+p+"."+kv[0]+"="+kv[1])
		}
	}
	return strings.Join(flags, " ")
}

// requiredVersion returns the version of path that a go.mod requires, or "" if it does not.
func requiredVersion(goMod, path string) string {
	for line := range strings.Lines(goMod) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && f[0] == path && strings.HasPrefix(f[1], "v") {
			return f[1]
		}
	}
	return ""
}

// args returns the arguments of the go command that builds m into dir.
func (m module) args(goMod, dir string) []string {
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", m.ldflags(goMod)}
	if m.tags != "" {
		args = append(args, "-tags", m.tags)
	}
	target := dir + string(filepath.Separator)
	if m.out != "" {
		target = filepath.Join(dir, m.out)
	}
	return append(args, "-o", target, m.pkg)
}

// key returns a short hash of all that decides what building m yields: the
// wrapper module's files, the flags, the Go version and the platform.
func (m module) key(dir, goVersion string) (string, error) {
	goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("reading the module of %s: %w", m.what, err)
	}
	h := sha256.New()
	for _, s := range append(m.args(string(goMod), "OUT"), fmt.Sprint(m.cgo), goVersion, runtime.GOOS, runtime.GOARCH) {
		fmt.Fprintf(h, "%d:%s\n", len(s), s)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.ToSlash(rel), len(data))
		h.Write(data)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("hashing the module of %s: %w", m.what, err)
	}
	return shortHash(h.Sum(nil)), nil
}

func shortHash(sum []byte) string { return hex.EncodeToString(sum[:8]) }

// Tier says how much of a cluster is wanted.
type Tier string

// The tiers, from the least real to the most.
const (
	ControlPlane Tier = "control-plane" // an API server, its store and its controllers; no Pod ever runs
	Fake         Tier = "fake"          // plus pretended nodes, whose Pods only seem to run
	Process      Tier = "process"       // plus a node that runs Pods as local processes
	Node         Tier = "node"          // plus a real node
)

// Tiers lists every tier there is, the cheapest first.
var Tiers = []Tier{ControlPlane, Fake, Process, Node}

// modules returns what a tier is made of. fake adds pretended nodes to it, and
// runcFromSource is false where the machine has another runc to use.
func modules(t Tier, fake, runcFromSource bool) []module {
	mods := []module{etcd, kubernetes}
	if t == Fake || fake {
		mods = append(mods, kwok)
	}
	switch t {
	case Process:
		mods = append(mods, python)
	case Node:
		mods = append(mods, python, pause, cni, containerd)
		if runcFromSource {
			mods = append(mods, runc)
		}
	}
	return slices.Clip(mods)
}
