// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	authnclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authzclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Who reads the metrics is asked of the cluster: a review of the token that came with
// the request, then one of the right of its user to get /metrics. Both only create a
// review; nothing is read or stored.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// Anybody who reaches the port can send tokens, so there is a bound on what that costs: the
// API server a few reviews a second, this process some memory, and the manager's own clients
// nothing.
const (
	// How long an answer of the cluster is believed, and how many are kept. Denials are kept
	// apart: any number of bad tokens does not displace a good one.
	answerTTL   = time.Minute
	answerCount = 128
	denialCount = 1024
	// knownTTL is how long a token or an address is known after it was let in.
	knownTTL = 24 * time.Hour

	// Reviews in flight, and a second. Each is two requests. A token that was accepted before,
	// or comes from an address that one was accepted from, has a share of its own.
	generalAtOnce, generalPerSecond = 4, 5
	knownAtOnce, knownPerSecond     = 2, 5

	// An address may fail so often, and then once in failEvery.
	failBurst   = 10
	failEvery   = 6 * time.Second
	sourceCount = 4096 // addresses whose failures are counted, those that failed last

	askTimeout  = 5 * time.Second // of a review
	turnTimeout = 2 * time.Second // how long a request waits for its review to begin
	retryAfter  = 5 * time.Second // what a client is told that did not get its turn
)

// FilterOptions are what a filter is told by the server that it filters for.
type FilterOptions struct {
	// Source is the address by which the request's client is counted.
	Source func(*http.Request) netip.Addr
	// Accepted is told of each request that is let in.
	Accepted func(*http.Request)
}

// NewFilter returns a filter that lets a request through when its bearer token belongs to a
// user who may get the request's path (a nonResourceURL, as in
// `rules: [{nonResourceURLs: [/metrics], verbs: [get]}]`). It answers 401 without a valid
// token, 403 without the right, 429 to an address that fails too often, and 503 when the
// cluster cannot be asked in time. It asks with a client of its own.
func NewFilter(cfg *rest.Config, o FilterOptions) (func(http.Handler) http.Handler, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.RateLimiter = flowcontrol.NewFakeAlwaysRateLimiter() // the bounds are those above
	authn, err := authnclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the client for token reviews: %w", err)
	}
	authz, err := authzclient.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making the client for access reviews: %w", err)
	}
	return newGuard(authn.TokenReviews(), authz.SubjectAccessReviews(), o).filter, nil
}

// tokenReviewer and accessReviewer are what a guard asks.
type tokenReviewer interface {
	Create(context.Context, *authnv1.TokenReview, metav1.CreateOptions) (*authnv1.TokenReview, error)
}

type accessReviewer interface {
	Create(context.Context, *authzv1.SubjectAccessReview, metav1.CreateOptions) (*authzv1.SubjectAccessReview, error)
}

// guard lets requests through or not.
type guard struct {
	o       FilterOptions
	tokens  tokenReviewer
	access  accessReviewer
	answers *utilcache.LRUExpireCache // hash of a question that was let in -> nothing
	denials *utilcache.LRUExpireCache // hash of a question -> HTTP status

	knownTokens  *utilcache.LRUExpireCache // hash of a token that was let in -> nothing
	knownSources *utilcache.LRUExpireCache // address from which one was let in -> nothing
	failures     *utilcache.LRUExpireCache // address -> *rate.Limiter of failures

	general, known *share
	logs           *rate.Limiter
}

func newGuard(tokens tokenReviewer, access accessReviewer, o FilterOptions) *guard {
	return &guard{
		o: o, tokens: tokens, access: access,
		answers: utilcache.NewLRUExpireCache(answerCount), denials: utilcache.NewLRUExpireCache(denialCount),
		knownTokens: utilcache.NewLRUExpireCache(answerCount), knownSources: utilcache.NewLRUExpireCache(answerCount),
		failures: utilcache.NewLRUExpireCache(sourceCount),
		general:  newShare(generalAtOnce, generalPerSecond), known: newShare(knownAtOnce, knownPerSecond),
		logs: rate.NewLimiter(rate.Every(10*time.Second), 3),
	}
}

// share bounds reviews that are in flight, and how many begin a second.
type share struct {
	inFlight chan struct{}
	begin    *rate.Limiter
}

