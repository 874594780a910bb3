// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package computeenv

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/delivery"
	"batchcompute.dev/operator/internal/plan"
)

// notifier connects ComputeEnvs with the dispatcher of their events.
type notifier struct {
	dispatcher *delivery.Dispatcher // nil: no events are sent
	recorder   events.EventRecorder
}

// delivery returns what became of the events of a ComputeEnv; nil if none are sent.
func (n *notifier) delivery(env *v1alpha1.ComputeEnv) *plan.Delivery {
	owes := plan.EnvOwesEvents(&env.Status)
	if n.dispatcher == nil || !owes && (!n.dispatcher.Enabled() || len(env.Spec.Notifications) == 0 && env.Status.Notifications == nil) {
		return nil
	}
	return n.dispatcher.Report(client.ObjectKeyFromObject(env), env.UID)
}

// update gives the dispatcher the stored status of a ComputeEnv, which has this version.
func (n *notifier) update(env *v1alpha1.ComputeEnv, status *v1alpha1.ComputeEnvStatus, version string) {
	if n.dispatcher != nil {
		n.dispatcher.Update(client.ObjectKeyFromObject(env), deliveryObject(env, status, version))
	}
}

// forget forgets a ComputeEnv that was deleted.
func (n *notifier) forget(key types.NamespacedName) {
	if n.dispatcher != nil {
		n.dispatcher.Forget(key)
	}
}

// report emits the Events that plan.NoteEnvEvents returned.
func (n *notifier) report(env *v1alpha1.ComputeEnv, list []plan.Event) {
	for i := range list {
		n.recorder.Eventf(env, nil, corev1.EventTypeWarning, list[i].Reason, "Reconcile", "%s", list[i].Message)
	}
}

// deliveryObject returns what sending needs of a ComputeEnv with this status and version, except for the Source.
func deliveryObject(env *v1alpha1.ComputeEnv, status *v1alpha1.ComputeEnvStatus, version string) *delivery.Object {
	return &delivery.Object{
		UID: env.UID, Version: version, SinkURL: env.Annotations[v1alpha1.AnnotationNotificationSink],
		Notifications: env.Spec.Notifications, Status: status.Notifications,
	}
}

// readForDelivery returns what sending needs of the ComputeEnv of a name.
func (r *Reconciler) readForDelivery(ctx context.Context, name types.NamespacedName) (*delivery.Object, error) {
	env := &v1alpha1.ComputeEnv{}
	if err := r.client.Get(ctx, name, env); err != nil {
		return nil, fmt.Errorf("reading the ComputeEnv: %w", err)
	}
	o, source := deliveryObject(env, &env.Status, env.ResourceVersion), backlog.EnvOf(env)
	o.Source = &source
	return o, nil
}

// finish ends a pass whose status is stored: it gives the dispatcher the events, and removes the finalizer if it is not
// needed any more. It returns how long the finalizer is needed, if time ends that; else 0.
func (r *Reconciler) finish(ctx context.Context, obs *observation) (time.Duration, error) {
	env, now := obs.env, r.options.Clock.Now()
	r.notifier.update(env, obs.stored, obs.version)
	if !slices.Contains(env.Finalizers, v1alpha1.FinalizerNotifications) {
		return 0, nil
	}
	hold, left := plan.EnvNotificationHold(env, obs.stored, obs.delivery != nil, now)
	if hold {
		return left, nil
	}
	if env.DeletionTimestamp != nil && plan.EnvOwesEvents(obs.stored) {
		r.notifier.report(env, []plan.Event{{Reason: v1alpha1.ReasonEventsGivenUp, Message: fmt.Sprintf(
			"the ComputeEnv is deleted, and %d events of its notifications were not sent in %s: %s",
			obs.stored.Notifications.Pending, plan.DeletionWait, plan.WhyPending(obs.stored.Notifications))}})
	}
	return 0, r.replaceFinalizers(ctx, obs, without(env.Finalizers, v1alpha1.FinalizerNotifications))
}

// without returns a copy of a list without a value; it is not nil.
func without(list []string, value string) []string {
	out := make([]string, 0, len(list)+1)
	for _, v := range list {
		if v != value {
			out = append(out, v)
		}
	}
	return out
}
