// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
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

// pod returns a Pod of one container that runs script in a shell.
func pod(name, script string) *corev1.Pod {
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

func TestProcessNode(t *testing.T) {
	main := startCluster(t)
	main.run()
	for name, test := range map[string]func(*cluster){
		"node":            testNode,
		"success":         testSuccess,
		"exit code":       testExitCode,
		"init containers": testInitContainers,
		"environment":     testEnvironment,
		"image":           testImagePull,
		"start error":     testStartError,
		"restart":         testRestart,
		"delete":          testDelete,
		"finalizer":       testFinalizer,
		"stubborn":        testStubborn,
		"never started":   testNeverStarted,
		"same name":       testSameName,
		"deadline":        testDeadline,
		"follow":          testFollow,
		"many":            testMany,
	} {
		t.Run(name, func(t *testing.T) { test(&cluster{t: t, client: main.client, config: main.config}) })
	}
}

func testNode(c *cluster) {
	var node *corev1.Node
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if node, err = c.client.CoreV1().Nodes().Get(c.t.Context(), "node-1", metav1.GetOptions{}); err == nil &&
			len(node.Status.Conditions) > 0 && len(node.Spec.Taints) == 0 {
			break
		}
	}
	if len(node.Spec.Taints) != 0 || node.Labels["pool"] != "test" || node.Labels[corev1.LabelHostname] != "node-1" ||
		node.Status.Capacity.Pods().Value() != 110 || node.Status.DaemonEndpoints.KubeletEndpoint.Port == 0 {
		c.t.Errorf("node: %+v", node)
	}
	if _, err := c.client.CoordinationV1().Leases("kube-node-lease").Get(c.t.Context(), "node-1", metav1.GetOptions{}); err != nil {
		c.t.Error(err)
	}
}

func testSuccess(c *cluster) {
	watch, err := c.client.CoreV1().Pods("default").Watch(c.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=success"})
	if err != nil {
		c.t.Fatal(err)
	}
	defer watch.Stop()
	c.create(pod("success", "echo out; echo err >&2; hello you; sleep 0.3"))
	var phases []corev1.PodPhase
	for event := range watch.ResultChan() {
		p := event.Object.(*corev1.Pod)
		phases = append(phases, p.Status.Phase)
		if p.Status.Phase == corev1.PodSucceeded {
			break
		}
	}
	if got := fmt.Sprint(phases); got != "[Pending Running Succeeded]" {
		c.t.Errorf("phases seen: %s", got)
	}
	p := c.wait("success", hasPhase(corev1.PodSucceeded))
	end := terminated(c, p)
	if end.ExitCode != 0 || end.Reason != "Completed" || !strings.HasPrefix(end.ContainerID, "process://") {
		c.t.Errorf("terminated: %+v", end)
	}
	if got, want := c.logs("success", &corev1.PodLogOptions{}), "out\nerr\nhello you\n"; got != want {
		c.t.Errorf("logs: got %q, want %q", got, want)
	}
	if got, want := c.logs("success", &corev1.PodLogOptions{TailLines: new(int64(1))}), "hello you\n"; got != want {
		c.t.Errorf("last line: got %q, want %q", got, want)
	}
}

func testExitCode(c *cluster) {
	c.create(pod("fails", "exit 3"))
	c.create(pod("signal", "kill -9 $$$$"))
	for name, want := range map[string]int32{"fails": 3, "signal": 137} {
		if end := terminated(c, c.wait(name, hasPhase(corev1.PodFailed))); end.ExitCode != want || end.Reason != "Error" {
			c.t.Errorf("%s: %+v", name, end)
		}
	}
}

func testInitContainers(c *cluster) {
	p := pod("init", "cat data/a data/b")
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	for _, name := range []string{"a", "b"} {
		i := *p.Spec.Containers[0].DeepCopy()
		i.Name, i.Command = name, []string{"sh", "-c", "ls $PROCNODE_MOUNT_DATA; echo " + name + " > data/" + name}
		p.Spec.InitContainers = append(p.Spec.InitContainers, i)
	}
	c.create(p)
	c.wait("init", hasPhase(corev1.PodSucceeded))
	if got := c.logs("init", &corev1.PodLogOptions{Container: "main"}); got != "a\nb\n" {
		c.t.Errorf("main: %q", got)
	}
	if got := c.logs("init", &corev1.PodLogOptions{Container: "b"}); got != "a\n" {
		c.t.Errorf("second init container: %q", got)
	}

	p = pod("init-fails", "echo never")
	p.Spec.InitContainers = []corev1.Container{{Name: "a", Image: testImage, Command: []string{"false"}}}
	c.create(p)
	p = c.wait("init-fails", hasPhase(corev1.PodFailed))
	if w := p.Status.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "PodInitializing" {
		c.t.Errorf("main: %+v", p.Status.ContainerStatuses[0].State)
	}
}

func testEnvironment(c *cluster) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"COLOR": "blue"}}
	p := pod("environment", `echo "$(A) $B $NAME $COLOR $INDEX $(cat etc/COLOR)"; env | sed 's/=.*//' | sort | tr '\n' ' '`)
	p.Annotations = map[string]string{"index": "7"}
	p.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "A", Value: "echo"}, {Name: "B", Value: "$(A)-b"},
		{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "INDEX", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['index']"}}},
	}
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/etc"}}
	c.create(p)
	p = c.wait("environment", waitsFor("ContainerCreating"))
	if got := p.Status.ContainerStatuses[0].State.Waiting.Message; got != `volume v: configmaps "settings" not found` {
		c.t.Errorf("message: %q", got)
	}
	if _, err := c.client.CoreV1().ConfigMaps("default").Create(c.t.Context(), cm, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.wait("environment", hasPhase(corev1.PodSucceeded))
	want := "echo echo-b environment blue 7 blue\nA B COLOR HOME HOSTNAME INDEX NAME PATH PROCNODE_MOUNT_V PROCNODE_POD_UID PWD "
	if got := c.logs("environment", &corev1.PodLogOptions{}); strings.ReplaceAll(got, "OLDPWD ", "") != want &&
		strings.ReplaceAll(strings.ReplaceAll(got, "SHLVL ", ""), "_ ", "") != want {
		c.t.Errorf("got %q, want %q", got, want)
	}
}

