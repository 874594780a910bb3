// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const partKwok = "kwok"

// fakeKey marks pretended nodes: it is the annotation by which kwok knows them,
// and their taint.
const fakeKey = "kwok.x-k8s.io/node"

// fakeSelector selects the pretended nodes by label.
const fakeSelector = "type=kwok"

// startFakeNodes starts kwok and makes the nodes it plays.
func (c *Cluster) startFakeNodes(ctx context.Context, client kubernetes.Interface) error {
	stages, err := confFiles.ReadFile("conf/kwok-stages.yaml")
	if err != nil {
		return fmt.Errorf("reading kwok's stages: %w", err)
	}
	config := c.path("conf", "kwok-stages.yaml")
	if err := writeFile(config, stages); err != nil {
		return err
	}
	err = c.start(partKwok, c.bin("kwok"), "--kubeconfig="+c.kubeconfig(partKwok), "--config="+config,
		"--manage-nodes-with-annotation-selector="+fakeKey+"=fake", "--cidr="+c.Network.FakePods.String(),
		"--node-ip="+loopback, fmt.Sprintf("--node-port=%d", c.Ports.Kwok),
		"--tls-cert-file="+c.pki("kwok-server.crt"), "--tls-private-key-file="+c.pki("kwok-server.key"),
		fmt.Sprintf("--server-address=%s:%d", loopback, c.Ports.Kwok), "--node-lease-duration-seconds=40")
	if err != nil {
		return err
	}
	for i := range c.Fake.Count {
		if _, err := client.CoreV1().Nodes().Create(ctx, c.fakeNode(i), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making a pretended node: %w", err)
		}
	}
	return nil
}

// fakeNode returns the i-th pretended node, counted from 0.
func (c *Cluster) fakeNode(i int) *corev1.Node {
	name := fmt.Sprintf("fake-%d", i+1)
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("500"),
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{fakeKey: "fake"},
			Labels: map[string]string{
				"type": "kwok", corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			},
		},
		Status: corev1.NodeStatus{Capacity: resources, Allocatable: resources},
	}
	if zones := c.Fake.Zones; len(zones) > 0 {
		n.Labels[corev1.LabelTopologyZone] = zones[i%len(zones)]
		n.Labels[corev1.LabelTopologyRegion] = regionOf(zones[i%len(zones)])
	}
	if types := c.Fake.InstanceTypes; len(types) > 0 {
		n.Labels[corev1.LabelInstanceTypeStable] = types[i%len(types)]
	}
	if c.Fake.Taint {
		n.Spec.Taints = []corev1.Taint{{Key: fakeKey, Value: "fake", Effect: corev1.TaintEffectNoSchedule}}
	}
	return n
}

func (c *Cluster) waitFakeNodes(ctx context.Context, client kubernetes.Interface) error {
	if c.Fake.Count == 0 {
		return nil
	}
	limit := time.Minute + time.Duration(c.Fake.Count)*50*time.Millisecond
	return c.wait(ctx, "the pretended nodes", limit, func(ctx context.Context) bool {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: fakeSelector, ResourceVersion: "0"})
		if err != nil || len(nodes.Items) < c.Fake.Count {
			return false
		}
		for i := range nodes.Items {
			if !isNodeReady(&nodes.Items[i], time.Time{}) {
				return false
			}
		}
		return true
	})
}
