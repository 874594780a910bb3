// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestWritesPerInstance: an instance costs its Pod's creation and one patch; the job's
// status costs a few writes, however many instances it has.
func TestWritesPerInstance(t *testing.T) {
	for _, n := range []int64{1, 200} {
		e := newEnv(t)
		p := e.start(nil)
		e.submit(testutil.Job("j").Task("a", testutil.Instances(n)))
		p.play("j")
		text := ""
		for _, call := range slices.Sorted(keys(p.calls)) {
			text += fmt.Sprintf(", %d %s", p.calls[call], call)
		}
		t.Logf("%d instances: %.2f writes an instance%s", n, float64(p.sum())/float64(n), text)
		if p.calls["create pod"] != int(n) || p.calls["patch pod"] != int(n) || p.calls["delete pod"] != 0 {
			t.Errorf("%d instances took %v", n, p.calls)
		}
		if got := p.calls["patch status"]; got > 5 {
			t.Errorf("%d instances took %d status writes", n, got)
		}
	}
}

// TestStatusIsWrittenForNewsOnly: claims and outcomes at once, other news once a second,
// and nothing at all when there is none.
func TestStatusIsWrittenForNewsOnly(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
	p.must("j")
	statuses := func() int { return p.calls["patch status"] }
	for i := range 3 {
		e.Bind(t, e.pod(fmt.Sprintf("a/%d", i)))
		if res := p.must("j"); statuses() != 1 || res.RequeueAfter <= 0 || res.RequeueAfter > newsInterval {
			t.Errorf("%d status writes, and the next look after %s; want 1, and %s at most", statuses(), res.RequeueAfter, newsInterval)
		}
	}
	e.clock.SetTime(e.clock.Now().Add(newsInterval))
	p.must("j")
	if got := e.job("j").Status; statuses() != 2 || got.State != v1alpha1.JobStarting || got.Tasks[0].Starting != 3 {
		t.Errorf("%d status writes, status %+v", statuses(), got)
	}
	for range 3 {
		e.tick()
		if res := p.must("j"); res.RequeueAfter > 0 && res.RequeueAfter < 10*time.Second {
			t.Errorf("it looks again after %s, for nothing", res.RequeueAfter)
		}
	}
	if statuses() != 2 || p.sum() != 2+3 {
		t.Errorf("without news it wrote %q", p.log)
	}
	e.Finish(t, e.pod("a/1"), 0, e.clock.Now())
	if p.must("j"); statuses() != 3 {
		t.Errorf("an outcome was not stored at once")
	}
}

// TestReleasedPodsLeaveTheCache: what is watched does not grow with what has been done.
func TestReleasedPodsLeaveTheCache(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(5), testutil.Concurrent(2)))
	most := 0
	for range 20 {
		p.must("j")
		e.sync()
		var list corev1.PodList
		if err := e.cache.List(t.Context(), &list, client.InNamespace(e.ns)); err != nil {
			t.Fatal(err)
		}
		most = max(most, len(list.Items))
		if e.job("j").Status.EndTime != nil {
			if len(list.Items) != 0 || len(e.Pods(t, e.ns)) != 5 {
				t.Errorf("%d Pods are in the cache, and %d in the cluster; want 0 and 5", len(list.Items), len(e.Pods(t, e.ns)))
			}
			if most > 4 {
				t.Errorf("up to %d Pods were in the cache: two that run, and two that were let go of, are enough", most)
			}
			return
		}
		e.work()
	}
	t.Fatal("the job does not end")
}
