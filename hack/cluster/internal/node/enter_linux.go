// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"batchcompute.dev/operator/hack/cluster/internal/cache"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

const namespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Start starts the node's PID 1 with the configuration at configPath, and puts
// it on record in partsDir as name.
func Start(partsDir, name, self, configPath, log string, lock *cache.Lock) error {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return fmt.Errorf("making the log directory: %w", err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the node's log: %w", err)
	}
	defer f.Close()
	cmd := exec.Command(self, EnterCommand, partsDir, name, self, configPath, log)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.ExtraFiles = []*os.File{lock.File} // see part.Start
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("starting the node: %w; see %s", err, log)
	}
	return nil
}

// Enter is the program between this machine and the node. A new cgroup
// namespace has its root where its maker is, so somebody must go there first;
// and that cannot be "up", which must stay where it is.
func Enter(partsDir, name, self, configPath, log string) error {
	unix.CloseOnExec(3) // the lock
	config, err := loadConfig(configPath)
	if err != nil {
		return err
	}
	if err := enterCgroups(config.Cgroups); err != nil {
		return err
	}
	cmd := exec.Command(self, InitCommand, configPath)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("making the node's namespaces: %w", err)
	}
	// Were this killed here, the node would be found by its cgroups.
	id, err := part.Identify(cmd.Process.Pid)
	if err != nil {
		return err
	}
	r := part.Record{Name: name, Exe: self, Args: []string{InitCommand, configPath}, Log: log, ID: id}
	return r.Save(partsDir)
}
