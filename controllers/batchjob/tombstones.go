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

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/plan"
)

// maxTombstones bounds the tombstones of a namespace, of some 200 bytes each: the oldest are removed.
const maxTombstones = 1000

// tombstones stores the results of jobs that were deleted after their TTL, in a ConfigMap of each namespace. So a
// manifest that is applied again shows the old result and runs nothing. Its methods may be called concurrently.
type tombstones struct {
	client  client.Client
	live    client.Reader
	clock   clock.PassiveClock
	metrics *metrics.Jobs

	mu sync.Mutex // serializes writes, which would otherwise conflict
}

// of returns the tombstone of the same request under the same name; nil if there is none. A job without a TTL has no
// tombstone, so nothing is read for it.
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
		return nil, nil // no tombstone, or a text that the operator did not write
	}
	digest, err := plan.Digest(job)
	if err != nil || digest != stone.Request {
		return nil, err
	}
	return &stone, nil
}

// read reads the ConfigMap of a namespace. It returns an empty one if it does not exist.
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
	// Entries that are no tombstones would only fill up the ConfigMap.
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

// dropOldest removes all but maxTombstones, of the jobs that ended last.
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
