// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/freeport"
	"batchcompute.dev/operator/internal/testutil/signer"
)

// beGateway makes the test's own program the gateway, so that the tests run the real one, as a process that can be
// killed.
const beGateway = "BATCHCOMPUTE_TEST_BE_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(beGateway) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The users of the cluster, so that the tests find a right that is missing.
const (
	managerUser = "system:serviceaccount:batchcompute-system:batchcompute-controller-manager"
	gatewayUser = "system:serviceaccount:batchcompute-system:batchcompute-gateway"
)

// cluster is an API server with config/host and config/gateway applied, and a manager, whose webhook it calls.
type cluster struct {
	client.Client
	env            *envtest.Environment
	kubectl, admin string
	gateway        string // kubeconfig
	manager        *exec.Cmd
}

// startCluster starts an API server, etcd and the manager with more flags, or skips the test where there are none.
func startCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		if os.Getenv("CI_REQUIRE_INTEGRATION") == "1" {
			t.Fatal("KUBEBUILDER_ASSETS is not set")
		}
		t.Skip("KUBEBUILDER_ASSETS is not set: it names the directory with etcd, kube-apiserver and kubectl; `make integration` sets it")
	}
	env := &envtest.Environment{}
	if _, err := env.Start(); err != nil {
		t.Fatal("starting the API server:", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Log("stopping the API server:", err)
		}
	})
	c := &cluster{env: env, kubectl: filepath.Join(assets, "kubectl")}
	c.admin = c.kubeconfig(t, "admin", "system:masters")
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	var err error
	c.Client, err = client.New(env.Config, client.Options{Scheme: scheme})
	must(t, err)
	c.apply(t)
	c.gateway = c.kubeconfig(t, gatewayUser, "system:serviceaccounts", "system:authenticated")
	c.startManager(t, flags)
	return c
}

// kubeconfig writes a kubeconfig for a user and returns the file's name.
func (c *cluster) kubeconfig(t testing.TB, name string, groups ...string) string {
	t.Helper()
	user, err := c.env.AddUser(envtest.User{Name: name, Groups: groups}, nil)
	must(t, err)
	data, err := user.KubeConfig()
	must(t, err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(file, data, 0o600))
	return file
}

// apply applies config/host, with the gateway as a component as in config/default-gateway.
func (c *cluster) apply(t testing.TB) {
	t.Helper()
	config, err := filepath.Abs("../../config")
	must(t, err)
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, config)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"),
		fmt.Appendf(nil, "resources: [%[1]s/host]\ncomponents: [%[1]s/gateway]\n", relative), 0o600))
	out, err := exec.CommandContext(t.Context(), c.kubectl, "--kubeconfig", c.admin, "apply", "--server-side", "-k", dir).CombinedOutput()
	if err != nil || strings.Contains(string(out), "PodSecurity") { // a warning of the namespace's level
		t.Fatalf("applying the manifests: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), c.kubectl, "kustomize", filepath.Join(config, "default-gateway")).CombinedOutput(); err != nil {
		t.Fatalf("building config/default-gateway: %v\n%s", err, out)
	}
	eventually(t, func() error { return c.List(t.Context(), &v1alpha1.BatchJobList{}) })
}

// startManager builds the manager, starts it, and waits until the API server calls its webhook.
func (c *cluster) startManager(t testing.TB, flags []string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "manager")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../manager").CombinedOutput(); err != nil {
		t.Fatalf("building the manager: %v\n%s", err, out)
	}
	addresses, err := freeport.Addresses(3)
	must(t, err)
	c.manager = exec.Command(program, append([]string{"--kubeconfig", c.kubeconfig(t, managerUser, "system:serviceaccounts", "system:authenticated"),
		"--catalog=../../config/manager/catalog.yaml", "--webhook-bind-address", addresses[0], "--webhook-url", "https://" + addresses[0],
		"--health-probe-bind-address", addresses[1], "--metrics-bind-address", addresses[2]}, flags...)...)
	launch(t, c.manager)
	eventually(t, func() error { return ready(addresses[1]) })
	eventually(t, func() error {
		job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "reached-"}}
		job.Spec.ClientToken = "reached" // so that the webhook that names jobs is called as well
		if err := c.Create(t.Context(), job, client.DryRunAll); err != nil && strings.Contains(err.Error(), "failed calling webhook") {
			return err
		}
		return nil
	})
}