func testImagePull(c *cluster) {
	p := pod("image", "hi")
	p.Spec.Containers[0].Image, p.Spec.Containers[0].Command = "registry.test/new:1", []string{"hi"}
	c.create(p)
	c.wait("image", waitsFor("ErrImagePull"))
	p = c.wait("image", waitsFor("ImagePullBackOff"))
	if got, want := p.Status.ContainerStatuses[0].State.Waiting.Message, `Back-off pulling image "registry.test/new:1": not found`; got != want {
		c.t.Errorf("message: got %q, want %q", got, want)
	}
	_, err := c.client.CoreV1().Pods("default").GetLogs("image", &corev1.PodLogOptions{}).Stream(c.t.Context())
	if err == nil || !strings.Contains(err.Error(), "is waiting to start") {
		c.t.Errorf("logs of a waiting container: %v", err)
	}
	dir := c.t.TempDir()
	writeProgram(c.t, filepath.Join(dir, "bin", "hi"), "echo loaded")
	data, _ := json.Marshal(map[string]string{"registry.test/new:1": dir})
	if err := os.WriteFile(filepath.Join(c.config.Root, imagesFile), data, 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.wait("image", hasPhase(corev1.PodSucceeded))
	if got := c.logs("image", &corev1.PodLogOptions{}); got != "loaded\n" {
		c.t.Errorf("logs: %q", got)
	}
}

func testStartError(c *cluster) {
	p := pod("start-error", "")
	p.Spec.Containers[0].Command = []string{"no-such-program"}
	c.create(p)
	end := terminated(c, c.wait("start-error", hasPhase(corev1.PodFailed)))
	if end.ExitCode != 128 || end.Reason != "StartError" || !strings.Contains(end.Message, `exec: "no-such-program": executable file not found in $PATH`) {
		c.t.Errorf("terminated: %+v", end)
	}
	p = pod("no-command", "")
	p.Spec.Containers[0].Command = nil
	c.create(p)
	c.wait("no-command", waitsFor("CreateContainerError"))
}

func testRestart(c *cluster) {
	p := pod("restart", "test -e seen && echo again || { echo first; touch seen; exit 1; }")
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	c.create(p)
	c.wait("restart", waitsFor("CrashLoopBackOff"))
	p = c.wait("restart", hasPhase(corev1.PodSucceeded))
	if s := p.Status.ContainerStatuses[0]; s.RestartCount != 1 || s.LastTerminationState.Terminated == nil {
		c.t.Errorf("status: %+v", s)
	}
	if got := c.logs("restart", &corev1.PodLogOptions{}) + c.logs("restart", &corev1.PodLogOptions{Previous: true}); got != "again\nfirst\n" {
		c.t.Errorf("logs, now and previous: %q", got)
	}
}

func (c *cluster) delete(name string, grace int64) {
	c.t.Helper()
	if err := c.client.CoreV1().Pods("default").Delete(c.t.Context(), name, *metav1.NewDeleteOptions(grace)); err != nil {
		c.t.Fatal(err)
	}
}

func testDelete(c *cluster) {
	p := c.create(pod("delete", "sleep 1000 & echo $! > pid; wait"))
	c.wait("delete", hasPhase(corev1.PodRunning))
	file := filepath.Join(c.config.Root, "pods", string(p.UID), "containers", "main", "root", "pid")
	child := readPid(c.t, file)
	c.delete("delete", 5)
	c.wait("delete", gone)
	waitGone(c.t, child)
	waitFor(c.t, func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })

	p = c.create(pod("force", "sleep 1000 & echo $! > pid; wait"))
	c.wait("force", hasPhase(corev1.PodRunning))
	child = readPid(c.t, filepath.Join(c.config.Root, "pods", string(p.UID), "containers", "main", "root", "pid"))
	c.delete("force", 0)
	c.wait("force", gone)
	waitGone(c.t, child)
}

