// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// quiet discards the logs of libraries about broken connections.
var quiet = log.New(io.Discard, "", 0)

// faultEnv is a namespace in which managers run under faults. A player simulates the Pods, and a witness counts them. The
// clock is the system's.
type faultEnv struct {
	*testEnv
	player  *controlplane.Player
	witness *controlplane.Witness
	// topics are those of the managers; nil: they send no events.
	topics *topic.Topics
}

func newFaultEnv(t testing.TB, p *controlplane.ControlPlane, seed uint64) *faultEnv {
	t.Helper()
	e := &testEnv{ControlPlane: p, t: t, ns: p.Namespace(t), clock: testingclock.NewFakePassiveClock(time.Now())}
	random := rand.New(rand.NewPCG(seed, 1))
	return &faultEnv{testEnv: e, witness: p.Watch(t, e.ns), player: &controlplane.Player{
		ControlPlane: p, Namespace: e.ns, Course: e.course, Lazy: func() bool { return random.IntN(3) > 0 },
	}}
}

// course returns what the script says of a Pod, for a Player.
func (e *testEnv) course(pod *corev1.Pod) controlplane.Course {
	if e.script == nil {
		return controlplane.Course{}
	}
	index, _ := strconv.Atoi(pod.Labels[v1alpha1.LabelTaskInstanceIndex])
	attempt, _ := strconv.Atoi(pod.Labels[v1alpha1.LabelAttempt])
	return controlplane.Course{Code: e.script(pod.Labels[v1alpha1.LabelTaskName], index, attempt)}
}

// create creates a job, and does not wait for the cache.
func (d *faultEnv) create(b *testutil.JobBuilder) {
	d.t.Helper()
	if err := d.Create(context.Background(), b.New(d.ns)); err != nil {
		d.t.Fatal(err)
	}
}

// running is a running manager of one namespace.
type running struct {
	cancel context.CancelFunc
	mgr    ctrl.Manager
	mu     sync.Mutex
	err    error
	ended  chan struct{}
}

// manager starts a manager that reaches the API server with cfg. It stops at the end of the test, if not earlier.
func (d *faultEnv) manager(cfg *rest.Config, change func(*ctrl.Options)) *running {
	d.t.Helper()
	o := ctrl.Options{
		Scheme:     d.Scheme,
		Logger:     logr.Discard(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Cache:      cacheOf(d.ns),
		Controller: config.Controller{SkipNameValidation: new(true)},
	}
	if change != nil {
		change(&o)
	}
	mgr, err := ctrl.NewManager(cfg, o)
	options := Options{Catalog: catalog.Default, Validate: validate}
	if d.topics != nil {
		options.Topics = d.topics
		if options.NotificationMetrics, err = metrics.NewNotifications(prometheus.NewRegistry()); err != nil {
			d.t.Fatal(err)
		}
	}
	if err == nil {
		err = errors.Join(lookup.AddIndexes(d.t.Context(), mgr.GetFieldIndexer()), Setup(mgr, options))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, mgr: mgr, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		err := mgr.Start(ctx)
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}()
	d.t.Cleanup(func() {
		cancel()
		<-r.ended
	})
	return r
}

// hasEnded reports whether the manager has stopped.
func (r *running) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// within waits until ok returns true, and has the player move the Pods on while it waits. It ignores errors of the API
// server, which may be down.
func (d *faultEnv) within(limit time.Duration, what string, ok func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last error
	for !ok() {
		if err := d.player.Round(ctx); err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			d.t.Fatalf("timed out after %s: %s (last error of the player: %v)\n%s", limit, what, last, d.describe())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// have reports whether ok is true for every job of the namespace; false if the API server does not answer.
func (d *faultEnv) have(ok func(*v1alpha1.BatchJob) bool) bool {
	var jobs v1alpha1.BatchJobList
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := d.List(ctx, &jobs, client.InNamespace(d.ns)); err != nil || len(jobs.Items) == 0 {
		return false
	}
	return !slices.ContainsFunc(jobs.Items, func(job v1alpha1.BatchJob) bool { return !ok(&job) })
}

// allEnded reports whether every job has ended and no Pod has the finalizer.
func (d *faultEnv) allEnded() bool {
	if !d.have(func(job *v1alpha1.BatchJob) bool { return job.Status.EndTime != nil }) {
		return false
	}
	var pods corev1.PodList
	err := d.List(context.Background(), &pods, client.InNamespace(d.ns))
	return err == nil && !slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.Labels[v1alpha1.LabelTracked] != "" || slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
	})
}

// describe returns the state of every job, for the log of a failed test.
func (d *faultEnv) describe() (text string) {
	var jobs v1alpha1.BatchJobList
	if err := d.List(context.Background(), &jobs, client.InNamespace(d.ns)); err != nil {
		return err.Error()
	}
	for i := range jobs.Items {
		for _, line := range brief(&jobs.Items[i]) {
			text += jobs.Items[i].Name + ": " + line + "\n"
		}
	}
	return text
}

// wantNoOverlap checks that no instance had two live Pods and no name was given twice, when all Pods have ended.
func (d *faultEnv) wantNoOverlap() {
	d.t.Helper()
	d.within(time.Minute, "the witness has seen the end of every Pod", func() bool {
		f := d.witness.Figures()
		return f.Pods >= len(d.Pods(d.t, d.ns)) && f.Live == 0 || f.Err != nil
	})
	f := d.witness.Figures()
	d.t.Logf("%d Pods, %d changes of them seen, overlaps: %d, names given twice: %d", f.Pods, f.Events, len(f.Overlaps), len(f.Remade))
	if err := errors.Join(f.Err); err != nil {
		d.t.Error(err)
	}
	if len(f.Overlaps) > 0 || len(f.Remade) > 0 {
		d.t.Errorf("two live Pods of one instance: %q; names of more than one Pod: %q", f.Overlaps, f.Remade)
	}
}

// TestFaultsWitness: the witness sees two live Pods of one instance, however short the overlap, and a name that is given
// twice.
func TestFaultsWitness(t *testing.T) {
	t.Parallel()
	p := controlplane.Get(t)
	ns := p.Namespace(t)
	w := p.Watch(t, ns)
	create := func(name string) *corev1.Pod {
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name = ns, name
		pod.Labels = map[string]string{v1alpha1.LabelJobID: "job", v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "0"}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "image"}}
		if err := p.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		return pod
	}
	for _, pod := range []*corev1.Pod{create("one"), create("two"), create("three")} {
		if err := p.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
	create("one")
	e := &testEnv{ControlPlane: p, t: t}
	e.eventually("the witness has seen all Pods", func() bool { f := w.Figures(); return f.Err != nil || f.Pods == 4 && f.Live == 1 })
	if f := w.Figures(); len(f.Overlaps) != 2 || len(f.Remade) != 1 || f.Err != nil {
		t.Errorf("it saw %+v", f)
	}
}
