// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
	var first *v1alpha1.BatchJob
	for i := range jobs {
		other := &jobs[i]
		conditions := other.Status.Conditions
		switch {
		case other.Name == job.Name:
			// The same object: the API server answers that it exists.
		case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionAccepted):
			return other, nil
		case meta.IsStatusConditionFalse(conditions, v1alpha1.ConditionAccepted),
			meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionDuplicate):
			// Will never run.
		case first == nil || other.CreationTimestamp.Before(&first.CreationTimestamp):
			first = other
		}
	}
	return first, nil
}
