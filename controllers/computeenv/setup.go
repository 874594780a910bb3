// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package computeenv tells of ComputeEnvs: who uses them, and how much. Their nodes are
// shared out elsewhere, by the reconciler of the jobs that use them.
package computeenv

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/fairqueue"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// A ComputeEnv is read, its status is written, and its finalizer put on and taken off.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs,verbs=list;watch;patch
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs/status,verbs=patch
//
// The jobs that use one are looked for in the cache.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs,verbs=get;list;watch
//
// News about one are events; patch counts up one that repeats.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options are what the reconciler needs beside a manager.
type Options struct {
	// Ledger counts who has how many nodes. Required.
	Ledger *nodepool.Ledger
	// Metrics show the nodes. nil: nothing is shown.
	Metrics *metrics.Envs
	// Clock is the time. nil means the system's clock.
	Clock clock.PassiveClock
}

// Setup adds the reconciler to the manager.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	queueMetrics, err := metrics.NewQueueMetrics(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetEventRecorder("computeenv-controller"), o)
	return ctrl.NewControllerManagedBy(mgr).
		Named("computeenv").
		For(&v1alpha1.ComputeEnv{}).
		Watches(&v1alpha1.BatchJob{}, handler.EnqueueRequestsFromMapFunc(r.usedBy), builder.WithPredicates(beginsOrEnds())).
		WatchesRawSource(source.Func(r.watchLedger)).
		WithOptions(controller.Options{NewQueue: fairqueue.Factory(1, queueMetrics, clock.RealClock{})}).
		Complete(r)
}

// NewReconciler returns a reconciler that reads and writes through c, a cache with the
// indexes that Setup makes.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	return &Reconciler{client: c, recorder: recorder, options: o, written: map[types.NamespacedName]time.Time{}}
}

// usedBy returns the ComputeEnvs that a job uses, or used until it ended.
func (r *Reconciler) usedBy(ctx context.Context, o client.Object) []reconcile.Request {
	job, ok := o.(*v1alpha1.BatchJob)
	if !ok {
		return nil
	}
	var out []reconcile.Request
	for _, ref := range resolve.EnvIDs(job) {
		env, err := lookup.Env(ctx, r.client, job.Namespace, ref)
		if err != nil || env == nil {
			continue // its own event asks for a pass
		}
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(env)})
	}
	return out
}

// beginsOrEnds lets the events pass by which a job begins or ends to use its ComputeEnvs.
func beginsOrEnds() predicate.Predicate {
	ended := func(o client.Object) bool {
		job, ok := o.(*v1alpha1.BatchJob)
		return ok && plan.IsFinished(job)
	}
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool { return ended(e.ObjectOld) != ended(e.ObjectNew) },
	}
}

// watchLedger looks at a ComputeEnv when its nodes went to others, not at once: there may be
// many such changes in a short time.
func (r *Reconciler) watchLedger(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.options.Ledger.OnChange(func(env types.NamespacedName) {
		q.AddAfter(reconcile.Request{NamespacedName: env}, newsDelay)
	})
	return nil
}

// How long news for people are held back.
const (
	// newsDelay is how long to wait for further changes.
	newsDelay = 100 * time.Millisecond
	// newsInterval is the least time between two writes that bring only figures.
	newsInterval = time.Second
)
