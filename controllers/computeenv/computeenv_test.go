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

// harness has a namespace with a ComputeEnv named pool, and a reconciler whose cache is up to date in every
// pass. It records the Events, and counts the writes.
type harness struct {
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

func (h *harness) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	h.events = append(h.events, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

func newHarness(t *testing.T, size int64) *harness {
	t.Helper()
	p := controlplane.Get(t)
	h := &harness{ControlPlane: p, t: t, key: types.NamespacedName{Namespace: p.Namespace(t), Name: "pool"},
		clock: testingclock.NewFakePassiveClock(time.Now()), ledger: nodepool.NewLedger(), reg: prometheus.NewPedanticRegistry()}
	figures, err := metrics.NewEnvs(h.reg)
	if err != nil {
		t.Fatal(err)
	}
	h.cache, err = cache.New(p.Config, cache.Options{Scheme: p.Scheme, Mapper: p.RESTMapper(), DefaultNamespaces: map[string]cache.Config{h.key.Namespace: {}}})
	if err := errors.Join(err, lookup.AddIndexes(t.Context(), h.cache)); err != nil {
		t.Fatal(err)
	}
	for _, obj := range []client.Object{&v1alpha1.BatchJob{}, &v1alpha1.ComputeEnv{}} {
		if _, err := h.cache.GetInformer(t.Context(), obj, cache.BlockUntilSynced(false)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if err := h.cache.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if !h.cache.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache does not sync")
	}
	count := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.writes++
	}
	h.r = NewReconciler(interceptor.NewClient(p.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			return h.cache.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			return h.cache.List(ctx, list, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			count()
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			count()
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}), h, Options{Ledger: h.ledger, Metrics: figures, Clock: h.clock})
	env := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: h.key.Namespace, Name: h.key.Name}}
	env.Spec.EnvName, env.Spec.DesiredComputeNodeCount = "pool", &size
	if err := p.Create(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	h.resize(size)
	return h
}

// resize sets the number of nodes as a user does, and tells the ledger as the reconciler of jobs does.
func (h *harness) resize(size int64) {
	h.t.Helper()
	env := h.env()
	env.Spec.DesiredComputeNodeCount = &size
	if err := h.Update(h.t.Context(), env); err != nil {
		h.t.Fatal(err)
	}
	h.ledger.Resize(h.key, nodepool.Size{UID: env.UID, Generation: env.Generation, Nodes: int(size)})
}

func (h *harness) env() *v1alpha1.ComputeEnv {
	h.t.Helper()
	env := &v1alpha1.ComputeEnv{}
	if err := h.Get(h.t.Context(), h.key, env); err != nil {
		h.t.Fatal(err)
	}
	return env
}

// pass moves the clock by two seconds and calls Reconcile.
func (h *harness) pass() ctrl.Result {
	h.t.Helper()
	h.clock.SetTime(h.clock.Now().Add(2 * time.Second))
	return h.passNow()
}

// passNow calls Reconcile without moving the clock.
func (h *harness) passNow() ctrl.Result {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); h.versions(h.cache) != h.versions(h.ControlPlane); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("timed out: the cache does not have what the API server has")
		}
	}
	res, err := h.r.Reconcile(h.t.Context(), ctrl.Request{NamespacedName: h.key})
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

