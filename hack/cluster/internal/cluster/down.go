// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/node"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// Down removes a cluster and all that belongs to it. Removing one that is not
// there, or is there by half only, is fine.
func Down(ctx context.Context, name string, log io.Writer) error {
	c, err := openLocked(ctx, name, log)
	if err != nil {
		return err
	}
	there := c.Provider != ""
	if err := c.remove(ctx); err != nil {
		c.lock.Release()
		return fmt.Errorf("removing cluster %s: %w", name, err)
	}
	if there {
		c.say("Cluster %s is down", name)
	} else {
		c.say("No cluster %s is up", name)
	}
	return c.lock.Remove()
}

// remove undoes everything the cluster's record says, in the reverse order. The
// record itself goes last, so that another try can resume whatever interrupts this.
func (c *Cluster) remove(ctx context.Context) error {
	switch c.Provider {
	case Kind:
		cmd := exec.CommandContext(ctx, "kind", "delete", "cluster", "--name", c.Name)
		cmd.Stdout, cmd.Stderr = c.log, c.log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("kind delete cluster: %w", err)
		}
	case Local:
		if err := c.stopAll(ctx); err != nil {
			return err
		}
		if err := node.RemoveBridge(c.bridge()); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("removing the state directory: %w", err)
	}
	return nil
}

// stopOrder is the order in which parts end: clients before the servers they
// would complain about. Parts it does not name come first.
var stopOrder = []string{partNode, partScheduler, partControllerManager, partAPIServer, partEtcd}

func (c *Cluster) stopAll(ctx context.Context) error {
	records, err := part.List(c.partsDir())
	if err != nil {
		return err
	}
	slices.SortStableFunc(records, func(a, b *part.Record) int {
		return slices.Index(stopOrder, a.Name) - slices.Index(stopOrder, b.Name)
	})
	var errs []error
	for _, r := range records {
		// Everything they keep is about to be deleted, so nobody needs to tidy
		// up, and the API server would take its time over that. Only the process
		// node has processes of its own to end.
		sig := syscall.SIGKILL
		if r.Name == partProcessNode {
			sig = syscall.SIGTERM
		}
		errs = append(errs, part.Stop(ctx, c.self, r, sig, 10*time.Second))
	}
	return errors.Join(append(errs, node.RemoveCgroups(ctx, c.Cgroups))...)
}
