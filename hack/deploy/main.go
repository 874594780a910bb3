// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command deploy brings a cluster up and installs the operator of this source tree.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"batchcompute.dev/operator/hack/internal/install"
)

func main() {
	t := install.Target{Out: os.Stderr}
	flag.StringVar(&t.Cluster, "cluster", "local", "who runs the cluster: local, kind or existing")
	flag.StringVar(&t.Node, "node", "auto", "what runs the Pods of a local cluster: node, process or auto")
	flag.StringVar(&t.Name, "name", "demo", "name of the cluster")
	flag.StringVar(&t.Image, "image", "", "the operator's image, for an existing cluster")
	flag.StringVar(&t.AgentImage, "agent-image", "", "the agent's image, for an existing cluster")
	flag.BoolVar(&t.Gateway, "gateway", false, "deploy the gateway too")
	flag.BoolVar(&t.Audit, "audit", false, "have a local API server write an audit log")
	flag.Parse()
	install.Main(func(ctx context.Context) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		c, err := install.Up(ctx, t)
		if err != nil {
			return err
		}
		if err := c.Install(ctx); err != nil {
			return err
		}
		fmt.Println(c.Kubeconfig)
		return nil
	})
}
