// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/testutil"
)

// pool creates or resizes the ComputeEnv of this name, and waits until the cache has it.
func (e *testEnv) pool(name string, size int64) *v1alpha1.ComputeEnv {
	e.t.Helper()
	ctx, pool := context.Background(), &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: e.ns, Name: name}}
	err := e.Get(ctx, client.ObjectKeyFromObject(pool), pool)
	pool.Spec.EnvName, pool.Spec.DesiredComputeNodeCount, pool.Spec.Placement.Zone = name, &size, "zone-p"
	if err == nil {
		err = e.Update(ctx, pool)
	} else {
		err = e.Create(ctx, pool)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.eventually("the cache has the ComputeEnv", func() bool {
		cached := &v1alpha1.ComputeEnv{}
		return e.cache == nil || e.cache.Get(ctx, client.ObjectKeyFromObject(pool), cached) == nil && cached.ResourceVersion == pool.ResourceVersion
	})
	return pool
}

// livePods returns the jobs of the Pods that may run, sorted, as "a b b".
func (e *testEnv) livePods() string {
	e.t.Helper()
	var out []string
	for _, pod := range e.Pods(e.t, e.ns) {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			out = append(out, jobOf(&pod))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// finish ends one pending Pod of a job.
func (e *testEnv) finish(job string) {
	e.t.Helper()
	for _, pod := range e.Pods(e.t, e.ns) {
		if jobOf(&pod) == job && pod.Status.Phase == corev1.PodPending {
			e.Finish(e.t, &pod, 0, e.clock.Now())
			return
		}
	}
	e.t.Fatalf("%s has no Pod that may run", job)
}

// woken returns a list to which the names of the jobs are added that the ledger enqueues.
func (p *process) woken() *[]string {
	names := new([]string)
	p.pool.Ledger.OnGrant(func(j nodepool.Job) {
		*names = append(*names, j.Name.Name)
		p.queue.wake(j.Name, j.Priority)
	})
	return names
}

// TestComputeEnv: jobs that name a ComputeEnv, by its name or its identifier, share its nodes in the order of priority and
// age, while it is scaled down and up.
func TestComputeEnv(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	pool := e.pool("pool", 2)
	woken := p.woken()
	first := testutil.Job("first").Task("a", testutil.Instances(3), testutil.EnvID("pool")).Priority(5)
	e.submit(first)
	e.submit(testutil.Job("second").Task("a", testutil.Instances(2), testutil.EnvID(naming.EnvID(pool.UID))))
	p.must("first")
	p.must("second")
	if got := e.livePods(); got != "first first" {
		t.Fatalf("two nodes: Pods of %q", got)
	}
	e.want("second", "RUNNABLE 0/1 0/2", "a RUNNABLE reason=ComputeEnvFull")
	if got, want := e.job("second").Status.Message, `task "a": ComputeEnv "pool" has no free node: its 2 nodes are in use, or go to jobs ahead in the queue; raise its desiredComputeNodeCount to wait less`; got != want {
		t.Errorf("the message is %q, want %q", got, want)
	}
	pod := e.pod("a/0")
	if pod.Labels[v1alpha1.LabelEnvID] != naming.EnvID(pool.UID) || !strings.Contains(fmt.Sprint(pod.Spec.Affinity.NodeAffinity), "zone-p") {
		t.Errorf("the Pod does not use the ComputeEnv: %v, %v", pod.Labels, pod.Spec.Affinity)
	}

	e.finish("first")
	p.must("first") // gets the node again: its priority is higher
	if got := e.livePods(); got != "first first" || len(*woken) > 0 {
		t.Fatalf("after the first end: Pods of %q, and %q were enqueued", got, *woken)
	}
	e.finish("first")
	p.must("first")
	if want := []string{"second"}; !slices.Equal(*woken, want) {
		t.Fatalf("%q are enqueued, want %q", *woken, want)
	}
	p.must("second")
	if got := e.livePods(); got != "first second" {
		t.Fatalf("after the second end: Pods of %q", got)
	}

	e.pool("pool", 0)
	e.finish("first")
	e.finish("second")
	p.must("first")
	p.must("second")
	if got := e.livePods(); got != "" {
		t.Fatalf("no nodes: Pods of %q", got)
	}
	e.want("second", "RUNNING 0/1 1/2", "a RUNNING succeeded=0 reason=ComputeEnvFull")
	*woken = nil
	p.pool.EnvChanged(e.pool("pool", 9)) // as the watch does
	if want := []string{"second"}; !slices.Equal(*woken, want) {
		t.Errorf("%q are enqueued after scaling up, want %q", *woken, want)
	}
	p.play("first")
	p.play("second")
	e.want("second", "SUCCEED 1/1 2/2", "a SUCCEED succeeded=0-1")
	if stats := p.pool.Ledger.Stats(types.NamespacedName{Namespace: e.ns, Name: "pool"}); stats != (nodepool.Stats{Size: 9}) {
		t.Errorf("after the end the ledger has %+v", stats)
	}
}

// TestComputeEnvMissing: a job whose ComputeEnv does not exist waits for it, and the status says so.
func TestComputeEnvMissing(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.EnvID("pool")).Task("b"))
	p.must("j")
	e.want("j", "RUNNABLE 0/2 0/2", "a RUNNABLE reason=ComputeEnvNotFound", "b RUNNABLE active=0")
	if w := e.job("j").Status.Waiting; len(w) != 1 || w[0].Message != `ComputeEnv "pool" does not exist; create it to start the task` {
		t.Errorf("waiting is %+v", w)
	}
	e.pool("pool", 1)
	p.play("j")
	e.want("j", "SUCCEED 2/2 2/2", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0")
}

// TestComputeEnvJobDeleted: the nodes of a deleted job are free when its Pods have ended, and not before, with and without
// a restart of the process.
func TestComputeEnvJobDeleted(t *testing.T) {
	for _, way := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", way, restart), func(t *testing.T) {
				e := newTestEnv(t)
				p := e.start(nil)
				e.pool("pool", 1)
				e.submit(testutil.Job("deleted").Task("a", testutil.EnvID("pool")))
				p.must("deleted")
				pod := e.pod("a/0")
				e.Bind(t, pod)
				e.Start(t, e.pod("a/0"), e.clock.Now())
				e.submit(testutil.Job("next").Task("b", testutil.EnvID("pool")))
				if err := e.Delete(context.Background(), e.job("deleted"), client.PropagationPolicy(way)); err != nil {
					t.Fatal(err)
				}
				e.CollectGarbage(t, e.ns)
				if restart {
					p = e.start(nil)
				}
				for range 2 {
					p.must("deleted")
					p.must("next")
				}
				if got := len(e.Pods(t, e.ns)); got != 1 {
					t.Fatalf("there are %d Pods, want 1", got)
				}
				e.Finish(t, e.pod("a/0"), 137, e.clock.Now())
				woken := p.woken()
				for range 2 { // the first pass removes the finalizer, for which a foreground deletion waits
					p.must("deleted")
					e.CollectGarbage(t, e.ns)
				}
				if want := []string{"next"}; !slices.Equal(*woken, want) {
					t.Errorf("%q are enqueued, want %q", *woken, want)
				}
				p.must("next")
				if got := e.livePods(); got != "next" {
					t.Errorf("Pods of %q have the node", got)
				}
				p.play("next")
				if tracked := e.tracked(); len(tracked) > 0 {
					t.Errorf("Pods are still tracked: %q", tracked)
				}
				if departed := p.pool.Departed(); len(departed) > 0 {
					t.Errorf("deleted jobs are still remembered: %v", departed)
				}
			})
		}
	}
}

