// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Hidden subcommands of this program; see the package's picture.
const (
	EnterCommand = "node-enter"
	InitCommand  = "node-init"
	ProbeCommand = "node-probe"
)

// Paths as seen from inside the node. All below stateMount is kept when the
// node ends, like a machine's disk; the rest of /run is not.
const (
	stateMount     = "/run/node"
	KubeletRoot    = stateMount + "/kubelet"
	ContainerdRoot = stateMount + "/containerd"
	PodLogs        = stateMount + "/pod-logs"
	Socket         = "/run/containerd/containerd.sock"
)

// Config is what the node's PID 1 needs to know.
type Config struct {
	NodeName string   `json:"nodeName"`
	Cgroups  []string `json:"cgroups"`
	Bridge   Bridge   `json:"bridge"`
	StateDir string   `json:"stateDir"` // on this machine; becomes stateMount
	BinDir   string   `json:"binDir"`   // first in PATH
	LogDir   string   `json:"logDir"`
	Daemons  []Daemon `json:"daemons"`
}

// Daemon is a program that runs in the node while it is wanted; one that ends
// by itself is started again.
type Daemon struct {
	Name string   `json:"name"`
	Exe  string   `json:"exe"`
	Args []string `json:"args"`
}

func loadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the node's configuration: %w", err)
	}
	c := &Config{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the node's configuration: %w", err)
	}
	return c, nil
}

// Which daemons are wanted, and which run, is told by empty files: the program
// outside writes the first directory and PID 1 the second.
func wantedFile(stateDir, daemon string) string  { return filepath.Join(stateDir, "wanted", daemon) }
func runningFile(stateDir, daemon string) string { return filepath.Join(stateDir, "running", daemon) }

// SetWanted asks the node's PID 1 to run a daemon, or to kill it and leave it be.
func SetWanted(stateDir, daemon string, wanted bool) error {
	path := wantedFile(stateDir, daemon)
	if !wanted {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("asking the node to stop %s: %w", daemon, err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("asking the node to start %s: %w", daemon, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("asking the node to start %s: %w", daemon, err)
	}
	return nil
}

// IsRunning tells whether PID 1 runs the daemon, or did when it was killed.
func IsRunning(stateDir, daemon string) bool {
	_, err := os.Stat(runningFile(stateDir, daemon))
	return err == nil
}
