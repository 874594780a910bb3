// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

func jobOfNamespace(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// free is how many calls may be in flight now.
func free(l *Limiter) (n int) {
	var releases []func(bool)
	for before := -1; n > before; {
		before = n
		go func() {
			release := l.Acquire()
			releases = append(releases, release)
			n++
		}()
		synctest.Wait()
	}
	free := n
	for len(releases) > 0 {
		release := releases[0]
		releases = releases[1:]
		release(false)
		synctest.Wait()
	}
	return free
}

// TestContention: a job with many calls has many in flight while it is alone, and few while a job with
// few calls is active, in whatever namespace.
func TestContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewCalls(DefaultLimits, clock.RealClock{})
		large, second, small := jobOfNamespace("a", "large"), jobOfNamespace("a", "second"), jobOfNamespace("b", "small")
		check := func(when string, job types.NamespacedName, calls, want int) {
			t.Helper()
			if got := free(l.For(job, calls).Create); got != want {
				t.Errorf("%s: got %d calls at once, want %d", when, got, want)
			}
		}
		l.For(small, 0)
		check("alone", large, 100, DefaultLimits.Min)
		check("two large ones", second, 100, DefaultLimits.Min)
		l.For(large, 1)
		check("after few calls of its own", large, 100, DefaultLimits.Min)
		check("after few calls of another large one", second, 100, DefaultLimits.Min)
		check("a small one", small, fewCalls, DefaultLimits.Min)
		check("contention with a small one", large, fewCalls+1, DefaultLimits.Contended)
		check("few calls in contention with a small one", large, fewCalls, DefaultLimits.Min)
		time.Sleep(contention - time.Second)
		check("a while later", large, 100, DefaultLimits.Contended)
		time.Sleep(time.Second)
		check("when the small one has ended", large, 100, DefaultLimits.Min)
		time.Sleep(contention)
		check("the large one has become small", large, 1, DefaultLimits.Min)
		check("in contention with it", second, 100, DefaultLimits.Contended)
	})
}

// TestNamespacesDoNotWait: calls that do not return block no other namespace.
func TestNamespacesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewCalls(DefaultLimits, clock.RealClock{})
		var releases []func(bool)
		for range DefaultLimits.Min {
			releases = append(releases, l.For(jobOfNamespace("stuck", "job"), 100).Create.Acquire())
		}
		served := map[string]bool{}
		for _, namespace := range []string{"stuck", "other"} {
			go func() {
				release := l.For(jobOfNamespace(namespace, "job"), 100).Create.Acquire()
				served[namespace] = true
				release(true)
			}()
			synctest.Wait()
		}
		if served["stuck"] || !served["other"] {
			t.Errorf("served %v, want only the other namespace", served)
		}
		for _, release := range releases {
			release(true)
		}
		synctest.Wait()
		if !served["stuck"] {
			t.Error("the calls have come back, and who waited for one of them is not served")
		}
	})
}

// TestCallsForget: what is kept does not grow with the namespaces that there ever were.
func TestCallsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewCalls(DefaultLimits, clock.RealClock{})
		old, job := jobOfNamespace("old", "job"), jobOfNamespace("kept", "job")
		l.For(old, 100)
		kept := l.For(job, 100)
		time.Sleep(idleNamespace - time.Second)
		l.For(job, 100)
		time.Sleep(2 * time.Second)
		if l.For(job, 100) != kept {
			t.Error("the limits of a namespace in use were forgotten")
		}
		if got := len(l.namespaces); got != 1 {
			t.Errorf("got the limits of %d namespaces, want 1", got)
		}
		if got := len(l.many); got != 1 {
			t.Errorf("got %d jobs that make many calls, want 1", got)
		}
	})
}
