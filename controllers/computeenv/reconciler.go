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

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/resolve"
)

// Reconciler keeps the status of ComputeEnvs, and holds those that are in use.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	options  Options

	mu      sync.Mutex
	written map[types.NamespacedName]time.Time // when the status was written last
}

// observation is what one pass goes by.
type observation struct {
	env   *v1alpha1.ComputeEnv
	users []string // names of the jobs that use it and have not ended, sorted
	stats nodepool.Stats
}

// Reconcile does one pass over one ComputeEnv. Everything that it writes can be worked out
// anew at any time.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	ctx = fairrate.WithTenant(ctx, req.Namespace)
	obs, err := r.observe(ctx, req.NamespacedName)
	if obs == nil || err != nil {
		return ctrl.Result{}, err
	}
	next := computeStatus(obs, r.options.Clock.Now())
	if err := r.hold(ctx, obs); err != nil {
		if apierrors.IsConflict(err) {
			return ctrl.Result{RequeueAfter: newsInterval}, nil // the cache is behind
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	wait, err := r.record(ctx, obs, next)
	return ctrl.Result{RequeueAfter: wait}, client.IgnoreNotFound(err)
}

// observe reads the ComputeEnv and who uses it from the cache; nil when it is gone.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName) (*observation, error) {
	env := &v1alpha1.ComputeEnv{}
	if err := r.client.Get(ctx, key, env); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(key)
			return nil, nil
		}
		return nil, fmt.Errorf("reading the ComputeEnv: %w", err)
	}
	obs := &observation{env: env, stats: r.options.Ledger.Stats(key)}
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
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.written, key)
}

// nextActionDeleting is what a ComputeEnv says that is to be deleted.
// Source: BatchCompute, DescribeComputeEnv, NextAction.
const nextActionDeleting = "DELETING"

// computeStatus returns the whole next status.
func computeStatus(obs *observation, now time.Time) *v1alpha1.ComputeEnvStatus {
	env := obs.env
	next, size := env.Status.DeepCopy(), resolve.ComputeNodeCount(env)
	next.ObservedGeneration = env.Generation
	next.EnvID = naming.EnvID(env.UID)
	next.DesiredComputeNodeCount = int64(size)
	next.InUseCount, next.WaitingJobCount = int64(obs.stats.InUse), int64(obs.stats.Waiting)
	next.NextAction = ""
	set := conditions.OfComputeEnv(next, env.Generation, now)
	const reconciling = v1alpha1.ConditionReconciling
	switch excess := obs.stats.InUse - size; {
	case env.DeletionTimestamp != nil:
		next.NextAction = nextActionDeleting
		set.False(v1alpha1.ConditionReady, v1alpha1.ReasonResourceInUse, inUse(obs.users))
		set.True(reconciling, v1alpha1.ReasonResourceInUse, "the deletion waits for the jobs")
	case excess > 0:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonScaling, "more instances are under way than there are nodes; none is begun before there are less")
		set.True(reconciling, v1alpha1.ReasonScaling, "instances are to end")
	default:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "instances may run")
		set.Remove(reconciling)
	}
	return next
}

// maxListed is how many jobs a sentence names.
const maxListed = 5

// inUse says which jobs a deletion waits for.
func inUse(users []string) string {
	if len(users) == 0 {
		return "no job uses it any more"
	}
	list := strings.Join(users[:min(len(users), maxListed)], ", ")
	if more := len(users) - maxListed; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return "the deletion waits for BatchJobs that have not ended: " + list
}

// record stores the status, and then tells what it brings. It returns how long to wait when
// it brings only figures, and others were written a moment ago.
func (r *Reconciler) record(ctx context.Context, obs *observation, next *v1alpha1.ComputeEnvStatus) (time.Duration, error) {
	old := &obs.env.Status
	if apiequality.Semantic.DeepEqual(old, next) {
		return 0, nil
	}
	key, now := client.ObjectKeyFromObject(obs.env), r.options.Clock.Now()
	figures := old.DeepCopy()
	figures.InUseCount, figures.WaitingJobCount = next.InUseCount, next.WaitingJobCount
	r.mu.Lock()
	left := r.written[key].Add(newsInterval).Sub(now)
	r.mu.Unlock()
	if left > 0 && apiequality.Semantic.DeepEqual(figures, next) {
		return left, nil
	}
	if err := r.patch(ctx, obs.env, map[string]any{"status": next}, true); err != nil {
		return 0, fmt.Errorf("storing the status: %w", err)
	}
	r.mu.Lock()
	r.written[key] = now
	r.mu.Unlock()
	r.tell(obs, old, next)
	return 0, nil
}

// tell makes events of what is new.
func (r *Reconciler) tell(obs *observation, old, next *v1alpha1.ComputeEnvStatus) {
	event := func(kind, reason, format string, args ...any) {
		r.recorder.Eventf(obs.env, nil, kind, reason, "Reconcile", format, args...)
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

// hold puts the finalizer on a ComputeEnv that is in use, and takes it off one that is not.
// So one that nobody uses can go whether the operator runs or not.
func (r *Reconciler) hold(ctx context.Context, obs *observation) error {
	env := obs.env
	held := slices.Contains(env.Finalizers, v1alpha1.FinalizerInUse)
	used := len(obs.users) > 0 || obs.stats.InUse > 0
	if held == used || used && env.DeletionTimestamp != nil { // too late to put it on
		return nil
	}
	finalizers := slices.DeleteFunc(slices.Clone(env.Finalizers), func(f string) bool { return f == v1alpha1.FinalizerInUse })
	if used {
		finalizers = append(finalizers, v1alpha1.FinalizerInUse)
	}
	if err := r.patch(ctx, env, map[string]any{"metadata": map[string]any{"finalizers": finalizers}}, false); err != nil {
		return fmt.Errorf("changing the finalizer: %w", err)
	}
	return nil
}

// patch merges body into the ComputeEnv, or its status. Its finalizers are a list, which is
// replaced as a whole: so there, the version must still be the one that was looked at.
func (r *Reconciler) patch(ctx context.Context, env *v1alpha1.ComputeEnv, body map[string]any, status bool) error {
	if metadata, ok := body["metadata"].(map[string]any); ok {
		metadata["resourceVersion"] = env.ResourceVersion
	} else {
		body["metadata"] = map[string]any{"uid": env.UID}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	target := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: env.Name}}
	patch := client.RawPatch(types.MergePatchType, text)
	if status {
		return r.client.Status().Patch(ctx, target, patch)
	}
	return r.client.Patch(ctx, target, patch)
}
