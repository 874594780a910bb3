// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !race

package podspec_test

import "testing"

// TestBuildAllocates bounds what a Pod of a task without data takes to the number that it took before there were data.
func TestBuildAllocates(t *testing.T) {
	for name, most := range map[string]float64{"plain": 35, "rich": 112} {
		build, i := builds(t, benchmarked()[name]), 0
		if n := testing.AllocsPerRun(100, func() { build(i); i++ }); n > most {
			t.Errorf("the Pod that is %s takes %.0f allocations, want at most %.0f", name, n, most)
		}
	}
}
