// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/node"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// Auto stands in the place of a tier for the most real one this machine can have.
const Auto build.Tier = "auto"

// Up makes sure that the cluster o describes is up, and returns it once it can
// be used. One that is up already is used as it is; the rest of one that is
// half dead is removed first.
func Up(ctx context.Context, o Options, log io.Writer) (*Cluster, error) {
	switch o.Provider {
	case Kind:
		return upKind(ctx, o, log)
	case Existing:
		return upExisting(ctx, o, log)
	}
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		return nil, errors.New("--provider local takes Linux or macOS; elsewhere use kind or existing")
	}
	c, err := openLocked(ctx, o.Name, log)
	if err != nil {
		return nil, err
	}
	defer c.lock.Release()
	if done, err := c.reuse(ctx, o); done || err != nil {
		return c, err
	}
	start := time.Now()
	if o.Tier == Auto {
		o.Tier = build.Node
		if reason := c.noRealNode(ctx); reason != "" {
			o.Tier = build.Process
			c.say("No real node here (%s): Pods run as local processes (process node). For trying out only.", reason)
		}
	} else if o.Tier == build.Node {
		if reason := c.noRealNode(ctx); reason != "" {
			return nil, fmt.Errorf("no real node can run here: %s", reason)
		}
	}
	builder, err := build.New(log)
	if err != nil {
		return nil, err
	}
	binDir, err := builder.Dir(ctx, o.Tier, o.Fake.Count > 0)
	if err != nil {
		return nil, err
	}
	c.State = State{Options: o, Created: time.Now().UTC().Truncate(time.Second), BinDir: binDir}
	var images []preloaded
	if c.Tier == build.Node || c.Tier == build.Process {
		if images, err = c.preloadedImages(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.bringUp(ctx, images); err != nil {
		return nil, fmt.Errorf("bringing cluster %s up (what there is of it stays for you to look at; \"down\" removes it): %w", c.Name, err)
	}
	c.Ready = true
	if err := c.save(); err != nil {
		return nil, err
	}
	c.say("Cluster %s is up (%s) after %.1f s", c.Name, c.Tier, time.Since(start).Seconds())
	return c, nil
}

// reuse decides about a cluster of the name that is on record already: it is
// kept (true) if all of it runs and is what was asked for, and else removed.
func (c *Cluster) reuse(ctx context.Context, o Options) (bool, error) {
	if c.Provider == "" {
		return false, os.RemoveAll(c.dir) // killed before it put itself on record
	}
	if problem := c.problem(ctx); problem != nil {
		c.say("Cluster %s is there but not whole (%v); removing it", c.Name, problem)
		return false, c.remove(ctx)
	}
	if c.Provider != o.Provider || (o.Tier != Auto && c.Tier != o.Tier) {
		return false, fmt.Errorf("cluster %s is up as %s/%s; take it down first, or use another --name", c.Name, c.Provider, c.Tier)
	}
	c.say("Cluster %s is up already (%s)", c.Name, c.Tier)
	return true, nil
}

// problem returns what is wrong with a cluster that should be up, or nil.
func (c *Cluster) problem(ctx context.Context) error {
	if !c.Ready {
		return errors.New("its start was cut short")
	}
	if c.Provider == Local {
		if err := c.deadPart(); err != nil {
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !isReady(ctx, client) {
		return errors.New("its API server does not answer")
	}
	return nil
}

// deadPart returns an error that names a part that does not run, or nil.
func (c *Cluster) deadPart() error {
	records, err := part.List(c.partsDir())
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("none of it runs")
	}
	for _, r := range records {
		if !r.Running(c.self) {
			return fmt.Errorf("%s does not run", r.Name)
		}
	}
	if c.Tier != build.Node {
		return nil
	}
	for _, daemon := range inNode {
		if !node.IsRunning(c.nodeState(), daemon) {
			return fmt.Errorf("%s does not run", daemon)
		}
	}
	return nil
}

// bringUp makes everything, in an order in which nothing waits for what could
// have been started before it.
func (c *Cluster) bringUp(ctx context.Context, images []preloaded) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := c.allocate(ctx); err != nil {
		return err
	}
	if err := c.copySelf(); err != nil {
		return err
	}
	if err := c.certificates(); err != nil {
		return err
	}
	if c.Tier == build.Node {
		if err := node.MakeBridge(c.bridge()); err != nil {
			return err
		}
	}
	if err := c.startEtcd(); err != nil {
		return err
	}
	if err := c.startAPIServer(); err != nil {
		return err
	}
	c.say("Started etcd and the API server at %s", c.Server())
	if c.Tier == build.Node {
		if err := c.startNode(ctx, images); err != nil { // containerd; the kubelet follows below
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := c.waitAPI(ctx, client); err != nil {
		return err
	}
	if err := c.startControllerManager(); err != nil {
		return err
	}
	if err := c.startScheduler(); err != nil {
		return err
	}
	if err := c.startNodes(ctx, client, images); err != nil {
		return err
	}
	return c.waitServiceAccount(ctx, client)
}
