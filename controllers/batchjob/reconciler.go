// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// Reconciler brings a BatchJob from one stored status to the next. Its own methods are the steps of a pass; what else
// has a job of its own is a part.
type Reconciler struct {
	client  client.Client
	pods    podReader
	live    client.Reader
	options Options

	// Parts that read and write objects.
	reader    *jobReader
	podClient *podClient
	creator   *podCreator
	status    *statusWriter
	notifier  *notifier
	metrics   *jobMetrics
	nodes     *nodeWatch
	queue     *jobQueue
	// pool gives the nodes of ComputeEnvs to jobs.
	pool *nodepool.Pool

	// What the process remembers.
	states     *jobStates
	large      *largeJobs
	tokens     tokens
	schedulers schedulers
	tombstones tombstones
	key        *podKey
}

// Reconcile does one pass over one job. The order makes each step safe to crash after: the status is stored
// before Pods are created or deleted, and before finalizers are removed.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	ctx = fairrate.WithTenant(ctx, req.Namespace)
	lease := &memoryLease{}
	defer lease.end()
	obs, wait, err := r.observe(ctx, req.NamespacedName, lease)
	if obs == nil || err != nil {
		return requeue(ctx, wait, err)
	}
	defer func() { r.finish(obs, result, err) }()
	if err := r.notifier.hold(ctx, obs); err != nil {
		return requeue(ctx, 0, err)
	}
	nodes, err := r.reserve(ctx, obs)
	if err != nil {
		return requeue(ctx, 0, err)
	}
	p, err := r.decide(ctx, obs)
	if err != nil {
		nodes.Settle(nodepool.Outcome{Job: obs.Job, Err: err})
		return requeue(ctx, 0, err)
	}
	delay := r.status.delay(obs, p)
	logPlan(ctx, obs, p, delay)
	//mutation:create-before-claim
	//mutation:finalizer-removed-before-status
	err = r.status.write(ctx, obs, p, delay)
	nodes.Settle(nodepool.Outcome{Job: obs.Job, Plan: p, Written: obs.wrote, Err: err})
	if err != nil || delay.blocks {
		return requeue(ctx, delay.wait, err)
	}
	lease.end() // applying the plan may take long
	wait, err = r.apply(ctx, obs, p)
	if notifyErr := r.notifier.finish(ctx, obs, r.options.Clock.Now(), r.warn); err == nil {
		err = notifyErr
	}
	return requeue(ctx, soonest(wait, delay.wait), err)
}

// requeue returns the result of Reconcile. Without an error Reconcile is called again after wait, or only for an
// event if wait is 0. With an error, the class of the error decides.
func requeue(ctx context.Context, wait time.Duration, err error) (result ctrl.Result, _ error) {
	defer func() { logEnd(ctx, result.RequeueAfter, err) }()
	if err == nil {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	switch class, delay := retry.Of(err); class {
	case retry.Wait:
		return ctrl.Result{RequeueAfter: soonest(wait, max(delay, 1))}, nil
	case retry.Terminal:
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, err
}

// ifDeleted gives a NotFound error the class Terminal: the job was deleted during the pass, and the event of the
// deletion starts the next pass.
func ifDeleted(err error) error {
	if apierrors.IsNotFound(err) {
		return retry.AsTerminal(err)
	}
	return err
}

// reserve reserves what a job needs before it starts instances: the operator's memory, for a large job, and
// nodes of the ComputeEnvs that it names.
func (r *Reconciler) reserve(ctx context.Context, obs *observation) (*nodepool.Reservation, error) {
	r.large.reserve(obs)
	nodes, err := r.pool.Reserve(ctx, obs.Job, obs.state.spec, &obs.state.nodes)
	if errors.Is(err, nodepool.ErrCacheBehind) {
		return nil, retry.After(staleRetry, err)
	}
	if err != nil {
		return nil, err
	}
	obs.Envs = nodes.Envs()
	return nodes, nil
}

// decide computes the plan. It computes it again after reading the job from the API server, if the cached job is
// older than its Pods, and again after asking the API server for Pods that the cache does not have.
func (r *Reconciler) decide(ctx context.Context, obs *observation) (*plan.Plan, error) {
	now := r.options.Clock.Now()
	if p := rejection(obs, now); p != nil {
		return p, nil
	}
	r.lookUp(obs)
	p, err := plan.Compute(obs.Observation, now)
	if err == nil && p.NeedLive {
		if err := r.observeLive(ctx, obs); err != nil {
			return nil, ifDeleted(err)
		}
		p, err = plan.Compute(obs.Observation, now)
	}
	if err == nil && len(p.Verify) > 0 {
		if err := r.verify(ctx, obs, p.Verify); err != nil {
			return nil, ifDeleted(err)
		}
		p, err = plan.Compute(obs.Observation, now)
	}
	if errors.Is(err, plan.ErrUnreadable) { // a retry does not help: the status reports it
		p, err = plan.Unreadable(obs.Observation, err, now), nil
	}
	r.schedulers.note(p.Scheduled)
	return &p, err
}

// rejection returns the plan for a job that must not run; nil for any other.
func rejection(obs *observation, now time.Time) *plan.Plan {
	var p plan.Plan
	switch {
	case obs.tombstone != nil:
		p = plan.AlreadyRan(obs.Observation, *obs.tombstone, now)
	case obs.code != "":
		p = plan.Reject(obs.Observation, obs.code, obs.message, now)
	case obs.original != nil && !plan.SameRequest(obs.Job, obs.original):
		p = plan.Reject(obs.Observation, string(errcode.InvalidParameterValue),
			fmt.Sprintf("spec.clientToken: must be new for a new request; job %q has it for another", obs.original.Name), now)
	case obs.original != nil:
		p = plan.Duplicate(obs.Observation, obs.original, now)
	default:
		return nil
	}
	return &p
}

// finish updates what the process remembers, at the end of a pass that returned result and err.
func (r *Reconciler) finish(obs *observation, result ctrl.Result, err error) {
	if !obs.recorded {
		r.states.putPodEvent(obs.state, obs.firstEvent)
	}
	r.large.finish(obs, result, err)
	r.queue.debounce.PassEnded(keyOf(&obs.Job.ObjectMeta), len(obs.Pods), r.options.Clock.Now())
}
