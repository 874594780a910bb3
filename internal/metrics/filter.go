// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	authnclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authzclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Who reads the metrics is asked of the cluster: a review of the token that came with
// the request, then one of the right of its user to get /metrics. Both only create a
// review; nothing is read or stored.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

const (
	answerTTL   = time.Minute // how long an answer of the cluster is believed
	answerCount = 128         // how many are kept
	askTimeout  = 10 * time.Second
)

// WithAuthenticationAndAuthorization returns a filter that lets a request through when
// its bearer token belongs to a user who may get the request's path (a
// nonResourceURL, as in `rules: [{nonResourceURLs: [/metrics], verbs: [get]}]`).
// It answers 401 without a valid token and 403 without the right.
func WithAuthenticationAndAuthorization(cfg *rest.Config, hc *http.Client) (metricsserver.Filter, error) {
	authn, err := authnclient.NewForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, fmt.Errorf("making the client for token reviews: %w", err)
	}
	authz, err := authzclient.NewForConfigAndClient(cfg, hc)
	if err != nil {
		return nil, fmt.Errorf("making the client for access reviews: %w", err)
	}
	g := &guard{tokens: authn.TokenReviews(), access: authz.SubjectAccessReviews(), answers: utilcache.NewLRUExpireCache(answerCount)}
	return g.filter, nil
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
	tokens  tokenReviewer
	access  accessReviewer
	answers *utilcache.LRUExpireCache // question -> HTTP status
}

// question identifies a request by a hash, so that no token is kept in memory.
type question struct {
	token      [sha256.Size]byte
	verb, path string
}

func (g *guard) filter(log logr.Logger, next http.Handler) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status, err := g.decide(req)
		if err != nil {
			log.Error(err, "Could not decide on a request for metrics")
			status = http.StatusInternalServerError
		}
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, req)
	}), nil
}

// decide returns the HTTP status that a request deserves: 200, 401 or 403.
func (g *guard) decide(req *http.Request) (int, error) {
	token, found := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !found || token == "" {
		return http.StatusUnauthorized, nil
	}
	q := question{token: sha256.Sum256([]byte(token)), verb: strings.ToLower(req.Method), path: req.URL.Path}
	if status, ok := g.answers.Get(q); ok {
		return status.(int), nil // only decide puts anything in
	}
	ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
	defer cancel()
	status, err := g.ask(ctx, token, q)
	if err == nil {
		g.answers.Add(q, status, answerTTL)
	}
	return status, err
}

// ask puts the question to the cluster.
func (g *guard) ask(ctx context.Context, token string, q question) (int, error) {
	tr, err := g.tokens.Create(ctx, &authnv1.TokenReview{Spec: authnv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
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
