// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
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

// createPods creates the claimed Pods. It returns the time after which to retry the Pods that wait for a backoff.
func (r *Reconciler) createPods(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	// Claims of earlier passes come first. Another process may have created their Pods and removed their finalizers
	// since, so as little time as possible must pass after the job was confirmed.
	claimed := slices.Concat(p.Adopt, p.Create)
	m := obs.state
	m.forgetRefusals(slices.Concat(claimed, p.Verify))
	m.forgetConflicts(obs.Spec, slices.Concat(claimed, p.Verify))
	due, again := r.dueInstances(obs, claimed, len(p.RemoveFinalizers) > 0)
	if len(due) == 0 {
		r.queueForQuota(obs)
		return again, nil
	}
	//mutation:no-live-read-before-adopting
	if !obs.Live || r.options.Clock.Since(obs.known) > claimValidity {
		// These claims are from an earlier pass, or this pass took long. Another process may have acted on them. If the
		// version of the job has changed, they are not claims of this process.
		version := obs.Job.ResourceVersion
		if obs.wrote {
			version = obs.state.version
		}
		if err := r.observeLive(ctx, obs); err != nil {
			return 0, client.IgnoreNotFound(err)
		}
		if obs.Job.ResourceVersion != version {
			return staleRetry, nil
		}
	}
	refusals, conflicts, expired, err := r.create(ctx, obs, due)
	// The errors below start another pass immediately, which confirms the claims again or reports the errors in the
	// status.
	if expired {
		err = errors.Join(err, retry.After(0, errClaimExpired))
	}
	for _, e := range conflicts {
		m.noteConflict(e, r.options.Clock.Now())
		err = errors.Join(err, retry.After(0, e))
	}
	for _, e := range refusals {
		m.noteRefusal(e, r.options.Clock.Now(), r.nodesVersion.Load())
		err = errors.Join(err, retry.After(0, e))
	}
	r.queueForQuota(obs)
	return again, err
}

// dueInstances returns the instances whose Pods may be created now, without those that wait for a backoff after a
// refusal or a name conflict, and the time until the first backoff ends. If Pods of the job have just ended the quota
// may have capacity left, so it does not wait for the backoff of a quota.
func (r *Reconciler) dueInstances(obs *observation, claimed []resolve.Instance, podsEnded bool) (due []resolve.Instance, again time.Duration) {
	m := obs.state
	if len(m.refusals) == 0 && len(m.conflicts) == 0 {
		return claimed, 0
	}
	now := r.options.Clock.Now()
	for _, in := range claimed {
		if len(m.conflicts) > 0 {
			if c := m.conflicts[obs.Spec.PodName(in)]; c != nil && now.Before(c.until) {
				again = soonest(again, c.until.Sub(now))
				continue
			}
		}
		ref := m.refusals[in.Task]
		if ref == nil || !now.Before(ref.until) || podsEnded && ref.NoTimeout || ref.nodes && ref.version != r.nodesVersion.Load() {
			due = append(due, in)
			continue
		}
		again = soonest(again, ref.until.Sub(now))
	}
	return due, again
}

// queueForQuota adds the job to the queue for the quota of its namespace, or removes it. The first job in
// the queue tries more often than the others.
func (r *Reconciler) queueForQuota(obs *observation) {
	m, now := obs.state, r.options.Clock.Now()
	if !m.waitsForQuota() {
		r.quotas.leave(obs.Job.Namespace, obs.Job.UID)
		return
	}
	if !r.quotas.enter(obs.Job.Namespace, plan.QueuePositionOf(obs.Job)) {
		return
	}
	for _, ref := range m.refusals {
		if soon := now.Add(maxFirstCreateBackoff); ref.NoTimeout && ref.until.After(soon) {
			ref.until = soon
		}
	}
}

