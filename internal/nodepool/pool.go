// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
)

// Config is what a Pool needs.
type Config struct {
	// Ledger counts who has how many nodes. nil: the pool has one of its own.
	Ledger *Ledger
	// Cache reads objects from a cache with the indexes of package lookup, and Live from the API server.
	Cache, Live client.Reader
	Clock       clock.PassiveClock
	// ReadJob returns a job with all that the API server has of it; the cache may have but an outline. It
	// must not wait for other passes.
	ReadJob func(context.Context, *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error)
	// JobOf returns the name of the job that a Pod belongs to.
	JobOf func(pod *corev1.Pod) types.NamespacedName
	// IsOurs reports whether the operator has created a Pod. Labels alone do not prove it.
	IsOurs func(*corev1.Pod) bool
}

// Pool gives the nodes of ComputeEnvs to jobs. Its methods may be called concurrently.
type Pool struct {
	Config

	departed departedJobs

	mu         sync.Mutex
	namespaces map[string]*namespaceClaims
}

// New returns a pool.
func New(c Config) *Pool {
	if c.Ledger == nil {
		c.Ledger = NewLedger()
	}
	return &Pool{
		Config: c, namespaces: map[string]*namespaceClaims{},
		departed: departedJobs{byName: map[types.NamespacedName]map[string]bool{}},
	}
}

// jobOf returns a job and its queue position. Its identifier stands for its UID: it is on the Pods as
// well, after the job was deleted.
func jobOf(job *v1alpha1.BatchJob) Job {
	j := Job{Name: client.ObjectKeyFromObject(job), QueuePosition: plan.QueuePositionOf(job)}
	j.UID = types.UID(naming.JobID(job.UID))
	return j
}

// HoldsNode reports whether a Pod has a node of a ComputeEnv. Labels are not enough for that: it must
// have the operator's finalizer, and the operator must have created it.
func (p *Pool) HoldsNode(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) && p.IsOurs(pod) && plan.HoldsNode(pod, p.Clock.Now())
}

// JobEnded frees all nodes of a job that has ended.
func (p *Pool) JobEnded(job *v1alpha1.BatchJob) {
	j := jobOf(job)
	for name := range p.Ledger.Claims(j.UID) {
		p.Ledger.Settle(name, j, 0, 0)
	}
}
