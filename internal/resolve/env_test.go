// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"math"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestComputeNodeCount: whatever number got past admission, there are from 0 to 2000 nodes.
func TestComputeNodeCount(t *testing.T) {
	for n, want := range map[int64]int{
		math.MinInt64: 0, -1: 0, 0: 0, 1: 1, 2000: 2000, 2001: 2000, math.MaxInt32: 2000, math.MaxInt32 + 1: 2000, math.MaxInt64: 2000,
	} {
		env := &v1alpha1.ComputeEnv{Spec: v1alpha1.ComputeEnvSpec{DesiredComputeNodeCount: &n}}
		if got := ComputeNodeCount(env); got != want {
			t.Errorf("%d: %d nodes, want %d", n, got, want)
		}
	}
	if got := ComputeNodeCount(&v1alpha1.ComputeEnv{}); got != 0 {
		t.Errorf("absent: %d nodes, want 0", got)
	}
}
