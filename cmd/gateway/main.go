// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command gateway answers BatchCompute's API over the BatchJobs and ComputeEnvs of a cluster, for programs that speak it.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalogfile"
	"batchcompute.dev/operator/internal/gateway"
	"batchcompute.dev/operator/internal/gateway/actions"
	"batchcompute.dev/operator/internal/gateway/keys"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/stored"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/logging"
	"batchcompute.dev/operator/internal/server"
)

// version is set by the linker.
var version = "dev"

func main() {
	o, err := parseOptions(os.Args[1:], actions.Names())
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		logging.Set(os.Stderr, o.verbosity)
		err = start(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// start runs the gateway against the cluster of the kubeconfig until a signal comes.
func start(o *options) error {
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	return run(ctrl.SetupSignalHandler(), cfg, o)
}

// run runs the gateway until ctx ends. Its probes are served from the first moment, its API as soon as it knows the keys
// and objects of the cluster.
func run(ctx context.Context, cfg *rest.Config, o *options) error {
	offers, err := catalogfile.New(o.catalog)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	g := newGroup(ctx)
	probes, synced := server.NewProbes(), make(chan struct{})
	if err := errors.Join(probes.AddHealthzCheck("ping", healthz.Ping), probes.AddReadyzCheck("cache", isClosed(synced))); err != nil {
		return fmt.Errorf("setting up the probes: %w", err)
	}
	known, handler, err := setUp(g.ctx, cfg, scheme, offers, o)
	if err != nil {
		return err
	}
	servers, err := listen(o, probes, handler)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Started the gateway", "version", version, "tls", o.certDir != "")
	g.start(offers.Start)
	g.start(known.cache.Start)
	for _, f := range servers.first {
		g.start(f)
	}
	if known.wait(g.ctx) {
		close(synced)
		for _, f := range servers.api {
			g.start(f)
		}
	}
	return g.wait()
}

// isClosed is a check that fails until a channel is closed.
func isClosed(synced chan struct{}) healthz.Checker {
	return func(*http.Request) error {
		select {
		case <-synced:
			return nil
		default:
			return errors.New("the cache has not synced yet: the API server does not answer, or does not let the gateway list keys, jobs and environments")
		}
	}
}

// known is what the gateway knows of the cluster.
type known struct {
	cache cache.Cache
	keys  *keys.Store
}

// wait waits until the cache has what the cluster has; false if ctx ends before.
func (k *known) wait(ctx context.Context) bool {
	if !k.cache.WaitForCacheSync(ctx) {
		return false
	}
	for !k.keys.HasSynced() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

// setUp makes the cache and the handler of the API.
func setUp(ctx context.Context, cfg *rest.Config, scheme *runtime.Scheme, offers *catalogfile.File, o *options) (*known, *gateway.Handler, error) {
	byObject := objects.CacheOptions()
	maps.Copy(byObject, keys.CacheOptions())
	c, err := cache.New(cfg, cache.Options{Scheme: scheme, Mapper: tenant.Mapper(), ByObject: byObject})
	if err != nil {
		return nil, nil, fmt.Errorf("making the cache: %w", err)
	}
	finder, err := objects.New(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	store, err := keys.NewStore(ctx, c, ctrlmetrics.Registry, time.Now)
	if err != nil {
		return nil, nil, err
	}
	backend := &actions.Backend{Objects: finder, Tenants: tenant.NewClients(cfg, scheme), Catalog: offers.Current, Stored: stored.NewReader(), Now: time.Now}
	handler, err := gateway.New(gateway.Options{
		Keys: store, Actions: backend.Table(), Log: klog.FromContext(ctx), Registerer: ctrlmetrics.Registry, Now: time.Now,
		Limits: o.limits, DefaultLimit: o.defaultLimit, Regions: o.regions, MaxInFlight: o.maxInFlight,
	})
	return &known{c, store}, handler, err
}

// servers are what runs until the context of a function ends: first from the beginning, and api once the cache has synced.
type servers struct{ first, api []func(context.Context) error }

// Bounds of the API's connections. Each may have a body in work, whose memory the handler bounds.
const (
	maxConns   = 2000
	maxPending = 500
)

// listen opens the ports.
func listen(o *options, probes *server.Probes, handler http.Handler) (*servers, error) {
	out := &servers{}
	var open []*server.Server
	add := func(to *[]func(context.Context) error, s *server.Server, err error) error {
		if err == nil {
			open = append(open, s)
			*to = append(*to, s.Start)
		}
		return err
	}
	err := func() error {
		if isOn(o.probeAddr) {
			s, err := probes.Serve(o.probeAddr)
			if err := add(&out.first, s, err); err != nil {
				return err
			}
		}
		if isOn(o.metricsAddr) {
			s, err := server.ListenMetrics(o.metricsAddr, ctrlmetrics.Registry, nil)
			if err := add(&out.first, s, err); err != nil {
				return err
			}
		}
		api := server.Options{
			Name: "api", Addr: o.addr, Handler: handler, MaxConns: maxConns, MaxPending: maxPending,
			HeaderTimeout: gateway.HeaderTimeout, ReadTimeout: gateway.ReadTimeout, WriteTimeout: gateway.WriteTimeout, IdleTimeout: gateway.IdleTimeout,
			MaxHeaderBytes: gateway.MaxHeaderBytes,
		}
		if o.certDir != "" {
			watcher, err := certwatcher.New(filepath.Join(o.certDir, "tls.crt"), filepath.Join(o.certDir, "tls.key"))
			if err != nil {
				return fmt.Errorf("reading the certificate: %w", err)
			}
			api.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: watcher.GetCertificate}
			out.first = append(out.first, watcher.Start)
		}
		s, err := server.Listen(api)
		return add(&out.api, s, err)
	}()
	if err != nil {
		for _, s := range open {
			_ = s.Close()
		}
		return nil, err
	}
	return out, nil
}

// isOn reports whether a server has an address.
func isOn(addr string) bool { return !slices.Contains([]string{"", "0"}, addr) }

// group runs functions until one fails or its context ends.
type group struct {
	ctx    context.Context //nolint:containedctx // that of all functions
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error
}

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// start runs f, whose end without an error before that of the context is no end of the others.
func (g *group) start(f func(context.Context) error) {
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil {
			g.mu.Lock()
			g.err = errors.Join(g.err, err)
			g.mu.Unlock()
			g.cancel()
		}
	})
}

// wait waits for the end of all functions and returns their errors.
func (g *group) wait() error {
	g.wg.Wait()
	g.cancel()
	return g.err
}
