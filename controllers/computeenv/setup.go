// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package computeenv reconciles ComputeEnvs: it shows in the status how many nodes are in use and how many jobs
// wait, and keeps a ComputeEnv from being deleted while jobs use it or events of its notifications are to be sent. Package nodepool gives the nodes to jobs.
package computeenv

import (
	"context"
	"fmt"
	"sync"
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
	"batchcompute.dev/operator/internal/notify/delivery"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// ComputeEnvs are read, their status is written, and their finalizers are added and removed.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs,verbs=list;watch;patch
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs/status,verbs=patch
//
// The jobs that use a ComputeEnv are looked up in the cache.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs,verbs=get;list;watch
//
// Events report changes; patch increases the count of an Event that repeats.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options configures the reconciler.
type Options struct {
	// Ledger counts the nodes that jobs use. Required.
	Ledger *nodepool.Ledger
	// Topics finds the receivers of notifications. nil: no events are sent.
	Topics delivery.Topics
	// NotificationMetrics count the events that are sent. Required with Topics.
	NotificationMetrics *metrics.Notifications
	// Metrics export the counts of nodes. nil: none are exported.
	Metrics *metrics.Envs
	// Clock is the clock. nil means the system's clock.
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
	if d := r.notifier.dispatcher; d != nil {
		if err := mgr.Add(d); err != nil {
			return fmt.Errorf("adding the dispatcher of notifications: %w", err)
		}
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("computeenv").
		For(&v1alpha1.ComputeEnv{}).
		Watches(&v1alpha1.BatchJob{}, handler.EnqueueRequestsFromMapFunc(r.usedBy), builder.WithPredicates(startsOrStopsUse())).
		WatchesRawSource(source.Func(r.watchLedger)).
		WithOptions(controller.Options{NewQueue: fairqueue.Factory(1, queueMetrics, clock.RealClock{})}).
		Complete(r)
}

// NewReconciler returns a reconciler that reads and writes through c, whose cache has the indexes of package
// lookup.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{client: c, recorder: recorder, options: o, notifier: &notifier{recorder: recorder}, written: map[types.NamespacedName]write{}}
	if o.Topics != nil {
		r.notifier.dispatcher = delivery.New(delivery.Config{
			Topics: o.Topics, Read: r.readForDelivery, Wake: r.queue.wake, Observer: o.NotificationMetrics, Clock: o.Clock,
		})
		o.NotificationMetrics.Follow(r.notifier.dispatcher.Queue)
	}
	return r
}

// queue is that of the controller, once it has started.
type queue struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// wake has the controller look at a ComputeEnv. Before the start it does nothing: then all are looked at.
func (q *queue) wake(env types.NamespacedName) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue != nil {
		q.queue.Add(reconcile.Request{NamespacedName: env})
	}
}

func (q *queue) set(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = queue
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
			continue // the event of its creation enqueues it
		}
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(env)})
	}
	return out
}

// startsOrStopsUse selects the events of jobs that start or stop to use their ComputeEnvs.
func startsOrStopsUse() predicate.Predicate {
	ended := func(o client.Object) bool {
		job, ok := o.(*v1alpha1.BatchJob)
		return ok && plan.IsFinished(job)
	}
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool { return ended(e.ObjectOld) != ended(e.ObjectNew) },
	}
}

// watchLedger keeps the queue for wake, and enqueues a ComputeEnv when the ledger's counts for it change. It debounces the changes, since many
// may come in a short time.
func (r *Reconciler) watchLedger(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.queue.set(q)
	r.options.Ledger.OnChange(func(env types.NamespacedName) {
		q.AddAfter(reconcile.Request{NamespacedName: env}, ledgerDelay)
	})
	return nil
}

// Delays of status updates that only inform people.
const (
	// ledgerDelay debounces changes of the ledger.
	ledgerDelay = 100 * time.Millisecond
	// informationalInterval is the minimum time between two writes of changed counts.
	informationalInterval = time.Second
)
