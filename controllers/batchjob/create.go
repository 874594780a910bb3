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

// A Pod that was created, deleted and whose finalizer was removed has freed its name. A process that is no
// longer the leader, or not the only one, must not create it once more by a claim that it has known for long.
// So a claim counts for claimTime after the API server last confirmed it, and a name is not free before a Pod
// is as old as nameTime. In between is the time that the call takes.
const (
	claimTime = time.Second
	nameTime  = 5 * time.Second
)

// errClaimExpired says that a claim must be confirmed once more before its Pod is created.
var errClaimExpired = errors.New("the claim was last confirmed too long ago")

// createPods creates the Pods that are claimed. It returns when to try again what the cluster refuses.
func (r *Reconciler) createPods(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	// Claims of earlier passes come first. Another process may have created their Pods meanwhile, seen
	// them end and removed their finalizers, so the less time passes since the job was confirmed, the better.
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
	if !obs.Live || r.options.Clock.Since(obs.known) > claimTime {
		// These claims are not of this pass, or it took long. Somebody else may have acted on them, with a
		// job that is newer than what this process knows: then they are not its claims.
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
	// What follows is tried again at once, to look at the job again or to say so in the status.
	if expired {
		err = errors.Join(err, retry.After(0, errClaimExpired))
	}
	for _, e := range conflicts {
		m.noteConflict(e, r.options.Clock.Now())
		err = errors.Join(err, retry.After(0, e))
	}
	for _, e := range refusals {
		m.refuse(e, r.options.Clock.Now(), r.nodesVersion.Load())
		err = errors.Join(err, retry.After(0, e))
	}
	r.queueForQuota(obs)
	return again, err
}

// dueInstances leaves out the instances of tasks that were refused a short while ago, and those with a name
// conflict, and says when to try them. Where Pods of the job have just ended the quota may have capacity left.
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
		if soon := now.Add(maxFirstRefusalWait); ref.NoTimeout && ref.until.After(soon) {
			ref.until = soon
		}
	}
}

// create creates the Pods of instances that the stored status claims, with a slow start; of a task that is
// refused no more are tried. It returns one refusal for each such task, the name conflicts, and whether some
// are left since the claims have expired.
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
			m.accepted(a.in.Task)
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
		if expired = r.options.Clock.Since(obs.known) > claimTime; expired {
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

// createPod makes one Pod. That it is there already, as after an answer that was lost,
// is success.
func (r *Reconciler) createPod(ctx context.Context, obs *observation, in resolve.Instance) (string, error) {
	env, cluster := obs.env(in), podspec.Cluster{Catalog: r.options.Catalog()}
	if r.options.Nodes != nil {
		cluster.Hosts = r.options.Nodes.Hosts
	}
	if env == nil {
		return "", &refusedError{task: in.Task, reason: v1alpha1.ReasonComputeEnvNotFound, error: fmt.Errorf("there is no ComputeEnv %q", obs.Spec.Tasks[in.Task].EnvID)}
	}
	pod, err := podspec.Build(obs.Job, obs.Spec, in, env, cluster)
	if err != nil {
		return "", unbuildable(in.Task, err)
	}
	r.key.sign(&pod.ObjectMeta)
	err = r.client.Create(ctx, pod)
	r.options.Metrics.Wrote("create", "pods", err)
	switch {
	case err == nil:
		return pod.Name, nil
	case apierrors.IsAlreadyExists(err):
		return pod.Name, r.adopt(ctx, obs, &pod.ObjectMeta)
	}
	if e := refused(in.Task, err); e != nil {
		return "", e
	}
	return "", fmt.Errorf("creating pod %s: %w", pod.Name, err)
}

// errPodTerminating says that a Pod whose finalizer was removed still has the name; the next one of this name
// can be created only after it.
var errPodTerminating = retry.After(staleRetry, errors.New("a terminating Pod still has the name"))

// adopt makes sure that the Pod which has the name of want is the job's, that it is
// watched, and that it is held: somebody may have edited its metadata.
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
