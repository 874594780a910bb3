// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/testutil"
)

// poolKey is the ComputeEnv of these tests; it has one node.
var poolKey = types.NamespacedName{Namespace: "default", Name: "pool"}

// fakeCluster is a cluster in memory in which single calls fail.
type fakeCluster struct {
	client.WithWatch
	t     *testing.T
	r     *Reconciler
	clock *testingclock.FakePassiveClock
	// cached has the jobs of which the cache has an old version.
	cached map[string]*v1alpha1.BatchJob
	// lost names the job whose status write gets no answer, noPods says that the cluster refuses to create Pods, and
	// failing is how many patches of Pods fail.
	lost    string
	noPods  bool
	failing int
}

func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	tracked := func(pod client.Object) []string {
		if pod.GetLabels()[v1alpha1.LabelTracked] == "" {
			return nil
		}
		return indexPod(pod)
	}
	s := &fakeCluster{t: t, cached: map[string]*v1alpha1.BatchJob{}, clock: testingclock.NewFakePassiveClock(time.Now().Truncate(time.Second))}
	b := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.BatchJob{}, &corev1.Pod{}).
		WithIndex(&corev1.Pod{}, podsByJob, tracked)
	for _, x := range lookup.Indexes() {
		b = b.WithIndex(x.Object, x.Field, x.Values)
	}
	s.WithWatch = b.Build()
	s.restart()
	s.pool()
	return s
}

// restart starts a new process.
func (s *fakeCluster) restart() {
	c := interceptor.NewClient(s.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if job, ok := obj.(*v1alpha1.BatchJob); ok && s.cached[key.Name] != nil {
				s.cached[key.Name].DeepCopyInto(job)
				return nil
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if s.noPods {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, obj.GetName(), errors.New("exceeded quota: q"))
			}
			obj.SetUID(types.UID("pod-" + obj.GetName()))
			return c.Create(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			if s.failing > 0 {
				s.failing--
				return errors.New("a transient error")
			}
			return c.Patch(ctx, obj, p, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			err := c.SubResource(sub).Patch(ctx, obj, p, opts...)
			if err == nil && obj.GetName() == s.lost {
				return errLost
			}
			return err
		},
	})
	s.r = NewReconciler(c, podsThrough(c), s.WithWatch, &eventRecorder{}, Options{
		Catalog: catalog.Default, Validate: func(*v1alpha1.BatchJob) (string, string) { return "", "" }, Clock: s.clock,
	})
}

// pass calls Reconcile for each job, and ignores errors.
func (s *fakeCluster) pass(names ...string) {
	for _, name := range names {
		_, _ = s.r.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}})
	}
}

func (s *fakeCluster) add(obj client.Object) {
	s.t.Helper()
	obj.SetResourceVersion("")
	if err := s.WithWatch.Create(s.t.Context(), obj); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fakeCluster) pool() {
	s.t.Helper()
	s.add(&v1alpha1.ComputeEnv{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pool", UID: types.UID(fmt.Sprint("pool-", time.Now().UnixNano())), Generation: 1},
		Spec:       v1alpha1.ComputeEnvSpec{DesiredComputeNodeCount: new(int64(1))},
	})
}

// submit creates a job of one instance.
func (s *fakeCluster) submit(name string, priority int64) {
	s.t.Helper()
	s.add(testutil.Job(name).Task("t", testutil.EnvID("pool")).Priority(priority).Obj())
}

func (s *fakeCluster) job(name string) *v1alpha1.BatchJob {
	s.t.Helper()
	job := &v1alpha1.BatchJob{}
	if err := s.WithWatch.Get(s.t.Context(), types.NamespacedName{Namespace: "default", Name: name}, job); err != nil {
		s.t.Fatal(err)
	}
	return job
}

func (s *fakeCluster) terminate(name string) {
	s.t.Helper()
	job := s.job(name)
	job.Spec.Terminate = true
	if err := s.Update(s.t.Context(), job); err != nil {
		s.t.Fatal(err)
	}
}

// pods returns the Pods of a job; of all jobs if job is empty.
func (s *fakeCluster) pods(job string) (out []*corev1.Pod) {
	s.t.Helper()
	var list corev1.PodList
	if err := s.WithWatch.List(s.t.Context(), &list); err != nil {
		s.t.Fatal(err)
	}
	for i := range list.Items {
		if job == "" || jobOf(&list.Items[i]) == job {
			out = append(out, &list.Items[i])
		}
	}
	return out
}

func (s *fakeCluster) finish(job string) {
	s.t.Helper()
	for _, pod := range s.pods(job) {
		pod.Status.Phase = corev1.PodSucceeded
		if err := s.WithWatch.Status().Update(s.t.Context(), pod); err != nil {
			s.t.Fatal(err)
		}
	}
}

// wantNode checks that the only live Pod belongs to this job, and that the ledger has the same count.
func (s *fakeCluster) wantNode(want string) {
	s.t.Helper()
	var live []string
	for _, pod := range s.pods("") {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			live = append(live, jobOf(pod))
		}
	}
	if got := strings.Join(live, " "); got != want {
		s.t.Errorf("live Pods of %q, want %q", got, want)
	}
	if stats := s.r.pool.Ledger.Stats(poolKey); stats.InUse != len(live) {
		s.t.Errorf("the ledger has %+v with %d live Pods", stats, len(live))
	}
}

