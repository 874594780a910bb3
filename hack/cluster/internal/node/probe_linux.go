// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Possible returns nil if a real node can run on this machine, and else the
// reason why not. It tries the parts of it out in namespaces that end with the
// trial; self is this program, and dir is where the node would keep its state.
func Possible(ctx context.Context, self, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	dirs, err := CgroupDirs("probe")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := unix.Access(filepath.Dir(d), unix.W_OK); err != nil {
			return fmt.Errorf("no cgroups can be made: %w", err)
		}
	}
	state := filepath.Join(dir, "probe")
	if err := os.MkdirAll(state, 0o755); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(state)
	cmd := exec.CommandContext(ctx, self, ProbeCommand, state)
	var out bytes.Buffer
	cmd.Stderr = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return errors.New(strings.TrimPrefix(strings.TrimSpace(out.String()), "Error: "))
	case err != nil:
		return fmt.Errorf("no namespaces can be made: %w", err)
	}
	return nil
}

// Probe is the trial, inside the namespaces.
func Probe(stateDir string) error {
	if err := mounts(stateDir); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "bc0"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("making a bridge: %w", err)
	}
	attrs.Name = "bc1"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "bc2"}); err != nil {
		return fmt.Errorf("making a pair of network interfaces: %w", err)
	}
	const lower, upper, work = stateMount + "/lower", stateMount + "/upper", stateMount + "/work"
	for _, dir := range []string{lower, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making a directory: %w", err)
		}
	}
	return mount("overlay", stateMount+"/merged", "overlay", "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
}
