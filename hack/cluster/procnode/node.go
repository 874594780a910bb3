// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	leaseSeconds = 40               // as the kubelet's
	leaseEvery   = 10 * time.Second // a quarter of it
	statusEvery  = 6                // leases
	maxPods      = 110
)

// Config says which Node to be, and where.
type Config struct {
	Kubeconfig string            // file with the credentials to use
	NodeName   string            // name of the Node
	Labels     map[string]string // labels of the Node, beside the well-known ones
	Root       string            // state directory; absolute or relative to ours
	Images     map[string]string // image reference to host directory, see doc.go
	ListenAddr string            // ip:port of the kubelet API; the ip is the Node's and each Pod's
	// PEM files for the kubelet API: what it shows, and who may call.
	ServingCertFile, ServingKeyFile, ClientCAFile string
	Log                                           io.Writer // nil: no log
}

// node is a running process node.
type node struct {
	cfg      Config
	client   kubernetes.Interface
	ip       string
	port     int32
	started  metav1.Time
	log      *slog.Logger
	starter  *starter
	informer cache.SharedIndexInformer // of the Node's Pods

	mu      sync.Mutex
	workers map[types.UID]*worker
	wg      sync.WaitGroup // of workers
}

// Run is the process node. It returns when ctx has ended and all its processes
// have, or with an error when it can't begin. An API server that can't be
// reached is not an error: it keeps trying.
func Run(ctx context.Context, cfg Config) error {
	n, err := newNode(cfg)
	if err != nil {
		return err
	}
	lock, err := lockRoot(cfg.Root)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := n.killLeftovers(); err != nil {
		return err
	}
	n.starter = newStarter()
	defer n.starter.close()
	stopServing, err := n.serve()
	if err != nil {
		return err
	}
	defer stopServing()
	var background sync.WaitGroup
	background.Go(func() { n.heartbeat(ctx) })
	background.Go(func() { n.runPods(ctx) })
	background.Wait()
	return nil
}

func newNode(cfg Config) (*node, error) {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("finding the state directory: %w", err)
	}
	cfg.Root = root
	host, _, err := net.SplitHostPort(cfg.ListenAddr)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("listen address %q must be ip:port", cfg.ListenAddr)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	rest.UserAgent = "procnode"
	rest.QPS, rest.Burst = 200, 400 // client-go's 5 a second would make 50 Pods slow
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "pods"), 0o755); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	return &node{
		cfg: cfg, client: client, ip: host, started: metav1.Now(),
		log:      slog.New(slog.NewTextHandler(cfg.Log, nil)),
		informer: newInformer(client, cfg.NodeName),
		workers:  map[types.UID]*worker{},
	}, nil
}

// lockRoot keeps a second process node from taking the first one's processes for
// leftovers. Closing the file, or our end, frees it.
func lockRoot(root string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking the state directory, which another process node may be using: %w", err)
	}
	return file, nil
}

// heartbeat registers the Node and keeps it Ready until ctx ends.
func (n *node) heartbeat(ctx context.Context) {
	registered := false
	for beat := 0; ; beat++ {
		var err error
		if !registered || beat%statusEvery == 0 {
			err = n.register(ctx)
			registered = err == nil
		}
		if err == nil {
			err = n.renewLease(ctx)
		}
		wait := leaseEvery
		if err != nil && ctx.Err() == nil {
			wait = time.Second
			n.log.Error("Could not report the Node and will try again", "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// register creates the Node, or brings back one that was deleted, and writes its
// labels and status.
func (n *node) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	want, err := n.computeNode(metav1.Now())
	if err != nil {
		return err
	}
	nodes := n.client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, want, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the Node: %w", err)
	}
	have, err := nodes.Get(ctx, n.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the Node: %w", err)
	}
	have.Labels = labels.Merge(have.Labels, want.Labels)
	have.Status = want.Status
	if have, err = nodes.UpdateStatus(ctx, have, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the Node's status: %w", err)
	}
	// The API server adds this taint to each new Node. The node controller takes
	// it away, but there may be none, and a test shouldn't wait for it.
	notReady := func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady }
	if !slices.ContainsFunc(have.Spec.Taints, notReady) {
		return nil
	}
	have.Spec.Taints = slices.DeleteFunc(have.Spec.Taints, notReady)
	_, err = nodes.Update(ctx, have, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsForbidden(err) { // a node's own credentials may not
		return fmt.Errorf("removing the not-ready taint: %w", err)
	}
	return nil
}

func (n *node) computeNode(now metav1.Time) (*corev1.Node, error) {
	memory, err := totalMemory()
	if err != nil {
		return nil, err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(n.cfg.Root, &disk); err != nil {
		return nil, fmt.Errorf("reading the disk size: %w", err)
	}
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk.Blocks)*int64(disk.Bsize), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	condition := func(t corev1.NodeConditionType, s corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: t, Status: s, Reason: reason, Message: message,
			LastHeartbeatTime: now, LastTransitionTime: n.started,
		}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.cfg.NodeName, Labels: labels.Merge(n.cfg.Labels, labels.Set{
			corev1.LabelHostname:   n.cfg.NodeName,
			corev1.LabelOSStable:   runtime.GOOS,
			corev1.LabelArchStable: runtime.GOARCH,
		})},
		Status: corev1.NodeStatus{
			Capacity:    resources,
			Allocatable: resources,
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "NotWatched", "the process node doesn't watch it"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "NotWatched", "the process node doesn't watch it"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "NotWatched", "the process node doesn't watch it"),
				condition(corev1.NodeReady, corev1.ConditionTrue, "ProcessNodeReady", "the process node runs Pods as local processes"),
			},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: n.ip},
				{Type: corev1.NodeHostName, Address: n.cfg.NodeName},
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: n.port}},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH, OSImage: "host of the process node",
				KubeletVersion: "v0.0.0-procnode", ContainerRuntimeVersion: "process://0",
			},
		},
	}, nil
}

// renewLease says that the Node is alive, as the node controller expects.
func (n *node) renewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NowMicro()
	lease, err := leases.Get(ctx, n.cfg.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: n.cfg.NodeName},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &n.cfg.NodeName, LeaseDurationSeconds: new(int32(leaseSeconds)), RenewTime: &now,
			},
		}, metav1.CreateOptions{})
	} else if err == nil {
		lease.Spec.RenewTime = &now
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renewing the Lease: %w", err)
	}
	return nil
}
