// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

// TestNewCertificate: clients that trust the certificate may call the gateway by all names that it is reached by.
func TestNewCertificate(t *testing.T) {
	now := time.Now()
	cert, key, err := newCertificate(now, "10.1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cert) {
		t.Fatal("the certificate is none")
	}
	for _, name := range []string{"127.0.0.1", "10.1.2.3", "localhost", "batchcompute-gateway.batchcompute-system.svc"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.1.2.4", CurrentTime: now}); err == nil {
		t.Error("it is valid for an address of somebody else")
	}
}

// TestForwarded: the address is found in what kubectl prints.
func TestForwarded(t *testing.T) {
	if m := forwarded.FindStringSubmatch("Forwarding from 127.0.0.1:43215 -> 8443\n"); m == nil || m[1] != "127.0.0.1:43215" {
		t.Errorf("found %q", m)
	}
}
