// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package cputime

import (
	"testing"
	"time"
)

var sink uint64

func spin(n int) func() {
	return func() {
		x := uint64(1)
		for range n {
			x = x*6364136223846793005 + 1
		}
		sink += x
	}
}

// TestRatio holds that the ratio is that of the work, and that waiting is not counted.
func TestRatio(t *testing.T) {
	if got := Ratio(spin(400_000), spin(100_000)); got < 3 || got > 5 {
		t.Errorf("four times the work has the ratio %v", got)
	}
	slow := func() {
		spin(100_000)()
		time.Sleep(100 * time.Microsecond)
	}
	if got := Ratio(slow, spin(100_000)); got > 2 {
		t.Errorf("the same work with a pause has the ratio %v", got)
	}
}
