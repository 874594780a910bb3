// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"testing"
	"time"

	"batchcompute.dev/operator/internal/testutil"
)

// TestDeletedPodIsFailedAttempt: a Pod that a user deletes is a failed attempt, unless it has succeeded. The finalizer
// keeps it until that is stored.
func TestDeletedPodIsFailedAttempt(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1)))
	p.must("j")
	remove := func(attempt string) {
		t.Helper()
		if err := e.Delete(context.Background(), e.pod(attempt)); err != nil {
			t.Fatal(err)
		}
	}
	remove("a/0") // has no node yet
	e.Bind(t, e.pod("a/1"))
	e.Start(t, e.pod("a/1"), e.clock.Now())
	remove("a/1") // runs: the kubelet has to stop it first
	e.Finish(t, e.pod("a/2"), 0, e.clock.Now())
	remove("a/2") // has succeeded
	e.tick()
	p.must("j")
	e.want("j", "RUNNING 0/1 1/3", "a RUNNING succeeded=2 active=1;r1:0", "failure a/0/0 PodDeleted")
	e.Finish(t, e.pod("a/1"), 137, time.Now().Add(2*time.Second))
	p.must("j")
	e.want("j", "RUNNING 0/1 1/3", "a RUNNING succeeded=2 active=r1:0-1", "failure a/0/0 PodDeleted", "failure a/1/0 PodDeleted 137")
	p.play("j")
	e.want("j", "SUCCEED 1/1 3/3", "a SUCCEED succeeded=0-2", "failure a/0/0 PodDeleted", "failure a/1/0 PodDeleted 137")
}

// TestTimeout: a Pod past its timeout is deleted once, and its attempt has failed when it ends.
func TestTimeout(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Timeout(60), testutil.Retries(1)))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.Start(t, e.pod("a/0"), e.clock.Now().Add(-57*time.Second))
	// The controller's clock is a few seconds ahead of the API server's.
	e.tick()
	res := p.must("j")
	if res.RequeueAfter != time.Second {
		t.Errorf("RequeueAfter is %s, want 1s", res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(res.RequeueAfter))
	for range 3 {
		p.must("j")
	}
	if p.calls["delete pod"] != 1 || e.pod("a/0").DeletionTimestamp == nil {
		t.Errorf("the Pod was deleted %d times, want once", p.calls["delete pod"])
	}
	e.Finish(t, e.pod("a/0"), 143, time.Now().Add(5*time.Second))
	p.must("j")
	e.want("j", "RUNNING 0/1 0/1", "a RUNNING active=r1:0", "failure a/0/0 Timeout 143")
}
