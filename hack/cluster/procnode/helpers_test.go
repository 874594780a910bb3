// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	testImage = "busybox:1.37"
	// runVariable makes the test program a process node of its own, so that it
	// can be killed. Its value is a Config as JSON.
	runVariable = "PROCNODE_TEST_CONFIG"
)

func TestMain(m *testing.M) {
	data := os.Getenv(runVariable)
	if data == "" {
		os.Exit(m.Run())
	}
	var cfg Config
	if err := json.Unmarshal([]byte(data), &cfg); err != nil {
		panic(err)
	}
	cfg.Log = os.Stderr
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	if err := Run(ctx, cfg); err != nil {
		panic(err)
	}
}

// cluster is a real API server without any controller or scheduler.
type cluster struct {
	t      *testing.T
	client kubernetes.Interface
	config Config
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("needs a real API server: set KUBEBUILDER_ASSETS to a directory with etcd and kube-apiserver")
	}
	dir := t.TempDir()
	writeCertificates(t, dir)
	env := &envtest.Environment{}
	env.ControlPlane.GetAPIServer().Configure().
		Append("kubelet-client-certificate", filepath.Join(dir, "client.crt")).
		Append("kubelet-client-key", filepath.Join(dir, "client.key")).
		Append("kubelet-certificate-authority", filepath.Join(dir, "ca.crt")).
		Append("kubelet-preferred-address-types", "InternalIP")
	rest, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, env.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	writeProgram(t, filepath.Join(image, "bin", "hello"), `echo "hello $1"`)
	rest.QPS, rest.Burst = 1000, 1000
	return &cluster{
		t: t, client: kubernetes.NewForConfigOrDie(rest),
		config: Config{
			Kubeconfig: kubeconfig, NodeName: "node-1", Labels: map[string]string{"pool": "test"},
			Root: filepath.Join(dir, "root"), Images: map[string]string{"docker.io/library/" + testImage: image},
			ListenAddr: "127.0.0.1:0", ServingCertFile: filepath.Join(dir, "server.crt"),
			ServingKeyFile: filepath.Join(dir, "server.key"), ClientCAFile: filepath.Join(dir, "ca.crt"),
		},
	}
}

func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// writeCertificates writes a CA and a server's and a client's certificate.
func writeCertificates(t *testing.T, dir string) {
	t.Helper()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: i == 0, BasicConstraintsValid: i == 0, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if i == 0 {
			ca, caKey = cert, key
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{
			name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
		} {
			if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// run runs the process node in this program until the test's end.
func (c *cluster) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	cfg := c.config
	cfg.Log = testWriter{c.t}
	go func() { done <- Run(ctx, cfg) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// newTestPod returns a Pod of one container that runs script in a shell.
func newTestPod(name, script string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{
			NodeName: "node-1", RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "main", Image: testImage, Command: []string{"/bin/sh", "-c", script},
			}},
		},
	}
}

// home is the directory that stands for the root of the Pod's container.
func (c *cluster) home(p *corev1.Pod) string {
	return filepath.Join(c.config.Root, "pods", string(p.UID), "containers", "main", "root")
}

func (c *cluster) create(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	created, err := c.client.CoreV1().Pods(p.Namespace).Create(c.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return created
}

// wait returns the Pod once ok holds for it; nil stands for a Pod that is gone.
func (c *cluster) wait(name string, ok func(*corev1.Pod) bool) *corev1.Pod {
	c.t.Helper()
	var p *corev1.Pod
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		p, err = c.client.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			p, err = nil, nil
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if ok(p) {
			return p
		}
	}
	data, _ := json.MarshalIndent(p, "", " ")
	c.t.Fatalf("pod %s did not get there in time: %s", name, data)
	return nil
}

func hasPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p != nil && p.Status.Phase == phase }
}

func waitsFor(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == reason
	}
}

func gone(p *corev1.Pod) bool { return p == nil }

func (c *cluster) logs(name string, o *corev1.PodLogOptions) string {
	c.t.Helper()
	data, err := c.client.CoreV1().Pods("default").GetLogs(name, o).DoRaw(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func terminated(c *cluster, p *corev1.Pod) *corev1.ContainerStateTerminated {
	c.t.Helper()
	end := p.Status.ContainerStatuses[0].State.Terminated
	if end == nil {
		c.t.Fatalf("container has not terminated: %+v", p.Status.ContainerStatuses[0].State)
	}
	return end
}

// waitFor waits until ok holds.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// readPid returns the number in a file, which a process may still have to write.
func readPid(t *testing.T, path string) int {
	t.Helper()
	var pid int
	waitFor(t, func() bool {
		data, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return pid > 1
	})
	return pid
}

// waitGone waits until a process has ended. A zombie has: where nothing reaps
// orphans, that is all it comes to.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	waitFor(t, func() bool {
		stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return syscall.Kill(pid, 0) == syscall.ESRCH || strings.Contains(string(stat), ") Z ")
	})
}

// countProcesses counts the processes with marker in their command lines.
func countProcesses(t *testing.T, marker string) int {
	t.Helper()
	out, err := exec.Command("ps", "axww", "-o", "stat=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, marker) && !strings.HasPrefix(line, "Z") {
			count++
		}
	}
	return count
}

func (c *cluster) delete(name string, grace int64) {
	c.t.Helper()
	if err := c.client.CoreV1().Pods("default").Delete(c.t.Context(), name, *metav1.NewDeleteOptions(grace)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) patch(name, patch string) {
	c.t.Helper()
	_, err := c.client.CoreV1().Pods("default").Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}
