// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/delivery"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// notifier connects jobs with the dispatcher of their events, and keeps the finalizer of jobs whose events are to be sent
// when they are deleted.
type notifier struct {
	dispatcher *delivery.Dispatcher // nil: no events are sent
	client     client.Client
	metrics    *jobMetrics
}

// delivery returns what became of the events of a job; nil if none are sent.
func (n *notifier) delivery(job *v1alpha1.BatchJob) *plan.Delivery {
	if n.dispatcher == nil || !n.dispatcher.Enabled() && !plan.OwesEvents(&job.Status) {
		return nil
	}
	return n.dispatcher.Report(keyOf(&job.ObjectMeta), job.UID)
}

// concerns reports whether a finished job needs passes for its notifications.
func (n *notifier) concerns(job *v1alpha1.BatchJob) bool {
	return plan.HasNotificationFinalizer(job) || n.dispatcher != nil && plan.OwesEvents(&job.Status)
}

// isUnknown reports whether the dispatcher does not know the events of a job.
func (n *notifier) isUnknown(job *v1alpha1.BatchJob) bool {
	return n.dispatcher != nil && plan.OwesEvents(&job.Status) && !n.dispatcher.Knows(keyOf(&job.ObjectMeta), job.UID)
}

// hold adds the finalizer to a job that may get pending events, before the first are stored. It changes the observation
// to the version of the job that has the finalizer.
func (n *notifier) hold(ctx context.Context, obs *observation) error {
	job := obs.Job
	if obs.Delivery == nil || obs.Spec == nil || len(obs.Spec.Notifications) == 0 || obs.code != "" || obs.original != nil || obs.tombstone != nil ||
		plan.HasNotificationFinalizer(job) || job.DeletionTimestamp != nil || plan.HasEnded(&job.Status) && !plan.RetryDue(job) {
		return nil
	}
	held := *job // the cache shares its objects
	held.Finalizers = append(slices.Clone(job.Finalizers), v1alpha1.FinalizerNotifications)
	version, err := n.patchFinalizers(ctx, job, job.ResourceVersion, held.Finalizers)
	if err != nil {
		return err
	}
	held.ResourceVersion = version
	obs.Job, obs.state.version = &held, version
	return nil
}

// finish gives the dispatcher the stored status of a job at the end of a pass, and removes the finalizer if it is not
// needed any more. emit is called if events of a deleted job are not sent.
func (n *notifier) finish(ctx context.Context, obs *observation, now time.Time, emit func(job *v1alpha1.BatchJob, reason, message string)) error {
	job, status, version := obs.Job, &obs.Job.Status, obs.Job.ResourceVersion
	if obs.wrote {
		status, version = obs.stored, obs.state.version
	}
	if n.dispatcher != nil {
		n.dispatcher.Update(keyOf(&job.ObjectMeta), deliveryObject(job, status.Notifications, version))
	}
	if !plan.HasNotificationFinalizer(job) || plan.NeedsNotificationFinalizer(job, status, obs.Delivery != nil, now) {
		return nil
	}
	if job.DeletionTimestamp != nil && plan.OwesEvents(status) {
		emit(job, v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("the job is deleted, and %d events of its notifications were not sent in %s: %s",
			status.Notifications.Pending, plan.DeletionWait, plan.WhyPending(status.Notifications)))
	}
	left := slices.DeleteFunc(slices.Clone(job.Finalizers), func(f string) bool { return f == v1alpha1.FinalizerNotifications })
	version, err := n.patchFinalizers(ctx, job, version, left)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	obs.state.version = version
	return nil
}

// patchFinalizers replaces the finalizers of a job that has this version, and returns its new one.
func (n *notifier) patchFinalizers(ctx context.Context, job *v1alpha1.BatchJob, version string, finalizers []string) (string, error) {
	if finalizers == nil {
		finalizers = []string{}
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version, "finalizers": finalizers}})
	if err != nil {
		return "", fmt.Errorf("encoding the finalizers: %w", err)
	}
	stored := justMetadata(v1alpha1.GroupVersion.WithKind("BatchJob"), job)
	err = n.client.Patch(ctx, stored, client.RawPatch(types.MergePatchType, body))
	n.metrics.Wrote("patch", "batchjobs", err)
	switch {
	case apierrors.IsConflict(err):
		return "", retry.After(staleRetry, err)
	case err != nil:
		return "", ifDeleted(fmt.Errorf("changing the finalizers of the job: %w", err))
	}
	return stored.ResourceVersion, nil
}

// deliveryObject returns what sending needs of a job with this status and version, except for the Source.
func deliveryObject(job *v1alpha1.BatchJob, status *v1alpha1.NotificationStatus, version string) *delivery.Object {
	return &delivery.Object{
		UID: job.UID, Version: version, SinkURL: job.Annotations[v1alpha1.AnnotationNotificationSink],
		Notifications: job.Spec.Job.Notifications, Status: status,
	}
}

// readForDelivery returns what sending needs of the job of a name. It reads the job from the API server if the cache has
// only an outline.
func (r *Reconciler) readForDelivery(ctx context.Context, name types.NamespacedName) (*delivery.Object, error) {
	job := &v1alpha1.BatchJob{}
	if err := r.client.Get(ctx, name, job); err != nil {
		return nil, fmt.Errorf("reading the job: %w", err)
	}
	lease := &memoryLease{}
	defer lease.end()
	job, err := r.reader.whole(ctx, job, lease)
	if err != nil {
		return nil, err
	}
	return sourceOf(job), nil
}

// sourceOf returns what sending needs of a whole job.
func sourceOf(job *v1alpha1.BatchJob) *delivery.Object {
	o, source := deliveryObject(job, job.Status.Notifications, job.ResourceVersion), backlog.JobOf(job)
	o.Source = &source
	return o
}
