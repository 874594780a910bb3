// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/retry"
)

// A Pod that was created and deleted, and whose finalizer was removed, has freed its name. A process that is not the
// only leader, or no longer leads, must not create the Pod again from an old claim. So a claim is valid for
// claimValidity after the API server has confirmed it, and a Pod keeps its name until its age is minNameAge. The
// difference is the time that a call may take.
const (
	claimValidity = time.Second
	minNameAge    = 5 * time.Second
)

// errClaimExpired says that a claim must be confirmed again before its Pod is created.
var errClaimExpired = errors.New("the claim was last confirmed too long ago")

// podCreator creates the Pods of claimed instances, with a backoff after a refusal or a name conflict. Its methods may be
// called concurrently for different jobs.
type podCreator struct {
	pods    *podClient
	nodes   *nodeWatch
	options *Options
	quotas  quotaQueues
	// confirm replaces the observed job by the one that the API server has.
	confirm func(context.Context, *observation) error
}

// create creates the claimed Pods of a plan. It returns the time after which to retry the Pods that wait for a backoff.
func (c *podCreator) create(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	// Claims of earlier passes come first. Another process may have created their Pods and removed their finalizers
	// since, so as little time as possible must pass after the job was confirmed.
	claimed := slices.Concat(p.Adopt, p.Create)
	obs.state.forgetRefusals(slices.Concat(claimed, p.Verify))
	obs.state.forgetConflicts(obs.Spec, slices.Concat(claimed, p.Verify))
	due, again := c.dueInstances(obs, claimed, len(p.RemoveFinalizers) > 0)
	if len(due) == 0 {
		c.queueForQuota(obs)
		return again, nil
	}
	//mutation:no-live-read-before-adopting
	if !obs.Live || c.isExpired(obs) {
		if changed, err := c.confirmClaims(ctx, obs); err != nil {
			return 0, client.IgnoreNotFound(err)
		} else if changed {
			return staleRetry, nil
		}
	}
	err := c.createDue(ctx, obs, due)
	c.queueForQuota(obs)
	return again, err
}

// isExpired reports whether the claims of an observed job must be confirmed again before their Pods are created.
func (c *podCreator) isExpired(obs *observation) bool {
	return c.options.Clock.Since(obs.known) > claimValidity
}

// confirmClaims reads the job from the API server. Its claims are from an earlier pass, or this pass took long, and
// another process may have acted on them. If the version of the job has changed, they are not claims of this process.
func (c *podCreator) confirmClaims(ctx context.Context, obs *observation) (changed bool, err error) {
	version := obs.Job.ResourceVersion
	if obs.wrote {
		version = obs.state.version
	}
	err = c.confirm(ctx, obs)
	return err == nil && obs.Job.ResourceVersion != version, err
}

// dueInstances returns the instances whose Pods may be created now, without those that wait for a backoff after a
// refusal or a name conflict, and the time until the first backoff ends. If Pods of the job have just ended the quota
// may have capacity left, so it does not wait for the backoff of a quota.
func (c *podCreator) dueInstances(obs *observation, claimed []resolve.Instance, podsEnded bool) (due []resolve.Instance, again time.Duration) {
	state := obs.state
	if len(state.refusals) == 0 && len(state.conflicts) == 0 {
		return claimed, 0
	}
	now := c.options.Clock.Now()
	for _, in := range claimed {
		if len(state.conflicts) > 0 {
			if x := state.conflicts[obs.Spec.PodName(in)]; x != nil && now.Before(x.until) {
				again = soonest(again, x.until.Sub(now))
				continue
			}
		}
		ref := state.refusals[in.Task]
		if ref == nil || !now.Before(ref.until) || podsEnded && ref.NoTimeout || ref.nodes && ref.version != c.nodes.version.Load() {
			due = append(due, in)
			continue
		}
		again = soonest(again, ref.until.Sub(now))
	}
	return due, again
}

// queueForQuota adds the job to the queue for the quota of its namespace, or removes it. The first job in
// the queue tries more often than the others.
func (c *podCreator) queueForQuota(obs *observation) {
	state, now := obs.state, c.options.Clock.Now()
	if !state.waitsForQuota() {
		c.quotas.leave(obs.Job.Namespace, obs.Job.UID)
		return
	}
	if !c.quotas.enter(obs.Job.Namespace, plan.QueuePositionOf(obs.Job)) {
		return
	}
	for _, ref := range state.refusals {
		if soon := now.Add(maxFirstCreateBackoff); ref.NoTimeout && ref.until.After(soon) {
			ref.until = soon
		}
	}
}