func testFinalizer(c *cluster) {
	p := pod("finalizer", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done")
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	c.wait("finalizer", hasPhase(corev1.PodRunning))
	waitFor(c.t, func() bool { return c.logs("finalizer", &corev1.PodLogOptions{}) == "up\n" })
	c.delete("finalizer", 5)
	p = c.wait("finalizer", func(p *corev1.Pod) bool {
		return isTerminal(p.Status.Phase) && *p.DeletionGracePeriodSeconds == 0
	})
	if p.Status.Phase != corev1.PodSucceeded || terminated(c, p).ExitCode != 0 {
		c.t.Errorf("status: %+v", p.Status)
	}
	if got := c.logs("finalizer", &corev1.PodLogOptions{}); !strings.HasSuffix(got, "\nbye\n") {
		c.t.Errorf("logs: %q", got)
	}
	time.Sleep(300 * time.Millisecond)
	if later := c.wait("finalizer", func(*corev1.Pod) bool { return true }); later.ResourceVersion != p.ResourceVersion {
		c.t.Errorf("the Pod is still being written: %+v", later)
	}
	c.patch("finalizer", `{"metadata":{"finalizers":null}}`)
	c.wait("finalizer", gone)
}

func (c *cluster) patch(name, patch string) {
	c.t.Helper()
	_, err := c.client.CoreV1().Pods("default").Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

func testStubborn(c *cluster) {
	p := pod("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done")
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	waitFor(c.t, func() bool {
		data, _ := c.client.CoreV1().Pods("default").GetLogs("stubborn", &corev1.PodLogOptions{}).DoRaw(c.t.Context())
		return string(data) == "up\n"
	})
	c.delete("stubborn", 1)
	p = c.wait("stubborn", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 {
		c.t.Errorf("terminated: %+v", end)
	}
	c.patch("stubborn", `{"metadata":{"finalizers":null}}`)
	c.wait("stubborn", gone)
}

func testNeverStarted(c *cluster) {
	p := pod("never-started", "")
	p.Spec.Containers[0].Image = "registry.test/none:1"
	p.Finalizers = []string{"test.dev/hold"}
	c.create(p)
	c.wait("never-started", waitsFor("ErrImagePull"))
	c.delete("never-started", 5)
	p = c.wait("never-started", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 || end.Reason != "ContainerStatusUnknown" {
		c.t.Errorf("terminated: %+v", end)
	}
	c.patch("never-started", `{"metadata":{"finalizers":null}}`)
	c.wait("never-started", gone)
}

func testSameName(c *cluster) {
	for range 3 {
		p := c.create(pod("same-name", "sleep 1000"))
		c.wait("same-name", func(got *corev1.Pod) bool { return hasPhase(corev1.PodRunning)(got) && got.UID == p.UID })
		c.delete("same-name", 0)
	}
}

func testDeadline(c *cluster) {
	p := pod("deadline", "sleep 1000")
	p.Spec.ActiveDeadlineSeconds = new(int64(1))
	c.create(p)
	p = c.wait("deadline", hasPhase(corev1.PodFailed))
	if p.Status.Reason != "DeadlineExceeded" || terminated(c, p).ExitCode != 143 {
		c.t.Errorf("status: %+v", p.Status)
	}
}

func testFollow(c *cluster) {
	c.create(pod("follow", "echo one; sleep 1; echo two; sleep 0.2"))
	c.wait("follow", hasPhase(corev1.PodRunning))
	begin := time.Now()
	stream, err := c.client.CoreV1().Pods("default").GetLogs("follow", &corev1.PodLogOptions{Follow: true}).Stream(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	defer stream.Close()
	first := make([]byte, 4)
	if _, err := io.ReadFull(stream, first); err != nil || string(first) != "one\n" || time.Since(begin) > 800*time.Millisecond {
		c.t.Errorf("first line: %q, %v, after %s", first, err, time.Since(begin))
	}
	rest, err := io.ReadAll(stream)
	if err != nil || string(rest) != "two\n" {
		c.t.Errorf("the rest: %q, %v", rest, err)
	}
}

func testMany(c *cluster) {
	const count = 50
	begin := time.Now()
	for i := range count {
		c.create(pod(fmt.Sprintf("many-%d", i), "sleep 1000"))
	}
	created := time.Since(begin)
	for i := range count {
		c.wait(fmt.Sprintf("many-%d", i), hasPhase(corev1.PodRunning))
	}
	c.t.Logf("%d Pods created in %s, all running after %s", count, created, time.Since(begin))
	for i := range count {
		c.delete(fmt.Sprintf("many-%d", i), 1)
	}
	for i := range count {
		c.wait(fmt.Sprintf("many-%d", i), gone)
	}
}

// TestKilled kills a process node of its own program with SIGKILL, and looks at
// what the next one makes of its Pods.
func TestKilled(t *testing.T) {
	c := startCluster(t)
	data, err := json.Marshal(c.config)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), runVariable+"="+string(data))
		cmd.Stderr = new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	first := start()
	// The shell dies with the node on Linux; its child is only found later.
	p := c.create(pod("killed", "sleep 1000 & echo $! > pid; wait"))
	c.create(pod("done", "exit 0"))
	again := pod("again", "sleep 1000")
	again.Spec.RestartPolicy = corev1.RestartPolicyAlways
	c.create(again)
	c.wait("killed", hasPhase(corev1.PodRunning))
	c.wait("again", hasPhase(corev1.PodRunning))
	c.wait("done", hasPhase(corev1.PodSucceeded))
	child := readPid(t, filepath.Join(c.config.Root, "pods", string(p.UID), "containers", "main", "root", "pid"))
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()

	second := start()
	p = c.wait("killed", hasPhase(corev1.PodFailed))
	if end := terminated(c, p); end.ExitCode != 137 || end.Reason != "ContainerStatusUnknown" {
		t.Errorf("terminated: %+v", end)
	}
	waitGone(t, child)
	c.wait("again", func(p *corev1.Pod) bool {
		return p.Status.ContainerStatuses[0].RestartCount == 1 && p.Status.ContainerStatuses[0].Ready
	})
	if got := c.wait("done", hasPhase(corev1.PodSucceeded)); terminated(c, got).ExitCode != 0 {
		t.Errorf("done: %+v", got.Status)
	}
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("second process node: %v\n%s", err, second.Stderr)
	}
}
