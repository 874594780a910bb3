// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/plan"
)

// tokens decides which of several jobs of a namespace with the same client token runs: the first one that is accepted.
// Its methods may be called concurrently.
//
// The status says which job was accepted, but the cache may be stale: two workers may reconcile two jobs with the same
// token at the same time. So tokens also remembers which jobs this process has accepted, until they have ended.
type tokens struct {
	mu      sync.Mutex
	holders map[tokenKey]types.UID
}

type tokenKey struct{ namespace, token string }

// accept returns nil if job runs, and otherwise the job that runs instead. others are the cached jobs of the namespace
// with the same token.
func (k *tokens) accept(job *v1alpha1.BatchJob, others []v1alpha1.BatchJob) *v1alpha1.BatchJob {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := tokenKey{job.Namespace, job.Spec.ClientToken}
	others = slices.DeleteFunc(others, func(other v1alpha1.BatchJob) bool { return other.UID == job.UID })
	holder, certain := plan.TokenHolder(others, func(other *v1alpha1.BatchJob) bool {
		return plan.IsAccepted(other) || k.holders[key] == other.UID
	})
	if certain {
		return holder
	}
	// Not the oldest: a job that this process has not validated yet may be rejected, and then this one must not be its
	// duplicate.
	k.holders[key] = job.UID // no job has the token, or none that still exists
	return nil
}

// forget forgets that this process has accepted the job: every cache has its status, or the job is deleted.
func (k *tokens) forget(key tokenKey, uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holders[key] == uid {
		delete(k.holders, key)
	}
}

// original returns the whole job that runs instead of job; nil if job itself runs.
func (r *Reconciler) original(ctx context.Context, job *v1alpha1.BatchJob, lease *memoryLease) (*v1alpha1.BatchJob, error) {
	if job.Spec.ClientToken == "" || plan.IsAccepted(job) {
		return nil, nil
	}
	others, err := lookup.JobsWithToken(ctx, r.client, job.Namespace, job.Spec.ClientToken)
	if err != nil {
		return nil, err
	}
	original := r.tokens.accept(job, others)
	if original == nil {
		return nil, nil
	}
	return r.reader.whole(ctx, original, lease)
}
