// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cputime measures work for tests, so that they hold on a machine of any speed and load:
// in processor time, and as a ratio to a reference that is measured beside it.
package cputime

import (
	"runtime"
	"time"
)

const (
	// A sample is as many calls as take minSample, and the best of minSamples to maxSamples counts:
	// what else the machine does only ever adds to one. After enough time no more are taken.
	minSample              = 2 * time.Millisecond
	minSamples, maxSamples = 2, 7
	enough                 = 200 * time.Millisecond
)

// Ratio returns how many times the processor time of reference work takes. Both are called many
// times, in turn, on one thread; what they start on other threads is not measured, nor is the
// garbage collector in the background.
func Ratio(work, reference func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	many := [2]int{calls(work), calls(reference)}
	best := [2]time.Duration{1 << 62, 1 << 62}
	begin := thread()
	for n := range maxSamples {
		if n >= minSamples && thread()-begin >= enough {
			break
		}
		for i, f := range []func(){work, reference} {
			took := measure(f, many[i]) / time.Duration(many[i])
			best[i] = min(best[i], max(took, 1))
		}
	}
	return float64(best[0]) / float64(best[1])
}

// calls returns how many calls of f make a sample.
func calls(f func()) int {
	n := 1
	for measure(f, n) < minSample {
		n *= 2
	}
	return n
}

// measure returns the processor time of n calls of f.
func measure(f func(), n int) time.Duration {
	begin := thread()
	for range n {
		f()
	}
	return thread() - begin
}
