// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package computeenv

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// Reconciler keeps the status of ComputeEnvs, and the finalizer of those that are in use.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	options  Options
	notifier *notifier
	queue    queue

	mu      sync.Mutex
	written map[types.NamespacedName]write
}

// write is the last write of a status.
type write struct {
	at time.Time
	// version is the resource version that it made, if the status has notifications.
	version string
}

// observation is what one pass has read.
type observation struct {
	env *v1alpha1.ComputeEnv
	// users are the names of the unfinished jobs that use the ComputeEnv, sorted.
	users []string
	stats nodepool.Stats
	// delivery is what became of the events; nil if none are sent.
	delivery *plan.Delivery
	// stored is the status that the API server has, and version its resource version. A pass that writes changes both.
	stored  *v1alpha1.ComputeEnvStatus
	version string
}

// used reports whether jobs use the ComputeEnv.
func (o *observation) used() bool { return len(o.users) > 0 || o.stats.InUse > 0 }

// Reconcile does one pass over one ComputeEnv. It computes the whole status again each time, so a pass that
// fails or is repeated does no harm.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	ctx = fairrate.WithTenant(ctx, req.Namespace)
	obs, err := r.observe(ctx, req.NamespacedName)
	if obs == nil || err != nil {
		return ctrl.Result{}, err
	}
	if r.isStale(obs) {
		return ctrl.Result{RequeueAfter: informationalInterval}, nil
	}
	next, warnings := computeStatus(obs, r.options.Clock.Now())
	if logger := log.FromContext(ctx).V(2); logger.Enabled() {
		logger.Info("Planned", "envId", next.EnvID, "desired", next.DesiredComputeNodeCount, "inUse", next.InUseCount, "waitingJobs", next.WaitingJobCount, "users", len(obs.users))
	}
	wait, err := r.apply(ctx, obs, next, warnings)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: informationalInterval}, nil // the cache is behind
	}
	return ctrl.Result{RequeueAfter: wait}, client.IgnoreNotFound(err)
}

// apply stores what a pass has decided. The order makes each step safe to crash after: the finalizer for events is added
// before the first of them is stored, and removed after the last was sent. It returns when the next pass is due; 0 means
// never.
func (r *Reconciler) apply(ctx context.Context, obs *observation, next *v1alpha1.ComputeEnvStatus, warnings []plan.Event) (time.Duration, error) {
	if err := r.ensureFinalizers(ctx, obs); err != nil {
		return 0, err
	}
	wait, err := r.writeStatus(ctx, obs, next, warnings)
	if err != nil {
		return 0, err
	}
	left, err := r.finish(ctx, obs)
	if wait == 0 || left > 0 && left < wait {
		wait = left
	}
	return wait, err
}

// isStale reports whether the cached ComputeEnv is older than the last status with notifications that was written.
// What became of the events since then would be lost.
func (r *Reconciler) isStale(obs *observation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return lookup.IsOlder(obs.version, r.written[client.ObjectKeyFromObject(obs.env)].version)
}

// observe reads the ComputeEnv and the jobs that use it from the cache. It returns nil if the ComputeEnv does
// not exist.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName) (*observation, error) {
	env := &v1alpha1.ComputeEnv{}
	if err := r.client.Get(ctx, key, env); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(key)
			return nil, nil
		}
		return nil, fmt.Errorf("reading the ComputeEnv: %w", err)
	}
	obs := &observation{env: env, stats: r.options.Ledger.Stats(key), delivery: r.notifier.delivery(env), stored: &env.Status, version: env.ResourceVersion}
	jobs, err := lookup.UnfinishedJobs(ctx, r.client, env)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		obs.users = append(obs.users, jobs[i].Name)
	}
	size := resolve.ComputeNodeCount(env)
	r.options.Metrics.Observe(key, metrics.EnvSnapshot{
		Free: max(size-obs.stats.InUse, 0), InUse: min(size, obs.stats.InUse), Excess: max(obs.stats.InUse-size, 0), Waiting: obs.stats.Waiting,
	})
	return obs, nil
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.options.Metrics.Forget(key)
	r.notifier.forget(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.written, key)
}

// nextActionDeleting is the nextAction of a ComputeEnv that is being deleted.
// Source: BatchCompute, DescribeComputeEnv, NextAction.
const nextActionDeleting = "DELETING"

