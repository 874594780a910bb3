// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// TestNamespacesDoNotWait: calls that do not come back hold up nobody in another namespace.
func TestNamespacesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(leastCalls, mostCalls, clock.RealClock{})
		var ends []func(bool)
		for range leastCalls {
			ends = append(ends, l.of("stuck").create.Begin())
		}
		served := map[string]bool{}
		for _, namespace := range []string{"stuck", "other"} {
			go func() {
				end := l.of(namespace).create.Begin()
				served[namespace] = true
				end(true)
			}()
			synctest.Wait()
		}
		if served["stuck"] || !served["other"] {
			t.Errorf("served %v, want only the other namespace", served)
		}
		for _, end := range ends {
			end(true)
		}
		synctest.Wait()
		if !served["stuck"] {
			t.Error("the calls have come back, and who waited for one of them is not served")
		}
	})
}

// TestLimitsForget: what is kept does not grow with the namespaces that there ever were.
func TestLimitsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(leastCalls, mostCalls, clock.RealClock{})
		l.of("old")
		kept := l.of("kept")
		time.Sleep(unusedLimits - time.Second)
		l.of("kept")
		time.Sleep(2 * time.Second)
		if l.of("kept") != kept {
			t.Error("the limits of a namespace in use were forgotten")
		}
		if got := len(l.byNamespace); got != 1 {
			t.Errorf("got the limits of %d namespaces, want 1", got)
		}
	})
}
