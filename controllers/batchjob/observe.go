// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// observation is what one pass goes by.
type observation struct {
	plan.Observation
	memory *memory
	// code and message are set for a job that must not run.
	code, message string
	// original is the job that runs in the place of this one, which has the same client
	// token; nil for a job that runs itself.
	original *v1alpha1.BatchJob
	// tombstone is set for a job that asks for what ran before under its name.
	tombstone *plan.Tombstone
	// stale says that the cache has not seen our own last write.
	stale bool
	// wrote says that the status was stored in this pass, and stored is what it is then.
	wrote  bool
	stored *v1alpha1.BatchJobStatus
	// known is when the API server last said that the job is as observed; zero if it did not.
	known time.Time
	// large says that the cache has but an outline of the job, which has not ended; looks is
	// memory.looks as it was before the pass.
	large bool
	looks int
	// settled says that there is nothing to do before the time of wait; 0 means before something changes.
	settled bool
	wait    time.Duration
	// memory of the operator that the pass has taken for the whole job.
	lease *lease
}

// podReader returns the Pods in the cache that name a job. They are not to be changed.
type podReader func(ctx context.Context, job types.NamespacedName) ([]*corev1.Pod, error)

// observe reads the job and its Pods from the cache, and what of the job the cache does not have from
// the API server, with lease. It returns nil when there is nothing to do.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName, lease *lease) (*observation, error) {
	job := &v1alpha1.BatchJob{}
	err := r.client.Get(ctx, key, job)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the job: %w", err)
	}
	exists := err == nil
	pods, err := r.pods(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("listing the job's pods: %w", err)
	}
	var m *memory
	var own []*corev1.Pod
	foreign := pods
	if exists {
		m = r.recall(key, job)
		own, foreign = r.divide(job, pods, m)
	}
	if err := r.pool.SettleDeparted(ctx, key, job.UID, r.previousUser(key), foreign); err != nil {
		return nil, err
	}
	if err := r.releaseOrphans(ctx, key, foreign); err != nil {
		return nil, err
	}
	if !exists {
		r.forget(key)
		return nil, nil
	}
	retry := plan.RetryDue(job)
	done := plan.IsFinished(job) && !retry
	if done && len(own) == 0 {
		r.pool.JobEnded(job)
		r.forget(key)
		if job.Spec.TTLSecondsAfterFinished == nil && job.Status.ObservedGeneration == job.Generation || isDuplicate(job) {
			return nil, nil
		}
		return &observation{memory: &memory{}, Observation: plan.Observation{Job: job}}, nil
	}
	if m != nil {
		if own = m.held(own); done && len(own) == 0 {
			return nil, nil // all were let go of, and the event that shows it brings us here again
		}
	}
	cached, looks, large := job, r.looksOf(m), !done && plan.IsOutline(job)
	if large {
		if m != nil && lookup.IsOlder(job.ResourceVersion, m.version) {
			return &observation{stale: true}, nil
		}
		//mutation:pods-of-idle-job-skipped
		if wait, ok := r.isSettled(m, job); ok && len(own) == 0 {
			return &observation{Observation: plan.Observation{Job: job}, settled: true, wait: wait}, nil
		}
	}
	if done || large && needsWhole(m, job) {
		if job, err = r.whole(ctx, cached, lease); err != nil {
			return nil, client.IgnoreNotFound(err)
		}
		// All that is decided here goes by what one version of the job says.
		if lookup.IsOlder(cached.ResourceVersion, job.ResourceVersion) || large && job.ResourceVersion != cached.ResourceVersion {
			return &observation{stale: true}, nil
		}
	}
	switch {
	case m == nil:
		m = r.remember(key, job)
	case m.spec == nil && m.code == "":
		m = r.resolve(m, job)
	}
	//mutation:own-write-not-awaited
	stale := lookup.IsOlder(job.ResourceVersion, m.version)
	obs := &observation{memory: m, code: m.code, message: m.message, stale: stale}
	obs.large, obs.looks, obs.lease = large, looks, lease
	if m.code == "" && job.DeletionTimestamp == nil {
		switch obs.original, err = r.original(ctx, job, lease); {
		case apierrors.IsNotFound(err):
			return &observation{stale: true}, nil // what had the token is gone, and the cache behind
		case err != nil:
			return nil, err
		}
	}
	if obs.tombstone, err = r.tombstone(ctx, job); err != nil {
		return nil, err
	}
	if m.spec != nil {
		m.terminations = plan.ReadTerminations(m.spec, job.Annotations[v1alpha1.AnnotationTerminate], m.terminations)
	}
	obs.Observation = plan.Observation{
		Job: job, Spec: m.spec, Terminations: m.terminations, Pods: own, Refusals: m.refused(), Pending: m.created, ResourceWait: r.options.ResourceWait, Wave: m.batch.Size(),
		Live: job != cached, Taken: m.takenNames(), PodKey: r.keyID(),
	}
	if obs.Live {
		obs.known = r.options.Clock.Now()
	}
	if retry {
		if obs.Unfinished, err = r.unfinished(ctx, job); err != nil {
			return nil, err
		}
	}
	m.forgetSeen(own, r.options.Clock.Now())
	return obs, nil
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
		if pod := &pods.Items[i]; !plan.HasFinished(pod) && (r.owns(job, pod, nil) || r.isSigned(pod)) {
			n++ // it may have been given to another controller
		}
	}
	return n, nil
}

// observeLive puts the job as the API server has it in the place of the cached one.
func (r *Reconciler) observeLive(ctx context.Context, obs *observation) error {
	if obs.large {
		if err := r.take(ctx, obs.lease, obs.Job.Namespace, obs.memory.startedSize); err != nil {
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
func (r *Reconciler) whole(ctx context.Context, job *v1alpha1.BatchJob, lease *lease) (*v1alpha1.BatchJob, error) {
	if !plan.IsOutline(job) {
		return job, nil
	}
	if err := r.take(ctx, lease, job.Namespace, plan.OutlineSize(job)); err != nil {
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

// releaseOrphans lets go of Pods that name a job which is not, or no longer, theirs.
// The cache may be wrong about that, so the API server has the last word.
func (r *Reconciler) releaseOrphans(ctx context.Context, key types.NamespacedName, pods []*corev1.Pod) error {
	if len(pods) == 0 {
		return nil
	}
	var job v1alpha1.BatchJob
	err := r.live.Get(ctx, key, &job)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the job from the API server: %w", err)
	}
	var orphans []*corev1.Pod
	for _, pod := range pods {
		//mutation:orphans-by-cache-alone
		if (apierrors.IsNotFound(err) || !r.owns(&job, pod, nil)) && !r.pool.HoldsNode(pod) {
			orphans = append(orphans, pod)
		}
	}
	//mutation:orphans-keep-finalizer
	_, err = r.release(ctx, key, orphans)
	return err
}
