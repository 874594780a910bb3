// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/retry"
)

// observation is what one pass has read, and what it found out while it ran.
type observation struct {
	plan.Observation
	state *jobState
	// code and message are set for a job that must not run.
	code, message string
	// original is the job that runs instead of this one, since both have the same client token; nil if this
	// job runs.
	original *v1alpha1.BatchJob
	// tombstone is set if a deleted job of the same name has run the same request.
	tombstone *plan.Tombstone
	// known is when the API server last confirmed the observed job; zero if it did not.
	known time.Time
	// large says that the cache has only an outline of the job, and that it has not ended. wakeups is the count of
	// its state before the pass.
	large   bool
	wakeups int
	// wait is when to requeue a job that waits for memory.
	wait time.Duration
	// lease is the memory that the pass has acquired to read the whole job.
	lease *memoryLease
	// firstEvent is the time of the first event of a Pod that no pass has recorded. recorded says that this pass has
	// recorded it.
	firstEvent time.Time
	recorded   bool
	// wrote says that this pass has stored the status, and stored is that status.
	wrote  bool
	stored *v1alpha1.BatchJobStatus
}

// errStale says that the cached job is older than the last write of this process. A pass that used it would
// repeat what was done, or get a conflict.
var errStale = retry.After(staleRetry, errors.New("the cache is behind the last write of the job"))

// observe reads the job and its Pods from the cache. If the cache has only an outline of the job and the pass needs
// more, it reads the job from the API server, for which lease acquires memory. It returns nil if there is nothing to
// do, and then the time after which to requeue the job.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName, lease *memoryLease) (*observation, time.Duration, error) {
	start := r.options.Clock.Now()
	if err := r.key.ensure(ctx, r.options.PodKey); err != nil {
		return nil, 0, err
	}
	cached, pods, err := r.observeCached(ctx, key)
	if cached == nil || err != nil {
		return nil, r.pool.RecheckAfter(key), err
	}
	ended := plan.IsFinished(cached) && !plan.RetryDue(cached)
	owes := r.notifier.concerns(cached)
	if ended && len(pods) == 0 && !owes {
		return r.observeEnded(cached, start), r.pool.RecheckAfter(key), nil
	}
	state := r.states.get(key, cached.UID)
	if pods = state.withFinalizer(pods); ended && len(pods) == 0 && !owes {
		return nil, r.pool.RecheckAfter(key), nil // all finalizers are removed; the event that shows it starts the next pass
	}
	obs := &observation{lease: lease, large: !ended && plan.IsOutline(cached), state: state, wakeups: r.states.wakeups(state)}
	if obs.large && !r.notifier.isUnknown(cached) {
		if wait, ok, err := r.isLargeIdle(state, cached, pods); ok || err != nil {
			return nil, soonest(wait, r.pool.RecheckAfter(key)), err
		}
	}
	job := cached
	if ended || obs.large && needsWhole(state, cached) {
		if job, err = r.observeWhole(ctx, cached, obs); err != nil {
			return nil, r.pool.RecheckAfter(key), client.IgnoreNotFound(err)
		}
	}
	obs.Live = job != cached
	if err := r.complete(ctx, obs, job, pods); err != nil {
		return nil, 0, err
	}
	obs.firstEvent = r.states.takePodEvent(obs.state, start)
	return obs, 0, nil
}

// observeEnded forgets a job that has ended and has no Pods. It returns the observation for the pass that does what is
// left to do; nil if nothing is.
func (r *Reconciler) observeEnded(job *v1alpha1.BatchJob, now time.Time) *observation {
	r.pool.JobEnded(job)
	r.forget(keyOf(&job.ObjectMeta))
	if job.Spec.TTLSecondsAfterFinished == nil && job.Status.ObservedGeneration == job.Generation || plan.IsDuplicate(job) {
		return nil
	}
	return &observation{state: &jobState{}, Observation: plan.Observation{Job: job}, firstEvent: now}
}

// isLargeIdle reports whether a large job needs no pass, and when it needs one without an event; 0 means never.
func (r *Reconciler) isLargeIdle(state *jobState, cached *v1alpha1.BatchJob, pods []*corev1.Pod) (time.Duration, bool, error) {
	if state != nil && lookup.IsOlder(cached.ResourceVersion, state.version) {
		return 0, false, errStale
	}
	//mutation:pods-of-idle-job-skipped
	if wait, ok := r.large.needsNoPass(state, cached); ok && len(pods) == 0 {
		r.metrics.Observe(keyOf(&cached.ObjectMeta), metrics.Snapshot{Instances: cached.Status.TaskInstanceMetrics})
		return wait, true, nil
	}
	return 0, false, nil
}

// observeWhole returns the whole job. The error is errStale if it is not the version that the pass has seen in the
// cache: a pass must decide from one version of the job only.
func (r *Reconciler) observeWhole(ctx context.Context, cached *v1alpha1.BatchJob, obs *observation) (*v1alpha1.BatchJob, error) {
	job, err := r.reader.whole(ctx, cached, obs.lease)
	if err == nil && (lookup.IsOlder(cached.ResourceVersion, job.ResourceVersion) || obs.large && job.ResourceVersion != cached.ResourceVersion) {
		err = errStale
	}
	return job, err
}

