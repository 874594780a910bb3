// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Init is the node's PID 1. It returns only if the node cannot be set up.
func Init(configPath string) error {
	config, err := loadConfig(configPath)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(config.StateDir, "running")); err != nil {
		return fmt.Errorf("clearing what ran before: %w", err)
	}
	if err := mounts(config.StateDir); err != nil {
		return err
	}
	if err := delegateCgroups(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(config.NodeName)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := network(config.Bridge); err != nil {
		return err
	}
	if err := os.Setenv("PATH", config.BinDir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	return newKeeper(config).loop()
}

// network waits to be plugged in and then gives the node its address.
func network(b Bridge) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("starting the loopback interface: %w", err)
	}
	var link netlink.Link
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if link, err = netlink.LinkByName(b.VethNode); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting to be plugged in: %w", err)
		}
	}
	if err := netlink.AddrAdd(link, addr(b.NodeIP, b.NodeNet.Bits())); err != nil {
		return fmt.Errorf("setting the node's address: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("starting the network interface: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: b.HostIP.AsSlice()}); err != nil {
		return fmt.Errorf("setting the default route: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("turning forwarding on: %w", err)
	}
	return nil
}

// keeper runs the daemons that are wanted, and no others.
type keeper struct {
	config  *Config
	pids    map[string]int       // of the daemons that run
	started map[string]time.Time // when each was started last
}

const (
	lookEvery   = 50 * time.Millisecond // how soon a wish is noticed
	restartWait = time.Second           // at least this long between two starts of a daemon
)

func newKeeper(c *Config) *keeper {
	return &keeper{config: c, pids: map[string]int{}, started: map[string]time.Time{}}
}

func (k *keeper) loop() error {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	tick := time.NewTicker(lookEvery)
	for {
		k.reap()
		if err := k.reconcile(); err != nil {
			fmt.Fprintln(os.Stderr, err) // and try again
		}
		select {
		case <-died:
		case <-tick.C:
		}
	}
}

func (k *keeper) reconcile() error {
	var errs []error
	for _, d := range k.config.Daemons {
		_, err := os.Stat(wantedFile(k.config.StateDir, d.Name))
		wanted := err == nil
		pid, runs := k.pids[d.Name]
		switch {
		case wanted && !runs && time.Since(k.started[d.Name]) > restartWait:
			errs = append(errs, k.start(d))
		case !wanted && runs:
			_ = syscall.Kill(pid, syscall.SIGKILL) // reap notices that it is gone
		}
	}
	return errors.Join(errs...)
}

func (k *keeper) start(d Daemon) error {
	k.started[d.Name] = time.Now()
	path := filepath.Join(k.config.LogDir, d.Name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", d.Name, err)
	}
	defer log.Close()
	// Not by os/exec: that waits for its children itself, and so does reap.
	p, err := os.StartProcess(d.Exe, append([]string{d.Exe}, d.Args...), &os.ProcAttr{Files: []*os.File{nil, log, log}})
	if err != nil {
		return fmt.Errorf("starting %s: %w", d.Name, err)
	}
	k.pids[d.Name] = p.Pid
	_ = p.Release()
	running := runningFile(k.config.StateDir, d.Name)
	if err := os.MkdirAll(filepath.Dir(running), 0o755); err != nil {
		return fmt.Errorf("noting that %s runs: %w", d.Name, err)
	}
	if err := os.WriteFile(running, nil, 0o600); err != nil {
		return fmt.Errorf("noting that %s runs: %w", d.Name, err)
	}
	return nil
}

// reap collects every child that ended; PID 1 also inherits orphaned processes.
func (k *keeper) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
		for name, p := range k.pids {
			if p != pid {
				continue
			}
			delete(k.pids, name)
			_ = os.Remove(runningFile(k.config.StateDir, name))
			fmt.Fprintf(os.Stderr, "%s %s ended (status %#x)\n", time.Now().UTC().Format(time.RFC3339), name, int(status))
		}
	}
}
