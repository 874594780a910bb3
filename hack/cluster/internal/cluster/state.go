// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster brings local Kubernetes clusters up and takes them down.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/cache"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// Provider says who runs the cluster.
type Provider string

// The providers.
const (
	Local    Provider = "local"    // this program, from Go modules
	Kind     Provider = "kind"     // kind, in containers
	Existing Provider = "existing" // somebody else; it is only looked at
)

// Options are what the user asks of a new cluster.
type Options struct {
	Name     string     `json:"name"`
	Provider Provider   `json:"provider"`
	Tier     build.Tier `json:"tier"`
	Zone     string     `json:"zone"` // of the real or the process node
	Fake     FakeNodes  `json:"fake"`
	Audit    bool       `json:"audit,omitempty"` // write an audit log
	// Args are further command line arguments for a part, by its name.
	Args map[string][]string `json:"args,omitempty"`
}

// FakeNodes says which pretended nodes there are. Zones and instance types are
// given to them in turn.
type FakeNodes struct {
	Count         int      `json:"count"`
	Zones         []string `json:"zones,omitempty"`
	InstanceTypes []string `json:"instanceTypes,omitempty"`
	Taint         bool     `json:"taint"` // keep Pods away that do not ask for a pretended node
}

// State is all that is on record about a cluster. It is stored before the first
// thing outside the state directory is made, so that whatever is made can be
// found and removed again.
type State struct {
	Options
	Created time.Time `json:"created"`
	BinDir  string    `json:"binDir,omitempty"`
	Network Network   `json:"network"`
	Ports   Ports     `json:"ports"`
	Cgroups []string  `json:"cgroups,omitempty"` // directories made for the real node
	Ready   bool      `json:"ready"`             // it was once up whole
}

// Cluster is one cluster's state together with what is needed to work on it.
type Cluster struct {
	State
	dir  string // absolute
	self string // the copy of this program that starts parts
	log  io.Writer
	lock *cache.Lock // nil in a Cluster that is only looked at
}

// ErrNotUp says that there is no cluster of the name asked for.
var ErrNotUp = errors.New("no such cluster is up")

// validName keeps a name usable in a path, a node's name and a cgroup's.
var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

func clustersDir() (string, error) {
	root, err := cache.Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "clusters"), nil
}

// at returns the Cluster of a name, with its stored state if there is one.
func at(name string, log io.Writer) (*Cluster, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("the cluster's name must be 1 to 32 of a-z, 0-9 and '-' and neither start nor end with '-', got %q", name)
	}
	root, err := clustersDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, name)
	c := &Cluster{State: State{Options: Options{Name: name}}, dir: dir, self: filepath.Join(dir, "cluster"), log: log}
	data, err := os.ReadFile(c.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state of cluster %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &c.State); err != nil {
		return nil, fmt.Errorf("reading the state of cluster %s: %w", name, err)
	}
	return c, nil
}

// Open returns the cluster of a name, to look at. Without one, the error is ErrNotUp.
func Open(name string, log io.Writer) (*Cluster, error) {
	c, err := at(name, log)
	if err == nil && c.Provider == "" {
		return nil, fmt.Errorf("cluster %q: %w", name, ErrNotUp)
	}
	return c, err
}

// openLocked is at, while nobody else changes the cluster.
func openLocked(ctx context.Context, name string, log io.Writer) (*Cluster, error) {
	c, err := at(name, log)
	if err != nil {
		return nil, err
	}
	lock, err := cache.Acquire(ctx, filepath.Join(filepath.Dir(c.dir), "."+name+".lock"), func() {
		fmt.Fprintf(log, "Waiting for another program that works on cluster %s ...\n", name)
	})
	if err != nil {
		return nil, err
	}
	if c, err = at(name, log); err != nil { // it may have changed while we waited
		lock.Release()
		return nil, err
	}
	c.lock = lock
	return c, nil
}

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *Cluster) partsDir() string { return c.path("parts") }

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// LogDir is where the parts write their logs.
func (c *Cluster) LogDir() string { return c.path("log") }

func (c *Cluster) bin(name string) string { return filepath.Join(c.BinDir, name) }

func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.log, format+"\n", args...) }

func (c *Cluster) save() error {
	data, err := json.MarshalIndent(&c.State, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the state of cluster %s: %w", c.Name, err)
	}
	return writeFile(c.path("state.json"), data)
}

// writeFile writes a private file, whole or not at all, and its directory as needed.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}

// others returns the state of every other cluster on record.
func (c *Cluster) others() ([]State, error) {
	entries, err := os.ReadDir(filepath.Dir(c.dir))
	if err != nil {
		return nil, fmt.Errorf("listing the clusters: %w", err)
	}
	var states []State
	for _, e := range entries {
		if !e.IsDir() || e.Name() == c.Name || !validName.MatchString(e.Name()) {
			continue
		}
		if o, err := at(e.Name(), io.Discard); err == nil && o.Provider != "" {
			states = append(states, o.State)
		}
	}
	return states, nil
}

// allocate chooses addresses and ports and puts the cluster on record. A lock
// over all clusters keeps two that come up at once from choosing the same.
func (c *Cluster) allocate(ctx context.Context) error {
	lock, err := cache.Acquire(ctx, filepath.Join(filepath.Dir(c.dir), ".allocate.lock"), nil)
	if err != nil {
		return err
	}
	defer lock.Release()
	others, err := c.others()
	if err != nil {
		return err
	}
	taken, err := machinePrefixes()
	if err != nil {
		return err
	}
	var reserved []int
	for _, o := range others {
		if o.Network.Block != (netip.Prefix{}) {
			taken = append(taken, o.Network.Block)
		}
		reserved = append(reserved, o.Ports.API)
	}
	if c.Network, err = pickNetwork(c.dir, taken); err != nil {
		return err
	}
	if c.Ports, err = pickPorts(c.dir, reserved, canListen); err != nil {
		return err
	}
	return c.save()
}

// copySelf puts a copy of this program into the state directory. Parts are
// started by it, so that they can be told apart by their program, and so that
// they outlive "go run", which deletes what it ran.
func (c *Cluster) copySelf() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	if err := writeFile(c.self, data); err != nil {
		return err
	}
	return os.Chmod(c.self, 0o755)
}

// restarted are the parts that are started again when they end by themselves,
// as they would be anywhere: the controller-manager does so when the API server
// goes away while it is still setting itself up.
var restarted = []string{partControllerManager, partScheduler}

// start runs a part of this cluster as a daemon.
func (c *Cluster) start(name, exe string, args ...string) error {
	exe, err := filepath.EvalSymlinks(exe) // the form in which the kernel names it later
	if err != nil {
		return fmt.Errorf("finding the program of %s: %w", name, err)
	}
	return part.Start(c.partsDir(), c.self, c.lock, part.Record{
		Name: name, Exe: exe, Args: append(args, c.Args[name]...), Log: filepath.Join(c.LogDir(), name+".log"),
		Restart: slices.Contains(restarted, name),
	})
}

// died returns an error that tells which part ended by itself, or nil if all run.
func (c *Cluster) died() error {
	records, err := part.List(c.partsDir())
	if err != nil {
		return err
	}
	for _, r := range records {
		if !r.Running(c.self) {
			return fmt.Errorf("%s has ended; the end of %s:\n%s", r.Name, r.Log, r.LogTail(15))
		}
	}
	return nil
}
