// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/keyutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"batchcompute.dev/operator/internal/testutil/freeport"
)

// startLimit bounds how long a program of a control plane takes to be ready.
const startLimit = 2 * time.Minute

// Own is a control plane of one test's own, whose programs can be killed and started
// again. It ends with the test.
type Own struct {
	*ControlPlane
	etcd, server *program
}

// GetOwn starts a control plane for one test, or skips or fails the test as Get does.
func GetOwn(t testing.TB) *Own {
	t.Helper()
	assets := assetsOf(t)
	dir := t.TempDir()
	addresses, err := freeport.Addresses(3)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := "http://"+addresses[0], "http://"+addresses[1]
	_, securePort, err := net.SplitHostPort(addresses[2])
	if err != nil {
		t.Fatal(err)
	}
	key, token := filepath.Join(dir, "service-account.key"), "administrator"
	if err := errors.Join(writeKey(key),
		os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(token+",admin,admin,system:masters\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	o := &Own{
		etcd: &program{log: filepath.Join(dir, "etcd.log"), args: []string{
			filepath.Join(assets, "etcd"), "--data-dir=" + filepath.Join(dir, "etcd"), "--log-level=error",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
			// What a killed process has written is kept by the system; only a power cut loses it.
			"--unsafe-no-fsync",
		}},
		server: &program{log: filepath.Join(dir, "kube-apiserver.log"), args: []string{
			filepath.Join(assets, "kube-apiserver"), "--etcd-servers=" + client, "--cert-dir=" + filepath.Join(dir, "certs"),
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + securePort,
			"--token-auth-file=" + filepath.Join(dir, "tokens.csv"), "--authorization-mode=RBAC",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
			"--disable-admission-plugins=ServiceAccount", // nobody makes the default one
			"--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
		}},
	}
	t.Cleanup(func() {
		o.server.kill()
		o.etcd.kill()
	})
	if err := errors.Join(o.etcd.start(), o.server.start()); err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: "https://" + addresses[2], BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	if o.ControlPlane, err = connect(config); err != nil {
		t.Fatal(err)
	}
	o.etcdURL = client
	o.waitReady(t)
	crds, err := find("config/crd/bases")
	if err == nil {
		_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{Scheme: o.Scheme, Paths: []string{crds}, ErrorIfPathMissing: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// KillServer kills the API server, as kill -9 does.
func (o *Own) KillServer() { o.server.kill() }

// KillEtcd kills etcd, as kill -9 does.
func (o *Own) KillEtcd() { o.etcd.kill() }

// Restart starts what was killed and waits until all is ready. It returns how long that
// took.
func (o *Own) Restart(t testing.TB) time.Duration {
	t.Helper()
	begin := time.Now()
	for _, p := range []*program{o.etcd, o.server} {
		if p.stop == nil {
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.waitReady(t)
	return time.Since(begin)
}

// waitReady waits until the API server is ready and gets answers from etcd.
func (o *Own) waitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	probe, err := rest.UnversionedRESTClientFor(probeConfig(o.Config))
	if err != nil {
		t.Fatal(err)
	}
	for {
		for _, path := range []string{"/readyz", "/api/v1/namespaces/default"} {
			if _, err = probe.Get().AbsPath(path).DoRaw(ctx); err != nil {
				break
			}
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the control plane is not ready after %s: %v\n%s", startLimit, err, o.server.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// program is one of the control plane's, run below a shell that kills it as soon as its
// input ends. So it does not outlive the test, however that ends.
type program struct {
	args []string
	log  string
	cmd  *exec.Cmd
	stop io.Closer // nil: it does not run
}

const keeper = `"$@" </dev/null & pid=$!; read -r _; kill -9 $pid; wait $pid`

func (p *program) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", keeper, "keeper"}, p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if p.stop, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	return p.cmd.Start()
}

// kill kills the program and waits for its end.
func (p *program) kill() {
	if p.stop == nil {
		return
	}
	_ = p.stop.Close()
	_ = p.cmd.Wait()
	p.stop = nil
}

// tail is the end of the program's log.
func (p *program) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

func writeKey(name string) error {
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	return os.WriteFile(name, key, 0o600)
}

// probeConfig is config for requests without a kind, that do not wait long.
func probeConfig(config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.NegotiatedSerializer = clientgoscheme.Codecs.WithoutConversion()
	out.GroupVersion, out.Timeout = &schema.GroupVersion{}, 2*time.Second
	return out
}
