// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// apply applies a plan whose status is stored: it deletes and creates Pods, and removes the finalizers of those whose
// outcome is stored. It returns the time after which to requeue the job; 0 after an error that is retried with a
// backoff.
func (r *Reconciler) apply(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	obs.recorded = true
	deleteErr := r.podClient.deleteAll(ctx, keyOf(&obs.Job.ObjectMeta), p.Delete)
	terminating, others, young := r.removableFinalizers(obs, p, deleteErr)
	var again time.Duration
	var createErr, removeErr error
	r.podClient.limits.Concurrently(
		func() { again, createErr = r.creator.create(ctx, obs, p) },
		func() { removeErr = r.removeFinalizersOf(ctx, obs, others) },
	)
	removeErr = errors.Join(removeErr, r.removeFinalizersOf(ctx, obs, terminating))
	r.metrics.measure(obs, p, removeErr == nil && young == 0)
	err := errors.Join(deleteErr, createErr, removeErr)
	if err != nil {
		if class, _ := retry.Of(err); class != retry.Wait {
			return 0, err
		}
	}
	if p.Expire {
		return r.expire(ctx, obs.Job)
	}
	//mutation:missing-pod-not-looked-for
	unseen := obs.state.lookForCreated(r.options.Clock.Now())
	return soonest(p.RequeueAfter, again, unseen, young, obs.wait), err
}

// justMetadata returns an object for a request whose answer needs only the metadata.
func justMetadata(kind schema.GroupVersionKind, o client.Object) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}}
	out.SetGroupVersionKind(kind)
	return out
}

func keyOf(meta *metav1.ObjectMeta) types.NamespacedName {
	return types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
}

func isSubset(part, whole map[string]string) bool {
	for k, v := range part {
		if whole[k] != v {
			return false
		}
	}
	return true
}

// ignoreOther returns nil for an error that says that the Pod does not exist, or that its name belongs to another Pod
// now.
func ignoreOther(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// soonest returns the shortest of the durations that are not 0.
func soonest(ds ...time.Duration) time.Duration {
	var out time.Duration
	for _, d := range ds {
		if d > 0 && (out == 0 || d < out) {
			out = d
		}
	}
	return out
}
