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
	job, own, err := r.observeCached(ctx, key)
	if job == nil || err != nil {
		return nil, r.pool.RecheckAfter(key), err
	}
	retrying := plan.RetryDue(job)
	done := plan.IsFinished(job) && !retrying
	if done && len(own) == 0 {
		r.pool.JobEnded(job)
		r.forget(key)
		if job.Spec.TTLSecondsAfterFinished == nil && job.Status.ObservedGeneration == job.Generation || plan.IsDuplicate(job) {
			return nil, r.pool.RecheckAfter(key), nil
		}
		return &observation{state: &jobState{}, Observation: plan.Observation{Job: job}, firstEvent: start}, 0, nil
	}
	m := r.states.get(key, job.UID)
	if m != nil {
		if own = m.withFinalizer(own); done && len(own) == 0 {
			return nil, r.pool.RecheckAfter(key), nil // all finalizers are removed; the event that shows it starts the next pass
		}
	}
	obs := &observation{lease: lease, large: !done && plan.IsOutline(job), wakeups: r.states.wakeups(m)}
	if obs.large {
		if m != nil && lookup.IsOlder(job.ResourceVersion, m.version) {
			return nil, 0, errStale
		}
		//mutation:pods-of-idle-job-skipped
		if wait, ok := r.isSettled(m, job); ok && len(own) == 0 {
			r.options.Metrics.Observe(key, metrics.Snapshot{Instances: job.Status.TaskInstanceMetrics})
			return nil, soonest(wait, r.pool.RecheckAfter(key)), nil
		}
	}
	cached := job
	if done || obs.large && needsWhole(m, job) {
		if job, err = r.readWhole(ctx, cached, lease); err != nil {
			return nil, r.pool.RecheckAfter(key), client.IgnoreNotFound(err)
		}
		// A pass must decide from one version of the job only.
		if lookup.IsOlder(cached.ResourceVersion, job.ResourceVersion) || obs.large && job.ResourceVersion != cached.ResourceVersion {
			return nil, 0, errStale
		}
	}
	switch {
	case m == nil:
		m = r.remember(key, job)
	case m.spec == nil && m.code == "":
		m = resolveAgain(m, job)
	}
	//mutation:own-write-not-awaited
	stale := lookup.IsOlder(job.ResourceVersion, m.version)
	if err := r.observeRequest(ctx, obs, m, job); err != nil {
		return nil, 0, err
	}
	if stale {
		return nil, 0, errStale
	}
	if m.spec != nil {
		m.terminations = plan.ReadTerminations(m.spec, job.Annotations[v1alpha1.AnnotationTerminate], m.terminations)
	}
	obs.Observation = plan.Observation{
		Job: job, Spec: m.spec, Terminations: m.terminations, Pods: own, Refusals: m.refused(), Pending: m.created, ResourceWait: r.options.ResourceWait, BatchSize: m.batch.Size(),
		Live: job != cached, NameConflicts: m.nameConflicts(), PodKey: r.key.id(),
	}
	if obs.Live {
		obs.known = r.options.Clock.Now()
	}
	if retrying {
		if obs.Unfinished, err = r.unfinished(ctx, job); err != nil {
			return nil, 0, err
		}
	}
	m.forgetSeen(own, r.options.Clock.Now())
	obs.firstEvent = r.states.takePodEvent(m, start)
	return obs, 0, nil
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
		own, foreign = r.divide(job, pods, r.states.get(key, job.UID))
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
func (r *Reconciler) observeRequest(ctx context.Context, obs *observation, m *jobState, job *v1alpha1.BatchJob) (err error) {
	obs.state, obs.code, obs.message = m, m.code, m.message
	if m.code == "" && job.DeletionTimestamp == nil {
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

// unfinished counts the Pods of the job that may still run, with or without the tracking label: a Pod on an
// unreachable node may have outlived the job.
func (r *Reconciler) unfinished(ctx context.Context, job *v1alpha1.BatchJob) (int, error) {
	var pods corev1.PodList
	err := r.live.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{v1alpha1.LabelJobID: job.Status.JobID})
	if err != nil {
		return 0, fmt.Errorf("listing the job's pods from the API server: %w", err)
	}
	n := 0
	for i := range pods.Items {
		if pod := &pods.Items[i]; !plan.HasFinished(pod) && (r.owns(job, pod, nil) || r.key.isSigned(pod)) {
			n++ // also one that was given to another controller
		}
	}
	return n, nil
}

// observeLive replaces the cached job in the observation by the job that the API server has.
func (r *Reconciler) observeLive(ctx context.Context, obs *observation) error {
	if obs.large {
		if err := r.acquireMemory(ctx, obs.lease, obs.Job.Namespace, obs.state.startedSize); err != nil {
			return err
		}
	}
	job := &v1alpha1.BatchJob{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(obs.Job), job); err != nil {
		return fmt.Errorf("reading the job from the API server: %w", err)
	}
	if job.UID != obs.Job.UID {
		return fmt.Errorf("job %s was replaced", obs.Job.UID)
	}
	if obs.large && obs.Spec != nil {
		job.Spec.Job.Tasks, job.Spec.Job.Dependences = nil, nil // obs.Spec has them
		obs.lease.end()
	}
	obs.Job, obs.Live, obs.known = job, true, r.options.Clock.Now()
	if plan.RetryDue(job) {
		var err error
		obs.Unfinished, err = r.unfinished(ctx, job)
		return err
	}
	return nil
}

// readWhole returns the whole job. If job is an outline, it reads the job from the API server, once lease has
// memory for it; the result may be newer than job.
func (r *Reconciler) readWhole(ctx context.Context, job *v1alpha1.BatchJob, lease *memoryLease) (*v1alpha1.BatchJob, error) {
	if !plan.IsOutline(job) {
		return job, nil
	}
	if err := r.acquireMemory(ctx, lease, job.Namespace, plan.OutlineSize(job)); err != nil {
		return nil, err
	}
	now := &v1alpha1.BatchJob{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(job), now); err != nil {
		return nil, fmt.Errorf("reading the job from the API server: %w", err)
	}
	if now.UID != job.UID {
		return nil, fmt.Errorf("reading the job from the API server: %w", apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("batchjobs").GroupResource(), job.Name))
	}
	return now, nil
}
