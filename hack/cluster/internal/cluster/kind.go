// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// upKind has kind make the cluster, for those who have Docker and want that.
func upKind(ctx context.Context, o Options, log io.Writer) (*Cluster, error) {
	if _, err := exec.LookPath("kind"); err != nil {
		return nil, errors.New("kind is not in PATH; without it, --provider local needs only Go")
	}
	c, err := openLocked(ctx, o.Name, log)
	if err != nil {
		return nil, err
	}
	defer c.lock.Release()
	o.Tier = Auto // it is kind that decides
	if done, err := c.reuse(ctx, o); done || err != nil {
		return c, err
	}
	c.State = State{Options: o, Created: time.Now().UTC().Truncate(time.Second)}
	if err := c.save(); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "kind", "create", "cluster", "--name", c.Name, "--kubeconfig", c.Kubeconfig(), "--wait", "3m")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("kind create cluster: %w", err)
	}
	if err := c.labelZone(ctx); err != nil {
		return nil, err
	}
	c.Ready = true
	return c, c.save()
}

// labelZone puts every node into the zone asked for; kind gives them none.
func (c *Cluster) labelZone(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q,%q:%q}}}`,
		corev1.LabelTopologyZone, c.Zone, corev1.LabelTopologyRegion, regionOf(c.Zone))
	for _, n := range nodes.Items {
		if _, err := client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("labelling node %s: %w", n.Name, err)
		}
	}
	return nil
}

// zones describes the zones of the cluster's nodes, for people.
func zones(nodes []corev1.Node) string {
	var all []string
	for _, n := range nodes {
		zone := n.Labels[corev1.LabelTopologyZone]
		if zone == "" {
			zone = "no zone"
		}
		all = append(all, n.Name+" ("+zone+")")
	}
	return strings.Join(all, ", ")
}
