// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/testutil"
)

// TestWritesPerInstance: each instance takes one creation and one patch of its Pod. The status takes a few writes, however
// many instances the job has.
func TestWritesPerInstance(t *testing.T) {
	for _, n := range []int64{1, 200} {
		e := newTestEnv(t)
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
		if got := p.calls["patch status"]; n == 1 && got != 2 || got > 5 {
			t.Errorf("%d instances took %d status writes", n, got)
		}
	}
}

// TestStatusWriteDelays: claims and outcomes are written immediately, and informational updates at most once per
// InformationalInterval. Without a change nothing is written.
func TestStatusWriteDelays(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
	p.must("j")
	statuses := func() int { return p.calls["patch status"] }
	for i := range 3 {
		e.Bind(t, e.pod(fmt.Sprintf("a/%d", i)))
		if res := p.must("j"); statuses() != 1 || res.RequeueAfter <= 0 || res.RequeueAfter > flow.InformationalInterval {
			t.Errorf("%d status writes, RequeueAfter %s; want 1, and at most %s", statuses(), res.RequeueAfter, flow.InformationalInterval)
		}
	}
	e.clock.SetTime(e.clock.Now().Add(flow.InformationalInterval))
	p.must("j")
	if got := e.job("j").Status; statuses() != 2 || got.State != v1alpha1.JobStarting || got.Tasks[0].Starting != 3 {
		t.Errorf("%d status writes, status %+v", statuses(), got)
	}
	for range 3 {
		e.tick()
		if res := p.must("j"); res.RequeueAfter > 0 && res.RequeueAfter < 10*time.Second {
			t.Errorf("RequeueAfter is %s though nothing is due", res.RequeueAfter)
		}
	}
	if statuses() != 2 || p.sum() != 2+3 {
		t.Errorf("writes without a change: %q", p.log)
	}
	e.Finish(t, e.pod("a/1"), 0, e.clock.Now())
	if p.must("j"); statuses() != 3 {
		t.Errorf("an outcome was not written immediately")
	}
}

// TestOutcomesAreBatched: outcomes after which nothing starts are written MinBatchInterval after the last write, and the
// finalizers of their Pods are removed then.
func TestOutcomesAreBatched(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(40)))
	p.must("j")
	before := p.sum()
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	if res := p.must("j"); p.sum() != before || res.RequeueAfter <= 0 || res.RequeueAfter > flow.MinBatchInterval {
		t.Errorf("after one outcome of 40: %d writes, RequeueAfter %s", p.sum()-before, res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(flow.MinBatchInterval))
	if p.must("j"); p.calls["patch status"] != 2 || p.calls["patch pod"] != 1 {
		t.Errorf("writes after MinBatchInterval: %v", p.calls)
	}
}

// TestLargeJobIsWrittenSeldom: the status of a job of nearly 1 MiB, of which a task ends every second, is written every
// four seconds. Its first claims and its end are written immediately.
func TestLargeJobIsWrittenSeldom(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	const tasks, step = 60, time.Second
	job := testutil.Job("j")
	for i := range tasks {
		job.Task(fmt.Sprint("t", i), testutil.Command("true #"+strings.Repeat("x", 16<<10-10)))
	}
	e.submit(job)
	p.must("j")
	if got := p.calls["patch status"]; got != 1 || p.calls["create pod"] != tasks {
		t.Fatalf("the first pass wrote %v", p.calls)
	}
	pods := e.Pods(t, e.ns)
	for i := range 30 {
		e.Finish(t, &pods[i], 0, e.clock.Now())
		e.clock.SetTime(e.clock.Now().Add(step))
		p.must("j")
	}
	if got := p.calls["patch status"]; got < 30/4 || got > 30/4+1 {
		t.Errorf("%d status writes in 30 s, want the first, and one every four seconds", got)
	}
	for i := range pods[30:] {
		e.Finish(t, &pods[30+i], 0, e.clock.Now())
	}
	p.must("j")
	if got := e.job("j").Status.State; got != v1alpha1.JobSucceed {
		t.Errorf("its last task has ended, and the job is %s", got)
	}
}

// TestLoadShedding: while there are many immediate status writes, informational updates wait longer.
func TestLoadShedding(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	for range 20 {
		p.status.throttle.Wrote(e.clock.Now(), 0)
	}
	e.submit(testutil.Job("j").Task("a"))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.clock.SetTime(e.clock.Now().Add(flow.InformationalInterval))
	if res := p.must("j"); p.calls["patch status"] != 1 || res.RequeueAfter <= flow.InformationalInterval || res.RequeueAfter > flow.MinShedInterval {
		t.Errorf("%d status writes, RequeueAfter %s", p.calls["patch status"], res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(2 * flow.InformationalInterval))
	if p.must("j"); p.calls["patch status"] != 2 {
		t.Errorf("%d status writes when the load is over", p.calls["patch status"])
	}
}
