// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Bounds of the webhook server. Together they take at most 170 MiB, whoever calls.
const (
	// webhookConns is more than the requests that three API servers have in flight by default,
	// 200 that change something each. A connection takes 40 KiB at most while it is stalled.
	webhookConns = 1000
	// webhookPending are handshakes: as many as three API servers begin when each of these requests
	// comes at once and finds no idle connection. Each takes the processor for half a millisecond.
	webhookPending = 640
	// maxReview is the largest legal AdmissionReview: the new and the old object, which etcd
	// holds to 1.5 MiB each, and half a MiB for the rest: the user's groups and extra fields,
	// the options. A new object that is larger than that is refused here, and not by its code.
	maxReview = 7 << 19
	// bodyBytes is what all bodies hold before they are decoded: nine of the largest.
	bodyBytes = 32 << 20
	// smallBytes and largeBytes are what all reviews in work take: those that take smallReview at
	// most, as nearly all do, and the others. The small ones do not wait for the large ones.
	smallReview = 1 << 20
	smallBytes  = 32 << 20
	largeBytes  = 64 << 20

	webhookHeaderTimeout = 5 * time.Second
	// bodyTimeout and turnTimeout leave the handler time within the five seconds that the
	// API server gives.
	bodyTimeout         = 3 * time.Second
	turnTimeout         = 2 * time.Second
	webhookWriteTimeout = 15 * time.Second
	webhookIdleTimeout  = 2 * time.Minute // the API server closes idle connections after 90 s
	webhookHeaderBytes  = 8 << 10
)

// WebhookOptions say how the webhook is served.
type WebhookOptions struct {
	// Addr is the address to listen on.
	Addr string
	// TLS has the certificate, and how clients are verified. Required.
	TLS *tls.Config
	// PathTokens returns the last elements of a path that are valid now, one of which must
	// follow the path that a handler was registered for; "" stands for none. nil: no path has
	// a token.
	PathTokens func() []string
}

// Webhook is a webhook.Server that any Pod may reach and only the API server can use: a review
// is read only when its path ends in a token that the API server has from its configuration.
// The client certificate, if TLS asks for one, was verified before.
type Webhook struct {
	o      WebhookOptions
	mux    *http.ServeMux
	bodies *bodyBudget
	small  *turns
	large  *turns

	mu       sync.Mutex
	paths    map[string]bool
	server   *Server
	refusals *errorLog
}

var _ webhook.Server = &Webhook{}

// NewWebhook returns a server without handlers. It listens from Start on.
func NewWebhook(o WebhookOptions) *Webhook {
	return &Webhook{
		o: o, mux: http.NewServeMux(), bodies: newBodyBudget(bodyBytes), small: newTurns(smallBytes), large: newTurns(largeBytes), paths: map[string]bool{},
		refusals: &errorLog{logger: logr.Discard(), limit: rate.NewLimiter(rate.Every(10*time.Second), 3)},
	}
}

// NeedLeaderElection reports that every replica serves.
func (s *Webhook) NeedLeaderElection() bool { return false }

// WebhookMux returns the handlers by their path, without tokens and bounds.
func (s *Webhook) WebhookMux() *http.ServeMux { return s.mux }

// Register serves a handler at a path, which has no slash at its end. It panics if there is
// one already.
func (s *Webhook) Register(path string, hook http.Handler) {
	if wh, ok := hook.(*admission.Webhook); ok {
		counted, err := admission.StandaloneWebhook(wh, admission.StandaloneOptions{MetricsPath: path})
		if err != nil {
			panic(fmt.Errorf("registering the webhook %s: %w", path, err))
		}
		hook = counted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mux.Handle(path, hook) // panics if there is one
	s.paths[path] = true
}

// Start serves until ctx ends.
func (s *Webhook) Start(ctx context.Context) error {
	srv, err := Listen(Options{
		Name: "webhook", Addr: s.o.Addr, TLS: s.o.TLS, Handler: s,
		MaxConns: webhookConns, MaxPending: webhookPending,
		HeaderTimeout: webhookHeaderTimeout, WriteTimeout: webhookWriteTimeout, IdleTimeout: webhookIdleTimeout,
		MaxHeaderBytes: webhookHeaderBytes,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server, s.refusals.logger = srv, ctrllog.FromContext(ctx).WithValues("server", "webhook")
	s.mu.Unlock()
	return srv.Start(ctx)
}

// StartedChecker passes as soon as the port is open. Whether the API server would get through
// is another question: see certs.ReadyCheck.
func (s *Webhook) StartedChecker() healthz.Checker {
	return func(*http.Request) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.server == nil {
			return errors.New("the webhook server has not been started")
		}
		return nil
	}
}

// ServeHTTP answers a review whose path is valid, within all bounds.
func (s *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base, token, ok := s.route(r.URL.Path)
	if !ok {
		refuse(w, "no webhook is served here", http.StatusNotFound)
		return
	}
	if token != "" || r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		Trust(r)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		if r.ContentLength == 0 { // the readiness check: its connection is used again
			http.Error(w, "a webhook is asked with POST", http.StatusMethodNotAllowed)
			return
		}
		refuse(w, "a webhook is asked with POST", http.StatusMethodNotAllowed)
		return
	}
	if err := s.review(w, r, base); err != nil {
		_, _ = fmt.Fprintf(s.refusals, "refused a review: %v", err)
		status := http.StatusServiceUnavailable
		if errors.Is(err, errTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(w, err.Error(), status)
	}
}

// review reads the body and lets the handler of base answer it. On an error nothing was
// answered.
func (s *Webhook) review(w http.ResponseWriter, r *http.Request, base string) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	control := http.NewResponseController(w)
	source := Source(r)
	if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return fmt.Errorf("bounding the time of a body: %w", err)
	}
	bd, err := s.bodies.read(r, source, maxReview, func() {
		cancel(errEvicted)
		_ = control.SetReadDeadline(time.Unix(1, 0))
	})
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	defer bd.close()
	// Else the handler's context would end when the body's time is over.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("bounding the time of a body: %w", err)
	}
	weight, err := bd.weigh()
	if err != nil {
		return err
	}
	turns := s.small
	if weight > smallReview {
		turns = s.large
	}
	waiting, stop := context.WithTimeoutCause(ctx, turnTimeout, errBusy)
	release, err := turns.acquire(waiting, source, weight)
	stop()
	if err != nil {
		return err
	}
	defer release()
	inner := r.WithContext(ctx)
	u := *r.URL
	u.Path, u.RawPath = base, ""
	inner.URL, inner.RequestURI, inner.Body = &u, base, bd
	s.mux.ServeHTTP(w, inner)
	return nil
}

// errBusy says that there are more reviews than can be worked on.
var errBusy = errors.New("the webhook is busy, try again")

// route returns the path of the handler that a request is for and the token behind it, and
// whether the request may be answered.
func (s *Webhook) route(p string) (base, token string, ok bool) {
	tokens := []string{""}
	if s.o.PathTokens != nil {
		tokens = s.o.PathTokens()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if base = p; !s.paths[p] {
		i := max(strings.LastIndexByte(p, '/'), 0)
		if base, token = p[:i], strings.TrimPrefix(p[i:], "/"); token == "" || !s.paths[base] {
			return "", "", false
		}
	}
	valid := 0
	for _, t := range tokens {
		valid |= subtle.ConstantTimeCompare([]byte(token), []byte(t))
	}
	return base, token, valid == 1
}

// refuse answers without the body, and closes the connection: whoever sends it must not be
// able to take time by that.
func refuse(w http.ResponseWriter, text string, status int) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, text, status)
}
