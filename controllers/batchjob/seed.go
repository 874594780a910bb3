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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/slots"
)

// errNotCaughtUp says that the cache is behind what the API server had when it was asked.
var errNotCaughtUp = errors.New("the cache has not caught up with the API server yet")

// seed counts, before the first node of a namespace is given out, what all its jobs have,
// and what is still under way of jobs that are gone. The cache may have begun behind the
// last claims of the process before, so it is compared with the API server first.
func (r *Reconciler) seed(ctx context.Context, namespace string) error {
	r.seeds.Lock()
	defer r.seeds.Unlock()
	if r.seeded[namespace] {
		return nil
	}
	jobs, err := r.caughtUp(ctx, namespace)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if err := r.seedJob(ctx, job); err != nil {
			return err
		}
	}
	if err := r.seedGone(ctx, namespace, jobs); err != nil {
		return err
	}
	r.seeded[namespace] = true
	return nil
}

// caughtUp returns the jobs of a namespace by UID, if those in the cache are no older than
// those that the API server has.
func (r *Reconciler) caughtUp(ctx context.Context, namespace string) (map[types.UID]*v1alpha1.BatchJob, error) {
	live, err := r.fence(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var cached v1alpha1.BatchJobList
	if err := r.client.List(ctx, &cached, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the namespace's jobs: %w", err)
	}
	byUID := make(map[types.UID]*v1alpha1.BatchJob, len(cached.Items))
	for i := range cached.Items {
		byUID[cached.Items[i].UID] = &cached.Items[i]
	}
	for uid, was := range live {
		job := byUID[uid]
		if job == nil && r.isGone(ctx, was) {
			continue
		}
		if job == nil || isOlder(job.ResourceVersion, was.ResourceVersion) {
			return nil, errNotCaughtUp
		}
	}
	delete(r.fences, namespace)
	return byUID, nil
}

// fence returns the jobs of a namespace as the API server had them when that was asked first:
// what is newer than that is known to be no claim of the process before.
func (r *Reconciler) fence(ctx context.Context, namespace string) (map[types.UID]*metav1.PartialObjectMetadata, error) {
	if known := r.fences[namespace]; known != nil {
		return known, nil
	}
	live := &metav1.PartialObjectMetadataList{}
	live.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BatchJobList"))
	if err := r.live.List(ctx, live, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing the namespace's jobs from the API server: %w", err)
	}
	known := make(map[types.UID]*metav1.PartialObjectMetadata, len(live.Items))
	for i := range live.Items {
		known[live.Items[i].UID] = &live.Items[i]
	}
	r.fences[namespace] = known
	return known, nil
}

// isGone reports whether a job that the cache does not show has been deleted.
func (r *Reconciler) isGone(ctx context.Context, was *metav1.PartialObjectMetadata) bool {
	now := &metav1.PartialObjectMetadata{}
	now.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BatchJob"))
	err := r.live.Get(ctx, client.ObjectKeyFromObject(was), now)
	return apierrors.IsNotFound(err) || err == nil && now.UID != was.UID
}

// seedJob counts what a job has. Of one that is idle that is nothing; of another the cache may have but
// an outline.
func (r *Reconciler) seedJob(ctx context.Context, job *v1alpha1.BatchJob) error {
	if plan.IsIdle(job) || len(resolve.EnvIDs(job)) == 0 {
		return nil
	}
	cached := job
	// One is read at a time. To wait for memory here could be for ever: those who have it may wait for seeds.
	job, err := r.whole(ctx, cached, unlimited())
	if apierrors.IsNotFound(err) || err == nil && isOlder(job.ResourceVersion, cached.ResourceVersion) {
		return errNotCaughtUp
	}
	if err != nil {
		return err
	}
	refs := map[string]string{} // by the name of the task
	for i := range job.Spec.Job.Tasks {
		if t := &job.Spec.Job.Tasks[i]; t.EnvID != "" {
			name := t.TaskName
			if name == "" {
				name = v1alpha1.DefaultTaskName
			}
			refs[name] = t.EnvID
		}
	}
	if len(refs) == 0 {
		return nil
	}
	have := map[string]int{}
	for i := range job.Status.Tasks {
		s := &job.Status.Tasks[i]
		if n := plan.Claims(s); n > 0 && refs[s.Name] != "" {
			have[refs[s.Name]] += n
		}
	}
	byName := map[string]int{}
	for ref, n := range have {
		env, err := lookup.Env(ctx, r.client, job.Namespace, ref)
		if err != nil {
			return err
		}
		if env != nil {
			byName[env.Name] += n
		}
	}
	place := placeOf(job)
	for name, n := range byName {
		r.options.Slots.Settle(types.NamespacedName{Namespace: job.Namespace, Name: name}, place, n, 0)
		r.markGone(place.Job, string(place.UID)) // if it goes before it was looked at, nobody else knows
	}
	return nil
}

// seedGone counts the Pods that may still run of jobs that are gone.
func (r *Reconciler) seedGone(ctx context.Context, namespace string, jobs map[types.UID]*v1alpha1.BatchJob) error {
	var pods corev1.PodList
	if err := r.live.List(ctx, &pods, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelEnvID, v1alpha1.LabelTracked}); err != nil {
		return fmt.Errorf("listing the namespace's pods from the API server: %w", err)
	}
	here, counted := make(map[string]bool, len(jobs)), map[string]bool{}
	for uid := range jobs {
		here[naming.JobID(uid)] = true
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		owner, id := metav1.GetControllerOf(pod), pod.Labels[v1alpha1.LabelJobID]
		if counted[id] || !r.holdsNode(pod) || owner != nil && jobs[owner.UID] != nil || owner == nil && here[id] {
			continue
		}
		counted[id] = true
		if err := r.settleGone(ctx, requestForPod(pod), id); err != nil {
			return err
		}
	}
	return nil
}

