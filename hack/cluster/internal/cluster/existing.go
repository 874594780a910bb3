// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// upExisting looks at the cluster that the user's kubeconfig points to and
// remembers it under the name. Nothing in it is changed, now or at "down".
func upExisting(ctx context.Context, o Options, log io.Writer) (*Cluster, error) {
	c, err := openLocked(ctx, o.Name, log)
	if err != nil {
		return nil, err
	}
	defer c.lock.Release()
	if c.Provider != "" && c.Provider != Existing {
		return nil, fmt.Errorf("cluster %s is up as %s/%s; take it down first, or use another --name", c.Name, c.Provider, c.Tier)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // KUBECONFIG, and else the file in the home directory
	config, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// Certificates that it names by path are put into the copy.
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := clientcmd.WriteToFile(*config, c.Kubeconfig()); err != nil {
		return nil, fmt.Errorf("writing the kubeconfig: %w", err)
	}
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking the cluster of context %q for its nodes: %w", config.CurrentContext, err)
	}
	c.State = State{Options: o, Created: time.Now().UTC().Truncate(time.Second), Ready: true}
	c.Tier = ""
	c.say("Using the cluster of context %s, with the nodes %s", config.CurrentContext, zones(nodes.Items))
	return c, c.save()
}
