// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"syscall"
	"time"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/node"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// inNode are the parts that PID 1 of the real node runs for us.
var inNode = []string{partContainerd, partKubelet, partKubeProxy}

// Stop kills parts of a cluster as a crash would, and leaves their data.
func Stop(ctx context.Context, name string, parts []string, log io.Writer) error {
	return eachPart(ctx, name, parts, log, func(c *Cluster, p string) error {
		if slices.Contains(inNode, p) && c.Tier == build.Node {
			return c.setWanted(ctx, p, false)
		}
		r, err := part.Load(c.partsDir(), p)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("there is no such part")
		}
		if err != nil {
			return err
		}
		if err := part.Stop(ctx, c.self, r, syscall.SIGKILL, 10*time.Second); err != nil {
			return err
		}
		if p == partNode {
			// What was in there ends with it, and its Pods' cgroups must be out
			// of the way before it comes back.
			if err := node.RemoveCgroups(ctx, c.Cgroups); err != nil {
				return err
			}
		}
		r.ID = nil
		return r.Save(c.partsDir())
	})
}

// Start starts parts that do not run; for one that runs it does nothing. It
// ends when they can be used again.
func Start(ctx context.Context, name string, parts []string, log io.Writer) error {
	return eachPart(ctx, name, parts, log, func(c *Cluster, p string) error {
		if slices.Contains(inNode, p) && c.Tier == build.Node {
			return c.setWanted(ctx, p, true)
		}
		r, err := part.Load(c.partsDir(), p)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("there is no such part")
		}
		if err != nil {
			return err
		}
		if r.Running(c.self) {
			return nil
		}
		if p == partNode {
			return c.restartNode(ctx)
		}
		if err := part.Start(c.partsDir(), c.self, c.lock, *r); err != nil {
			return err
		}
		return c.waitUsable(ctx, p)
	})
}

func eachPart(ctx context.Context, name string, parts []string, log io.Writer, do func(*Cluster, string) error) error {
	c, err := openLocked(ctx, name, log)
	if err != nil {
		return err
	}
	defer c.lock.Release()
	if c.Provider == "" {
		return fmt.Errorf("cluster %q: %w", name, ErrNotUp)
	}
	if c.Provider != Local {
		return fmt.Errorf("the parts of a cluster of provider %s are not ours to stop and start", c.Provider)
	}
	for _, p := range parts {
		if err := do(c, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// waitUsable waits until a part that was just started does its work.
func (c *Cluster) waitUsable(ctx context.Context, p string) error {
	switch p {
	case partAPIServer, partEtcd:
		client, err := c.client()
		if err != nil {
			return err
		}
		return waitFor(ctx, "the API server", time.Minute, func(ctx context.Context) bool { return canRead(ctx, client) })
	case partControllerManager:
		return waitHealthy(ctx, p, c.Ports.ControllerManager)
	case partScheduler:
		return waitHealthy(ctx, p, c.Ports.Scheduler)
	}
	return nil
}

// waitHealthy waits until a part says on its own port that it is well. Anybody
// may ask; its certificate it has made up for itself.
func waitHealthy(ctx context.Context, what string, port int) error {
	client := http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	return waitFor(ctx, what, time.Minute, func(context.Context) bool {
		resp, err := client.Get(fmt.Sprintf("https://%s:%d/healthz", loopback, port))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// setWanted has the node's PID 1 start or kill one of its daemons.
func (c *Cluster) setWanted(ctx context.Context, daemon string, wanted bool) error {
	if _, err := c.containerdSocket(); err != nil {
		return err // the node is down, and nobody would hear
	}
	if err := node.SetWanted(c.nodeState(), daemon, wanted); err != nil {
		return err
	}
	return waitFor(ctx, daemon, 20*time.Second, func(context.Context) bool {
		return node.IsRunning(c.nodeState(), daemon) == wanted
	})
}

// restartNode brings the real node back as a machine comes back from a crash:
// with its disk, but with no process and no mount left.
func (c *Cluster) restartNode(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	since := time.Now()
	if err := c.bootNode(); err != nil {
		return err
	}
	if err := c.waitContainerd(ctx); err != nil {
		return err
	}
	if err := c.wantKubelet(); err != nil {
		return err
	}
	return c.waitNodesReady(ctx, client, since, realNodeName)
}

// waitFor polls until done.
func waitFor(ctx context.Context, what string, limit time.Duration, done func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