// createDue creates the Pods of instances, with a slow start. After a refusal it creates no more Pods of that task, and
// after another error, or when the claims have expired, none at all.
func (c *podCreator) createDue(ctx context.Context, obs *observation, due []resolve.Instance) error {
	clock, limits, state := c.options.Clock, c.pods.limits, obs.state
	start, results := clock.Now(), createResults{refusals: map[int]*refusedError{}}
	state.slowStart.Do(flow.Series{
		N:        len(due),
		Call:     func(i int) error { return c.createPod(ctx, obs, due[i]) },
		Answered: func(i int, err error) flow.Effect { return c.answered(obs, &results, due[i], err) },
		Skip:     func(i int) bool { return results.refusals[due[i].Task] != nil },
		Stop: func() bool {
			results.expired = results.expired || c.isExpired(obs)
			return results.expired || results.err != nil
		},
	}, limits.For(keyOf(&obs.Job.ObjectMeta), len(due)).Create, limits.Max())
	state.batch.Created(results.created, clock.Since(start), state.writes.Latency(), plan.MaxBatchSize)
	return c.noteProblems(state, &results)
}

// createResults are what became of the calls that create the Pods of one job.
type createResults struct {
	created   int
	refusals  map[int]*refusedError // the last one of each task
	conflicts []*nameConflictError
	// expired says that the claims have expired, and err joins the errors that are neither refusals nor conflicts.
	expired bool
	err     error
}

// answered adds the result of creating the Pod of one instance.
func (c *podCreator) answered(obs *observation, results *createResults, in resolve.Instance, err error) flow.Effect {
	var refusal *refusedError
	var conflict *nameConflictError
	switch {
	case err == nil:
		state, name := obs.state, obs.Spec.PodName(in)
		results.created++
		state.created[name] = c.options.Clock.Now()
		c.pods.metrics.observeDependence(state, in.Task)
		delete(state.conflicts, name)
		state.noteCreated(in.Task)
		return flow.Grow
	case errors.As(err, &refusal):
		results.refusals[refusal.task] = refusal
		return flow.Reset
	case errors.As(err, &conflict): // it says nothing of the cluster
		results.conflicts = append(results.conflicts, conflict)
		return flow.Keep
	}
	results.err = errors.Join(results.err, err)
	return flow.Reset
}

// noteProblems remembers refusals and name conflicts for the status. It returns the errors, of which these two and
// expired claims start another pass immediately: it reports them, or confirms the claims again.
func (c *podCreator) noteProblems(state *jobState, results *createResults) error {
	err, now := results.err, c.options.Clock.Now()
	if results.expired {
		err = errors.Join(err, retry.After(0, errClaimExpired))
	}
	for _, e := range results.conflicts {
		state.noteConflict(e, now)
		err = errors.Join(err, retry.After(0, e))
	}
	for _, task := range slices.Sorted(maps.Keys(results.refusals)) {
		state.noteRefusal(results.refusals[task], now, c.nodes.version.Load())
		err = errors.Join(err, retry.After(0, results.refusals[task]))
	}
	return err
}

// createPod creates the Pod of an instance. If the Pod exists, as after a lost answer, that is success.
func (c *podCreator) createPod(ctx context.Context, obs *observation, in resolve.Instance) error {
	env := obs.env(in)
	if env == nil {
		return &refusedError{task: in.Task, reason: v1alpha1.ReasonComputeEnvNotFound, error: plan.ComputeEnvNotFound(obs.Spec.Tasks[in.Task].EnvID)}
	}
	pod, err := podspec.Build(obs.Job, obs.Spec, in, env, podspec.Cluster{Catalog: c.options.Catalog(), Agent: c.options.agent(), Hosts: c.nodes.hosts()})
	if err != nil {
		return buildRefusal(in.Task, err)
	}
	c.pods.key.sign(&pod.ObjectMeta)
	err = c.pods.client.Create(ctx, pod)
	c.pods.metrics.Wrote("create", "pods", err)
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err) && !isDenied(err):
		return c.pods.adopt(ctx, obs, &pod.ObjectMeta)
	}
	if e := refused(in.Task, err); e != nil {
		return e
	}
	return fmt.Errorf("creating pod %s: %w", pod.Name, err)
}
