// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"time"

	"k8s.io/utils/clock"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/proof"
)

// Options are what the reconciler needs beside a manager.
type Options struct {
	// Catalog returns what the names of a request mean in this cluster. Required.
	Catalog func() *catalog.Catalog
	// Nodes is kept up to date with the cluster's nodes by Setup. nil: they are not looked at,
	// and no address is known.
	Nodes *nodes.Index
	// Ledger counts who has how many nodes of ComputeEnvs. nil: the reconciler has one of its own.
	Ledger *nodepool.Ledger
	// Validate returns the error code and sentence of the first problem of a job, or
	// two empty strings. It guards against jobs that got past the webhook. Required.
	Validate func(*v1alpha1.BatchJob) (code, message string)
	// MaxConcurrentReconciles is how many jobs are worked on at once. 0 means 32.
	MaxConcurrentReconciles int
	// ResourceWait is how long the first machine of an instance is waited for, and scales
	// the waits for later ones. 0 means plan.DefaultResourceWait.
	ResourceWait time.Duration
	// LargeJobMemory is how much memory large jobs may take that have started, see plan.LargeJob;
	// others wait. Unit: bytes. 0 means DefaultLargeJobMemory.
	LargeJobMemory int
	// PodKey returns the key that proves which Pods the operator has created. It is asked at the
	// beginning of each pass until it has returned one. nil: Pods get no proof and need none.
	PodKey func(context.Context) (*proof.Key, error)
	// Metrics count what happens. nil: nothing is counted.
	Metrics *metrics.Jobs
	// Clock is the time. nil means the system's clock.
	Clock clock.PassiveClock
}

// How long the reconciler believes its cache to be late.
const (
	// cacheLag is how long a Pod that was created may be missing from the cache before
	// it is looked for.
	cacheLag = 30 * time.Second
	// staleRetry is when a pass that could not trust its cache is repeated, should the
	// event that it waits for be lost.
	staleRetry = time.Second
)