// TestComputeEnvNodesUnderFaults runs jobs on a small ComputeEnv while the process crashes again and again, before and
// after its writes, and answers are lost. There are never more live Pods than nodes.
func TestComputeEnvNodesUnderFaults(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			const size = 3
			random := rand.New(rand.NewPCG(seed, 7))
			e := newTestEnv(t)
			witness := e.Watch(t, e.ns)
			e.pool("pool", size)
			jobs := []string{"a", "b", "c"}
			for i, name := range jobs {
				e.submit(testutil.Job(name).Task("t", testutil.Instances(6), testutil.Retries(1), testutil.EnvID("pool")).Priority(int64(i % 2)))
			}
			kills := 0
			start := func() *process {
				left := 3 + random.IntN(12)
				p := e.start(&faultClient{fault: func(int, string) fault {
					if left--; left > 0 {
						return noFault
					}
					return []fault{diesBefore, diesAfter, answerLost}[random.IntN(3)]
				}})
				return p
			}
			p := start()
			for round := 0; ; round++ {
				name := jobs[random.IntN(len(jobs))]
				if _, err := p.pass(name); err != nil && !p.dead && !errors.Is(err, errLost) {
					t.Fatal(err)
				}
				if p.dead || random.IntN(20) == 0 {
					kills++
					p = start()
				}
				for _, pod := range e.Pods(t, e.ns) {
					if pod.Status.Phase == corev1.PodPending && random.IntN(3) == 0 {
						e.Finish(t, &pod, int32(random.IntN(2)), e.clock.Now())
					}
				}
				e.tick()
				ended := 0
				for _, name := range jobs {
					if e.job(name).Status.EndTime != nil {
						ended++
					}
				}
				if ended == len(jobs) {
					break
				}
				if round == 2000 {
					t.Fatal("timed out: the jobs have not ended")
				}
			}
			f := witness.Figures()
			t.Logf("%d Pods, at most %d live at once on %d nodes, %d kills", f.Pods, f.Peak, size, kills)
			if f.Peak > size || f.Peak == 0 || f.Err != nil || len(f.Overlaps) > 0 {
				t.Errorf("%d Pods were live at once; %v, %v", f.Peak, f.Overlaps, f.Err)
			}
		})
	}
}
