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
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// ReadyCheck returns a check that passes while the webhook server at addr, such as
// ":9443", serves a certificate that the bundle in each webhook configuration vouches
// for: the API server would get through. It costs a TLS handshake with ourselves for
// each webhook.
//
// Without a bundle only a certificate of a public authority passes. The check holds
// for certificates of any origin, so it needs no running Keeper.
func ReadyCheck(reader client.Reader, opts Options, addr string) healthz.Checker {
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
		var errs []error
		tried := map[string]error{} // by bundle; as a rule there is but one
		for _, cfg := range opts.configurations() {
			if err := reader.Get(ctx, client.ObjectKeyFromObject(cfg), cfg); err != nil {
				errs = append(errs, fmt.Errorf("reading the webhook configuration: %w", err))
			}
			for _, h := range hooksOf(cfg) {
				err, ok := tried[string(h.client.CABundle)]
				if !ok {
					err = handshake(ctx, opts, net.JoinHostPort(host, port), h.client.CABundle)
					tried[string(h.client.CABundle)] = err
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("webhook %s: %w", h.name, err))
				}
			}
		}
		return errors.Join(errs...)
	}
}

// handshake connects to addr as the API server would and trusts only bundle.
func handshake(ctx context.Context, opts Options, addr string, bundle []byte) error {
	conf := &tls.Config{ServerName: opts.names()[0], Time: opts.now, MinVersion: tls.VersionTLS12}
	if len(bundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(bundle) {
			return errors.New("the bundle in the webhook configuration holds no certificate")
		}
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("the webhook does not serve what its configuration trusts: %w", err)
	}
	return conn.Close()
}
