// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controlplane gives integration tests a real API server and etcd with the
// project's CRDs, and plays the scheduler, the kubelet and the garbage collector, which
// are not there.
package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"batchcompute.dev/operator/api/v1alpha1"
)

// The variables of the environment that say whether integration tests run.
const (
	// assetsVariable names the directory of etcd, kube-apiserver and kubectl.
	assetsVariable = "KUBEBUILDER_ASSETS"
	// requiredVariable, set to 1, makes a test that cannot run one that failed.
	requiredVariable = "CI_REQUIRE_INTEGRATION"
)

// ControlPlane is an API server with the CRDs of config/crd/bases.
type ControlPlane struct {
	// Config is for an administrator.
	Config *rest.Config
	// Scheme knows Kubernetes' kinds and ours.
	Scheme *runtime.Scheme
	// Client is an administrator's, without a cache.
	client.WithWatch
	env     *envtest.Environment
	etcdURL string
}

// shared is the control plane of this test program, started by the first test that
// needs it.
var shared = struct {
	sync.Mutex
	plane *ControlPlane
	err   error
}{}

// Main runs the tests of a package and then stops the control plane. TestMain calls it:
//
//	func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	if p := shared.plane; p != nil {
		if err := p.env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
		}
	}
	return code
}

// Get returns the control plane that the tests of a package share. Where there are no
// programs for one it skips the test, or fails it if CI_REQUIRE_INTEGRATION is 1.
func Get(t testing.TB) *ControlPlane {
	t.Helper()
	assets := assetsOf(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.plane == nil && shared.err == nil {
		shared.plane, shared.err = start(assets)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.plane
}

// assetsOf returns the directory of the programs, or skips or fails the test.
func assetsOf(t testing.TB) string {
	t.Helper()
	assets := os.Getenv(assetsVariable)
	if assets == "" {
		const why = assetsVariable + " is not set: this test needs the directory of etcd and kube-apiserver that it names"
		if os.Getenv(requiredVariable) == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return assets
}

func start(assets string) (*ControlPlane, error) {
	crds, err := find("config/crd/bases")
	if err != nil {
		return nil, err
	}
	env := &envtest.Environment{
		BinaryAssetsDirectory: assets, CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: startLimit, ControlPlaneStopTimeout: startLimit,
	}
	config, err := env.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting a control plane: %w", err), env.Stop())
	}
	p, err := connect(config)
	if err != nil {
		return nil, errors.Join(err, env.Stop())
	}
	p.env, p.etcdURL = env, env.ControlPlane.Etcd.URL.String()
	return p, nil
}

// connect makes clients for the API server of config, and takes its limits off.
func connect(config *rest.Config) (*ControlPlane, error) {
	p := &ControlPlane{Config: config, Scheme: runtime.NewScheme()}
	utilruntime.Must(clientgoscheme.AddToScheme(p.Scheme))
	utilruntime.Must(v1alpha1.AddToScheme(p.Scheme))
	config.QPS, config.Burst = -1, -1
	var err error
	if p.WithWatch, err = client.NewWithWatch(config, client.Options{Scheme: p.Scheme}); err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return p, nil
}

// find returns the path of a directory of this module, from wherever a test runs.
func find(dir string) (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, dir), nil
		}
	}
	return "", errors.New("there is no go.mod here or above")
}

// Namespace makes a namespace for one test and returns its name.
func (p *ControlPlane) Namespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.GenerateName = "test-"
	if err := p.Create(context.Background(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// Stored returns the value that etcd has at a key, as the API server wrote it.
func (p *ControlPlane) Stored(t testing.TB, key string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string][]byte{"key": []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	at := p.env.ControlPlane.Etcd.URL.JoinPath("v3/kv/range").String()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct{ Kvs []struct{ Value []byte } }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || len(answer.Kvs) != 1 {
		t.Fatalf("etcd has %d values at %s (%v, %s)", len(answer.Kvs), key, err, res.Status)
	}
	return answer.Kvs[0].Value
}
