// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// TestDeletedJobRemovesFinalizers deletes a job at every stage, with every deletion propagation. No Pod keeps our
// finalizer, no Pod is created afterwards, and the garbage collector can delete the Pods.
func TestDeletedJobRemovesFinalizers(t *testing.T) {
	e := newTestEnv(t)
	stages := map[string]func(*testEnv, *process){
		"not observed": func(*testEnv, *process) {},
		"claimed": func(_ *testEnv, p *process) {
			p.fault = func(_ int, call string) fault {
				if call == "create pod" {
					return callFails
				}
				return noFault
			}
			if _, err := p.pass("j"); err == nil {
				t.Error("no Pod was created, and the pass returned no error")
			}
			p.fault = nil
		},
		"created": func(_ *testEnv, p *process) { p.must("j") },
		"running": func(e *testEnv, p *process) {
			p.must("j")
			e.Bind(t, e.pod("a/0"))
			e.Start(t, e.pod("a/0"), e.clock.Now())
			e.Finish(t, e.pod("a/1"), 1, e.clock.Now())
			p.must("j")
			e.Finish(t, e.pod("a/2"), 0, e.clock.Now())
		},
		"ended": func(_ *testEnv, p *process) { p.play("j") },
	}
	for _, way := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		for stage, reach := range stages {
			t.Run(fmt.Sprintf("%s, %s", way, stage), func(t *testing.T) {
				e := &testEnv{ControlPlane: e.ControlPlane, t: t, ns: e.ns, cache: e.cache, clock: e.clock}
				p := e.start(nil)
				e.submit(testutil.Job("j").Task("a", testutil.Instances(4), testutil.Retries(1)))
				reach(e, p)
				pods := len(e.Pods(t, e.ns))
				if err := e.Delete(context.Background(), e.job("j"), client.PropagationPolicy(way)); err != nil {
					t.Fatal(err)
				}
				e.eventually("nothing is left to do", func() bool {
					e.sync()
					writes := p.sum()
					p.must("j")
					for _, pod := range e.Pods(t, e.ns) {
						if pod.DeletionTimestamp != nil {
							e.Finish(t, &pod, 137, e.clock.Now())
						}
					}
					return !e.CollectGarbage(t, e.ns) && p.sum() == writes
				})
				if tracked := e.tracked(); len(tracked) > 0 {
					t.Errorf("Pods are still tracked: %q", tracked)
				}
				want := 0
				if way == metav1.DeletePropagationOrphan {
					want = pods
				}
				if got := len(e.Pods(t, e.ns)); got != want {
					t.Errorf("%d Pods are left, want %d", got, want)
				}
				if len(p.states.byName) > 0 {
					t.Errorf("the process still remembers the job")
				}
				e.clear()
			})
		}
	}
}

// TestOrphanFinalizersAtStart: the job was deleted while no controller ran. The next controller removes the finalizers of
// its Pods.
func TestOrphanFinalizersAtStart(t *testing.T) {
	e := newTestEnv(t)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
	e.start(nil).must("j")
	if err := e.Delete(context.Background(), e.job("j"), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	// Another job has its name, and one of the Pods has no owner reference.
	controlplane.Change(t, e.ControlPlane, e.pod("a/1"), func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	e.submit(testutil.Job("j").Task("b"))
	p := e.start(nil)
	p.must("j")
	for _, pod := range e.Pods(t, e.ns) {
		if has := len(pod.Finalizers) > 0; has != (pod.Labels[v1alpha1.LabelTaskName] == "b") {
			t.Errorf("Pod %s has finalizers %q", pod.Name, pod.Finalizers)
		}
	}
	e.want("j", "RUNNABLE 0/1 0/1", "b RUNNABLE active=0")
}

// TestYoungPodKeepsFinalizer: a terminating Pod keeps its finalizer, and so its name, until its age is minNameAge. The
// next attempt does not wait for that.
func TestYoungPodKeepsFinalizer(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Retries(1)))
	p.must("j")
	first := e.pod("a/0")
	if err := e.Delete(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(first.CreationTimestamp.Add(minNameAge - 2*time.Second))
	res := p.must("j")
	e.want("j", "RUNNING 0/1 0/1", "a RUNNING active=r1:0", "failure a/0/0 PodDeleted")
	if got := e.pod("a/0"); got.UID != first.UID || len(got.Finalizers) == 0 {
		t.Errorf("the Pod lost its name while it was young: %v", got.ObjectMeta)
	}
	e.pod("a/0/1")
	if res.RequeueAfter <= 0 || res.RequeueAfter > 2*time.Second {
		t.Errorf("RequeueAfter is %s, want at most 2s", res.RequeueAfter)
	}
	e.clock.SetTime(first.CreationTimestamp.Add(minNameAge))
	p.must("j")
	if !e.isDeleted(first) {
		t.Error("the Pod still exists when its age is minNameAge")
	}
}

func (e *testEnv) isDeleted(pod *corev1.Pod) bool {
	e.t.Helper()
	err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), &corev1.Pod{})
	if client.IgnoreNotFound(err) != nil {
		e.t.Fatal(err)
	}
	return err != nil
}

// TestFinalizerIsRemovedOnce: a finalizer that was removed, and that a stale cache still has, is not removed again. If
// somebody adds it again, it is.
func TestFinalizerIsRemovedOnce(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a").Task("b"))
	p.must("j")
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	e.sync()
	var stale corev1.PodList
	if err := e.cache.List(t.Context(), &stale, client.InNamespace(e.ns)); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(e.clock.Now().Add(flow.MinBatchInterval))
	p.must("j")
	removed := p.calls["patch pod"]
	m := p.states.byName[p.request("j").NamespacedName]
	pods := []*corev1.Pod{}
	for i := range stale.Items {
		pods = append(pods, &stale.Items[i])
	}
	if kept := m.withFinalizer(pods); removed != 1 || len(kept) != 1 || kept[0].Name != e.pod("b/0").Name {
		t.Errorf("%d finalizers were removed, and %d of %d Pods of a stale cache count as having it", removed, len(kept), len(stale.Items))
	}
	controlplane.Change(t, e.ControlPlane, e.pod("a/0"), func(pod *corev1.Pod) {
		pod.Finalizers = append(pod.Finalizers, v1alpha1.FinalizerTracking)
		pod.Labels[v1alpha1.LabelTracked] = "true"
	})
	if p.must("j"); p.calls["patch pod"] != 2 {
		t.Errorf("%d finalizers were removed after somebody added one again, want 2", p.calls["patch pod"])
	}
}

// TestCountedPodsLeaveTheCache: the cache has only Pods whose outcome is not stored yet, so it does not grow with the
// number of finished instances.
func TestCountedPodsLeaveTheCache(t *testing.T) {
	e := newTestEnv(t)
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
				t.Errorf("up to %d Pods were in the cache, want at most 4: two active ones, and two whose finalizer is removed", most)
			}
			return
		}
		e.work()
	}
	t.Fatal("the job does not end")
}
