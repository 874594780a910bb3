// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/ratelimit"
	"batchcompute.dev/operator/internal/gateway/wire"
	"batchcompute.dev/operator/internal/params"
)

// Tenant is whom a request acts as.
type Tenant struct{ Namespace, ServiceAccount string }

// Key is a key that is valid now.
type Key struct {
	SecretKey string
	// Token is what a request must have as token; empty: it may have any or none.
	Token  string
	Tenant Tenant
}

// Keys has the keys.
type Keys interface {
	// Lookup returns the key of a secretId, and whether there is one that is valid now.
	Lookup(ctx context.Context, secretID string) (Key, bool, error)
}

// Call is one request whose signature is right.
type Call struct {
	// Action is the name of the action, one of those of the table.
	Action    string
	Params    *params.Object
	Tenant    Tenant
	RequestID string
	// Region is what the request says; it may be empty.
	Region string
	// Language is wire.English or wire.Chinese.
	Language string
}

// Action does what a call asks for. The result is a struct whose fields are those of the answer, or nil. An
// error other than those that wire.AsError knows is an InternalError of which the caller learns no more. An
// action may be called at the same time, and must not use ctx after it has returned.
type Action func(ctx context.Context, c *Call) (any, error)

// Options are the parts of a Handler. Zero values of the optional ones are replaced by the defaults.
type Options struct {
	// Keys has the keys. Required.
	Keys Keys
	// Actions are the actions by name. Required; it is only read.
	Actions map[string]Action
	// Log gets a line for each request. Required.
	Log logr.Logger
	// Registerer gets the metrics. Required.
	Registerer prometheus.Registerer
	// Now is the clock. Required.
	Now func() time.Time

	// Limits are the requests a second for each action of a key, DefaultLimit that of the actions that are not
	// in it. Optional: those of the API.
	Limits       map[string]ratelimit.Limit
	DefaultLimit ratelimit.Limit
	// Regions are those that are served. Optional: a request may have any.
	Regions []string
	// MaxInFlight is how many requests of a namespace are answered at the same time. Optional: DefaultInFlight.
	MaxInFlight int
	// Memory is how much all requests may take together. Unit: bytes, at least wire.MinBudget. Optional: that.
	Memory int64
	// Timeout is how long an action may take. Optional: DefaultTimeout.
	Timeout time.Duration
}

// The defaults of Options.
const (
	DefaultInFlight = 32
	DefaultTimeout  = 30 * time.Second
)

// The bounds of the HTTP server that a Handler is meant for; see internal/server for how connections are bounded.
const (
	// HeaderTimeout is how long a header may take, ReadTimeout header and body, WriteTimeout everything from
	// the end of the header, IdleTimeout the time between two requests.
	HeaderTimeout = 10 * time.Second
	ReadTimeout   = 60 * time.Second
	WriteTimeout  = ReadTimeout + DefaultTimeout
	IdleTimeout   = 90 * time.Second
	// MaxHeaderBytes has capacity for the longest query, and as much for the rest.
	MaxHeaderBytes = 2 * wire.MaxQuery
)

// HealthPath answers 200 while the process serves.
const HealthPath = "/healthz"

// failedLimit is how many requests a second of one address may fail before their signature is right. More are
// answered with another code, and not in the log.
var failedLimit = ratelimit.Limit{PerSecond: 10}

// failed stands for an action in the limiter of failures, and other in metrics for those that are not in the table.
const (
	failed = "failed"
	other  = "other"
)

// Handler answers the API at /. Its ServeHTTP may be called at the same time.
type Handler struct {
	o        Options
	budget   *wire.Budget
	rates    *ratelimit.Limiter // by secretId
	failures *ratelimit.Limiter // by address
	flights  *flights
	metrics  *metrics
}

// New returns a handler. The error says which metric could not be registered.
func New(o Options) (*Handler, error) {
	if o.Limits == nil {
		o.Limits, o.DefaultLimit = ratelimit.Defaults(), ratelimit.DefaultLimit
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = DefaultInFlight
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Handler{
		o: o, budget: wire.NewBudget(max(o.Memory, wire.MinBudget)), flights: newFlights(o.MaxInFlight), metrics: m,
		rates: ratelimit.New(o.Limits, o.DefaultLimit, o.Now), failures: ratelimit.New(nil, failedLimit, o.Now),
	}, nil
}

// record is what the log and the metrics say about one request.
type record struct {
	id, source string
	action     string // of the table, or other
	namespace  string // empty until the signature is right
	quiet      bool   // there are too many of its kind for the log
}

// ServeHTTP answers one request. Every answer of the API has status 200.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/", "":
	case HealthPath:
		_, _ = w.Write([]byte("ok\n"))
		return
	default:
		http.NotFound(w, r)
		return
	}
	start := h.o.Now()
	rec := &record{id: wire.NewRequestID(), source: wire.Source(r), action: other}
	result, err := h.answer(r, rec)
	if err == nil {
		err = wire.Write(w, rec.id, result)
	}
	code := ok
	if err != nil {
		e := wire.AsError(err)
		code = string(e.Code)
		if e.Code == errcode.InternalError {
			h.o.Log.Error(err, "Request failed", "requestId", rec.id, "action", rec.action, "namespace", rec.namespace)
		}
		wire.WriteError(w, rec.id, e)
	}
	took := h.o.Now().Sub(start)
	h.metrics.answered(rec.action, code, took)
	if !rec.quiet {
		h.o.Log.Info("Answered", "requestId", rec.id, "action", rec.action, "code", code, "duration", took.String(),
			"namespace", rec.namespace, "source", rec.source)
	}
}