// computeStatus returns the whole next status, and the Events that say which events of notifications are not sent.
func computeStatus(obs *observation, now time.Time) (*v1alpha1.ComputeEnvStatus, []plan.Event) {
	env := obs.env
	next, size := env.Status.DeepCopy(), resolve.ComputeNodeCount(env)
	next.ObservedGeneration = env.Generation
	next.EnvID = naming.EnvID(env.UID)
	next.DesiredComputeNodeCount = int64(size)
	next.InUseCount, next.WaitingJobCount = int64(obs.stats.InUse), int64(obs.stats.Waiting)
	next.NextAction = ""
	warnings := plan.NoteEnvEvents(env, next, obs.delivery, obs.used(), now)
	set := conditions.OfComputeEnv(next, env.Generation, now)
	const reconciling = v1alpha1.ConditionReconciling
	switch excess := obs.stats.InUse - size; {
	case env.DeletionTimestamp != nil && !obs.used() && plan.EnvOwesEvents(next):
		next.NextAction = nextActionDeleting
		waits := fmt.Sprintf("the deletion waits for at most %s until the receivers of notifications have acknowledged the events", plan.DeletionWait)
		set.False(v1alpha1.ConditionReady, v1alpha1.ReasonEventsPending, waits)
		set.True(reconciling, v1alpha1.ReasonEventsPending, waits)
	case env.DeletionTimestamp != nil:
		next.NextAction = nextActionDeleting
		set.False(v1alpha1.ConditionReady, v1alpha1.ReasonResourceInUse, inUse(obs.users))
		set.True(reconciling, v1alpha1.ReasonResourceInUse, "the deletion waits until the jobs that use the ComputeEnv have ended")
	case excess > 0:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonScaling, "scaling down: new instances are blocked until usage drops below the new size")
		set.True(reconciling, v1alpha1.ReasonScaling, "scaling down: waiting for running instances to end")
	default:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "instances can run")
		set.Remove(reconciling)
	}
	return next, warnings
}

// maxListed is how many jobs a condition names at most.
const maxListed = 5

// inUse returns the message that names the jobs which a deletion waits for.
func inUse(users []string) string {
	if len(users) == 0 {
		return "no job uses the ComputeEnv anymore"
	}
	list := strings.Join(users[:min(len(users), maxListed)], ", ")
	if more := len(users) - maxListed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "the deletion waits for BatchJobs that have not ended: " + list
}

// writeStatus stores the status and emits its Events. Changed counts alone are an informational status
// update: it is written once per informationalInterval, and writeStatus returns how long to wait for that.
func (r *Reconciler) writeStatus(ctx context.Context, obs *observation, next *v1alpha1.ComputeEnvStatus, warnings []plan.Event) (time.Duration, error) {
	old := &obs.env.Status
	if apiequality.Semantic.DeepEqual(old, next) {
		return 0, nil
	}
	key, now := client.ObjectKeyFromObject(obs.env), r.options.Clock.Now()
	countsOnly := old.DeepCopy()
	countsOnly.InUseCount, countsOnly.WaitingJobCount = next.InUseCount, next.WaitingJobCount
	r.mu.Lock()
	left := r.written[key].at.Add(informationalInterval).Sub(now)
	r.mu.Unlock()
	if left > 0 && apiequality.Semantic.DeepEqual(countsOnly, next) {
		return left, nil
	}
	version, err := r.patchStatus(ctx, obs, next)
	if err != nil {
		return 0, fmt.Errorf("storing the status: %w", err)
	}
	obs.stored, obs.version = next, version
	last := write{at: now}
	if old.Notifications != nil || next.Notifications != nil {
		last.version = version
	}
	r.mu.Lock()
	r.written[key] = last
	r.mu.Unlock()
	r.emit(ctx, obs, old, next)
	r.notifier.report(obs.env, warnings)
	return 0, nil
}

// patchStatus stores the status, and returns the new resource version. A status with notifications replaces only the
// version that the pass has read: it must not bring back events that were removed, or lose others.
func (r *Reconciler) patchStatus(ctx context.Context, obs *observation, next *v1alpha1.ComputeEnvStatus) (string, error) {
	if obs.env.Status.Notifications == nil && next.Notifications == nil {
		return r.patch(ctx, obs.env, map[string]any{"status": next}, true)
	}
	before := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{
		Namespace: obs.env.Namespace, Name: obs.env.Name, UID: obs.env.UID, ResourceVersion: obs.version,
	}, Status: obs.env.Status}
	after := before.DeepCopy()
	after.Status = *next.DeepCopy() // the answer is decoded into it
	err := r.client.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return after.ResourceVersion, err
}

