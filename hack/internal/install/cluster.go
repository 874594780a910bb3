// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package install brings a cluster up and puts the operator into it, the way a user
// would: an image is built and loaded, manifests are applied, and then it waits until
// the operator serves. The demo, the e2e tests and `make deploy` all go through here.
package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Target says which cluster is meant.
type Target struct {
	// Cluster is who runs it: local, kind or existing.
	Cluster string
	// Node is what runs the Pods of a local cluster: node, process, or auto, which takes
	// a real node where one can run.
	Node string
	// Name tells clusters of one machine apart.
	Name string
	// Image is the operator's image for an existing cluster, which must be able to pull
	// it. Empty: the one that is built and loaded.
	Image string
	// AgentImage is that of the agent, likewise.
	AgentImage string
	// Gateway has the gateway installed too.
	Gateway bool
	// Store has a local cluster with a real node run an object store, see Store.
	Store bool
	// FakeZones has a local cluster pretend one more node in each of these zones. Pods run
	// there only if they tolerate the taint kwok.x-k8s.io/node.
	FakeZones []string
	// FakeNodes has a local cluster pretend so many nodes that any Pod may run on.
	FakeNodes int
	// QPS is how many requests a second each of a local cluster's controllers and the manager
	// beside it may make, and half of how many at once; 0 leaves them what they have by
	// default. With it, what is not measured is not limited: the scheduler and our own client.
	QPS int
	// ManagerArgs are further arguments for a manager beside the cluster.
	ManagerArgs []string
	// Audit asks a local API server for an audit log.
	Audit bool
	// Args are further arguments for parts of a local cluster, as PART=--ARGUMENT.
	Args []string
	// Out takes what is to be shown.
	Out io.Writer
}

// Cluster is a cluster that is up.
type Cluster struct {
	// Kubeconfig is the path of its kubeconfig.
	Kubeconfig string `json:"kubeconfig"`
	// NodeKind is what runs its Pods: "node", "process", or "fake".
	NodeKind string `json:"nodeKind"`
	// BinDir has its programs, kubectl among them; empty where it is not ours.
	BinDir string `json:"binDir"`
	// LogDir has its logs; empty where it is not ours.
	LogDir string `json:"logDir"`
	// HostIP is the address of this machine for Pods of a local cluster and for a manager beside it; empty for others.
	HostIP string `json:"hostIP"`
	// Store is the object store beside the cluster; nil means that there is none.
	Store *Store `json:"-"`
	// Topics are topics that Install adds to the catalogue, see Topic.
	Topics []string `json:"-"`
	// ReadyURL is where a manager beside the cluster, once installed, says that it serves.
	ReadyURL string `json:"-"`

	target        Target
	besideGateway *Gateway // that runs beside the cluster
}

// limits are the arguments that limit a client's requests to QPS.
func (t Target) limits() []string {
	return []string{fmt.Sprintf("--kube-api-qps=%d", t.QPS), fmt.Sprintf("--kube-api-burst=%d", 2*t.QPS)}
}

// program is the cluster program, as make builds it.
const program = "bin/cluster"

// Up brings the target up, or finds it up.
func Up(ctx context.Context, t Target) (*Cluster, error) {
	args := []string{"up", "--name", t.Name, "--provider", t.Cluster, "--tier", t.Node}
	if t.Audit {
		args = append(args, "--audit")
	}
	if n := len(t.FakeZones); n > 0 && t.Cluster == "local" {
		args = append(args, "--fake-nodes", strconv.Itoa(n), "--fake-zones", strings.Join(t.FakeZones, ","))
	}
	if t.FakeNodes > 0 {
		args = append(args, "--fake-nodes", strconv.Itoa(t.FakeNodes), "--fake-taint=false")
	}
	if t.QPS > 0 {
		for _, a := range t.limits() {
			args = append(args, "--arg", "kube-controller-manager="+a)
		}
		args = append(args, "--arg", "kube-scheduler=--kube-api-qps=5000", "--arg", "kube-scheduler=--kube-api-burst=10000")
	}
	for _, a := range t.Args {
		args = append(args, "--arg", a)
	}
	storeProgram := t.buildStore(ctx)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, t.Out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("bringing the cluster up: %w", err)
	}
	c, err := Find(ctx, t)
	if err != nil || !t.Store || t.Cluster != "local" || c.NodeKind != "node" {
		return c, err
	}
	return c, c.startStore(ctx, storeProgram)
}

// Find returns the target, which must be up.
func Find(ctx context.Context, t Target) (*Cluster, error) {
	out, err := exec.CommandContext(ctx, program, "status", "--name", t.Name, "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster's status: %w", err)
	}
	c := &Cluster{target: t}
	if err := json.Unmarshal(out, c); err != nil {
		return nil, fmt.Errorf("reading the cluster's status: %w", err)
	}
	return c, nil
}

// Down removes the target and all that belongs to it, however far it came. It is not
// to be cut short, and so takes no context.
func Down(t Target) error {
	cmd := exec.Command(program, "down", "--name", t.Name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, and has been heard
	cmd.Stdout, cmd.Stderr = t.Out, t.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("taking the cluster down: %w", err)
	}
	return nil
}

// Client returns a client that knows BatchJobs and the core types.
func (c *Cluster) Client() (client.WithWatch, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst = 200, 400
	if c.target.QPS > 0 {
		cfg.QPS = -1
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), clientgoscheme.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	return client.NewWithWatch(cfg, client.Options{Scheme: scheme})
}

// API returns a client for the API server's own pages, such as /metrics.
func (c *Cluster) API() (rest.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return d.RESTClient(), nil
}

// Processes are the programs of a cluster that run on this host, by the names of their parts.
func (c *Cluster) Processes(ctx context.Context) (map[string]int, error) {
	out, err := exec.CommandContext(ctx, program, "status", "--name", c.target.Name, "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("asking for the cluster's status: %w", err)
	}
	var status struct{ PIDs map[string]int }
	if err := json.Unmarshal(out, &status); err != nil {
		return nil, fmt.Errorf("reading the cluster's status: %w", err)
	}
	return status.PIDs, nil
}

// HostManagerPID is the process of a manager that runs beside the cluster.
func (c *Cluster) HostManagerPID(ctx context.Context) (int, error) {
	pids, err := c.Processes(ctx)
	if err == nil && pids[ManagerPart] == 0 {
		err = errors.New("no manager runs beside the cluster")
	}
	return pids[ManagerPart], err
}

// KubectlPath is the kubectl to use: the cluster's own, else the one in PATH.
func (c *Cluster) KubectlPath() string {
	if c.BinDir != "" {
		return c.BinDir + "/kubectl"
	}
	return "kubectl"
}

// Kubectl returns a kubectl command against the cluster.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.KubectlPath(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	return cmd
}

// show prints a command as one would type it, runs it, and shows what it prints.
func (c *Cluster) show(cmd *exec.Cmd, typed string) error {
	fmt.Fprintf(c.target.Out, "$ %s\n", typed)
	return c.run(cmd)
}

// run runs a command and shows what it prints.
func (c *Cluster) run(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = c.target.Out, c.target.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}
