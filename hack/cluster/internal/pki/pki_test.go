// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func newAuthority(t *testing.T) (*Authority, *x509.CertPool) {
	t.Helper()
	a, err := New(filepath.Join(t.TempDir(), "pki"), "test")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(a.Path(CAFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		t.Fatal("the authority's file holds no certificate")
	}
	return a, pool
}

func leaf(t *testing.T, a *Authority, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.Path(name+".crt"), a.Path(name+".key")) // checks that they belong together
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestServing(t *testing.T) {
	a, pool := newAuthority(t)
	if err := a.Serving("server", pkix.Name{CommonName: "server"}, "127.0.0.1", "localhost"); err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, a, "server")
	for host, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "10.0.0.1": false, "example.org": false} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
		if got := err == nil; got != want {
			t.Errorf("%s: got %v (%v), want %v", host, got, err, want)
		}
	}
	_, other := newAuthority(t)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: other, DNSName: "localhost"}); err == nil {
		t.Error("another authority vouches for it")
	}
}

func TestClientIsNoServer(t *testing.T) {
	a, pool := newAuthority(t)
	if err := a.Client("client", "someone", "a-group"); err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, a, "client")
	if cert.Subject.CommonName != "someone" || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != "a-group" {
		t.Errorf("subject: got %v", cert.Subject)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("it may be a server")
	}
}

func TestKubeconfig(t *testing.T) {
	a, _ := newAuthority(t)
	file := filepath.Join(t.TempDir(), "sub", "kubeconfig")
	if err := a.Kubeconfig(file, "demo", "https://127.0.0.1:1", "admin", "system:masters"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:1" || len(config.CAData) == 0 {
		t.Errorf("got host %q and %d bytes of CA", config.Host, len(config.CAData))
	}
	if _, err := tls.X509KeyPair(config.CertData, config.KeyData); err != nil {
		t.Errorf("its certificate and key: %v", err)
	}
}

func TestPrivateFilesArePrivate(t *testing.T) {
	a, _ := newAuthority(t)
	for _, file := range []string{CAKeyFile, ServiceAccountKey} {
		info, err := os.Stat(a.Path(file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, want 0600", file, info.Mode())
		}
	}
	data, err := os.ReadFile(a.Path(ServiceAccountPub))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatal("no PEM in the public key")
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		t.Error(err)
	}
}
