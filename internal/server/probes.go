// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// Probes answers /healthz and /readyz from the first moment on, with the checks that are there
// by then. Unlike the manager's own it says why a check fails.
type Probes struct {
	mu             sync.Mutex
	health, readyz map[string]healthz.Checker
}

// NewProbes returns probes without checks.
func NewProbes() *Probes {
	return &Probes{health: map[string]healthz.Checker{}, readyz: map[string]healthz.Checker{}}
}

// AddHealthzCheck adds a check of /healthz, or replaces the one of that name.
func (p *Probes) AddHealthzCheck(name string, check healthz.Checker) error {
	return p.add(p.health, name, check)
}

// AddReadyzCheck adds a check of /readyz, or replaces the one of that name.
func (p *Probes) AddReadyzCheck(name string, check healthz.Checker) error {
	return p.add(p.readyz, name, check)
}

func (p *Probes) add(to map[string]healthz.Checker, name string, check healthz.Checker) error {
	if name == "" || strings.Contains(name, "/") || check == nil {
		return fmt.Errorf("adding the check %q: it needs a name without slashes, and a function", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	to[name] = check
	return nil
}

// Serve listens at addr. The probes' clients are kubelets and people: few, and slow ones have
// no claim.
func (p *Probes) Serve(addr string) (*Server, error) {
	mux := http.NewServeMux()
	for prefix, checks := range map[string]map[string]healthz.Checker{"/healthz": p.health, "/readyz": p.readyz} {
		h := http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, checks) }))
		mux.Handle(prefix, h)
		mux.Handle(prefix+"/", h)
	}
	return Listen(Options{
		Name: "probes", Addr: addr, Handler: mux, MaxConns: 100, MaxPending: 50,
		HeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 4 << 10,
	})
}

// answer runs the check that the path names, or all but those in ?exclude=.
func (p *Probes) answer(w http.ResponseWriter, r *http.Request, checks map[string]healthz.Checker) {
	p.mu.Lock()
	run := maps.Clone(checks)
	p.mu.Unlock()
	if name := strings.Trim(r.URL.Path, "/"); name != "" {
		check, ok := run[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		run = map[string]healthz.Checker{name: check}
	}
	query := r.URL.Query()
	for _, name := range query["exclude"] {
		delete(run, name)
	}
	var text strings.Builder
	failed := false
	for _, name := range slices.Sorted(maps.Keys(run)) {
		if err := run[name](r); err != nil {
			failed = true
			fmt.Fprintf(&text, "[-]%s failed: %s\n", name, err)
		} else {
			fmt.Fprintf(&text, "[+]%s ok\n", name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
	case !query.Has("verbose"):
		text.Reset()
		text.WriteString("ok")
	}
	_, _ = w.Write([]byte(text.String()))
}

// Manage returns the manager with its checks added to the probes. The manager's own address of
// probes must be "0".
func (p *Probes) Manage(mgr ctrl.Manager) ctrl.Manager { return managed{mgr, p} }

type managed struct {
	ctrl.Manager
	probes *Probes
}

// AddHealthzCheck adds a check of the probes.
func (m managed) AddHealthzCheck(name string, check healthz.Checker) error {
	return m.probes.AddHealthzCheck(name, check)
}

// AddReadyzCheck adds a check of the probes.
func (m managed) AddReadyzCheck(name string, check healthz.Checker) error {
	return m.probes.AddReadyzCheck(name, check)
}
