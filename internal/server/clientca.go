// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// rereadClientCA is how often the file of authorities is read again, at most.
const rereadClientCA = 5 * time.Second

// ClientCA verifies the certificates of clients by the authorities in a file, which may change
// at any time. It also has a certificate of its own, by which this process can check itself.
type ClientCA struct {
	file string
	self *tls.Certificate

	mu   sync.Mutex
	pool *x509.CertPool
	read time.Time
}

// NewClientCA reads the file, which must hold a certificate in PEM.
func NewClientCA(file string) (*ClientCA, error) {
	self, err := selfSigned("batchcompute-readiness-check", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	c := &ClientCA{file: file, self: self}
	if c.pool, err = c.load(); err != nil {
		return nil, err
	}
	c.read = time.Now()
	return c, nil
}

// Require makes conf refuse clients without a certificate that an authority vouches for.
func (c *ClientCA) Require(conf *tls.Config) {
	// The pool of a tls.Config cannot change, so the verification is done here, for resumed
	// sessions as well.
	conf.ClientAuth = tls.RequireAnyClientCert
	conf.VerifyConnection = c.verify
}

// Self is the certificate that this process shows to itself.
func (c *ClientCA) Self() *tls.Certificate { return c.self }

func (c *ClientCA) verify(state tls.ConnectionState) error {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return errors.New("a client certificate is required")
	}
	if bytes.Equal(chain[0].Raw, c.self.Leaf.Raw) {
		return nil // the handshake has proved that the client has its key, which never leaves the process
	}
	opts := x509.VerifyOptions{
		Roots: c.authorities(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return fmt.Errorf("verifying the client's certificate: %w", err)
	}
	return nil
}

// authorities are those of the file as it is now, or as it was when it was last in order.
func (c *ClientCA) authorities() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) > rereadClientCA {
		c.read = time.Now()
		if pool, err := c.load(); err == nil {
			c.pool = pool
		}
	}
	return c.pool
}

func (c *ClientCA) load() (*x509.CertPool, error) {
	pem, err := os.ReadFile(c.file)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of clients: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the authorities of clients: %s holds no certificate in PEM", c.file)
	}
	return pool, nil
}
