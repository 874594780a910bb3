// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/sanitize"
)

// The webhook asks the cluster whether the caller may submit. That only creates a review:
// nothing is read or stored.
//
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

const (
	// verbSubmit is the verb on batchjobs that a caller must have.
	verbSubmit = "submit"
	// yesTTL and noTTL are how long an answer is cached. A no is cached for a short time only:
	// somebody may be granting the permission at this moment.
	yesTTL, noTTL = 10 * time.Second, 2 * time.Second
	// answerCount is how many answers are cached.
	answerCount = 1024
	// maxReviews is how many reviews may be in flight. Further requests are refused and must be
	// repeated.
	maxReviews = 64
	// reviewTimeout leaves time for the checks that follow.
	reviewTimeout = 2500 * time.Millisecond
)

// accessReviewer is the part of the API server's client that access needs.
type accessReviewer interface {
	Create(context.Context, *authzv1.SubjectAccessReview, metav1.CreateOptions) (*authzv1.SubjectAccessReview, error)
}

// access knows who may submit jobs where.
type access struct {
	reviews accessReviewer
	answers *utilcache.LRUExpireCache // question -> bool

	mu     sync.Mutex
	asking map[question]*review
}

// question identifies a user in a namespace.
type question [sha256.Size]byte

// review is a question in flight. The fields may be read when done is closed.
type review struct {
	done    chan struct{}
	allowed bool
	err     error
}

func newAccess(reviews accessReviewer) *access {
	return &access{reviews: reviews, answers: utilcache.NewLRUExpireCache(answerCount), asking: map[question]*review{}}
}

// maySubmit reports whether the user may submit jobs in the namespace. Callers with the same
// question at the same time share one review.
func (a *access) maySubmit(ctx context.Context, user authnv1.UserInfo, namespace string) (bool, error) {
	r := a.review(ctx, user, namespace)
	if r == nil {
		return false, errManyReviews
	}
	select {
	case <-r.done:
		return r.allowed, r.err
	case <-ctx.Done():
		return false, fmt.Errorf("waiting for the access review of %s: %w", user.Username, ctx.Err())
	}
}

// errManyReviews means that a question was not asked.
var errManyReviews = errors.New("too many access reviews are in flight")

// review returns the review that answers the question: one that has ended, one that is
// in flight, or a new one; nil if too many are in flight.
func (a *access) review(ctx context.Context, user authnv1.UserInfo, namespace string) *review {
	q := questionOf(user, namespace)
	a.mu.Lock()
	defer a.mu.Unlock()
	if allowed, ok := a.answers.Get(q); ok {
		r := &review{done: make(chan struct{}), allowed: allowed.(bool)} // only keep puts anything in
		close(r.done)
		return r
	}
	r, ok := a.asking[q]
	if !ok && len(a.asking) >= maxReviews {
		return nil
	}
	if !ok {
		r = &review{done: make(chan struct{})}
		a.asking[q] = r
		go func() { // for all who wait, so it does not end with the request of the first
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
			defer cancel()
			r.allowed, r.err = a.ask(ctx, user, namespace)
			a.keep(q, r)
			close(r.done)
		}()
	}
	return r
}

// keep caches the answer of a review that has ended, unless it failed.
func (a *access) keep(q question, r *review) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asking, q)
	switch {
	case r.err != nil:
	case r.allowed:
		a.answers.Add(q, true, yesTTL)
	default:
		a.answers.Add(q, false, noTTL)
	}
}

// ask puts the question to the cluster.
func (a *access) ask(ctx context.Context, user authnv1.UserInfo, namespace string) (bool, error) {
	extra := make(map[string]authzv1.ExtraValue, len(user.Extra))
	for k, v := range user.Extra {
		extra[k] = authzv1.ExtraValue(v)
	}
	sar, err := a.reviews.Create(ctx, &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authzv1.ResourceAttributes{
			Namespace: namespace, Verb: verbSubmit,
			Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "batchjobs",
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("reviewing the access of %s: %w", user.Username, err)
	}
	if sar.Status.EvaluationError != "" { // it may be the only explanation of a no, such as a binding to a role that is missing
		log.FromContext(ctx).Info("The access review reported a problem of the cluster's RBAC", "user", user.Username, "evaluationError", sanitize.Message(sar.Status.EvaluationError))
	}
	return sar.Status.Allowed && !sar.Status.Denied, nil
}

// questionOf hashes everything that an answer depends on, with the length of each part.
func questionOf(user authnv1.UserInfo, namespace string) question {
	h := sha256.New()
	number := func(n int) { h.Write(binary.AppendUvarint(nil, uint64(n))) }
	text := func(s string) {
		number(len(s))
		h.Write([]byte(s))
	}
	texts := func(list []string) {
		number(len(list))
		for _, s := range list {
			text(s)
		}
	}
	text(namespace)
	text(user.Username)
	text(user.UID)
	texts(user.Groups)
	for _, k := range slices.Sorted(maps.Keys(user.Extra)) {
		text(k)
		texts(user.Extra[k])
	}
	return question(h.Sum(nil))
}
