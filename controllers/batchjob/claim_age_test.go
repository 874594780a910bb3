// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/testutil"
)

// TestNameIsKept: a Pod that was deleted keeps its name, and with it its finalizer, until it is
// as old as nameTime. The next attempt does not wait for that.
func TestNameIsKept(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Retries(1)))
	p.must("j")
	first := e.pod("a/0")
	if err := e.Delete(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(first.CreationTimestamp.Add(nameTime - 2*time.Second))
	res := p.must("j")
	e.want("j", "RUNNING 0/1 0/1", "a RUNNING active=r1:0", "failure a/0/0 PodDeleted")
	if got := e.pod("a/0"); got.UID != first.UID || len(got.Finalizers) == 0 {
		t.Errorf("the Pod lost its name while it was young: %v", got.ObjectMeta)
	}
	e.pod("a/0/1")
	if res.RequeueAfter <= 0 || res.RequeueAfter > 2*time.Second {
		t.Errorf("it looks again after %s, want at most 2s", res.RequeueAfter)
	}
	e.clock.SetTime(first.CreationTimestamp.Add(nameTime))
	p.must("j")
	if !e.isGone(first) {
		t.Error("the Pod is still there when it is old")
	}
}

func (e *env) isGone(pod *corev1.Pod) bool {
	e.t.Helper()
	err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
	if client.IgnoreNotFound(err) != nil {
		e.t.Fatal(err)
	}
	return err != nil
}

// TestClaimGrowsOld: while the first of two processes that lead is slow with one Pod, the second
// makes the others of its claims, sees one deleted, and lets go of it. The first must not
// make it once more.
func TestClaimGrowsOld(t *testing.T) {
	e := newEnv(t)
	job := testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1))
	second := e.start(nil)
	var taken *corev1.Pod
	first := e.start(&line{fault: func(_ int, call string) fate {
		if call != "create pod" || taken != nil {
			return done
		}
		second.must("j") // makes all of them
		taken = e.pod("a/2")
		if err := e.Delete(context.Background(), taken); err != nil {
			t.Error(err)
		}
		e.clock.SetTime(taken.CreationTimestamp.Add(nameTime))
		second.must("j") // counts it and lets go of it
		if !e.isGone(taken) {
			t.Error("the Pod that was deleted is still there")
		}
		return done
	}})
	e.submit(job)
	res, err := first.pass("j")
	switch {
	case err != nil:
		t.Fatal(err)
	case taken == nil:
		t.Fatal("no Pod was made")
	case !e.isGone(taken):
		t.Errorf("%s was made twice", taken.Name)
	case res.RequeueAfter <= 0:
		t.Error("it does not look again")
	}
	first.play("j")
	e.want("j", "SUCCEED 1/1 3/3", "a SUCCEED succeeded=0-2", "failure a/2/0 PodDeleted")
}
