// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// QueuePosition is what the position of a job in a queue depends on. All queues in which jobs wait for the
// same, such as quota or a node of a ComputeEnv, have this one order.
type QueuePosition struct {
	// Priority is 0-100; a larger number goes first.
	Priority int
	// Created is the job's age: among equals the older job goes first.
	Created time.Time
	// UID decides between jobs of the same second.
	UID types.UID
}

// QueuePositionOf returns the position of a job, of which there may be but an outline.
func QueuePositionOf(job *v1alpha1.BatchJob) QueuePosition {
	return QueuePosition{Priority: resolve.Priority(job), Created: job.CreationTimestamp.Time, UID: job.UID}
}

// Compare is negative where p goes before o, and 0 only for the same job.
func (p QueuePosition) Compare(o QueuePosition) int {
	return cmp.Or(cmp.Compare(o.Priority, p.Priority), p.Created.Compare(o.Created), cmp.Compare(p.UID, o.UID))
}