// replica is a running gateway.
type replica struct {
	cmd    *exec.Cmd
	log    *logBuffer
	url    string
	probe  string
	client *http.Client
	ca     string // who trusts its certificate, in PEM
}

// startGateway starts a gateway with TLS and waits until it is ready.
func (c *cluster) startGateway(t testing.TB, args ...string) *replica {
	t.Helper()
	return c.startGatewayAt(t, c.gateway, args...)
}

// startGatewayAt is startGateway with another way to the API server.
func (c *cluster) startGatewayAt(t testing.TB, kubeconfig string, args ...string) *replica {
	t.Helper()
	addresses, err := freeport.Addresses(3)
	must(t, err)
	dir, roots := certificate(t)
	cmd := exec.Command(os.Args[0], append([]string{
		"--kubeconfig", kubeconfig, "--catalog=../../config/manager/catalog.yaml", "--tls-cert-dir", dir,
		"--bind-address", addresses[0], "--health-probe-bind-address", addresses[1], "--metrics-bind-address", addresses[2],
	}, args...)...)
	cmd.Env = append(os.Environ(), beGateway+"=1")
	r := &replica{cmd: cmd, url: "https://" + addresses[0], probe: addresses[1]}
	ca, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	must(t, err)
	r.ca = string(ca)
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	r.log = launch(t, cmd)
	eventually(t, func() error { return ready(r.probe) })
	return r
}

// kill ends the gateway at once.
func (r *replica) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// proxy stands between a gateway and the API server. It holds back the answer to the first create of a resource.
type proxy struct {
	kubeconfig string
	stored     chan struct{} // closed when the object is stored
	release    chan struct{} // to be closed by the test

	once sync.Once
	mu   sync.Mutex
	body []byte
}

// created is the API server's answer that was held back.
func (p *proxy) created() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.body)
}

// startProxy starts a proxy that has the gateway's rights.
func (c *cluster) startProxy(t testing.TB, path string) *proxy {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.gateway)
	must(t, err)
	transport, err := rest.TransportFor(config)
	must(t, err)
	target, err := url.Parse(config.Host)
	must(t, err)
	p := &proxy{stored: make(chan struct{}), release: make(chan struct{})}
	reverse := httputil.NewSingleHostReverseProxy(target)
	reverse.Transport, reverse.FlushInterval = transport, -1
	reverse.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == http.MethodPost && strings.HasSuffix(r.Request.URL.Path, path) && r.StatusCode == http.StatusCreated {
			p.once.Do(func() { p.hold(r) })
		}
		return nil
	}
	reverse.ErrorLog = log.New(io.Discard, "", 0)
	server := httptest.NewServer(reverse)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(p.kubeconfig, kubeconfigOf(server.URL), 0o600))
	return p
}

// kubeconfigOf is a kubeconfig for a server that asks for no credentials.
func kubeconfigOf(server string) []byte {
	return fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x}}]\nclusters: [{name: x, cluster: {server: %q}}]\n", server)
}

// hold keeps an answer until the test releases it.
func (p *proxy) hold(r *http.Response) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	p.mu.Lock()
	p.body = body
	p.mu.Unlock()
	close(p.stored)
	<-p.release
}

// launch starts a process, which ends with the test, and returns what it logs.
func launch(t testing.TB, cmd *exec.Cmd) *logBuffer {
	t.Helper()
	out := &logBuffer{}
	cmd.Stderr = out
	must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s ended with: %v", cmd.Path, err)
			}
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", cmd.Path, out)
		}
	})
	return out
}

