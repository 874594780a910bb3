// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
)

// ErrCacheBehind says that the cache does not yet show what the API server had when it was asked.
var ErrCacheBehind = errors.New("the cache is behind the API server")

// barrier is the list of the jobs of a namespace whose claims are to be counted, as the API server had them when it was
// asked. The cache may have started with a state from before the last claims of the previous process, so nothing is
// counted until the cache is at least as new: a cache barrier. What is newer is no claim of the previous process.
type barrier struct {
	live      client.Reader
	namespace string
	jobs      map[types.UID]*metav1.PartialObjectMetadata // nil: it is not set
}

// passed returns nil if the cached jobs of the namespace, by UID, are no older than those of the barrier; else
// ErrCacheBehind.
func (b *barrier) passed(ctx context.Context, cached map[types.UID]*v1alpha1.BatchJob) error {
	for uid, was := range b.jobs {
		job := cached[uid]
		if job == nil && b.isDeleted(ctx, was) {
			continue
		}
		if job == nil || lookup.IsOlder(job.ResourceVersion, was.ResourceVersion) {
			return ErrCacheBehind
		}
	}
	b.jobs = nil
	return nil
}

// set sets the barrier, unless it is set.
func (b *barrier) set(ctx context.Context) error {
	if b.jobs != nil {
		return nil
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BatchJobList"))
	if err := b.live.List(ctx, list, client.InNamespace(b.namespace)); err != nil {
		return fmt.Errorf("listing the namespace's jobs from the API server: %w", err)
	}
	b.jobs = make(map[types.UID]*metav1.PartialObjectMetadata, len(list.Items))
	for i := range list.Items {
		b.jobs[list.Items[i].UID] = &list.Items[i]
	}
	return nil
}

// isDeleted reports whether a job that the cache does not show has been deleted.
func (b *barrier) isDeleted(ctx context.Context, was *metav1.PartialObjectMetadata) bool {
	now := &metav1.PartialObjectMetadata{}
	now.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BatchJob"))
	err := b.live.Get(ctx, client.ObjectKeyFromObject(was), now)
	return apierrors.IsNotFound(err) || err == nil && now.UID != was.UID
}
