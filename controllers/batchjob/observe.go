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

// observation is what one pass goes by.
type observation struct {
	plan.Observation
	state *jobState
	// code and message are set for a job that must not run.
	code, message string
	// original is the job that runs in the place of this one, which has the same client token; nil for a
	// job that runs itself.
	original *v1alpha1.BatchJob
	// tombstone is set for a job that asks for what ran before under its name.
	tombstone *plan.Tombstone
	// known is when the API server last said that the job is as observed; zero if it did not.
	known time.Time
	// large says that the cache has but an outline of the job, which has not ended; wakeups is that of its
	// state as it was before the pass.
	large   bool
	wakeups int
	// wait is when to look again at a job that waits for the operator's memory.
	wait time.Duration
	// lease is the memory of the operator that the pass has taken for the whole job.
	lease *memoryLease
	// firstEvent is when the first event of a Pod came that no pass has recorded; recorded says that this
	// pass has.
	firstEvent time.Time
	recorded   bool
	// wrote says that the status was stored in this pass, and stored is what it is then.
	wrote  bool
	stored *v1alpha1.BatchJobStatus
}

// errStale says that the cache does not show the job as this process knows it. A pass that goes by it would do
// what was done, or meet a conflict.
var errStale = retry.After(staleRetry, errors.New("the cache is behind the last write of the job"))

// observe reads the job and its Pods from the cache, and what of the job the cache does not have from the API
// server, with lease. It returns nil when there is nothing to do, and when to look again then.
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
			return nil, r.pool.RecheckAfter(key), nil // all finalizers were removed, and the event that shows it brings another pass
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
		// All that is decided here goes by what one version of the job says.
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

// observeCached returns the job of a name as the cache has it, and its Pods; nil if there is none. Of Pods that
// name it and are not its own, it removes the finalizers, and it counts those on nodes of ComputeEnvs.
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

// observeRequest finds out whether the job may run as what it asks for.
func (r *Reconciler) observeRequest(ctx context.Context, obs *observation, m *jobState, job *v1alpha1.BatchJob) (err error) {
	obs.state, obs.code, obs.message = m, m.code, m.message
	if m.code == "" && job.DeletionTimestamp == nil {
		switch obs.original, err = r.original(ctx, job, obs.lease); {
		case apierrors.IsNotFound(err):
			return errStale // the job that had the token was deleted, and the cache is behind
		case err != nil:
			return err
		}
	}
	obs.tombstone, err = r.tombstones.of(ctx, job)
	return err
}

// lookUp puts into the observation what the plan has to know of the cluster beyond the job's own objects.
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

// env returns where and on what an instance runs, or nil when its ComputeEnv is not there.
func (o *observation) env(in resolve.Instance) *resolve.Env {
	t := &o.Spec.Tasks[in.Task]
	if t.Env != nil {
		return t.Env
	}
	return o.Envs[t.EnvID].Env
}

// unfinished counts the Pods of the job that may still run, tracked or not: one on a node
// that did not answer may have outlived the job's end.
func (r *Reconciler) unfinished(ctx context.Context, job *v1alpha1.BatchJob) (int, error) {
	var pods corev1.PodList
	err := r.live.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{v1alpha1.LabelJobID: job.Status.JobID})
	if err != nil {
		return 0, fmt.Errorf("listing the job's pods from the API server: %w", err)
	}
	n := 0
	for i := range pods.Items {
		if pod := &pods.Items[i]; !plan.HasFinished(pod) && (r.owns(job, pod, nil) || r.key.isSigned(pod)) {
			n++ // it may have been given to another controller
		}
	}
	return n, nil
}

// observeLive puts the job as the API server has it in the place of the cached one.
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
		job.Spec.Job.Tasks, job.Spec.Job.Dependences = nil, nil // they are in Spec
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

// whole returns a job with all that the API server has of it: of many the cache has but outlines. It
// may be newer than job. A large one is read when lease has memory for it.
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
