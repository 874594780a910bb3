//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tells users' stories against a real cluster: the manifests that users
// apply, the operator that they install, and Pods that run.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/hack/internal/install"
)

var (
	target = install.Target{Out: os.Stderr, Audit: true, Gateway: true, Store: true, FakeZones: []string{"ap-guangzhou-3", "ap-guangzhou-4"}}
	keep   = flag.Bool("keep", false, "leave the cluster up at the end")
)

// The cluster that the stories are told against.
var (
	cluster *install.Cluster
	kube    client.WithWatch
)

func TestMain(m *testing.M) {
	flag.StringVar(&target.Cluster, "cluster", "local", "who runs the cluster: local, kind or existing")
	flag.StringVar(&target.Node, "node", "auto", "what runs the Pods of a local cluster: node, process or auto")
	flag.StringVar(&target.Name, "name", "e2e", "name of the cluster")
	flag.StringVar(&target.Image, "image", "", "the operator's image, for an existing cluster")
	flag.StringVar(&target.AgentImage, "agent-image", "", "the agent's image, for an existing cluster")
	flag.Parse()
	log.SetLogger(logr.Discard()) // the stories speak for themselves
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := os.Chdir("../.."); err != nil { // all paths are from the top of the tree
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer takeDown()
	if err := setUp(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
		return 1
	}
	code := m.Run()
	if err := uninstall(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: uninstalling:", err)
		return 1
	}
	return code
}

// uninstall ends the story of the operator: after make undeploy nothing of it is left, though
// a job was running on a ComputeEnv.
func uninstall(ctx context.Context) error {
	if out, err := cluster.Kubectl(ctx, "apply", "-f", "config/samples/computeenv.yaml").CombinedOutput(); err != nil {
		return fmt.Errorf("submitting a last job: %w\n%s", err, out)
	}
	if out, err := cluster.Kubectl(ctx, "wait", "--for=jsonpath={.status.inUseCount}=2", "computeenv/pool", "--timeout=60s").CombinedOutput(); err != nil {
		return fmt.Errorf("waiting for it to run: %w\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, "make", "undeploy", "CLUSTER=existing")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig, "PATH="+cluster.BinDir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make undeploy: %w\n%s", err, out)
	}
	left, err := cluster.Kubectl(ctx, "get", "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations", "-o", "name").Output()
	if err != nil {
		return fmt.Errorf("looking for what is left: %w", err)
	}
	if strings.Contains(string(left), "batchcompute") {
		return fmt.Errorf("make undeploy has left\n%s", left)
	}
	return nil
}

func setUp(ctx context.Context) (err error) {
	if cluster, err = install.Up(ctx, target); err != nil {
		return err
	}
	if err := errors.Join(openGates(), openHooks()); err != nil {
		return err
	}
	if err := cluster.Install(ctx); err != nil {
		return err
	}
	fmt.Printf("e2e runs on: %s\n", nodeKind())
	kube, err = cluster.Client()
	return err
}

func takeDown() {
	if *keep || target.Cluster == "existing" {
		return
	}
	if err := install.Down(target); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// nodeKind is what runs the Pods, in words.
func nodeKind() string {
	switch {
	case target.Cluster != "local":
		return "a cluster of provider " + target.Cluster
	case cluster.NodeKind == "process":
		return "the process node"
	}
	return "a real node"
}

// needsContainers skips a story that the process node cannot tell.
func needsContainers(t *testing.T) {
	t.Helper()
	if cluster.NodeKind == "process" {
		t.Skip("left out on the process node: it needs containers")
	}
}
