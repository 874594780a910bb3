// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/plan"
)

// tokens finds jobs by their client token in a cache with the indexes of package lookup. The
// cache may lag: the reconciler decides what happens to two jobs with the same token, and
// this check only tells the user sooner. live reads a job from the API server if the cache has
// only its outline.
type tokens struct{ cache, live client.Reader }

// holder returns the job with another name that has the token of job: the one that was
// accepted, else the oldest that may still be accepted. Nil if there is none. It must not be
// changed.
func (t tokens) holder(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
	found, err := t.find(ctx, job)
	if found == nil || err != nil || !plan.IsOutline(found) {
		return found, err
	}
	whole := &v1alpha1.BatchJob{}
	err = t.live.Get(ctx, client.ObjectKeyFromObject(found), whole)
	switch {
	case apierrors.IsNotFound(err), err == nil && whole.UID != found.UID:
		return nil, nil // it has just been deleted
	case err != nil:
		return nil, fmt.Errorf("reading BatchJob %s, which has the same clientToken: %w", found.Name, err)
	}
	return whole, nil
}

// find is holder as the cache knows it.
func (t tokens) find(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
	if job.Spec.ClientToken == "" {
		return nil, nil
	}
	jobs, err := lookup.JobsWithToken(ctx, t.cache, job.Namespace, job.Spec.ClientToken)
	if err != nil {
		return nil, err
	}
	// Of the same name is the same object: the API server answers that it exists.
	others := slices.DeleteFunc(jobs, func(other v1alpha1.BatchJob) bool { return other.Name == job.Name })
	holder, _ := plan.TokenHolder(others, plan.IsAccepted)
	return holder, nil
}
