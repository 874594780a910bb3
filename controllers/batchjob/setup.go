// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package batchjob reconciles BatchJobs: it observes a job and its Pods, has internal/plan decide, stores the
// decision in the status, and applies it.
//
// The steps of a pass, in order: reconciler.go, observe.go, status.go, apply.go. Each other file has one part of the
// Reconciler: jobreader.go (whole jobs from the API server), create.go and create_backoff.go (Pods of claimed instances,
// and why one is not created yet), pods.go (deletes and repairs Pods, removes finalizers), queue.go (which event enqueues
// which job), ownership.go (whose Pod is whose), largejobs.go, nodewatch.go, metrics.go, clienttoken.go, tombstones.go.
package batchjob

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/fairqueue"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/notify/delivery"
)

// Jobs are read, and only their status and a finalizer are written: the spec is the user's. delete is for jobs whose
// ttlSecondsAfterFinished has passed, and patch for the finalizer of jobs with notifications, which RBAC cannot
// restrict to the metadata.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs/status,verbs=patch
//
// Pods block the foreground deletion of their job. Where the admission plugin OwnerReferencesPermissionEnforcement
// is on, an owner reference that says so takes this permission.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs/finalizers,verbs=update
//
// ComputeEnvs say how many nodes jobs share.
// +kubebuilder:rbac:groups=batchcompute.dev,resources=computeenvs,verbs=list;watch
//
// Nodes are read for their zones, names and addresses: to find those that placement.hostIps names, and to report
// that a zone has none.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
//
// Instances are Pods. get finds a Pod whose creation got no answer, patch removes the tracking finalizer, and
// delete stops a Pod that is past its timeout.
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;create;patch;delete
//
// A ConfigMap of each namespace has the tombstones of jobs that were deleted after their TTL. RBAC cannot restrict
// create to a name; no other ConfigMap can be read or changed.
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=batchcompute-tombstones,verbs=get;update
//
// Events report changes of a job; patch increases the count of an Event that repeats.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Setup adds the reconciler to the manager, whose cache must be built with CacheOptions.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.MaxConcurrentReconciles == 0 {
		o.MaxConcurrentReconciles = 32
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	pods, err := indexPods(mgr.GetCache())
	if err != nil {
		return err
	}
	// The operator writes only the API's own types, so field validation finds nothing, and the API server would
	// decode each request twice for it.
	writer := client.WithFieldValidation(mgr.GetClient(), metav1.FieldValidationIgnore)
	r := NewReconciler(writer, pods, mgr.GetAPIReader(), mgr.GetEventRecorder("batchjob-controller"), o)
	if o.Nodes != nil {
		if err := r.nodes.start(mgr.GetCache()); err != nil {
			return err
		}
	}
	if d := r.notifier.dispatcher; d != nil {
		if err := mgr.Add(d); err != nil {
			return fmt.Errorf("adding the dispatcher of notifications: %w", err)
		}
	}
	queueMetrics, err := metrics.NewQueueMetrics(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("batchjob").
		WatchesRawSource(source.Func(r.queue.set)).
		Watches(&v1alpha1.BatchJob{}, r.queue.enqueue(requestForJob)).
		Watches(&corev1.Pod{}, r.queue.enqueue(requestForPod)).
		Watches(&v1alpha1.ComputeEnv{}, r.pool.Watch(r.queue.wake)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.MaxConcurrentReconciles,
			NewQueue:                fairqueue.Factory(o.MaxConcurrentReconciles, queueMetrics, clock.RealClock{}),
		}).
		Complete(r)
}

// NewReconciler returns a reconciler. It reads from c, whose cache has the indexes of package lookup, and Pods
// with pods. It reads what must not be stale from live, and writes to c.
func NewReconciler(c client.Client, pods podReader, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	states, key := &jobStates{byName: map[types.NamespacedName]*jobState{}}, &podKey{}
	m := &jobMetrics{Jobs: o.Metrics, clock: o.Clock}
	queue := &jobQueue{states: states, clock: o.Clock}
	r := &Reconciler{
		client: c, pods: pods, live: live, options: o,
		reader:  &jobReader{live: live, memory: membudget.NewGate(loadMemory)},
		status:  &statusWriter{client: c, recorder: recorder, states: states, metrics: m, clock: o.Clock},
		metrics: m, nodes: &nodeWatch{index: o.Nodes, queue: queue}, queue: queue,
		states: states, key: key, tokens: tokens{holders: map[tokenKey]types.UID{}}, schedulers: schedulers{start: o.Clock.Now()},
		large:      &largeJobs{started: membudget.NewShares(cmp.Or(o.LargeJobMemory, DefaultLargeJobMemory)), states: states, clock: o.Clock},
		tombstones: tombstones{client: c, live: live, clock: o.Clock, metrics: o.Metrics},
	}
	r.pool = nodepool.New(nodepool.Config{
		Ledger: o.Ledger, Cache: c, Live: live, Clock: o.Clock,
		ReadJob: func(ctx context.Context, job *v1alpha1.BatchJob) (*v1alpha1.BatchJob, error) {
			return r.reader.whole(ctx, job, unlimited())
		},
		JobOf:  func(pod *corev1.Pod) types.NamespacedName { return requestForPod(pod) },
		IsOurs: func(pod *corev1.Pod) bool { return key.Load() == nil || key.isSigned(pod) },
	})
	r.podClient = &podClient{client: c, live: live, limits: flow.NewCalls(flow.DefaultLimits, o.Clock), metrics: m, key: key, holdsNode: r.pool.HoldsNode}
	r.notifier = &notifier{client: c, metrics: m}
	if o.Topics != nil {
		r.notifier.dispatcher = delivery.New(delivery.Config{
			Topics: o.Topics, Read: r.readForDelivery, Observer: o.NotificationMetrics, Clock: o.Clock,
			Wake: func(job types.NamespacedName) { queue.wake(job, states.priority(job)) },
		})
		o.NotificationMetrics.Follow(r.notifier.dispatcher.Queue)
	}
	r.creator = &podCreator{pods: r.podClient, nodes: r.nodes, options: &r.options, confirm: r.observeLive}
	r.pool.Ledger.OnGrant(func(j nodepool.Job) { queue.wake(j.Name, j.Priority) })
	r.large.started.OnWake(func(j membudget.Job) { queue.wake(j.Name, j.Priority) })
	return r
}
