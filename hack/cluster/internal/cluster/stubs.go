// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"k8s.io/client-go/kubernetes"

	"batchcompute.dev/operator/hack/cluster/internal/node"
)

const (
	partNode        = "node"
	partKubelet     = "kubelet"
	partKubeProxy   = "kube-proxy"
	partProcessNode = "process-node"
	partKwok        = "kwok"
	realNodeName    = "node-1"
	processNodeName = "process-1"
)

type preloaded struct{}

func (c *Cluster) bridge() node.Bridge {
	return node.Bridge{Name: c.Network.Bridge, VethHost: c.Network.VethHost, VethNode: c.Network.VethNode,
		HostIP: c.Network.HostIP(), NodeIP: c.Network.NodeIP(), NodeNet: c.Network.NodeNet,
		Routed: []netip.Prefix{c.Network.Services, c.Network.Pods}}
}
func (c *Cluster) noRealNode(context.Context) string                                   { return "not written yet" }
func (c *Cluster) preloadedImages(context.Context) ([]preloaded, error)                { return nil, nil }
func (c *Cluster) startNode(context.Context, []preloaded) error                        { return errors.New("todo") }
func (c *Cluster) startNodes(context.Context, kubernetes.Interface, []preloaded) error { return nil }
func upKind(context.Context, Options, io.Writer) (*Cluster, error)                     { return nil, errors.New("todo") }
func upExisting(context.Context, Options, io.Writer) (*Cluster, error) {
	return nil, errors.New("todo")
}
