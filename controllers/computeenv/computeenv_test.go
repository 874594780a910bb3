// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package computeenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(controlplane.Main(m))
}

// bench is a namespace with a ComputeEnv named pool, and a reconciler whose cache is up to
// date in every pass.
type bench struct {
	*controlplane.ControlPlane
	t      *testing.T
	key    types.NamespacedName
	cache  cache.Cache
	clock  *testingclock.FakePassiveClock
	ledger *nodepool.Ledger
	reg    *prometheus.Registry // of the reconciler's metrics
	r      *Reconciler
	events []string
	writes int
	mu     sync.Mutex
}

func (b *bench) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	b.events = append(b.events, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

func newBench(t *testing.T, size int64) *bench {
	t.Helper()
	p := controlplane.Get(t)
	b := &bench{ControlPlane: p, t: t, key: types.NamespacedName{Namespace: p.Namespace(t), Name: "pool"},
		clock: testingclock.NewFakePassiveClock(time.Now()), ledger: nodepool.NewLedger(), reg: prometheus.NewPedanticRegistry()}
	figures, err := metrics.NewEnvs(b.reg)
	if err != nil {
		t.Fatal(err)
	}
	b.cache, err = cache.New(p.Config, cache.Options{Scheme: p.Scheme, Mapper: p.RESTMapper(), DefaultNamespaces: map[string]cache.Config{b.key.Namespace: {}}})
	if err := errors.Join(err, lookup.AddIndexes(t.Context(), b.cache)); err != nil {
		t.Fatal(err)
	}
	for _, obj := range []client.Object{&v1alpha1.BatchJob{}, &v1alpha1.ComputeEnv{}} {
		if _, err := b.cache.GetInformer(t.Context(), obj, cache.BlockUntilSynced(false)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if err := b.cache.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if !b.cache.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache does not sync")
	}
	count := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.writes++
	}
	b.r = NewReconciler(interceptor.NewClient(p.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return b.cache.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return b.cache.List(ctx, list, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			count()
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			count()
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}), b, Options{Ledger: b.ledger, Metrics: figures, Clock: b.clock})
	env := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: b.key.Namespace, Name: b.key.Name}}
	env.Spec.EnvName, env.Spec.DesiredComputeNodeCount = "pool", &size
	if err := p.Create(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	b.resize(size)
	return b
}

// resize sets the number of nodes, as a user and as the reconciler of jobs does then.
func (b *bench) resize(size int64) {
	b.t.Helper()
	env := b.env()
	env.Spec.DesiredComputeNodeCount = &size
	if err := b.Update(b.t.Context(), env); err != nil {
		b.t.Fatal(err)
	}
	b.ledger.Resize(b.key, nodepool.Size{UID: env.UID, Generation: env.Generation, Nodes: int(size)})
}

func (b *bench) env() *v1alpha1.ComputeEnv {
	b.t.Helper()
	env := &v1alpha1.ComputeEnv{}
	if err := b.Get(b.t.Context(), b.key, env); err != nil {
		b.t.Fatal(err)
	}
	return env
}

// pass is a call of Reconcile, two seconds after the last.
func (b *bench) pass() ctrl.Result {
	b.t.Helper()
	b.clock.SetTime(b.clock.Now().Add(2 * time.Second))
	return b.again()
}

// again is a call of Reconcile at the same time.
func (b *bench) again() ctrl.Result {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); b.versions(b.cache) != b.versions(b.ControlPlane); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal("the cache does not catch up")
		}
	}
	res, err := b.r.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: b.key})
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bench) versions(from client.Reader) string {
	b.t.Helper()
	var jobs v1alpha1.BatchJobList
	var envs v1alpha1.ComputeEnvList
	if err := errors.Join(from.List(b.t.Context(), &jobs, client.InNamespace(b.key.Namespace)), from.List(b.t.Context(), &envs, client.InNamespace(b.key.Namespace))); err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for i := range jobs.Items {
		out = append(out, jobs.Items[i].Name+jobs.Items[i].ResourceVersion)
	}
	for i := range envs.Items {
		out = append(out, envs.Items[i].Name+envs.Items[i].ResourceVersion)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// submit creates a job that names the pool.
func (b *bench) submit(name, ref string) *v1alpha1.BatchJob {
	b.t.Helper()
	job := testutil.Job(name).Task("a", testutil.EnvID(ref)).New(b.key.Namespace)
	if err := b.Create(b.t.Context(), job); err != nil {
		b.t.Fatal(err)
	}
	return job
}

// end ends a job.
func (b *bench) end(job *v1alpha1.BatchJob) {
	b.t.Helper()
	job.Status.State, job.Status.EndTime = v1alpha1.JobSucceed, new(metav1.Now())
	if err := b.Status().Update(b.t.Context(), job); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) want(desired, inUse, waiting int64, reason string, events ...string) {
	b.t.Helper()
	s := b.env().Status
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	if s.DesiredComputeNodeCount != desired || s.InUseCount != inUse || s.WaitingJobCount != waiting || ready == nil || ready.Reason != reason {
		b.t.Errorf("status is %+v, want %d nodes, %d in use, %d waiting, %s", s, desired, inUse, waiting, reason)
	}
	if !slices.Equal(b.events, events) {
		b.t.Errorf("events are %q, want %q", b.events, events)
	}
	b.events = nil
}

// wantMetrics checks the gauges: nodes that are free and in use, instances beyond them, and
// jobs that wait.
func (b *bench) wantMetrics(free, inUse, excess, waiting float64) {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name = l.GetValue()
			}
			got[name] = m.Gauge.GetValue()
		}
	}
	want := map[string]float64{"free": free, "in_use": inUse, "excess": excess, "batchjob_compute_env_waiting_jobs": waiting}
	if !maps.Equal(got, want) {
		b.t.Errorf("metrics are %v, want %v", got, want)
	}
}

