// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestQueueOrder: the higher priority first, then the older job, then the smaller identifier.
func TestQueueOrder(t *testing.T) {
	at := time.Unix(1000, 0)
	want := []QueuePosition{
		{Priority: 9, Created: at.Add(time.Second), UID: "z"},
		{Priority: 5, Created: at, UID: "z"},
		{Priority: 5, Created: at.Add(time.Second), UID: "a"},
		{Priority: 5, Created: at.Add(time.Second), UID: "b"},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, QueuePosition.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("order is %v", got)
	}
	if same := want[0]; want[0].Compare(same) != 0 {
		t.Error("a job is not its own equal")
	}
}

func TestQueuePositionOf(t *testing.T) {
	job := testutil.Job("j").Task("a").Obj()
	if got := QueuePositionOf(job); got.Priority != v1alpha1.DefaultPriority || got.UID != job.UID || !got.Created.Equal(job.CreationTimestamp.Time) {
		t.Errorf("position is %+v", got)
	}
	for priority, want := range map[int64]int{7: 7, -1: 0, 1000: v1alpha1.MaxPriority} {
		job.Spec.Job.Priority = &priority
		if got := QueuePositionOf(job).Priority; got != want {
			t.Errorf("priority %d counts as %d, want %d", priority, got, want)
		}
	}
}
