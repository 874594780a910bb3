// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
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
		if got := p.calls["patch status"]; n == 1 && got != 2 || got > 5 {
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

// TestOutcomesAreGathered: those by which nothing begins are stored, and their Pods are let go of,
// half a second after the last write.
func TestOutcomesAreGathered(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(40)))
	p.must("j")
	before := p.sum()
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	if res := p.must("j"); p.sum() != before || res.RequeueAfter <= 0 || res.RequeueAfter > gatherInterval {
		t.Errorf("one outcome of 40: %d writes, and the next look after %s", p.sum()-before, res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(gatherInterval))
	if p.must("j"); p.calls["patch status"] != 2 || p.calls["patch pod"] != 1 {
		t.Errorf("later it wrote %v", p.calls)
	}
}

// TestUrgentWritesBySize: what begins or ends something is written at once, but of a large job that
// has many such writes in a row only so many in a second. It is the attack of a job of 1 MiB whose
// instances are short.
func TestUrgentWritesBySize(t *testing.T) {
	urgent, begin := &plan.Plan{Urgent: true}, time.Unix(1_000_000, 0)
	// write writes as often as it may for a minute, and returns how often that is.
	write := func(m *memory, from time.Time) (n int) {
		r := &Reconciler{}
		for now := from; now.Before(from.Add(time.Minute)); {
			if wait := r.delay(urgent, m, now); wait > 0 {
				now = now.Add(wait)
				continue
			}
			n++
			m.rewritten.add(m.size(), now)
			now = now.Add(20 * time.Millisecond)
		}
		return n
	}
	large := &memory{specSize: 1 << 20}
	if n := write(large, begin); n > urgentBurst>>20+60 || n < 60 {
		t.Errorf("a job of 1 MiB is written %d times in a minute, want 64 at most", n)
	}
	r := &Reconciler{}
	if wait := r.delay(urgent, large, begin.Add(time.Minute+2*time.Second)); wait != 0 {
		t.Errorf("after two seconds without a write it waits %s", wait)
	}
	if wait := r.delay(urgent, large, begin.Add(-time.Hour)); wait != 0 {
		t.Errorf("with a clock that was set back it waits %s", wait)
	}
	if n := write(&memory{specSize: 20 << 10}, begin); n != 3000 {
		t.Errorf("a job of 20 KiB is written %d times in a minute, want as often as it can, 3000", n)
	}
	idle := &memory{specSize: 1 << 20, statusSize: 400 << 10}
	if wait := r.delay(urgent, idle, begin); wait != 0 {
		t.Errorf("the first write of the largest job waits %s", wait)
	}
}

// TestLargeJobIsWrittenSeldom: a job of nearly 1 MiB, of which a task ends every second, is
// written every four seconds, and its first claims and its end at once.
func TestLargeJobIsWrittenSeldom(t *testing.T) {
	e := newEnv(t)
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
		t.Errorf("%d status writes in 30 s, want one in four seconds, and the first", got)
	}
	for i := range pods[30:] {
		e.Finish(t, &pods[30+i], 0, e.clock.Now())
	}
	p.must("j")
	if got := e.job("j").Status.State; got != v1alpha1.JobSucceed {
		t.Errorf("its last task has ended, and the job is %s", got)
	}
}

