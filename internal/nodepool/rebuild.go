// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// namespaceClaims says whether the claims of a namespace are in the ledger. Passes of other namespaces do not wait while
// they are counted.
type namespaceClaims struct {
	mu      sync.Mutex
	counted bool
	barrier barrier
}

// claimsOfNamespace returns the namespaceClaims of a namespace.
func (p *Pool) claimsOfNamespace(namespace string) *namespaceClaims {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.namespaces[namespace]
	if c == nil {
		c = &namespaceClaims{barrier: barrier{live: p.Live, namespace: namespace}}
		p.namespaces[namespace] = c
	}
	return c
}

// rebuild counts, before the first node of a namespace is reserved, the claims of all its jobs and the Pods of deleted
// jobs that may still run. One pass counts, and the others of the namespace wait: none may reserve a node before.
func (p *Pool) rebuild(ctx context.Context, namespace string) error {
	c := p.claimsOfNamespace(namespace)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counted {
		return nil
	}
	if err := c.barrier.set(ctx); err != nil {
		return err
	}
	var cached v1alpha1.BatchJobList
	if err := p.Cache.List(ctx, &cached, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("listing the namespace's jobs: %w", err)
	}
	jobs := make(map[types.UID]*v1alpha1.BatchJob, len(cached.Items))
	for i := range cached.Items {
		jobs[cached.Items[i].UID] = &cached.Items[i]
	}
	if err := c.barrier.passed(ctx, jobs); err != nil {
		return err
	}
	for _, job := range jobs {
		if err := p.rebuildJob(ctx, job); err != nil {
			return err
		}
	}
	if err := p.rebuildDeparted(ctx, namespace, jobs); err != nil {
		return err
	}
	c.counted = true
	return nil
}

// rebuildJob counts the claims of a job. An idle one has none; of another the cache may have but an outline.
func (p *Pool) rebuildJob(ctx context.Context, cached *v1alpha1.BatchJob) error {
	if plan.IsIdle(cached) || len(resolve.EnvIDs(cached)) == 0 {
		return nil
	}
	// One job is read at a time. Waiting for memory here could be a deadlock: those who have it may wait
	// for the ledger.
	job, err := p.ReadJob(ctx, cached)
	if apierrors.IsNotFound(err) || err == nil && lookup.IsOlder(job.ResourceVersion, cached.ResourceVersion) {
		return ErrCacheBehind
	}
	if err != nil {
		return err
	}
	claims, err := p.claimsOf(ctx, job)
	if err != nil {
		return err
	}
	j := jobOf(job)
	for name, n := range claims {
		p.Ledger.Settle(types.NamespacedName{Namespace: job.Namespace, Name: name}, j, n, 0)
		p.departed.add(j.Name, string(j.UID)) // if it is deleted before its first pass, nobody else knows of it
	}
	return nil
}

// claimsOf returns the claims that the stored status of a job has, by ComputeEnv.
func (p *Pool) claimsOf(ctx context.Context, job *v1alpha1.BatchJob) (map[string]int, error) {
	claims := map[string]int{}
	for ref, n := range plan.ClaimsByEnvID(job) {
		env, err := lookup.Env(ctx, p.Cache, job.Namespace, ref)
		if err != nil {
			return nil, err
		}
		if env != nil {
			claims[env.Name] += n
		}
	}
	return claims, nil
}

// rebuildDeparted counts the Pods that may still run of jobs that were deleted; jobs are those that were not.
func (p *Pool) rebuildDeparted(ctx context.Context, namespace string, jobs map[types.UID]*v1alpha1.BatchJob) error {
	var pods corev1.PodList
	if err := p.Live.List(ctx, &pods, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelEnvID, v1alpha1.LabelTracked}); err != nil {
		return fmt.Errorf("listing the namespace's pods from the API server: %w", err)
	}
	present, counted := make(map[string]bool, len(jobs)), map[string]bool{}
	for uid := range jobs {
		present[naming.JobID(uid)] = true
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		owner, id := metav1.GetControllerOf(pod), pod.Labels[v1alpha1.LabelJobID]
		if counted[id] || !p.HoldsNode(pod) || owner != nil && jobs[owner.UID] != nil || owner == nil && present[id] {
			continue
		}
		counted[id] = true
		if err := p.settleDeparted(ctx, p.JobOf(pod), id); err != nil {
			return err
		}
	}
	return nil
}
