// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// heartbeatEvery is far below the time after which a Node without a heartbeat becomes NotReady.
const heartbeatEvery = 5 * time.Second

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
	cfg     Config
	client  kubernetes.Interface
	ip      string
	port    int32
	started metav1.Time
	log     *slog.Logger

	mu   sync.Mutex
	pods map[types.UID]*pod
	wg   sync.WaitGroup // of all goroutines but the server's
}

// Run is the process node. It returns when ctx has ended and all its processes
// have, or with an error when it can't begin. An API server that can't be
// reached is not an error: it keeps trying.
func Run(ctx context.Context, cfg Config) error {
	n, err := newNode(cfg)
	if err != nil {
		return err
	}
	listener, err := n.listen()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: n.handler(), ReadHeaderTimeout: 10 * time.Second}
	defer server.Close()
	go func() { n.log.Info("The kubelet API ended", "err", server.Serve(listener)) }()
	n.wg.Go(func() { wait.UntilWithContext(ctx, n.heartbeat, heartbeatEvery) })
	defer n.wg.Wait()
	return n.watchPods(ctx)
}

func newNode(cfg Config) (*node, error) {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	var err error
	if cfg.Root, err = filepath.Abs(cfg.Root); err != nil {
		return nil, fmt.Errorf("finding the state directory: %w", err)
	}
	host, _, err := net.SplitHostPort(cfg.ListenAddr)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("listen address %q must be ip:port", cfg.ListenAddr)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	rest.QPS = -1 // no limit: client-go's 5 a second would make 50 Pods slow
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return &node{
		cfg: cfg, client: client, ip: host, started: metav1.Now(),
		log: slog.New(slog.NewTextHandler(cfg.Log, nil)), pods: map[types.UID]*pod{},
	}, nil
}

// applyOptions are those of server-side apply: what we say about our fields
// counts, and the fields of others stay as they are.
var applyOptions = metav1.PatchOptions{FieldManager: "procnode", Force: new(true)}

// heartbeat makes the Node, or brings it back, and says that it is Ready.
func (n *node) heartbeat(ctx context.Context) {
	data, err := json.Marshal(n.computeNode(metav1.Now()))
	for _, subresource := range []string{"", "status"} {
		if err == nil {
			_, err = n.client.CoreV1().Nodes().Patch(ctx, n.cfg.NodeName, types.ApplyPatchType, data, applyOptions, subresource)
		}
	}
	if err != nil && ctx.Err() == nil {
		n.log.Error("Could not report the Node and will try again", "err", err)
	}
}

func (n *node) computeNode(now metav1.Time) *corev1.Node {
	// Only the CPUs are counted. Nothing is enforced, so for the rest any number
	// does that lets the scheduler place Pods here.
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           resource.MustParse("16Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
	}
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: n.cfg.NodeName, Labels: labels.Merge(n.cfg.Labels, labels.Set{
			corev1.LabelHostname:   n.cfg.NodeName,
			corev1.LabelOSStable:   runtime.GOOS,
			corev1.LabelArchStable: runtime.GOARCH,
		})},
		Status: corev1.NodeStatus{
			Capacity:    resources,
			Allocatable: resources,
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: n.started,
				Reason: "ProcessNodeReady", Message: "the process node runs Pods as local processes",
			}},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: n.ip},
				{Type: corev1.NodeHostName, Address: n.cfg.NodeName},
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: n.port}},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH, KubeletVersion: "v0.0.0-procnode",
			},
		},
	}
}

// watchPods runs the Node's Pods, each from the moment it is seen until its
// object is gone or ctx ends.
func (n *node) watchPods(ctx context.Context) error {
	informer := coreinformers.NewFilteredPodInformer(n.client, metav1.NamespaceAll, 0, nil, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", n.cfg.NodeName).String()
	})
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { n.podSeen(ctx, obj.(*corev1.Pod)) },
		UpdateFunc: func(old, new any) {
			// A Pod deleted and made again while we weren't watching comes as an update.
			if uid := old.(*corev1.Pod).UID; uid != new.(*corev1.Pod).UID {
				n.podGone(uid)
			}
			n.podSeen(ctx, new.(*corev1.Pod))
		},
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			n.podGone(obj.(*corev1.Pod).UID)
		},
	})
	if err != nil {
		return fmt.Errorf("watching Pods: %w", err)
	}
	informer.RunWithContext(ctx) // no handler runs after this
	return nil
}

func (n *node) podSeen(ctx context.Context, obj *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[obj.UID]
	if p == nil {
		p = newPod(ctx, n, obj)
		n.pods[obj.UID] = p
		n.wg.Go(func() { p.run(ctx) })
	}
	if obj.DeletionTimestamp != nil {
		p.end(*obj.DeletionGracePeriodSeconds)
	}
}

func (n *node) podGone(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pods[uid]; p != nil {
		p.gone()
		delete(n.pods, uid)
	}
}

// findPod returns nil for a Pod that isn't there.
func (n *node) findPod(namespace, name string) *pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.pods {
		if p.obj.Namespace == namespace && p.obj.Name == name {
			return p
		}
	}
	return nil
}
