// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/hack/cluster/internal/pki"
	"batchcompute.dev/operator/hack/cluster/procnode"
)

const (
	partProcessNode = "process-node"
	processNodeName = "process-1"
)

// ProcessNodeCommand is the hidden subcommand that is a process node.
const ProcessNodeCommand = "process-node"

func (c *Cluster) processRoot() string { return c.path("process-node") }

// startProcessNode starts a daemon that runs Pods as local processes.
func (c *Cluster) startProcessNode(images []preloaded) error {
	dirs := map[string]string{}
	for _, i := range images {
		dirs[i.ref] = i.dir
	}
	if err := c.writeProcessImages(dirs); err != nil {
		return err
	}
	return c.start(partProcessNode, c.self, ProcessNodeCommand, "--name", c.Name)
}

// processImagesFile is the process node's list of images; it reads it at each look-up.
func (c *Cluster) processImagesFile() string { return c.path("process-node", "images.json") }

func (c *Cluster) writeProcessImages(dirs map[string]string) error {
	data, err := json.MarshalIndent(dirs, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the list of images: %w", err)
	}
	return writeFile(c.processImagesFile(), data)
}

// ProcessNodeConfig returns what the daemon runs with.
func (c *Cluster) ProcessNodeConfig() procnode.Config {
	return procnode.Config{
		Kubeconfig: c.kubeconfig(partProcessNode), NodeName: processNodeName, Root: c.processRoot(),
		Labels: map[string]string{
			corev1.LabelTopologyZone: c.Zone, corev1.LabelTopologyRegion: regionOf(c.Zone), corev1.LabelInstanceTypeStable: "local",
		},
		ListenAddr:      fmt.Sprintf("%s:%d", loopback, c.Ports.ProcessNode),
		ServingCertFile: c.pki("process-node-server.crt"), ServingKeyFile: c.pki("process-node-server.key"),
		ClientCAFile: c.pki(pki.CAFile), Log: c.log,
	}
}
