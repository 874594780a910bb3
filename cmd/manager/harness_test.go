// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil/freeport"
)

// beManager makes the test's own program the manager, so that the tests run the real
// one, as a process that can be stopped and killed.
const beManager = "BATCHCOMPUTE_TEST_BE_MANAGER"

func TestMain(m *testing.M) {
	if os.Getenv(beManager) != "" {
		main()
		os.Exit(0)
	}
	ctrl.SetLogger(logr.Discard()) // of the libraries that the tests use themselves
	os.Exit(m.Run())
}

// serviceAccount is the manager's user, so that the tests find a right that is missing.
const serviceAccount = "system:serviceaccount:batchcompute-system:batchcompute-controller-manager"

// cluster is an API server with config/host applied.
type cluster struct {
	client.Client
	env      *envtest.Environment
	admin    string // kubeconfig files
	operator string
	kubectl  string
}

// startCluster starts an API server and etcd, or skips the test where there are none.
func startCluster(t *testing.T, configure ...func(*envtest.Environment)) *cluster {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: it names the directory with etcd, kube-apiserver and kubectl; `make integration` sets it")
	}
	env := &envtest.Environment{}
	for _, f := range configure {
		f(env)
	}
	if _, err := env.Start(); err != nil {
		t.Fatal("starting the API server:", err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Log("stopping the API server:", err)
		}
	})
	c := &cluster{env: env, kubectl: filepath.Join(assets, "kubectl")}
	c.admin = c.kubeconfig(t, envtest.User{Name: "admin", Groups: []string{"system:masters"}})
	c.operator = c.kubeconfig(t, envtest.User{Name: serviceAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}})

	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	var err error
	c.Client, err = client.New(env.Config, client.Options{Scheme: scheme})
	must(t, err)
	c.apply(t, "../../config/host")
	return c
}

// kubeconfig writes a kubeconfig for a user and returns the file's name.
func (c *cluster) kubeconfig(t *testing.T, u envtest.User) string {
	t.Helper()
	user, err := c.env.AddUser(u, nil)
	must(t, err)
	data, err := user.KubeConfig()
	must(t, err)
	name := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(name, data, 0o600))
	return name
}

// apply applies an overlay of config/ as users do, and waits for the CRDs.
func (c *cluster) apply(t *testing.T, dir string) {
	t.Helper()
	if out, err := c.run(t, "", "apply", "--server-side", "-k", dir); err != nil {
		t.Fatalf("applying %s: %v\n%s", dir, err, out)
	}
	eventually(t, func() error { return c.List(t.Context(), &v1alpha1.BatchJobList{}) })
}

// run runs kubectl as the administrator and returns what it prints and its error.
func (c *cluster) run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.kubectl, append([]string{"--kubeconfig", c.admin}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// process is a running manager.
type process struct {
	cmd                     *exec.Cmd
	log                     *logBuffer
	webhook, probe, metrics string
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

// startManager starts a manager on free ports, with certificates of its own making, and
// waits until it is ready.
func (c *cluster) startManager(t *testing.T, args ...string) *process {
	t.Helper()
	addr := freeAddr(t)
	p := c.launch(t, append([]string{"--webhook-bind-address", addr, "--webhook-url", "https://" + addr}, args...)...)
	p.webhook = addr
	eventually(t, p.ready)
	eventually(t, c.webhooksReached)
	return p
}

// webhooksReached returns nil when the API server calls the webhooks where the manager serves
// them: it hears of a changed configuration through a watch, so later than the manager is ready.
func (c *cluster) webhooksReached() error {
	job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "reached-"}}
	job.Spec.ClientToken = "reached" // so that the webhook that names jobs is called as well
	err := c.Create(context.Background(), job, client.DryRunAll)
	if err != nil && strings.Contains(err.Error(), "failed calling webhook") {
		return err
	}
	return nil
}

// launch starts a manager and does not wait.
func (c *cluster) launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{probe: freeAddr(t), metrics: freeAddr(t), log: &logBuffer{}}
	p.cmd = exec.Command(os.Args[0], append([]string{
		"--kubeconfig", c.operator, "--catalog=../../config/manager/catalog.yaml",
		"--health-probe-bind-address", p.probe, "--metrics-bind-address", p.metrics,
	}, args...)...)
	p.cmd.Env = append(os.Environ(), beManager+"=1")
	p.cmd.Stderr = p.log
	must(t, p.cmd.Start())
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("log of the manager:\n%s", p.log)
		}
	})
	return p
}

// ready returns nil when the manager says so.
func (p *process) ready() error {
	resp, err := http.Get("http://" + p.probe + "/readyz?verbose")
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

// stop ends the manager as Kubernetes does and waits for its end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Error("the manager ended with:", err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addresses, err := freeport.Addresses(1)
	must(t, err)
	return addresses[0]
}

// waitTimeout is how long anything may take on a busy machine. No test judges speed by it.
const waitTimeout = 2 * time.Minute

// eventually repeats f until it returns nil.
func eventually(t *testing.T, f func() error) {
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// parse reads a manifest.
func parse(t *testing.T, manifest string) *v1alpha1.BatchJob {
	t.Helper()
	job := &v1alpha1.BatchJob{}
	must(t, utilyaml.UnmarshalStrict([]byte(manifest), job))
	return job
}