// TestPace: how long writes are held back goes by what the process has to do.
func TestPace(t *testing.T) {
	outcomes := func(n int) *plan.Plan {
		return &plan.Plan{Urgent: true, Gather: true, Release: make([]*corev1.Pod, n)}
	}
	now := time.Unix(1_000_000, 0)
	jobs := func(n int) *Reconciler {
		r := &Reconciler{memories: map[types.NamespacedName]*memory{}}
		for i := range n {
			r.memories[types.NamespacedName{Name: strconv.Itoa(i)}] = nil
		}
		return r
	}
	for _, c := range []struct {
		name string
		jobs int
		busy bool
		plan *plan.Plan
		size int
		want time.Duration
	}{
		{"news", 1000, false, &plan.Plan{}, 1000, newsInterval},
		{"news of one job of few", 3, true, &plan.Plan{}, 1000, busyNewsInterval},
		{"news of one job of many: five a second in all", 100, true, &plan.Plan{}, 1000, 20 * time.Second},
		{"news of one job of very many", 10_000, true, &plan.Plan{}, 1 << 20, mostNewsInterval},
		{"news of a large job", 3, false, &plan.Plan{}, 1 << 20, 4 * time.Second},
		{"news of a large job, busy", 3, true, &plan.Plan{}, 1 << 20, busyNewsInterval},
		{"an outcome", 1, false, outcomes(1), 1000, gatherInterval},
		{"an outcome of a job of 128 KiB", 1, false, outcomes(1), 128 << 10, gatherInterval},
		{"an outcome of a job of 192 KiB", 1, false, outcomes(1), 192 << 10, 750 * time.Millisecond},
		{"an outcome of a large job", 1, false, outcomes(1), 1 << 20, 4 * time.Second},
		{"few outcomes", 1, true, outcomes(fewOutcomes - 1), 1000, busyGatherInterval},
		{"few outcomes of a large job", 1, true, outcomes(fewOutcomes - 1), 1 << 20, 4 * time.Second},
		{"many outcomes", 1, true, outcomes(fewOutcomes), 1000, gatherInterval},
	} {
		r := jobs(c.jobs)
		for range busyWrites {
			if c.busy {
				r.pace.add(now, 0)
			}
		}
		if got := r.interval(c.plan, c.size, now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	r := jobs(1)
	for range busyWrites {
		r.pace.add(now, 0)
	}
	for _, c := range []struct {
		since time.Duration
		want  bool
	}{
		{-5 * time.Second, true}, // a pass that began before others
		{time.Second, true},
		{3 * time.Second, false},
		{-time.Hour, false}, // the clock was set
	} {
		if got := r.pace.isBusy(now.Add(c.since)); got != c.want {
			t.Errorf("%s after the writes: busy %t", c.since, got)
		}
	}
}

// TestNewsYieldToWork: while many urgent writes are made, those for people wait, and so do the
// events that the status tells as well.
func TestNewsYieldToWork(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	for range busyWrites {
		p.pace.add(e.clock.Now(), 0)
	}
	e.submit(testutil.Job("j").Task("a"))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.clock.SetTime(e.clock.Now().Add(newsInterval))
	if res := p.must("j"); p.calls["patch status"] != 1 || res.RequeueAfter <= newsInterval || res.RequeueAfter > busyNewsInterval {
		t.Errorf("%d status writes, and the next look after %s", p.calls["patch status"], res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(2 * newsInterval))
	if p.must("j"); p.calls["patch status"] != 2 {
		t.Errorf("%d status writes when the work is done", p.calls["patch status"])
	}
}

// TestLetGoOfOnce: a Pod that was let go of, and that the cache still shows, is not let go of
// again; one that somebody holds again is.
func TestLetGoOfOnce(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a").Task("b"))
	p.must("j")
	behind := e.cache
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	e.sync()
	var shown corev1.PodList
	if err := behind.List(t.Context(), &shown, client.InNamespace(e.ns)); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(e.clock.Now().Add(gatherInterval))
	p.must("j")
	released := p.calls["patch pod"]
	m := p.memories[p.request("j").NamespacedName]
	pods := []*corev1.Pod{}
	for i := range shown.Items {
		pods = append(pods, &shown.Items[i])
	}
	if held := m.held(pods); released != 1 || len(held) != 1 || held[0].Name != e.pod("b/0").Name {
		t.Errorf("%d Pods were let go of, and of %d Pods that an old cache shows %d are held", released, len(shown.Items), len(held))
	}
	controlplane.Change(t, e.ControlPlane, e.pod("a/0"), func(pod *corev1.Pod) {
		pod.Finalizers = append(pod.Finalizers, v1alpha1.FinalizerTracking)
		pod.Labels[v1alpha1.LabelTracked] = "true"
	})
	if p.must("j"); p.calls["patch pod"] != 2 {
		t.Errorf("a Pod that somebody holds again was let go of %d times, want once more", p.calls["patch pod"])
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