var some = nodepool.Job{Name: types.NamespacedName{Name: "some"}, QueuePosition: plan.QueuePosition{UID: "some"}}

// TestStatus: identifier, figures, and what becomes of them while the environment is made
// larger and smaller. Figures alone are written once a second at most.
func TestStatus(t *testing.T) {
	b := newBench(t, 3)
	b.pass()
	b.want(3, 0, 0, "Ready", "Normal Ready: instances may run")
	b.wantMetrics(3, 0, 0, 0)
	b.ledger.Settle(b.key, some, 1, 0)
	b.pass()
	b.wantMetrics(2, 1, 0, 0)
	if got, want := b.env().Status.EnvID, naming.EnvID(b.env().UID); got != want {
		t.Errorf("envId is %q, want %q", got, want)
	}
	b.ledger.Settle(b.key, some, 3, 2)
	if res := b.again(); res.RequeueAfter <= 0 || res.RequeueAfter > newsInterval {
		t.Errorf("figures a moment after others are looked at again after %s", res.RequeueAfter)
	}
	b.want(3, 1, 0, "Ready")
	b.pass()
	b.want(3, 3, 1, "Ready")
	b.wantMetrics(0, 3, 0, 1)
	b.resize(2)
	b.pass()
	b.want(2, 3, 1, "ScalingDown", "Normal Scaled: desiredComputeNodeCount is 2, was 3; 3 in use",
		"Normal ScalingDown: more instances are under way than there are nodes; none is begun before there are less")
	b.wantMetrics(0, 2, 1, 1)
	b.ledger.Settle(b.key, some, 2, 0)
	b.pass()
	b.want(2, 2, 0, "Ready", "Normal Ready: instances may run")
	b.wantMetrics(0, 2, 0, 0)
	writes := b.writes
	for range 3 {
		b.pass()
	}
	if b.writes != writes {
		t.Errorf("without news it wrote %d times", b.writes-writes)
	}
}

// TestDeletion: an environment in use is held, by its name or its identifier, and one that
// nobody uses is not.
func TestDeletion(t *testing.T) {
	b := newBench(t, 1)
	b.pass()
	if f := b.env().Finalizers; len(f) > 0 {
		t.Errorf("nobody uses it, and it has the finalizers %q", f)
	}
	byName, byID := b.submit("by-name", "pool"), b.submit("by-id", naming.EnvID(b.env().UID))
	b.pass()
	if f := b.env().Finalizers; !slices.Equal(f, []string{v1alpha1.FinalizerInUse}) {
		t.Errorf("in use it has the finalizers %q", f)
	}
	if err := b.Delete(t.Context(), b.env()); err != nil {
		t.Fatal(err)
	}
	b.events = nil
	b.pass()
	b.want(1, 0, 0, "ResourceInUse", "Warning ResourceInUse: the deletion waits for BatchJobs that have not ended: by-id, by-name")
	if got := b.env().Status.NextAction; got != "DELETING" {
		t.Errorf("nextAction is %q", got)
	}
	b.end(byName)
	b.pass()
	b.env() // is still there
	b.end(byID)
	b.pass()
	if err := b.Get(t.Context(), b.key, &v1alpha1.ComputeEnv{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last job has ended: %v, want that it is gone", err)
	}
	b.pass() // and nothing is left of it
	b.wantMetrics(0, 0, 0, 0)
}
