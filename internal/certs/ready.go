// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// ReadyCheck returns a check that passes while the webhook server at addr, such as
// ":9443", serves a certificate that the bundle in each webhook configuration vouches
// for, and answers under the path that it has: the API server would get through. It costs a
// TLS handshake with ourselves for each bundle, and a request for each path.
//
// self is the certificate that the server knows us by where it asks for one, else nil.
// Without a bundle only a certificate of a public authority passes. The check holds
// for certificates of any origin, so it needs no running Keeper.
func ReadyCheck(reader client.Reader, opts Options, addr string, self *tls.Certificate) healthz.Checker {
	host, port, splitErr := net.SplitHostPort(addr)
	if host == "" {
		host = "localhost"
	}
	return func(req *http.Request) error {
		if splitErr != nil {
			return fmt.Errorf("reading the webhook's address: %w", splitErr)
		}
		ctx, cancel := context.WithTimeout(req.Context(), 5*time.Second)
		defer cancel()
		c := selfCheck{opts: opts, addr: net.JoinHostPort(host, port), self: self, clients: map[string]*http.Client{}, tried: map[[2]string]error{}}
		defer c.close()
		var errs []error
		for _, cfg := range opts.configurations() {
			if err := reader.Get(ctx, client.ObjectKeyFromObject(cfg), cfg); err != nil {
				errs = append(errs, fmt.Errorf("reading the webhook configuration: %w", err))
			}
			for _, h := range hooksOf(cfg) {
				if err := c.try(ctx, h.client.CABundle, pathOf(h.client)); err != nil {
					errs = append(errs, fmt.Errorf("webhook %s: %w", h.name, err))
				}
			}
		}
		return errors.Join(errs...)
	}
}

// selfCheck calls the webhook server as the API server would.
type selfCheck struct {
	opts    Options
	addr    string
	self    *tls.Certificate
	clients map[string]*http.Client // by bundle; as a rule there is but one
	tried   map[[2]string]error     // by bundle and path
}

// try connects to the server, trusting only bundle, and asks whether it answers under path.
// The error does not have the path: its last element is a secret.
func (c *selfCheck) try(ctx context.Context, bundle []byte, path string) error {
	key := [2]string{string(bundle), path}
	err, ok := c.tried[key]
	if !ok {
		err = c.ask(ctx, bundle, path)
		c.tried[key] = err
	}
	return err
}

func (c *selfCheck) ask(ctx context.Context, bundle []byte, path string) error {
	hc, err := c.client(bundle)
	if err != nil {
		return err
	}
	u := url.URL{Scheme: "https", Host: c.addr, Path: path}
	// Only POST is answered with a review; any other method says whether the path is right.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("the path in the webhook configuration is not valid in a URL; delete the configuration, and the manager writes it again")
	}
	resp, err := hc.Do(req)
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL
	}
	if err != nil {
		return fmt.Errorf("the webhook does not answer with a certificate that its configuration trusts: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		return fmt.Errorf("the webhook does not answer under the path of its configuration: %s", resp.Status)
	}
	return nil
}

// client trusts only bundle.
func (c *selfCheck) client(bundle []byte) (*http.Client, error) {
	if hc := c.clients[string(bundle)]; hc != nil {
		return hc, nil
	}
	conf := &tls.Config{ServerName: c.opts.names()[0], Time: c.opts.now, MinVersion: tls.VersionTLS12}
	if c.self != nil {
		conf.Certificates = []tls.Certificate{*c.self}
	}
	if len(bundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, errors.New("the bundle in the webhook configuration holds no certificate")
		}
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 1}}
	c.clients[string(bundle)] = hc
	return hc, nil
}

func (c *selfCheck) close() {
	for _, hc := range c.clients {
		hc.CloseIdleConnections()
	}
}