// create creates the Pods of claimed instances, with a slow start. After a refusal it creates no more Pods of that
// task. It returns one refusal for each such task, the name conflicts, and whether it stopped because the claims have
// expired.
func (r *Reconciler) create(ctx context.Context, obs *observation, due []resolve.Instance) (_ []*refusedError, conflicts []*nameConflictError, expired bool, _ error) {
	type answer struct {
		in   resolve.Instance
		name string
		err  error
	}
	m, calls, start, created := obs.state, r.limits.For(keyOf(&obs.Job.ObjectMeta), len(due)), r.options.Clock.Now(), 0
	answers, inFlight := make(chan answer, r.limits.Max()), 0
	refusals := map[int]*refusedError{}
	var failed error
	receive := func(a answer) {
		inFlight--
		var refusal *refusedError
		var conflict *nameConflictError
		switch {
		case a.err == nil:
			created++
			m.created[a.name] = r.options.Clock.Now()
			r.observeDependence(m, a.in.Task)
			delete(m.conflicts, a.name)
			m.noteCreated(a.in.Task)
			m.slowStart.Succeeded(r.limits.Max())
		case errors.As(a.err, &refusal):
			refusals[refusal.task] = refusal
			m.slowStart.Failed()
		case errors.As(a.err, &conflict):
			conflicts = append(conflicts, conflict)
		default:
			failed = errors.Join(failed, a.err)
			m.slowStart.Failed()
		}
	}
	for {
		may := len(due) > 0 && failed == nil && !expired && inFlight < m.slowStart.Window()
		if len(answers) > 0 || !may && inFlight > 0 {
			receive(<-answers)
			continue
		}
		if !may {
			break
		}
		in := due[0]
		if refusals[in.Task] != nil {
			due = due[1:]
			continue
		}
		release := calls.Create.Acquire()
		if expired = r.options.Clock.Since(obs.known) > claimValidity; expired {
			release(false)
			continue
		}
		due = due[1:]
		inFlight++
		go func() {
			name, err := r.createPod(ctx, obs, in)
			release(err == nil)
			answers <- answer{in, name, err}
		}()
	}
	m.batch.Created(created, r.options.Clock.Since(start), m.writes.Latency(), plan.MaxBatchSize)
	return slices.Collect(maps.Values(refusals)), conflicts, expired, failed
}

// createPod creates one Pod, and returns its name. If the Pod exists, as after a lost answer, that is success.
func (r *Reconciler) createPod(ctx context.Context, obs *observation, in resolve.Instance) (string, error) {
	env, cluster := obs.env(in), podspec.Cluster{Catalog: r.options.Catalog()}
	if r.options.Agent != nil {
		cluster.Agent = r.options.Agent()
	}
	if r.options.Nodes != nil {
		cluster.Hosts = r.options.Nodes.Hosts
	}
	if env == nil {
		return "", &refusedError{task: in.Task, reason: v1alpha1.ReasonComputeEnvNotFound, error: fmt.Errorf("ComputeEnv %q does not exist; create it to start the task", obs.Spec.Tasks[in.Task].EnvID)}
	}
	pod, err := podspec.Build(obs.Job, obs.Spec, in, env, cluster)
	if err != nil {
		return "", buildRefusal(in.Task, err)
	}
	r.key.sign(&pod.ObjectMeta)
	err = r.client.Create(ctx, pod)
	r.options.Metrics.Wrote("create", "pods", err)
	switch {
	case err == nil:
		return pod.Name, nil
	case apierrors.IsAlreadyExists(err) && !isDenied(err):
		return pod.Name, r.adopt(ctx, obs, &pod.ObjectMeta)
	}
	if e := refused(in.Task, err); e != nil {
		return "", e
	}
	return "", fmt.Errorf("creating pod %s: %w", pod.Name, err)
}

// errPodTerminating says that a terminating Pod without the finalizer still has the name; the next Pod of this name
// can be created only when it is deleted.
var errPodTerminating = retry.After(staleRetry, errors.New("a terminating Pod still has the name"))

// adopt checks that the existing Pod of the name of want is the job's, and repairs its metadata, which somebody may
// have edited: it must have the tracking label and finalizer.
func (r *Reconciler) adopt(ctx context.Context, obs *observation, want *metav1.ObjectMeta) error {
	pod := &corev1.Pod{}
	if err := r.live.Get(ctx, keyOf(want), pod); err != nil {
		return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
	}
	//mutation:pod-of-another-adopted
	if !r.ownsName(obs.Job, pod, obs.state.proven) {
		return cmp.Or(r.disown(ctx, pod), error(nameConflictWith(pod)))
	}
	return r.repair(ctx, pod, want, true)
}
