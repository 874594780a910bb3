// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
)

// tokens decides which of several jobs of one namespace with the same client token
// runs: the one that is accepted first.
//
// What was accepted is in the jobs' status, but a cache may not show it yet: two jobs
// that come in the same millisecond are looked at by two workers at once. So what this
// process has accepted is kept here as well, until the job is done with.
type tokens struct {
	mu      sync.Mutex
	holders map[tokenKey]types.UID
}

type tokenKey struct{ namespace, token string }

// accept returns nil if job runs, and else the job that runs in its place. others are
// the jobs of the namespace with the same token, as a cache shows them.
func (k *tokens) accept(job *v1alpha1.BatchJob, others []v1alpha1.BatchJob) *v1alpha1.BatchJob {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := tokenKey{job.Namespace, job.Spec.ClientToken}
	for i := range others {
		other := &others[i]
		if other.UID != job.UID && (isAccepted(other) || k.holders[key] == other.UID) {
			return other
		}
	}
	k.holders[key] = job.UID // nobody has it, or nobody that is still there
	return nil
}

// forget gives up what was kept for the job: its status is in every cache, or it is gone.
func (k *tokens) forget(key tokenKey, uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holders[key] == uid {
		delete(k.holders, key)
	}
}

func isAccepted(job *v1alpha1.BatchJob) bool {
	return meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionAccepted)
}

// original returns the whole of the job that runs in the place of job; nil if job itself does.
func (r *Reconciler) original(ctx context.Context, job *v1alpha1.BatchJob, lease *memoryLease) (*v1alpha1.BatchJob, error) {
	if job.Spec.ClientToken == "" || isAccepted(job) {
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
	return r.readWhole(ctx, original, lease)
}