func newShare(atOnce int, perSecond float64) *share {
	return &share{make(chan struct{}, atOnce), rate.NewLimiter(rate.Limit(perSecond), 2*int(perSecond))}
}

// enter waits for a place among the reviews in flight.
func (s *share) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.inFlight <- struct{}{}:
		return func() { <-s.inFlight }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// wait waits until the next review may begin.
func (s *share) wait(ctx context.Context) error {
	if err := s.begin.Wait(ctx); err != nil {
		return errBusy
	}
	return nil
}

// errBusy says that a review could not begin in time.
var errBusy = errors.New("there are more requests than can be reviewed")

// hash identifies texts, so that none is kept in memory: neither tokens nor long nonsense.
type hash [sha256.Size]byte

func hashOf(texts ...string) hash {
	h := sha256.New()
	for _, s := range texts {
		h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return hash(h.Sum(nil))
}

// question is what the cluster is asked.
type question struct{ token, verb, path string }

func (g *guard) filter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status, err := g.decide(req)
		if err != nil && g.logs.Allow() {
			log.FromContext(req.Context()).Error(err, "Could not decide on a request for metrics")
		}
		switch status {
		case http.StatusOK:
			g.o.Accepted(req)
			next.ServeHTTP(w, req)
			return
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		}
		http.Error(w, http.StatusText(status), status)
	})
}

// decide returns the HTTP status that a request deserves: 200, 401, 403, 429 or 503. The error
// is why it is 503.
func (g *guard) decide(req *http.Request) (int, error) {
	token, found := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !found || token == "" {
		return http.StatusUnauthorized, nil
	}
	q := question{token, strings.ToLower(req.Method), req.URL.Path}
	key, source := hashOf(q.token, q.verb, q.path), g.o.Source(req)
	if _, ok := g.answers.Get(key); ok {
		return http.StatusOK, nil
	}
	if status, ok := g.denials.Get(key); ok {
		return status.(int), nil // only keep puts anything in
	}
	turn, known := g.general, hashOf(token)
	_, knownToken := g.knownTokens.Get(known)
	_, knownSource := g.knownSources.Get(source)
	if knownToken || knownSource {
		turn = g.known
	}
	limited := func() bool { return !knownToken && g.failsTooOften(source) }
	if limited() {
		return http.StatusTooManyRequests, nil
	}
	waiting, cancel := context.WithTimeout(req.Context(), turnTimeout)
	defer cancel()
	leave, err := turn.enter(waiting)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	defer leave()
	if limited() { // others from there failed meanwhile
		return http.StatusTooManyRequests, nil
	}
	if err := turn.wait(waiting); err != nil {
		return http.StatusServiceUnavailable, err
	}
	ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
	defer cancel()
	status, err := g.ask(ctx, q)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	if status == http.StatusOK {
		g.answers.Add(key, nil, answerTTL)
		g.knownTokens.Add(known, nil, knownTTL)
		g.knownSources.Add(source, nil, knownTTL)
		return status, nil
	}
	g.denials.Add(key, status, answerTTL)
	g.knownTokens.Remove(known)
	g.failed(source)
	return status, nil
}

// failsTooOften reports whether an address must wait before it may fail again.
func (g *guard) failsTooOften(source netip.Addr) bool {
	l, ok := g.failures.Get(source)
	return ok && l.(*rate.Limiter).Tokens() < 1 // nothing else is put in
}

// failed counts a failure of an address. The count starts at 0 again after a minute.
func (g *guard) failed(source netip.Addr) {
	l, ok := g.failures.Get(source)
	if !ok {
		l = rate.NewLimiter(rate.Every(failEvery), failBurst)
		g.failures.Add(source, l, failBurst*failEvery)
	}
	l.(*rate.Limiter).Allow()
}

// ask puts the question to the cluster.
func (g *guard) ask(ctx context.Context, q question) (int, error) {
	tr, err := g.tokens.Create(ctx, &authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: q.token}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing a token: %w", err)
	}
	if !tr.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := tr.Status.User
	extra := make(map[string]authzv1.ExtraValue, len(user.Extra))
	for k, v := range user.Extra {
		extra[k] = authzv1.ExtraValue(v)
	}
	sar, err := g.access.Create(ctx, &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authzv1.NonResourceAttributes{Path: q.path, Verb: q.verb},
	}}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing the access of %s: %w", user.Username, err)
	}
	if !sar.Status.Allowed || sar.Status.Denied {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