// emit emits an Event for a changed size, and one for a changed reason of the condition Ready. It logs both at level 1.
func (r *Reconciler) emit(ctx context.Context, obs *observation, old, next *v1alpha1.ComputeEnvStatus) {
	event := func(kind, reason, format string, args ...any) {
		r.recorder.Eventf(obs.env, nil, kind, reason, "Reconcile", format, args...)
		if logger := log.FromContext(ctx).V(1); logger.Enabled() {
			logger.Info("ComputeEnv changed", "envId", next.EnvID, "reason", reason, "message", fmt.Sprintf(format, args...))
		}
	}
	if old.ObservedGeneration != 0 && old.DesiredComputeNodeCount != next.DesiredComputeNodeCount {
		event(corev1.EventTypeNormal, v1alpha1.ReasonScaled, "desiredComputeNodeCount is %d, was %d; %d in use",
			next.DesiredComputeNodeCount, old.DesiredComputeNodeCount, next.InUseCount)
	}
	was, is := meta.FindStatusCondition(old.Conditions, v1alpha1.ConditionReady), meta.FindStatusCondition(next.Conditions, v1alpha1.ConditionReady)
	if was == nil || was.Reason != is.Reason {
		kind := corev1.EventTypeNormal
		if is.Status != metav1.ConditionTrue {
			kind = corev1.EventTypeWarning
		}
		event(kind, is.Reason, "%s", is.Message)
	}
}

// ensureFinalizers adds the finalizer FinalizerInUse to a ComputeEnv that is in use, and removes it from one that is not. So
// an unused ComputeEnv can be deleted while the operator does not run. It adds FinalizerNotifications to one that may get
// events to be sent; finish removes it.
func (r *Reconciler) ensureFinalizers(ctx context.Context, obs *observation) error {
	env := obs.env
	finalizers := env.Finalizers
	if !obs.used() && slices.Contains(finalizers, v1alpha1.FinalizerInUse) {
		finalizers = without(finalizers, v1alpha1.FinalizerInUse)
	}
	if env.DeletionTimestamp == nil { // the API server refuses new finalizers during a deletion
		var add []string
		if obs.used() {
			add = append(add, v1alpha1.FinalizerInUse)
		}
		if hold, _ := plan.EnvNotificationHold(env, &env.Status, obs.delivery != nil, r.options.Clock.Now()); hold {
			add = append(add, v1alpha1.FinalizerNotifications)
		}
		for _, f := range add {
			if !slices.Contains(finalizers, f) {
				finalizers = append(slices.Clone(finalizers), f)
			}
		}
	}
	if slices.Equal(finalizers, env.Finalizers) {
		return nil
	}
	return r.replaceFinalizers(ctx, obs, finalizers)
}

// replaceFinalizers stores the finalizers of the ComputeEnv.
func (r *Reconciler) replaceFinalizers(ctx context.Context, obs *observation, finalizers []string) error {
	version, err := r.patch(ctx, obs.env, map[string]any{"metadata": map[string]any{"resourceVersion": obs.version, "finalizers": finalizers}}, false)
	if err != nil {
		return fmt.Errorf("changing the finalizers: %w", err)
	}
	env := *obs.env // the cache may share it
	env.Finalizers = finalizers
	obs.env, obs.version = &env, version
	return nil
}

// patch merges body into the ComputeEnv, or its status, and returns the new resource version. A merge patch replaces the
// whole list of finalizers, so a patch of metadata must have a resource version.
func (r *Reconciler) patch(ctx context.Context, env *v1alpha1.ComputeEnv, body map[string]any, status bool) (string, error) {
	if body["metadata"] == nil {
		body["metadata"] = map[string]any{"uid": env.UID}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	target := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: env.Name}}
	patch := client.RawPatch(types.MergePatchType, text)
	if status {
		err = r.client.Status().Patch(ctx, target, patch)
	} else {
		err = r.client.Patch(ctx, target, patch)
	}
	return target.ResourceVersion, err
}
