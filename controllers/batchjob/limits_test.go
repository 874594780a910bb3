// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"batchcompute.dev/operator/internal/limit"
)

func jobOfNamespace(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// free is how many calls may be begun at once now.
func free(l *limit.Limiter) (n int) {
	var ends []func(bool)
	for before := -1; n > before; {
		before = n
		go func() {
			end := l.Begin()
			ends = append(ends, end)
			n++
		}()
		synctest.Wait()
	}
	free := n
	for len(ends) > 0 {
		end := ends[0]
		ends = ends[1:]
		end(false)
		synctest.Wait()
	}
	return free
}

// TestLimitsBeside: a job with many calls has many under way while it is alone, and few while one
// with few calls is at work, in whatever namespace.
func TestLimitsBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(leastAlone, leastBeside, mostCalls, clock.RealClock{})
		large, second, small := jobOfNamespace("a", "large"), jobOfNamespace("a", "second"), jobOfNamespace("b", "small")
		check := func(when string, job types.NamespacedName, calls, want int) {
			t.Helper()
			if got := free(l.of(job, calls).create); got != want {
				t.Errorf("%s: got %d calls at once, want %d", when, got, want)
			}
		}
		l.of(small, 0)
		check("alone", large, 100, leastAlone)
		check("two large ones", second, 100, leastAlone)
		l.of(large, 1)
		check("after few calls of its own", large, 100, leastAlone)
		check("after few calls of another large one", second, 100, leastAlone)
		check("a small one", small, fewCalls, leastAlone)
		check("beside a small one", large, fewCalls+1, leastBeside)
		check("few calls beside a small one", large, fewCalls, leastAlone)
		time.Sleep(besideFor - time.Second)
		check("a while later", large, 100, leastBeside)
		time.Sleep(time.Second)
		check("when the small one has ended", large, 100, leastAlone)
		time.Sleep(besideFor)
		check("the large one has become small", large, 1, leastAlone)
		check("beside it", second, 100, leastBeside)
	})
}

// TestNamespacesDoNotWait: calls that do not come back hold up nobody in another namespace.
func TestNamespacesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(leastAlone, leastBeside, mostCalls, clock.RealClock{})
		var ends []func(bool)
		for range leastAlone {
			ends = append(ends, l.of(jobOfNamespace("stuck", "job"), 100).create.Begin())
		}
		served := map[string]bool{}
		for _, namespace := range []string{"stuck", "other"} {
			go func() {
				end := l.of(jobOfNamespace(namespace, "job"), 100).create.Begin()
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
		l := newLimits(leastAlone, leastBeside, mostCalls, clock.RealClock{})
		old, job := jobOfNamespace("old", "job"), jobOfNamespace("kept", "job")
		l.of(old, 100)
		kept := l.of(job, 100)
		time.Sleep(unusedLimits - time.Second)
		l.of(job, 100)
		time.Sleep(2 * time.Second)
		if l.of(job, 100) != kept {
			t.Error("the limits of a namespace in use were forgotten")
		}
		if got := len(l.byNamespace); got != 1 {
			t.Errorf("got the limits of %d namespaces, want 1", got)
		}
		if got := len(l.many); got != 1 {
			t.Errorf("got %d jobs that make many calls, want 1", got)
		}
	})
}
