// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/sanitize"
)

// maxTombstones bounds what is kept in one namespace, some 200 bytes each: the oldest go.
const maxTombstones = 1000

// tombstones are what is kept of jobs that were deleted for their age, in one ConfigMap of each namespace. Its
// methods may be called concurrently.
type tombstones struct {
	client  client.Client
	live    client.Reader
	clock   clock.PassiveClock
	metrics *metrics.Jobs

	mu sync.Mutex // one writer at a time saves conflicts
}

// of returns the tombstone of a job which asks for what ran before under its name, else nil.
// Only a job that would be deleted for its age can have been, so no other is asked for.
func (t *tombstones) of(ctx context.Context, job *v1alpha1.BatchJob) (*plan.Tombstone, error) {
	if job.Status.State != "" || job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return nil, nil
	}
	stones, err := t.read(ctx, job.Namespace)
	if err != nil {
		return nil, err
	}
	stone, ok := plan.ParseTombstone(stones.Data[job.Name], t.clock.Now())
	if !ok {
		return nil, nil // there is none, or it is somebody's own words: they stand for no request
	}
	digest, err := plan.Digest(job)
	if err != nil || digest != stone.Request {
		return nil, err
	}
	return &stone, nil
}

// read reads those of a namespace; it is an empty ConfigMap where there are none.
func (t *tombstones) read(ctx context.Context, namespace string) (*corev1.ConfigMap, error) {
	stones := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: namespace, Name: v1alpha1.TombstonesName}
	if err := t.live.Get(ctx, key, stones); apierrors.IsNotFound(err) {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.TombstonesName}}, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading the tombstones of namespace %s: %w", namespace, err)
	}
	return stones, nil
}

// expire notes what became of the job and deletes it, if it is still as it was seen. It returns when
// to try again where that cannot be noted.
func (r *Reconciler) expire(ctx context.Context, job *v1alpha1.BatchJob) (time.Duration, error) {
	lease := &memoryLease{}
	defer lease.end()
	whole, err := r.readWhole(ctx, job, lease)
	switch {
	case err != nil:
		return 0, client.IgnoreNotFound(err)
	case whole.ResourceVersion != job.ResourceVersion:
		return 0, nil // it has changed, and that event is on the way
	}
	refusal := r.tombstones.store(ctx, whole)
	if apierrors.IsConflict(refusal) || apierrors.IsAlreadyExists(refusal) {
		return 0, refusal
	}
	if refusal != nil {
		if wait, err := r.delayDeletion(ctx, whole, refusal); wait > 0 || err != nil {
			return wait, err
		}
	}
	err = r.client.Delete(ctx, &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name}},
		client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	r.options.Metrics.Wrote("delete", "batchjobs", err)
	if apierrors.IsConflict(err) {
		return 0, nil // it has changed, and that event is on the way
	}
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("deleting the job after its ttlSecondsAfterFinished: %w", err)
	}
	if refusal != nil {
		r.warn(whole, v1alpha1.ReasonTombstoneRefused, fmt.Sprintf("deleted after its ttlSecondsAfterFinished; a manifest that is applied again will run again, since ConfigMap %s cannot be written: %v",
			v1alpha1.TombstonesName, refusal))
	}
	return 0, nil
}

// A job whose result cannot be stored in the ConfigMap is deleted even so, but only when
// deletionDelay has passed since its status said so; till then it is tried each tombstoneRetry.
const (
	deletionDelay  = 5 * time.Minute
	tombstoneRetry = time.Minute
)

// delayDeletion says in the job's status, and with an event, that its tombstone cannot be stored: a
// quota, a policy, a ConfigMap that somebody made immutable. It returns how long to wait before the
// next try; 0 when the deletion is to be delayed no longer.
func (r *Reconciler) delayDeletion(ctx context.Context, job *v1alpha1.BatchJob, refusal error) (time.Duration, error) {
	now := r.options.Clock.Now()
	if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionDeletionDelayed); c != nil && c.Status == metav1.ConditionTrue {
		left := c.LastTransitionTime.Add(deletionDelay).Sub(now)
		return max(min(left, tombstoneRetry), 0), nil
	}
	next := job.Status.DeepCopy()
	message := sanitize.Message(fmt.Sprintf("ConfigMap %[1]s cannot be written; delete it or allow the write, else the job is deleted at %[2]s all the same, and a manifest that is applied again runs again: %[3]v",
		v1alpha1.TombstonesName, now.Add(deletionDelay).UTC().Format(time.RFC3339), refusal))
	conditions.OfBatchJob(next, job.Generation, now).True(v1alpha1.ConditionDeletionDelayed, v1alpha1.ReasonTombstoneRefused, message)
	if _, err := r.store(ctx, &observation{Observation: plan.Observation{Job: job}, state: &jobState{}}, next); err != nil {
		return 0, fmt.Errorf("storing why the job is not deleted after its ttlSecondsAfterFinished: %w", err)
	}
	r.warn(job, v1alpha1.ReasonTombstoneRefused, message)
	return tombstoneRetry, nil
}

// warn tells of trouble with a job that has ended.
func (r *Reconciler) warn(job *v1alpha1.BatchJob, reason, message string) {
	r.recorder.Eventf(job, nil, corev1.EventTypeWarning, reason, "Reconcile", "%s", sanitize.Message(message))
}

// store stores the tombstone of a job.
func (t *tombstones) store(ctx context.Context, job *v1alpha1.BatchJob) error {
	stone, err := plan.TombstoneOf(job)
	if err != nil {
		return err
	}
	text, err := json.Marshal(stone)
	if err != nil {
		return fmt.Errorf("encoding a tombstone: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	stones, err := t.read(ctx, job.Namespace)
	if err != nil {
		return err
	}
	if stones.Data[job.Name] == string(text) {
		return nil
	}
	// What is no tombstone would only take room.
	now := t.clock.Now()
	maps.DeleteFunc(stones.Data, func(_, text string) bool {
		_, ok := plan.ParseTombstone(text, now)
		return !ok
	})
	stones.BinaryData = nil
	if stones.Data == nil {
		stones.Data = map[string]string{}
	}
	stones.Data[job.Name] = string(text)
	dropOldest(stones.Data)
	verb, write := "update", func() error { return t.client.Update(ctx, stones) }
	if stones.ResourceVersion == "" {
		verb, write = "create", func() error { return t.client.Create(ctx, stones) }
	}
	err = write()
	t.metrics.Wrote(verb, "configmaps", err)
	if err != nil {
		return fmt.Errorf("storing a tombstone: %w", err)
	}
	return nil
}

// dropOldest keeps the maxTombstones that ended last.
func dropOldest(stones map[string]string) {
	if len(stones) <= maxTombstones {
		return
	}
	type aged struct {
		name string
		end  metav1.Time
	}
	list := make([]aged, 0, len(stones))
	for name, text := range stones {
		var t plan.Tombstone
		_ = json.Unmarshal([]byte(text), &t) // the zero time is the oldest
		list = append(list, aged{name, t.EndTime})
	}
	slices.SortFunc(list, func(a, b aged) int { return cmp.Or(a.end.Compare(b.end.Time), cmp.Compare(a.name, b.name)) })
	for _, a := range list[:len(list)-maxTombstones] {
		delete(stones, a.name)
	}
}