func (h *harness) versions(from client.Reader) string {
	h.t.Helper()
	var jobs v1alpha1.BatchJobList
	var envs v1alpha1.ComputeEnvList
	if err := errors.Join(from.List(h.t.Context(), &jobs, client.InNamespace(h.key.Namespace)), from.List(h.t.Context(), &envs, client.InNamespace(h.key.Namespace))); err != nil {
		h.t.Fatal(err)
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

// submit creates a job that uses the ComputeEnv of this name or identifier.
func (h *harness) submit(name, ref string) *v1alpha1.BatchJob {
	h.t.Helper()
	job := testutil.Job(name).Task("a", testutil.EnvID(ref)).New(h.key.Namespace)
	if err := h.Create(h.t.Context(), job); err != nil {
		h.t.Fatal(err)
	}
	return job
}

// finishJob sets the status of a job to SUCCEED.
func (h *harness) finishJob(job *v1alpha1.BatchJob) {
	h.t.Helper()
	job.Status.State, job.Status.EndTime = v1alpha1.JobSucceed, new(metav1.Now())
	if err := h.Status().Update(h.t.Context(), job); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) want(desired, inUse, waiting int64, reason string, events ...string) {
	h.t.Helper()
	s := h.env().Status
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	if s.DesiredComputeNodeCount != desired || s.InUseCount != inUse || s.WaitingJobCount != waiting || ready == nil || ready.Reason != reason {
		h.t.Errorf("status is %+v, want %d nodes, %d in use, %d waiting, %s", s, desired, inUse, waiting, reason)
	}
	if !slices.Equal(h.events, events) {
		h.t.Errorf("events are %q, want %q", h.events, events)
	}
	h.events = nil
}

// wantMetrics checks the gauges: free nodes, nodes in use, instances beyond the size, and waiting jobs.
func (h *harness) wantMetrics(free, inUse, excess, waiting float64) {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
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
		h.t.Errorf("metrics are %v, want %v", got, want)
	}
}

// nodeUser is a job that the ledger knows.
var nodeUser = nodepool.Job{Name: types.NamespacedName{Name: "some"}, QueuePosition: plan.QueuePosition{UID: "some"}}

// TestStatus: the status has the identifier and the counts, also after the ComputeEnv was scaled. Changed counts
// alone are written at most once a second.
func TestStatus(t *testing.T) {
	h := newHarness(t, 3)
	h.pass()
	h.want(3, 0, 0, "Ready", "Normal Ready: instances can run")
	h.wantMetrics(3, 0, 0, 0)
	h.ledger.Settle(h.key, nodeUser, 1, 0)
	h.pass()
	h.wantMetrics(2, 1, 0, 0)
	if got, want := h.env().Status.EnvID, naming.EnvID(h.env().UID); got != want {
		t.Errorf("envId is %q, want %q", got, want)
	}
	h.ledger.Settle(h.key, nodeUser, 3, 2)
	if res := h.passNow(); res.RequeueAfter <= 0 || res.RequeueAfter > informationalInterval {
		t.Errorf("RequeueAfter is %s when only counts have changed", res.RequeueAfter)
	}
	h.want(3, 1, 0, "Ready")
	h.pass()
	h.want(3, 3, 1, "Ready")
	h.wantMetrics(0, 3, 0, 1)
	h.resize(2)
	h.pass()
	h.want(2, 3, 1, "ScalingDown", "Normal Scaled: desiredComputeNodeCount is 2, was 3; 3 in use",
		"Normal ScalingDown: scaling down: new instances are blocked until usage drops below the new size")
	h.wantMetrics(0, 2, 1, 1)
	h.ledger.Settle(h.key, nodeUser, 2, 0)
	h.pass()
	h.want(2, 2, 0, "Ready", "Normal Ready: instances can run")
	h.wantMetrics(0, 2, 0, 0)
	writes := h.writes
	for range 3 {
		h.pass()
	}
	if h.writes != writes {
		t.Errorf("%d writes though nothing has changed", h.writes-writes)
	}
}

// TestDeletion: a ComputeEnv has the finalizer while jobs use it, by its name or by its identifier, and not
// otherwise.
func TestDeletion(t *testing.T) {
	h := newHarness(t, 1)
	h.pass()
	if f := h.env().Finalizers; len(f) > 0 {
		t.Errorf("an unused ComputeEnv has the finalizers %q", f)
	}
	byName, byID := h.submit("by-name", "pool"), h.submit("by-id", naming.EnvID(h.env().UID))
	h.pass()
	if f := h.env().Finalizers; !slices.Equal(f, []string{v1alpha1.FinalizerInUse}) {
		t.Errorf("a ComputeEnv in use has the finalizers %q", f)
	}
	if err := h.Delete(t.Context(), h.env()); err != nil {
		t.Fatal(err)
	}
	h.events = nil
	h.pass()
	h.want(1, 0, 0, "ResourceInUse", "Warning ResourceInUse: the deletion waits for BatchJobs that have not ended: by-id, by-name")
	if got := h.env().Status.NextAction; got != "DELETING" {
		t.Errorf("nextAction is %q", got)
	}
	h.finishJob(byName)
	h.pass()
	h.env() // still exists
	h.finishJob(byID)
	h.pass()
	if err := h.Get(t.Context(), h.key, &v1alpha1.ComputeEnv{}); !apierrors.IsNotFound(err) {
		t.Errorf("error %v after the last job has ended, want NotFound", err)
	}
	h.pass() // the metrics are removed
	h.wantMetrics(0, 0, 0, 0)
}
