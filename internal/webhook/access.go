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

// Whether the caller may submit is asked of the cluster. That only creates a review;
// nothing is read or stored.
//
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

const (
	// verbSubmit is the verb on batchjobs that a caller must have.
	verbSubmit = "submit"
	// How long a yes and a no are believed. A no is short: somebody may be giving the
	// right just now.
	yesTTL, noTTL = 10 * time.Second, 2 * time.Second
	// answerCount is how many are kept.
	answerCount = 1024
	// maxReviews is how many reviews may be in flight. Further questions are to be asked again.
	maxReviews = 64
	// reviewTimeout leaves time for what comes after it.
	reviewTimeout = 2500 * time.Millisecond
)

// accessReviewer is what an access asks.
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

// review is a question that is being asked. The fields may be read when done is closed.
type review struct {
	done    chan struct{}
	allowed bool
	err     error
}

func newAccess(reviews accessReviewer) *access {
	return &access{reviews: reviews, answers: utilcache.NewLRUExpireCache(answerCount), asking: map[question]*review{}}
}

// maySubmit says whether the user may submit jobs in the namespace. Callers that ask the
// same at the same time share one review.
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

// errManyReviews says that a question was not asked.
var errManyReviews = errors.New("too many access reviews are in flight")

// review returns the review that answers the question: one that is over, one that is
// in flight, or a new one; nil if too many are in flight for that.
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
		go func() { // for all who wait, so it does not end with the first one's request
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
			defer cancel()
			r.allowed, r.err = a.ask(ctx, user, namespace)
			a.keep(q, r)
			close(r.done)
		}()
	}
	return r
}

// keep stores the answer of a review that is over, unless it failed.
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
	if sar.Status.EvaluationError != "" { // part of a "no" that nothing else explains, such as a binding to no role
		log.FromContext(ctx).Info("Reviewed an access with difficulty", "user", user.Username, "evaluationError", sanitize.Message(sar.Status.EvaluationError))
	}
	return sar.Status.Allowed && !sar.Status.Denied, nil
}

// questionOf hashes everything that an answer depends on, and where each part ends.
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