// complete adds to the observation all that Compute needs of the job and the process. The error is errStale if the job
// is older than the last write of this process.
func (r *Reconciler) complete(ctx context.Context, obs *observation, job *v1alpha1.BatchJob, pods []*corev1.Pod) error {
	switch {
	case obs.state == nil:
		obs.state = r.remember(keyOf(&job.ObjectMeta), job)
	case obs.state.spec == nil && obs.state.code == "":
		resolveSpec(obs.state, job)
	}
	state := obs.state
	//mutation:own-write-not-awaited
	stale := lookup.IsOlder(job.ResourceVersion, state.version)
	if err := r.observeRequest(ctx, obs, job); err != nil {
		return err
	}
	if stale {
		return errStale
	}
	now := r.options.Clock.Now()
	if state.spec != nil {
		state.terminations = plan.ReadTerminations(state.spec, job.Annotations[v1alpha1.AnnotationTerminate], state.terminations)
	}
	obs.Observation = plan.Observation{
		Job: job, Spec: state.spec, Terminations: state.terminations, Pods: pods, Refusals: state.refused(), Pending: state.created,
		Delivery: r.notifier.delivery(job), ResourceWait: r.options.ResourceWait, BatchSize: state.batch.Size(), Live: obs.Live, NameConflicts: state.nameConflicts(), PodKey: r.key.id(),
	}
	if obs.Live {
		obs.known = now
	}
	state.forgetSeen(pods, now)
	return r.observeUnfinished(ctx, obs)
}

// observeCached returns the cached job of a name, and its Pods; nil if there is no job. It removes the finalizers of
// Pods that name the job and are not its own, and reports those on nodes of ComputeEnvs to the pool.
func (r *Reconciler) observeCached(ctx context.Context, key types.NamespacedName) (*v1alpha1.BatchJob, []*corev1.Pod, error) {
	job := &v1alpha1.BatchJob{}
	err := r.client.Get(ctx, key, job)
	if client.IgnoreNotFound(err) != nil {
		return nil, nil, fmt.Errorf("reading the job: %w", err)
	}
	exists := err == nil
	pods, err := r.pods(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the job's pods: %w", err)
	}
	var own []*corev1.Pod
	foreign := pods
	if exists {
		own, foreign = r.key.divide(job, pods, r.states.get(key, job.UID))
	}
	if err := r.pool.SettleDeparted(ctx, key, job.UID, r.states.previousUser(key), foreign); err != nil {
		return nil, nil, err
	}
	if err := r.removeOrphanFinalizers(ctx, key, foreign); err != nil {
		return nil, nil, err
	}
	if !exists {
		r.forget(key)
		return nil, nil, nil
	}
	return job, own, nil
}

// observeRequest finds out whether another job with the same client token runs, and whether the same request has run
// before.
func (r *Reconciler) observeRequest(ctx context.Context, obs *observation, job *v1alpha1.BatchJob) (err error) {
	obs.code, obs.message = obs.state.code, obs.state.message
	if obs.code == "" && job.DeletionTimestamp == nil {
		switch obs.original, err = r.original(ctx, job, obs.lease); {
		case apierrors.IsNotFound(err):
			return errStale // the job with the token was deleted, and the cache still has it
		case err != nil:
			return err
		}
	}
	obs.tombstone, err = r.tombstones.of(ctx, job)
	return err
}

// lookUp adds to the observation what the plan needs to know of schedulers and nodes.
func (r *Reconciler) lookUp(obs *observation) {
	l := plan.LookupsOf(obs.Spec, obs.Envs, obs.Pods)
	if len(l.Schedulers) > 0 {
		obs.Scheduled = make(map[string]time.Time, len(l.Schedulers))
		for _, name := range l.Schedulers {
			obs.Scheduled[name] = r.schedulers.last(name)
		}
	}
	if index := r.options.Nodes; index != nil && (l.Zones || len(l.Addresses) > 0) && index.Complete() {
		obs.Nodes = &plan.Nodes{Zones: index.Zones(), Hosts: make(map[string][]string, len(l.Addresses))}
		for _, address := range l.Addresses {
			obs.Nodes.Hosts[address] = index.Hosts([]string{address})
		}
	}
}

// env returns the environment of an instance; nil if its ComputeEnv does not exist.
func (o *observation) env(in resolve.Instance) *resolve.Env {
	t := &o.Spec.Tasks[in.Task]
	if t.Env != nil {
		return t.Env
	}
	return o.Envs[t.EnvID].Env
}

// observeUnfinished counts the Pods that may still run of a job that is to be retried, with or without the tracking
// label: a Pod on an unreachable node may have outlived the job.
func (r *Reconciler) observeUnfinished(ctx context.Context, obs *observation) error {
	job := obs.Job
	if !plan.RetryDue(job) {
		return nil
	}
	var pods corev1.PodList
	err := r.live.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{v1alpha1.LabelJobID: job.Status.JobID})
	if err != nil {
		return fmt.Errorf("listing the job's pods from the API server: %w", err)
	}
	obs.Unfinished = 0
	for i := range pods.Items {
		if pod := &pods.Items[i]; !plan.HasFinished(pod) && (r.key.owns(job, pod, nil) || r.key.isSigned(pod)) {
			obs.Unfinished++ // also one that was given to another controller
		}
	}
	return nil
}

// observeLive replaces the cached job in the observation by the job that the API server has. The error is NotFound if
// the job was deleted.
func (r *Reconciler) observeLive(ctx context.Context, obs *observation) error {
	if obs.large {
		if err := r.reader.acquire(ctx, obs.lease, obs.Job.Namespace, obs.state.startedSize); err != nil {
			return err
		}
	}
	job, err := r.reader.current(ctx, obs.Job)
	if err != nil {
		return err
	}
	if obs.large && obs.Spec != nil {
		job.Spec.Job.Tasks, job.Spec.Job.Dependences = nil, nil // obs.Spec has them
		obs.lease.end()
	}
	obs.Job, obs.Live, obs.known = job, true, r.options.Clock.Now()
	return r.observeUnfinished(ctx, obs)
}