// settleGone counts anew what is still under way of the job with this identifier, which is
// gone.
func (r *Reconciler) settleGone(ctx context.Context, key types.NamespacedName, id string) error {
	var pods corev1.PodList
	if err := r.live.List(ctx, &pods, client.InNamespace(key.Namespace), client.MatchingLabels{v1alpha1.LabelJobID: id, v1alpha1.LabelTracked: "true"}); err != nil {
		return fmt.Errorf("listing the pods of a job that is gone: %w", err)
	}
	place := slots.Place{Job: key, UID: types.UID(id)}
	have, total := r.options.Slots.Held(place.UID), 0
	for name := range have {
		have[name] = 0
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !r.holdsNode(pod) {
			continue
		}
		env, err := lookup.Env(ctx, r.client, key.Namespace, pod.Labels[v1alpha1.LabelEnvID])
		if err != nil {
			return err
		}
		if env != nil {
			have[types.NamespacedName{Namespace: key.Namespace, Name: env.Name}]++
			total++
		}
	}
	for name, n := range have {
		r.options.Slots.Settle(name, place, n, 0)
	}
	if total > 0 {
		r.markGone(key, id)
	} else {
		r.unmarkGone(key, id)
	}
	return nil
}

// holdsNode reports whether the Pod has a node of a ComputeEnv. Labels are not enough for that: it
// must be held by the operator, and made by it.
func (r *Reconciler) holdsNode(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) && (r.key.Load() == nil || r.isSigned(pod)) &&
		plan.HoldsNode(pod, r.options.Clock.Now())
}

// markGone remembers that a job of this name and identifier has nodes and may be gone.
func (r *Reconciler) markGone(key types.NamespacedName, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone[key] == nil {
		r.gone[key] = map[string]bool{}
	}
	r.gone[key][id] = true
}

func (r *Reconciler) unmarkGone(key types.NamespacedName, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.gone[key], id)
	if len(r.gone[key]) == 0 {
		delete(r.gone, key)
	}
}

// settleAllGone does so for all jobs that had this name before the one with UID current; pods
// are Pods of theirs.
func (r *Reconciler) settleAllGone(ctx context.Context, key types.NamespacedName, current types.UID, pods []*corev1.Pod) error {
	ids := map[string]bool{}
	r.mu.Lock()
	maps.Copy(ids, r.gone[key])
	if m := r.memories[key]; m != nil && m.usesEnvs && m.uid != current {
		ids[naming.JobID(m.uid)] = true
	}
	r.mu.Unlock()
	for _, pod := range pods {
		if r.holdsNode(pod) {
			ids[pod.Labels[v1alpha1.LabelJobID]] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if here := naming.JobID(current); current != "" && ids[here] {
		delete(ids, here)
		r.unmarkGone(key, here)
	}
	for id := range ids {
		if err := r.settleGone(ctx, key, id); err != nil {
			return err
		}
	}
	return nil
}

// goneWait is when to look again at Pods of jobs that are gone; 0 when there are none. They
// tell of their end themselves, unless somebody took their labels off.
func (r *Reconciler) goneWait(key types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.gone[key]) > 0 {
		return cacheLag
	}
	return 0
}
