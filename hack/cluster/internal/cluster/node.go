// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/debian"
	"batchcompute.dev/operator/hack/cluster/internal/node"
	"batchcompute.dev/operator/hack/cluster/internal/part"
)

// The real node, which is one part of the cluster, and the daemons in it.
const (
	partNode       = "node"
	partContainerd = "containerd"
	partKubelet    = "kubelet"
	partKubeProxy  = "kube-proxy"

	realNodeName = "node-1"
)

//go:embed conf
var confFiles embed.FS

// noRealNode returns why this machine can have no real node, or "" if it can.
// What is missing and can be downloaded is fetched.
func (c *Cluster) noRealNode(ctx context.Context) string {
	defer os.Remove(c.dir) // empty again after the trial, unless there is a cluster
	self, err := os.Executable()
	if err == nil {
		err = node.Possible(ctx, self, c.dir)
	}
	if err == nil {
		err = c.ensureNft(ctx)
	}
	if err == nil {
		_, err = c.busybox(ctx)
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return first
	}
	return ""
}

// ensureNft makes sure of the program by which kube-proxy sets its rules.
func (c *Cluster) ensureNft(ctx context.Context) error {
	if _, err := exec.LookPath("nft"); err == nil {
		return nil
	}
	for _, path := range []string{"/usr/sbin/nft", "/sbin/nft"} {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	c.say("Installing nft, which kube-proxy runs (apt-get install nftables)")
	if err := debian.Install(ctx, "nftables"); err != nil {
		return fmt.Errorf("no nft: %w", err)
	}
	return nil
}

func (c *Cluster) bridge() node.Bridge {
	n := c.Network
	return node.Bridge{Name: n.Bridge, VethHost: n.VethHost, VethNode: n.VethNode, HostIP: n.HostIP(), NodeIP: n.NodeIP(),
		NodeNet: n.NodeNet, Routed: []netip.Prefix{n.Services, n.Pods}}
}

func (c *Cluster) nodeState() string { return c.path("node") }

// startNode starts the node as far as containerd, and loads the images.
func (c *Cluster) startNode(ctx context.Context, images []preloaded) error {
	if err := c.prepareNode(); err != nil {
		return err
	}
	if err := c.bootNode(); err != nil {
		return err
	}
	if err := c.waitContainerd(ctx); err != nil {
		return err
	}
	for _, i := range images {
		if err := c.importImage(ctx, i.tar); err != nil {
			return err
		}
	}
	return nil
}

// prepareNode makes what the node keeps across its restarts.
func (c *Cluster) prepareNode() error {
	var err error
	if c.Cgroups, err = node.CgroupDirs(c.Name + "-" + c.Network.Bridge); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	if err := c.writeConf(); err != nil {
		return err
	}
	for _, dir := range []string{"kubelet", "containerd", "pod-logs"} {
		if err := os.MkdirAll(c.path("node", dir), 0o755); err != nil {
			return fmt.Errorf("making the node's directories: %w", err)
		}
	}
	region := regionOf(c.Zone)
	labels := fmt.Sprintf("%s=%s,%s=%s,%s=local", corev1.LabelTopologyZone, c.Zone, corev1.LabelTopologyRegion, region, corev1.LabelInstanceTypeStable)
	config := node.Config{
		NodeName: realNodeName, Cgroups: c.Cgroups, Bridge: c.bridge(), StateDir: c.nodeState(), BinDir: c.BinDir, LogDir: c.LogDir(),
		Daemons: []node.Daemon{
			{Name: partContainerd, Exe: c.bin("containerd"), Args: []string{"--config", c.path("conf", "containerd.toml")}},
			{Name: partKubelet, Exe: c.bin("kubelet"), Args: []string{"--config=" + c.path("conf", "kubelet.yaml"),
				"--kubeconfig=" + c.kubeconfig(partKubelet), "--root-dir=" + node.KubeletRoot,
				"--hostname-override=" + realNodeName, "--node-ip=" + c.Network.NodeIP().String(), "--node-labels=" + labels}},
			{Name: partKubeProxy, Exe: c.bin("kube-proxy"), Args: []string{"--config=" + c.path("conf", "kube-proxy.yaml")}},
		},
	}
	for i, d := range config.Daemons {
		config.Daemons[i].Args = append(d.Args, c.Args[d.Name]...)
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the node's configuration: %w", err)
	}
	return writeFile(c.path("node", "config.json"), data)
}

// regionOf cuts the last part off a zone's name: ap-guangzhou-2 is in ap-guangzhou.
func regionOf(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return zone
}

// writeConf fills in the configuration files of the node's daemons.
func (c *Cluster) writeConf() error {
	data := map[string]any{
		"Network": c.Network, "BinDir": c.BinDir, "PKI": c.path("pki"), "NodeName": realNodeName, "PauseImage": pauseImage,
		"ProxyKubeconfig": c.kubeconfig(partKubeProxy), "CNIConfDir": c.path("conf", "cni"),
		"ContainerdRoot": node.ContainerdRoot, "Socket": node.Socket, "PodLogs": node.PodLogs,
	}
	for from, to := range map[string]string{
		"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "kube-proxy.yaml": "kube-proxy.yaml",
		"10-bridge.conflist": "cni/10-bridge.conflist",
	} {
		t, err := template.ParseFS(confFiles, "conf/"+from)
		if err != nil {
			return fmt.Errorf("reading the template %s: %w", from, err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, data); err != nil {
			return fmt.Errorf("filling in %s: %w", from, err)
		}
		if err := writeFile(c.path("conf", to), out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// bootNode starts the node's PID 1 and plugs its network in.
func (c *Cluster) bootNode() error {
	if err := node.MakeCgroups(c.Cgroups); err != nil {
		return err
	}
	if err := node.SetWanted(c.nodeState(), partContainerd, true); err != nil {
		return err
	}
	err := node.Start(c.partsDir(), partNode, c.self, c.path("node", "config.json"), c.path("log", "node.log"), c.lock)
	if err != nil {
		return err
	}
	r, err := part.Load(c.partsDir(), partNode)
	if err != nil {
		return err
	}
	return node.Plug(c.bridge(), r.ID.PID)
}

// containerdSocket is the path by which this machine reaches the node's
// containerd: the root directory of the node's PID 1 is a way into its mounts.
func (c *Cluster) containerdSocket() (string, error) {
	r, err := part.Load(c.partsDir(), partNode)
	if err != nil {
		return "", err
	}
	if !r.Running(c.self) {
		return "", errors.New("the node does not run")
	}
	return fmt.Sprintf("/proc/%d/root%s", r.ID.PID, node.Socket), nil
}

func (c *Cluster) waitContainerd(ctx context.Context) error {
	socket, err := c.containerdSocket()
	if err != nil {
		return err
	}
	return c.wait(ctx, "containerd", 30*time.Second, func(context.Context) bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// importImage loads an image into the node's containerd.
func (c *Cluster) importImage(ctx context.Context, tar string) error {
	socket, err := c.containerdSocket()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.bin("ctr"), "--address", socket, "--namespace", "k8s.io", "images", "import", tar)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("loading %s into the node: %w\n%s", tar, err, out)
	}
	return nil
}

// wantKubelet asks for the daemons that make a node of it.
func (c *Cluster) wantKubelet() error {
	return errors.Join(node.SetWanted(c.nodeState(), partKubeProxy, true), node.SetWanted(c.nodeState(), partKubelet, true))
}

// startNodes starts all the nodes that the tier has and waits until they are ready.
func (c *Cluster) startNodes(ctx context.Context, client kubernetes.Interface, images []preloaded) error {
	since := time.Now()
	var want []string
	switch c.Tier {
	case build.Node:
		if err := c.wantKubelet(); err != nil {
			return err
		}
		want = append(want, realNodeName)
	case build.Process:
		if err := c.startProcessNode(images); err != nil {
			return err
		}
		want = append(want, processNodeName)
	}
	if c.Fake.Count > 0 {
		if err := c.startFakeNodes(ctx, client); err != nil {
			return err
		}
	}
	if err := c.waitNodesReady(ctx, client, since, want...); err != nil {
		return err
	}
	return c.waitFakeNodes(ctx, client)
}

// waitNodesReady waits until the nodes are ready by a word of theirs that is
// later than since: what a node said before it was stopped stays for a while.
func (c *Cluster) waitNodesReady(ctx context.Context, client kubernetes.Interface, since time.Time, names ...string) error {
	since = since.Truncate(time.Second) // as precise as heartbeats are
	for _, name := range names {
		err := c.wait(ctx, "node "+name, 2*time.Minute, func(ctx context.Context) bool {
			n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			return err == nil && isNodeReady(n, since)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func isNodeReady(n *corev1.Node, since time.Time) bool {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue && !cond.LastHeartbeatTime.Time.Before(since)
		}
	}
	return false
}