// answer returns what a request is answered with. A panic is an error, with the stack for the log.
func (h *Handler) answer(r *http.Request, rec *record) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value may have a part of the request in it; where it came from has not.
			result, err = nil, fmt.Errorf("panic: %T\n%s", p, debug.Stack())
		}
	}()
	q, key, err := h.authenticate(r)
	if err != nil {
		return nil, h.refuse(rec, err)
	}
	defer q.Close()
	rec.namespace = key.Tenant.Namespace
	if !h.flights.start(rec.namespace) {
		h.metrics.throttle(inFlight)
		return nil, wire.NewError(errcode.RequestLimitExceeded, "the namespace has %d requests in flight, as many as it may", h.o.MaxInFlight)
	}
	defer h.flights.end(rec.namespace)
	if err := q.CheckVersion(); err != nil {
		return nil, err
	}
	action := h.o.Actions[q.Action]
	if action != nil {
		rec.action = q.Action
	}
	if !h.rates.Allow(q.Claim.SecretID, rec.action) {
		h.metrics.throttle(rate)
		return nil, wire.NewError(errcode.RequestLimitExceeded, "the key may send %g requests a second of this action", h.rates.Limit(rec.action).PerSecond)
	}
	if action == nil {
		return nil, wire.NewError(errcode.InvalidAction, "there is no such action in version %s", wire.Version)
	}
	if len(h.o.Regions) > 0 && q.Region != "" && !slices.Contains(h.o.Regions, q.Region) {
		return nil, wire.NewError(errcode.UnsupportedRegion, "the region must be one of %s", strings.Join(h.o.Regions, ", "))
	}
	parameters, err := q.Params()
	if err != nil {
		return nil, err
	}
	call := &Call{Action: q.Action, Params: parameters, Tenant: key.Tenant, RequestID: rec.id, Region: q.Region, Language: q.Language}
	ctx, cancel := context.WithTimeout(logr.NewContext(r.Context(), h.o.Log.WithValues("requestId", rec.id)), h.o.Timeout)
	defer cancel()
	return action(ctx, call)
}

// authenticate opens a request and checks its signature. The request must be closed unless there is an error.
func (h *Handler) authenticate(r *http.Request) (*wire.Request, Key, error) {
	q, err := wire.Open(r, h.budget)
	if err != nil {
		return nil, Key{}, err
	}
	key, err := h.verify(r.Context(), q)
	if err != nil {
		q.Close()
		return nil, Key{}, err
	}
	return q, key, nil
}

// verify checks what a request says of itself, the cheapest first.
func (h *Handler) verify(ctx context.Context, q *wire.Request) (Key, error) {
	if err := q.Claim.CheckTime(h.o.Now()); err != nil {
		return Key{}, err
	}
	key, found, err := h.o.Keys.Lookup(ctx, q.Claim.SecretID)
	if err != nil {
		return Key{}, fmt.Errorf("looking for the key: %w", err)
	}
	if !found {
		return Key{}, wire.NewError(errcode.SecretIDNotFound, "there is no key with this secretId, or it is disabled or expired")
	}
	if err := q.Verify(key.SecretKey); err != nil {
		return Key{}, err
	}
	if key.Token != "" && subtle.ConstantTimeCompare([]byte(key.Token), []byte(q.Claim.Token)) != 1 {
		return Key{}, wire.NewError(errcode.TokenFailure, "the key is a temporary one, and the token is not that of it")
	}
	return key, nil
}

// refuse returns the answer for a request whose signature was not found to be right. Once an address has sent
// many of them it is always the same.
func (h *Handler) refuse(rec *record, err error) error {
	if wire.AsError(err).Code == errcode.InternalError || h.failures.Allow(rec.source, failed) {
		return err
	}
	rec.quiet = true
	h.metrics.throttle(address)
	return wire.NewError(errcode.IPLimitExceeded, "the client's address sends too many requests that are not signed by a key; send the request again later")
}