// logBuffer is what a process has written; it may be read while the process writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// ready returns nil when a process says so.
func ready(probe string) error {
	resp, err := http.Get("http://" + probe + "/readyz?verbose")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}

// certificate makes a certificate for the gateway and returns its directory, and who trusts it.
func certificate(t testing.TB) (string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	dir := t.TempDir()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	must(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return dir, roots
}

// caller is a client with a key.
type caller struct {
	t  testing.TB
	to *replica
	signer.Signer
	namespace string
}

// newCaller makes a namespace with a service account that has the rights of callers, and a key for it.
func (c *cluster) newCaller(t testing.TB, to *replica) *caller {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "tenant-"}}
	must(t, c.Create(t.Context(), ns))
	for _, args := range [][]string{
		{"create", "serviceaccount", "batchcompute-client"},
		{"create", "rolebinding", "batchcompute-client", "--clusterrole=batchcompute-gateway-client", "--serviceaccount=" + ns.Name + ":batchcompute-client"},
	} {
		cmd := exec.CommandContext(t.Context(), c.kubectl, append([]string{"--kubeconfig", c.admin, "-n", ns.Name}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	d := &caller{t: t, to: to, namespace: ns.Name, Signer: signer.Signer{
		SecretID: "AKID" + strings.ReplaceAll(ns.Name, "-", "") + "0123456789", SecretKey: "key-0123456789abcdef-" + ns.Name, Region: "ap-guangzhou",
	}}
	must(t, c.Create(t.Context(), d.secret("key")))
	eventually(t, func() error {
		if _, err := d.call("DescribeJobs", "{}", nil); err != nil {
			return err
		}
		return nil
	})
	return d
}

// secret is the Secret of the caller's key.
func (d *caller) secret(name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: name, Labels: map[string]string{v1alpha1.LabelAPIKey: "true"}},
		StringData: map[string]string{"secretId": d.SecretID, "secretKey": d.SecretKey},
	}
}

// answerError is the error in an answer.
type answerError struct{ Code, Message string }

func (e *answerError) Error() string { return e.Code + ": " + e.Message }

// call sends a request with signature v3 and a JSON body, decodes the answer into out, nil for none, and returns the
// RequestId.
func (d *caller) call(action, body string, out any) (string, error) {
	s := d.Signer
	s.Action, s.At = action, time.Now()
	return d.send(s.POST(d.to.url, body), out)
}

// send sends a signed request.
func (d *caller) send(req *http.Request, out any) (string, error) {
	resp, err := d.to.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %w", resp.Status, err)
	}
	var answer struct{ Response json.RawMessage }
	var common struct {
		Error     *answerError
		RequestID string
	}
	if err := errors.Join(json.Unmarshal(text, &answer), json.Unmarshal(answer.Response, &common)); err != nil {
		return "", fmt.Errorf("%s: %w", text, err)
	}
	if common.Error != nil {
		return common.RequestID, common.Error
	}
	if out != nil {
		err = json.Unmarshal(answer.Response, out)
	}
	return common.RequestID, err
}

// must does an action that must succeed.
func (d *caller) must(action, body string, out any) {
	d.t.Helper()
	if _, err := d.call(action, body, out); err != nil {
		d.t.Fatalf("%s %s: %v", action, body, err)
	}
}

// refused does an action that must be refused with a code, and returns the message.
func (d *caller) refused(action, body, want string) string {
	d.t.Helper()
	_, err := d.call(action, body, nil)
	var e *answerError
	if !errors.As(err, &e) || e.Code != want {
		d.t.Errorf("%s %s: %v, want %s", action, body, err, want)
		return ""
	}
	return e.Message
}

// waitTimeout is how long anything may take on a busy machine. No test judges speed by it.
const waitTimeout = 2 * time.Minute

// eventually repeats f until it returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", waitTimeout, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
