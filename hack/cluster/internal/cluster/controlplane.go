// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/x509/pkix"
	_ "embed"
	"fmt"
	"net"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"batchcompute.dev/operator/hack/cluster/internal/build"
	"batchcompute.dev/operator/hack/cluster/internal/pki"
)

// Names of the parts that make up the control plane, in the order they start.
const (
	partEtcd              = "etcd"
	partAPIServer         = "kube-apiserver"
	partControllerManager = "kube-controller-manager"
	partScheduler         = "kube-scheduler"
)

//go:embed conf/audit-policy.yaml
var auditPolicy []byte

const loopback = "127.0.0.1"

// apiIP is the one address the API server listens on. Pods on a real node must
// reach it, and nobody outside this machine should: that is this machine's
// address on the cluster's own bridge. Without a real node it is loopback.
func (c *Cluster) apiIP() string {
	if c.Tier == build.Node {
		return c.Network.HostIP().String()
	}
	return loopback
}

// Server is the API server's URL.
func (c *Cluster) Server() string {
	return "https://" + net.JoinHostPort(c.apiIP(), strconv.Itoa(c.Ports.API))
}

// certificates makes the keys and kubeconfigs of all parts.
func (c *Cluster) certificates() error {
	ca, err := pki.New(c.path("pki"), "batchcompute-local-"+c.Name)
	if err != nil {
		return err
	}
	err = ca.Serving("apiserver", pkix.Name{CommonName: "kube-apiserver"}, loopback, "localhost", c.apiIP(),
		c.Network.APIServiceIP().String(), "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err != nil {
		return err
	}
	if err := ca.Client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"); err != nil {
		return err
	}
	for _, k := range []struct {
		file, user string
		groups     []string
	}{
		{c.Kubeconfig(), "admin", []string{"system:masters"}},
		{c.kubeconfig(partControllerManager), "system:kube-controller-manager", nil},
		{c.kubeconfig(partScheduler), "system:kube-scheduler", nil},
		{c.kubeconfig(partKubeProxy), "system:kube-proxy", nil},
		{c.kubeconfig(partKubelet), "system:node:" + realNodeName, []string{"system:nodes"}},
		{c.kubeconfig(partProcessNode), "system:node:" + processNodeName, []string{"system:nodes"}},
		{c.kubeconfig(partKwok), "kwok", []string{"system:masters"}},
	} {
		if err := ca.Kubeconfig(k.file, "batchcompute-"+c.Name, c.Server(), k.user, k.groups...); err != nil {
			return err
		}
	}
	// The API server fetches a Pod's logs from its node, and checks the node's
	// certificate against the address it uses.
	for _, n := range []struct{ file, node, ip string }{
		{"kubelet-server", realNodeName, c.Network.NodeIP().String()},
		{"process-node-server", processNodeName, loopback},
		{"kwok-server", "kwok", loopback},
	} {
		subject := pkix.Name{CommonName: "system:node:" + n.node, Organization: []string{"system:nodes"}}
		if err := ca.Serving(n.file, subject, n.node, n.ip, loopback); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) pki(file string) string { return c.path("pki", file) }

// kubeconfig is the path of a part's own kubeconfig.
func (c *Cluster) kubeconfig(part string) string { return c.pki(part + ".kubeconfig") }

