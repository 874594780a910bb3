// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

const (
	// discoveryTimeout bounds one request, so that a server that accepts connections and never
	// answers is tried again.
	discoveryTimeout = 10 * time.Second
	// cacheSyncTimeout is longer than any API server is unavailable. A controller whose cache does not
	// sync in time ends the process, which would then start and wait again.
	cacheSyncTimeout = 365 * 24 * time.Hour
)

// apiServer knows whether the API server has answered yet. A manager that is started before the
// API server, or while it is away, waits for it, unready, and does not exit.
type apiServer struct {
	host string

	mu     sync.Mutex
	err    error // why it does not answer, nil if it did
	synced bool  // all caches hold what it has, so it was there
}

func newAPIServer(cfg *rest.Config) *apiServer {
	return &apiServer{host: cfg.Host, err: errors.New("it was not asked yet")}
}

// ready is a check that fails, and says why, until all caches have synced once. It is the first
// check that there is; the others are added before the caches begin to sync.
func (a *apiServer) ready(*http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.synced:
		return nil
	case a.err != nil:
		return fmt.Errorf("waiting for the API server at %s: %w", a.host, a.err)
	}
	// Without this the manager would be ready between the answer and its other checks, which are
	// added only then.
	return errors.New("the caches have not synced yet")
}

func (a *apiServer) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// await asks the API server for the resources of kinds until it knows them all, and returns
// what it said. After that a manager can be made without another request. The only error is
// the end of ctx.
func (a *apiServer) await(ctx context.Context, cfg *rest.Config, scheme *runtime.Scheme, kinds map[client.Object]cache.ByObject) (meta.RESTMapper, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = discoveryTimeout
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client for discovery: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, hc)
	if err != nil {
		return nil, fmt.Errorf("making a client for discovery: %w", err)
	}
	backoff := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 20, Cap: 10 * time.Second}
	last := ""
	for {
		err := lookUp(mapper, scheme, kinds)
		a.set(err)
		if err == nil {
			return mapper, nil
		}
		if text := err.Error(); text != last {
			klog.FromContext(ctx).Info("Waiting for the API server", "address", a.host, "reason", text)
			last = text
		}
		select {
		case <-time.After(backoff.Step()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lookUp looks for the resources of all kinds.
func lookUp(mapper meta.RESTMapper, scheme *runtime.Scheme, kinds map[client.Object]cache.ByObject) error {
	var list []schema.GroupVersionKind
	for obj := range kinds {
		gvk, err := apiutil.GVKForObject(obj, scheme)
		if err != nil {
			return fmt.Errorf("looking for a kind: %w", err)
		}
		list = append(list, gvk)
	}
	// In the same order each time, so that the same reason is not logged in several forms.
	slices.SortFunc(list, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	for _, gvk := range list {
		if _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
			return fmt.Errorf("looking for %s: %w", gvk.Kind, err)
		}
	}
	return nil
}

// watchFailed remembers why a watch failed, for ready. It logs as client-go does.
func (a *apiServer) watchFailed(ctx context.Context, r *toolscache.Reflector, err error) {
	a.set(err)
	toolscache.DefaultWatchErrorHandler(ctx, r, err)
}

// NeedLeaderElection and Start make it a Runnable that the manager starts when its caches have
// synced.
func (a *apiServer) NeedLeaderElection() bool { return false }

// Start notes that all caches have synced.
func (a *apiServer) Start(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.synced = true
	return nil
}