// TestInDoubtClaim: a claim whose write got no answer keeps its node while the cache is stale, though the next pass has
// nothing to write since a job of higher priority has come.
func TestInDoubtClaim(t *testing.T) {
	s := newFakeCluster(t)
	s.submit("x", 1)
	s.pass("x")
	s.submit("a", 1)
	s.pass("a") // waits for a node
	s.finish("x")
	s.pass("x", "x") // the node is kept for a
	before := s.job("a")
	s.submit("b", 50)
	s.pass("b")
	s.lost = "a"
	s.pass("a")
	s.lost, s.cached["a"] = "", before
	s.clock.SetTime(s.clock.Now().Add(5 * time.Millisecond))
	s.pass("a", "b")
	delete(s.cached, "a")
	s.pass("a", "b")
	s.wantNode("a")
	s.finish("a")
	s.pass("a", "b")
	s.wantNode("b")
}

// TestInDoubtLastWrite: the write that ends a job, and releases its last claim, gets no answer.
func TestInDoubtLastWrite(t *testing.T) {
	s := newFakeCluster(t)
	s.noPods = true
	s.submit("a", 1)
	s.pass("a")
	s.terminate("a")
	s.lost = "a"
	s.pass("a")
	s.lost, s.noPods = "", false
	s.pass("a", "a")
	s.submit("b", 1)
	s.pass("b")
	s.wantNode("b")
}

// TestRebuildThenJobDeleted: a new process counts a job in its rebuild, and the job is deleted before its first pass.
func TestRebuildThenJobDeleted(t *testing.T) {
	s := newFakeCluster(t)
	s.submit("a", 1)
	s.pass("a")
	s.submit("b", 1)
	s.restart()
	s.pass("b")
	s.wantNode("a")
	if err := s.WithWatch.Delete(t.Context(), s.job("a")); err != nil {
		t.Fatal(err)
	}
	s.pass("a", "b")
	s.wantNode("a") // its Pod may run
	s.finish("a")
	s.pass("a", "b")
	s.wantNode("b")
	if departed := s.r.pool.Departed(); len(departed) > 0 {
		t.Errorf("deleted jobs are still remembered: %v", departed)
	}
}

// TestEnvRecreated: a ComputeEnv is deleted and created again while the jobs end that use it and wait for it.
func TestEnvRecreated(t *testing.T) {
	s := newFakeCluster(t)
	s.submit("a", 1)
	s.pass("a")
	s.submit("b", 1)
	s.pass("b")
	pool := &v1alpha1.ComputeEnv{}
	if err := errors.Join(s.WithWatch.Get(t.Context(), poolKey, pool), s.WithWatch.Delete(t.Context(), pool)); err != nil {
		t.Fatal(err)
	}
	s.r.pool.EnvDeleted(poolKey, pool.UID)
	s.finish("a")
	s.pass("a", "a")
	s.terminate("b")
	s.pass("b", "b")
	s.pool()
	s.submit("c", 1)
	s.pass("c", "b", "a", "c")
	s.wantNode("c")
}

// TestInDoubtClaimThenEnvDeleted: a ComputeEnv is deleted while a claim of its node is in doubt. Reconcile must not panic,
// and the job still has the claim when the ComputeEnv exists again.
func TestInDoubtClaimThenEnvDeleted(t *testing.T) {
	s := newFakeCluster(t)
	s.submit("a", 1)
	before := s.job("a")
	s.lost = "a"
	s.pass("a")
	s.lost, s.cached["a"] = "", before
	if err := s.WithWatch.Delete(t.Context(), &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pool"}}); err != nil {
		t.Fatal(err)
	}
	s.pass("a")
	s.pool()
	s.submit("b", 9)
	s.pass("b")
	delete(s.cached, "a")
	s.pass("a", "b")
	s.wantNode("a")
}

// TestNodeOfUnconfirmedPod: a node does not confirm the end of a Pod whose instance was terminated. The job ends anyway,
// and the node is free, even if the first removal of the finalizer fails.
func TestNodeOfUnconfirmedPod(t *testing.T) {
	for _, failing := range []int{0, 1} {
		t.Run(fmt.Sprint(failing, " failures"), func(t *testing.T) {
			s := newFakeCluster(t)
			s.submit("a", 1)
			s.pass("a")
			pod := s.pods("a")[0]
			pod.Spec.NodeName = "n"
			if err := s.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			testutil.Start(pod, s.clock.Now())
			if err := s.WithWatch.Status().Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			s.terminate("a")
			s.pass("a")
			s.clock.SetTime(s.clock.Now().Add(10 * time.Minute))
			s.failing = failing
			for range 4 {
				s.pass("a")
			}
			if s.job("a").Status.EndTime == nil {
				t.Errorf("the job has not ended: %+v", s.job("a").Status)
			}
			if stats := s.r.pool.Ledger.Stats(poolKey); stats.InUse != 0 {
				t.Errorf("the ledger has %+v", stats)
			}
		})
	}
}