func (c *Cluster) startEtcd() error {
	client := fmt.Sprintf("http://%s:%d", loopback, c.Ports.EtcdClient)
	peer := fmt.Sprintf("http://%s:%d", loopback, c.Ports.EtcdPeer)
	return c.start(partEtcd, c.bin("etcd"), "--data-dir="+c.path("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", // nothing in here must outlive a power cut
		"--log-level=warn")
}

func (c *Cluster) startAPIServer() error {
	args := []string{
		fmt.Sprintf("--etcd-servers=http://%s:%d", loopback, c.Ports.EtcdClient),
		"--bind-address=" + c.apiIP(), "--advertise-address=" + c.apiIP(), fmt.Sprintf("--secure-port=%d", c.Ports.API),
		"--service-cluster-ip-range=" + c.Network.Services.String(),
		"--client-ca-file=" + c.pki(pki.CAFile),
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.pki(pki.ServiceAccountPub), "--service-account-signing-key-file=" + c.pki(pki.ServiceAccountKey),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-certificate-authority=" + c.pki(pki.CAFile),
		"--kubelet-client-certificate=" + c.pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + c.pki("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
	}
	if c.Tier != build.Node {
		// Loopback must not be published as the address of the Service
		// "kubernetes", and nothing could use that Service anyway.
		args = append(args, "--endpoint-reconciler-type=none")
	}
	if c.Audit {
		policy := c.path("conf", "audit-policy.yaml")
		if err := writeFile(policy, auditPolicy); err != nil {
			return err
		}
		args = append(args, "--audit-policy-file="+policy, "--audit-log-path="+c.path("log", "audit.log"), "--audit-log-mode=batch")
	}
	return c.start(partAPIServer, c.bin("kube-apiserver"), args...)
}

func (c *Cluster) startControllerManager() error {
	k := c.kubeconfig(partControllerManager)
	return c.start(partControllerManager, c.bin("kube-controller-manager"),
		"--kubeconfig="+k, "--authentication-kubeconfig="+k, "--authorization-kubeconfig="+k,
		"--bind-address="+loopback, fmt.Sprintf("--secure-port=%d", c.Ports.ControllerManager),
		"--leader-elect=false", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+c.pki(pki.ServiceAccountKey), "--root-ca-file="+c.pki(pki.CAFile),
		"--cluster-signing-cert-file="+c.pki(pki.CAFile), "--cluster-signing-key-file="+c.pki(pki.CAKeyFile),
		"--flex-volume-plugin-dir="+c.path("flex-volumes"), // it makes the directory, by default below /usr
		"--kube-api-qps=200", "--kube-api-burst=400")
}

func (c *Cluster) startScheduler() error {
	k := c.kubeconfig(partScheduler)
	return c.start(partScheduler, c.bin("kube-scheduler"),
		"--kubeconfig="+k, "--authentication-kubeconfig="+k, "--authorization-kubeconfig="+k,
		"--bind-address="+loopback, fmt.Sprintf("--secure-port=%d", c.Ports.Scheduler),
		"--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400")
}

// client returns a client with the administrator's rights and no rate limit of its own.
func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.Timeout = 10 * time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return client, nil
}

// isReady asks the API server.
func isReady(ctx context.Context, client kubernetes.Interface) bool {
	out, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil && string(out) == "ok"
}

// canRead tells whether the API server is ready and gets an answer from etcd.
// It says "ready" by what it last heard from etcd, which can be a while ago.
func canRead(ctx context.Context, client kubernetes.Interface) bool {
	_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
	return err == nil && isReady(ctx, client)
}

// waitAPI waits until the API server says it is ready. The controller-manager
// and the scheduler start only after that: before the API server has laid down
// its own RBAC rules, the one ends with "forbidden" and the other backs off,
// in a cluster that looks healthy.
func (c *Cluster) waitAPI(ctx context.Context, client kubernetes.Interface) error {
	return c.wait(ctx, "the API server", time.Minute, func(ctx context.Context) bool { return isReady(ctx, client) })
}

// waitServiceAccount waits for the default ServiceAccount, without which no Pod can be made.
func (c *Cluster) waitServiceAccount(ctx context.Context, client kubernetes.Interface) error {
	return c.wait(ctx, "the default ServiceAccount", time.Minute, func(ctx context.Context) bool {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
}

// wait polls until done; a part that ends meanwhile ends the wait as well.
func (c *Cluster) wait(ctx context.Context, what string, limit time.Duration, done func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done(ctx) {
		if err := c.died(); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; logs are in %s", what, ctx.Err(), c.LogDir())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
