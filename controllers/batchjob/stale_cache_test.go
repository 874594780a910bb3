// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestTwoControllers: two controllers reconcile one job at the same time, without a lock between them, and with caches that
// may be stale.
func TestTwoControllers(t *testing.T) {
	e := newTestEnv(t)
	e.submit(e.reference("ref"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	processes := []*process{e.start(nil), e.start(nil)}
	for _, p := range processes {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := p.Reconcile(context.Background(), p.request("ref")); err != nil && !strings.Contains(err.Error(), "not found") {
					t.Log(err) // such as a Pod whose finalizer the other controller has removed
				}
			}
		})
	}
	e.eventually("the job has ended", func() bool {
		e.work()
		e.tick()
		return e.job("ref").Status.EndTime != nil && len(e.tracked()) == 0
	})
	close(stop)
	wg.Wait()
	e.wantReference("ref")
	for _, p := range processes {
		t.Logf("writes: %v", p.calls)
	}
}

// TestStaleJobGetsConflict: a controller with an old version of the job writes nothing but a status, which is refused with
// a conflict.
func TestStaleJobGetsConflict(t *testing.T) {
	e := newTestEnv(t)
	stale := &frozen{Reader: e.cache, noPods: true}
	p, q := e.start(nil), e.start(&faultClient{cached: stale})
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
	stale.job = e.job("j")
	p.must("j")
	q.fault = func(_ int, call string) fault {
		if call != "patch status" {
			t.Errorf("a controller with an old version of the job calls %q", call)
		}
		return noFault
	}
	if res := q.must("j"); res.RequeueAfter != staleRetry {
		t.Errorf("RequeueAfter is %s, want %s", res.RequeueAfter, staleRetry)
	}
	e.want("j", "RUNNABLE 0/1 0/3", "a RUNNABLE active=0-2")
}

// frozen is a cache that has an old version of the job, and with noPods no Pods.
type frozen struct {
	client.Reader
	job    *v1alpha1.BatchJob
	noPods bool
}

func (f *frozen) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if f.noPods {
		return nil
	}
	return f.Reader.List(ctx, list, opts...)
}

func (f *frozen) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if job, ok := obj.(*v1alpha1.BatchJob); ok && f.job != nil {
		f.job.DeepCopyInto(job)
		return nil
	}
	return f.Reader.Get(ctx, key, obj, opts...)
}

// TestReadYourWrites: a pass does nothing while the cache is older than the last write of the process.
func TestReadYourWrites(t *testing.T) {
	e := newTestEnv(t)
	stale := &frozen{Reader: e.cache}
	p := e.start(&faultClient{cached: stale})
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1)))
	old := e.job("j")
	p.must("j")
	e.Finish(t, e.pod("a/0"), 1, e.clock.Now())
	stale.job = old
	before := p.sum()
	if res := p.must("j"); res.RequeueAfter != staleRetry || p.sum() != before {
		t.Errorf("writes %q, RequeueAfter %s; want none, and %s", p.log[before:], res.RequeueAfter, staleRetry)
	}
	stale.job = nil
	p.must("j")
	e.want("j", "RUNNING 0/1 0/3", "a RUNNING active=1-2;r1:0", "failure a/0/0 CommandFailed 1")
}

// TestStaleAfterRestart: a new process whose cached job is older than its Pods reads the job from the API server.
func TestStaleAfterRestart(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(1)))
	old := e.job("j")
	p.must("j")
	e.Finish(t, e.pod("a/0"), 1, e.clock.Now())
	q := e.start(&faultClient{cached: &frozen{Reader: e.cache, job: old}})
	q.must("j")
	e.want("j", "RUNNING 0/1 0/2", "a RUNNING active=1;r1:0", "failure a/0/0 CommandFailed 1")
	if want := []string{"create pod", "patch pod", "patch status"}; len(q.log) != 3 || !slices.Equal(want, slices.Sorted(keys(q.calls))) {
		t.Errorf("writes are %q", q.log)
	}
}

// TestUnseenPodIsVerified: a Pod that is deleted before the cache has it causes no event. So the job is requeued, and the API
// server is asked for the Pod.
func TestUnseenPodIsVerified(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a"))
	p.must("j")
	e.sync()
	pod := e.pod("a/0")
	pod.Finalizers = nil
	if err := e.Update(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if err := e.Delete(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	res := p.must("j")
	if res.RequeueAfter <= 0 || res.RequeueAfter > cacheLag {
		t.Fatalf("RequeueAfter is %s, want at most %s", res.RequeueAfter, cacheLag)
	}
	e.clock.SetTime(e.clock.Now().Add(res.RequeueAfter))
	p.must("j")
	if got := e.pod("a/0"); got.UID == pod.UID {
		t.Error("the Pod was not created again")
	}
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}

// TestJobDeletedDuringPass: a pass returns no error if the job is deleted while it runs.
func TestJobDeletedDuringPass(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	job := e.submit(testutil.Job("j").Task("a"))
	old := e.job("j")
	p.must("j")
	if err := e.Delete(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	// The cached Pods are newer than the cached job, so the pass reads the job from the API server.
	q := e.start(&faultClient{cached: &frozen{Reader: e.cache, job: old}})
	if _, err := q.pass("j"); err != nil {
		t.Errorf("error: %v", err)
	}
	p.must("j")
	if tracked := e.tracked(); len(tracked) > 0 {
		t.Errorf("Pods are still tracked: %q", tracked)
	}
}

// TestFinishedPodIsNotDeleted: a controller with stale Pods does not delete a Pod that has finished and was counted, since
// users want its log.
func TestFinishedPodIsNotDeleted(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a").Task("b").Edges("a->b"))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.Start(t, e.pod("a/0"), e.clock.Now())
	e.sync()
	var old corev1.PodList
	if err := e.cache.List(t.Context(), &old, client.InNamespace(e.ns)); err != nil {
		t.Fatal(err)
	}
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	p.must("j")
	q := e.start(&faultClient{cached: &latePods{e.cache, old}})
	q.must("j")
	if pod := e.pod("a/0"); pod.DeletionTimestamp != nil {
		t.Error("the Pod was deleted")
	}
	if q.calls["delete pod"] != 1 {
		t.Errorf("writes are %q, want one deletion of a Pod: the test does not test what it should", q.log)
	}
}

// latePods is a cache in which only the Pods are stale. Each kind has its own watch.
type latePods struct {
	client.Reader
	pods corev1.PodList
}

func (l *latePods) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if pods, ok := list.(*corev1.PodList); ok {
		l.pods.DeepCopyInto(pods)
		return nil
	}
	return l.Reader.List(ctx, list, opts...)
}
