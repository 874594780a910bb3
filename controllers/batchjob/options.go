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
	"batchcompute.dev/operator/internal/notify/delivery"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/proof"
)

// Options configures the reconciler.
type Options struct {
	// Catalog returns the configuration file: what the names of a request mean in this cluster. Required.
	Catalog func() *catalog.Catalog
	// Agent returns how Pods get the agent, which moves the data of tasks that have any. nil: no task has data.
	Agent func() podspec.Agent
	// Nodes is the index of the cluster's nodes, which Setup keeps up to date. nil: nodes are not watched, and no
	// address is known.
	Nodes *nodes.Index
	// Ledger counts the nodes of ComputeEnvs that jobs use. nil: the reconciler has a ledger of its own.
	Ledger *nodepool.Ledger
	// Validate returns the error code and the message of the first problem of a job, or two empty strings. It
	// rejects jobs that got past the webhook. Required.
	Validate func(*v1alpha1.BatchJob) (code, message string)
	// MaxConcurrentReconciles is how many jobs are reconciled at the same time. 0 means 32.
	MaxConcurrentReconciles int
	// ResourceWait is the acquisition timeout of the first machine of an instance; the timeouts of later machines
	// are multiples of it. 0 means plan.DefaultResourceWait.
	ResourceWait time.Duration
	// LargeJobMemory is how much memory the large jobs that have started may take together, see plan.LargeJob;
	// other large jobs wait. Unit: bytes. 0 means DefaultLargeJobMemory.
	LargeJobMemory int
	// PodKey returns the key that proves which Pods the operator has created. Each pass calls it first, until it
	// has returned a key. nil: Pods get no proof and need none.
	PodKey func(context.Context) (*proof.Key, error)
	// Topics finds the receivers of notifications. nil: no events are sent.
	Topics delivery.Topics
	// NotificationMetrics count the events that are sent. Required with Topics.
	NotificationMetrics *metrics.Notifications
	// Metrics are the metrics of jobs. nil: there are none.
	Metrics *metrics.Jobs
	// Clock is the clock. nil means the system's clock.
	Clock clock.PassiveClock
}

// agent returns how Pods get the agent at the moment.
func (o *Options) agent() podspec.Agent {
	if o.Agent == nil {
		return podspec.Agent{}
	}
	return o.Agent()
}

// How stale the reconciler expects its cache to be at most.
const (
	// cacheLag is how long a created Pod may be missing from the cache before the API server is asked for it.
	cacheLag = 30 * time.Second
	// staleRetry is when a pass that found its cache stale is repeated, in case no event repeats it earlier.
	staleRetry = time.Second
)
