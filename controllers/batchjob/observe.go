// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// memory is what this process knows of one job beyond what is stored. All of it may be
// lost at any moment: it saves work and waiting, and nothing depends on it.
//
// Only the worker that has the job uses it, so it needs no lock.
type memory struct {
	uid   types.UID
	token tokenKey
	// version is the resource version of our last write to the job, and at its time.
	version string
	at      time.Time
	// spec is what the job resolves to; code and message say why it must not run.
	spec          *resolve.Job
	code, message string
	// created are the Pods that were created and have not been seen since, with the time.
	created map[string]time.Time
	// refusal is why the cluster did not make a Pod, refusals how often in a row that
	// was, and until when it is not asked again.
	refusal  *plan.Refusal
	refusals int
	until    time.Time
}

// observation is what one pass goes by.
type observation struct {
	plan.Observation
	memory *memory
	// code and message are set for a job that must not run.
	code, message string
	// original is the job that runs in the place of this one, which has the same client
	// token; nil for a job that runs itself.
	original *v1alpha1.BatchJob
	// stale says that the cache has not seen our own last write.
	stale bool
}

// observe reads the job and its Pods from the cache. It returns nil when there is
// nothing to do.
func (r *Reconciler) observe(ctx context.Context, key types.NamespacedName) (*observation, error) {
	job := &v1alpha1.BatchJob{}
	err := r.client.Get(ctx, key, job)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the job: %w", err)
	}
	exists := err == nil
	var pods corev1.PodList
	err = r.client.List(ctx, &pods, client.InNamespace(key.Namespace), client.MatchingFields{podsByJob: key.String()})
	if err != nil {
		return nil, fmt.Errorf("listing the job's pods: %w", err)
	}
	var own, foreign []*corev1.Pod
	for i := range pods.Items {
		pod := &pods.Items[i]
		if exists && metav1.IsControlledBy(pod, job) {
			own = append(own, pod)
		} else {
			foreign = append(foreign, pod)
		}
	}
	if err := r.releaseOrphans(ctx, key, foreign); err != nil {
		return nil, err
	}
	if !exists {
		r.forget(key)
		return nil, nil
	}
	if (job.Status.EndTime != nil || isDuplicate(job)) && len(own) == 0 {
		r.forget(key)
		return nil, nil
	}
	m := r.remember(key, job)
	obs := &observation{memory: m, code: m.code, message: m.message, stale: isOlder(job.ResourceVersion, m.version)}
	if m.code == "" && job.DeletionTimestamp == nil {
		if obs.original, err = r.original(ctx, job); err != nil {
			return nil, err
		}
	}
	obs.Observation = plan.Observation{Job: job, Spec: m.spec, Pods: own, Refusal: m.refusal, Pending: m.pending}
	m.forgetSeen(own, r.options.Clock.Now())
	return obs, nil
}

// observeLive puts the job as the API server has it in the place of the cached one.
func (r *Reconciler) observeLive(ctx context.Context, obs *observation) error {
	job := &v1alpha1.BatchJob{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(obs.Job), job); err != nil {
		return fmt.Errorf("reading the job from the API server: %w", err)
	}
	if job.UID != obs.Job.UID {
		return fmt.Errorf("job %s was replaced", obs.Job.UID)
	}
	obs.Job, obs.Live = job, true
	return nil
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
		if apierrors.IsNotFound(err) || !metav1.IsControlledBy(pod, &job) {
			orphans = append(orphans, pod)
		}
	}
	return r.release(ctx, orphans)
}

// remember returns the memory of the job, made anew for an object of another UID.
func (r *Reconciler) remember(key types.NamespacedName, job *v1alpha1.BatchJob) *memory {
	r.mu.Lock()
	m := r.memories[key]
	r.mu.Unlock()
	if m != nil && m.uid == job.UID {
		return m
	}
	m = &memory{uid: job.UID, token: tokenKey{job.Namespace, job.Spec.ClientToken}, created: map[string]time.Time{}}
	if !isAccepted(job) { // what an earlier version accepted goes on
		m.code, m.message = r.options.Validate(job)
	}
	if m.code == "" {
		var err error
		if m.spec, err = resolve.Resolve(job); err != nil {
			m.code, m.message = "InternalError", err.Error()
		}
	}
	r.mu.Lock()
	r.memories[key] = m
	r.mu.Unlock()
	return m
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	m := r.memories[key]
	delete(r.memories, key)
	r.mu.Unlock()
	if m != nil {
		r.tokens.forget(m.token, m.uid)
	}
}

// pending reports whether a Pod was created lately and not seen since.
func (m *memory) pending(name string) bool {
	_, ok := m.created[name]
	return ok
}

// unseen returns when to look for the Pods that were created and have not been seen
// since; 0 when there is none. One that is taken away at once may never be seen, and
// then no event tells of it.
func (m *memory) unseen(now time.Time) time.Duration {
	var first time.Duration
	for _, at := range m.created {
		first = soonest(first, max(at.Add(cacheLag).Sub(now), 1))
	}
	return first
}

// forgetSeen drops what the cache has caught up with, and what it should have.
func (m *memory) forgetSeen(pods []*corev1.Pod, now time.Time) {
	if len(m.created) == 0 {
		return
	}
	for _, pod := range pods {
		delete(m.created, pod.Name)
	}
	for name, at := range m.created {
		if now.Sub(at) >= cacheLag {
			delete(m.created, name)
		}
	}
}

// isOlder reports whether resource version a was given out before b. An empty b, of a
// job that was not written yet, is before all.
func isOlder(a, b string) bool {
	if b == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
