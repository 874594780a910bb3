// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
)

// maxTombstones bounds what is kept in one namespace, some 200 bytes each: the oldest go.
const maxTombstones = 1000

// tombstone returns that of a job which asks for what ran before under its name, else nil.
// Only a job that would be deleted for its age can have been, so no other is asked for.
func (r *Reconciler) tombstone(ctx context.Context, job *v1alpha1.BatchJob) (*plan.Tombstone, error) {
	if job.Status.State != "" || job.Spec.TTLSecondsAfterFinished == nil || job.DeletionTimestamp != nil {
		return nil, nil
	}
	stones, err := r.tombstones(ctx, job.Namespace)
	if err != nil {
		return nil, err
	}
	text, ok := stones.Data[job.Name]
	if !ok {
		return nil, nil
	}
	var t plan.Tombstone
	if bad := json.Unmarshal([]byte(text), &t); bad != nil {
		t = plan.Tombstone{} // somebody's own words: they stand for no request
	}
	digest, err := plan.Digest(job)
	if err != nil || digest != t.Request {
		return nil, err
	}
	return &t, nil
}

// tombstones reads those of a namespace; it is an empty ConfigMap where there are none.
func (r *Reconciler) tombstones(ctx context.Context, namespace string) (*corev1.ConfigMap, error) {
	stones := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: namespace, Name: v1alpha1.TombstonesName}
	if err := r.live.Get(ctx, key, stones); apierrors.IsNotFound(err) {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.TombstonesName}}, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading the tombstones of namespace %s: %w", namespace, err)
	}
	return stones, nil
}

// expire notes what became of the job and deletes it, if it is still as it was seen.
func (r *Reconciler) expire(ctx context.Context, job *v1alpha1.BatchJob) error {
	lease := &lease{}
	defer lease.end()
	whole, err := r.whole(ctx, job, lease)
	switch {
	case err != nil:
		return client.IgnoreNotFound(err)
	case whole.ResourceVersion != job.ResourceVersion:
		return nil // it has changed, and that event is on the way
	}
	if err := r.bury(ctx, whole); err != nil {
		return err
	}
	err = r.client.Delete(ctx, &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name}},
		client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	r.options.Metrics.Wrote("delete", "batchjobs", err)
	if apierrors.IsConflict(err) {
		return nil // it has changed, and that event is on the way
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the job after its ttlSecondsAfterFinished: %w", err)
	}
	return nil
}

// bury makes the tombstone of a job.
func (r *Reconciler) bury(ctx context.Context, job *v1alpha1.BatchJob) error {
	t, err := plan.TombstoneOf(job)
	if err != nil {
		return err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encoding a tombstone: %w", err)
	}
	r.tombs.Lock()
	defer r.tombs.Unlock()
	stones, err := r.tombstones(ctx, job.Namespace)
	if err != nil {
		return err
	}
	if stones.Data[job.Name] == string(text) {
		return nil
	}
	if stones.Data == nil {
		stones.Data = map[string]string{}
	}
	stones.Data[job.Name] = string(text)
	dropOldest(stones.Data)
	verb, write := "update", func() error { return r.client.Update(ctx, stones) }
	if stones.ResourceVersion == "" {
		verb, write = "create", func() error { return r.client.Create(ctx, stones) }
	}
	err = write()
	r.options.Metrics.Wrote(verb, "configmaps", err)
	if err != nil {
		return fmt.Errorf("storing a tombstone: %w", err)
	}
	return nil
}

// dropOldest keeps the maxTombstones that ended last. What is no tombstone goes first.
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
