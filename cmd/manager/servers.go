// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"batchcompute.dev/operator/internal/certs"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/server"
)

// servers are those for probes and metrics. They begin before there is a manager, which waits
// for the API server, and end after it.
type servers struct {
	stop, fail context.CancelCauseFunc // ends them; ends the manager
	wg         sync.WaitGroup

	mu  sync.Mutex
	err error
}

// startServers opens the ports and serves until wait is called. When a server fails it ends the
// context that it returns.
func startServers(ctx context.Context, cfg *rest.Config, o *options, probes *server.Probes) (context.Context, *servers, error) {
	var list []*server.Server
	listen := func(addr string, f func() (*server.Server, error)) error {
		if addr == "" || addr == "0" {
			return nil
		}
		s, err := f()
		if err == nil {
			list = append(list, s)
		}
		return err
	}
	if err := errors.Join(
		listen(o.probeAddr, func() (*server.Server, error) { return probes.Serve(o.probeAddr) }),
		listen(o.metricsAddr, func() (*server.Server, error) { return listenMetrics(cfg, o) }),
	); err != nil {
		for _, s := range list {
			_ = s.Close()
		}
		return nil, nil, err
	}
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, fail := context.WithCancelCause(ctx)
	all := &servers{stop: stop, fail: fail}
	for _, s := range list {
		all.wg.Go(func() {
			if err := s.Start(serving); err != nil {
				all.mu.Lock()
				all.err = errors.Join(all.err, err)
				all.mu.Unlock()
				all.fail(err)
			}
		})
	}
	return ctx, all, nil
}

// wait stops the servers and returns what went wrong with them.
func (s *servers) wait() error {
	s.stop(nil)
	s.wg.Wait()
	s.fail(nil)
	return s.err
}

// listenMetrics opens the port of the metrics, which are for those who may get them unless
// --metrics-secure=false.
func listenMetrics(cfg *rest.Config, o *options) (*server.Server, error) {
	if !o.metricsSecure {
		return server.ListenMetrics(o.metricsAddr, ctrlmetrics.Registry, nil)
	}
	filter, err := metrics.NewFilter(cfg, metrics.FilterOptions{Source: server.Source, Accepted: server.Trust})
	if err != nil {
		return nil, fmt.Errorf("setting up the filter of the metrics: %w", err)
	}
	return server.ListenMetrics(o.metricsAddr, ctrlmetrics.Registry, filter)
}

// hook is the webhook's server and what belongs to its certificates.
type hook struct {
	*server.Webhook
	watcher *certwatcher.CertWatcher // of --webhook-cert-dir, else nil
	self    *tls.Certificate         // by which it knows the readiness check, nil if it asks for none
}

// newHook serves with the keeper's certificate and under its tokens, or with the certificate of
// a directory.
func newHook(o *options, keeper *certs.Keeper) (*hook, error) {
	h := &hook{}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	opts := server.WebhookOptions{Addr: o.webhookAddr, TLS: conf}
	if o.webhookDir == "" {
		conf.GetCertificate, opts.PathTokens = keeper.GetCertificate, keeper.PathTokens
	} else {
		var err error
		h.watcher, err = certwatcher.New(filepath.Join(o.webhookDir, "tls.crt"), filepath.Join(o.webhookDir, "tls.key"))
		if err != nil {
			return nil, fmt.Errorf("reading the webhook's certificate: %w", err)
		}
		conf.GetCertificate = h.watcher.GetCertificate
	}
	if o.webhookClientCA != "" {
		ca, err := server.NewClientCA(o.webhookClientCA)
		if err != nil {
			return nil, fmt.Errorf("reading --webhook-client-ca-file: %w", err)
		}
		ca.Require(conf)
		h.self = ca.Self()
	}
	h.Webhook = server.NewWebhook(opts)
	return h, nil
}

// addTo lets the manager run what the server does not run itself.
func (h *hook) addTo(mgr ctrl.Manager) error {
	if h.watcher == nil {
		return nil
	}
	if err := mgr.Add(h.watcher); err != nil {
		return fmt.Errorf("following the webhook's certificate: %w", err)
	}
	return nil
}
