// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// verify asks the API server for claimed Pods that the cache does not have. It repairs the metadata of those that
// exist, and adds to the observation which do not exist, and which names belong to other Pods.
func (r *Reconciler) verify(ctx context.Context, obs *observation, instances []resolve.Instance) error {
	var mu sync.Mutex
	absent := map[string]bool{}
	// The cached job may be older than its deletion. A Pod that was orphaned by the deletion must not get its owner
	// reference back.
	mayAdopt := sync.OnceValue(func() bool {
		job, err := r.reader.current(ctx, obs.Job)
		return err == nil && job.DeletionTimestamp == nil
	})
	err := r.podClient.limits.For(keyOf(&obs.Job.ObjectMeta), len(instances)).Get.Do(len(instances), func(i int) error {
		want := podspec.Meta(obs.Job, obs.Spec, instances[i], obs.env(instances[i]))
		r.key.sign(&want)
		pod := &corev1.Pod{}
		err := r.live.Get(ctx, keyOf(&want), pod)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading pod %s from the API server: %w", want.Name, err)
		}
		missing, ours := err != nil, err == nil && r.key.ownsName(obs.Job, pod, obs.state.proven)
		if err == nil && !ours {
			if err := r.podClient.disown(ctx, pod); err != nil {
				return err
			}
		}
		if ours {
			owned := metav1.GetControllerOfNoCopy(pod) != nil
			if err := r.podClient.repair(ctx, pod, &want, !owned && mayAdopt()); errors.Is(err, errPodTerminating) {
				missing = true
			} else if client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case missing:
			absent[want.Name] = true
		case ours:
			delete(obs.state.conflicts, want.Name)
		//mutation:disowned-pod-is-gone
		case plan.HasFinished(pod):
			absent[want.Name] = true
		default:
			obs.state.noteConflict(nameConflictWith(pod), r.options.Clock.Now())
		}
		return nil
	})
	obs.Absent, obs.NameConflicts = absent, obs.state.nameConflicts()
	return err
}
