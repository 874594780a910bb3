// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
)

// NoteEnvEvents updates the part of the next status of a ComputeEnv that is about notifications: with the events of what
// the rest of next changes, and with what became of those that are stored. used says that a job uses the ComputeEnv. d
// is nil if no events are sent; then nothing changes. It returns the Events that say what went wrong.
//
// A ComputeEnv is created when its status is written for the first time. Its nodes are those from 0 to
// desiredComputeNodeCount-1; the occurrence of their events is the generation that asks for it, in which a node is
// created or deleted once at most. It is deleted, with the nodes that are left, when that was asked for and no job uses
// it; nothing is announced after that.
func NoteEnvEvents(env *v1alpha1.ComputeEnv, next *v1alpha1.ComputeEnvStatus, d *Delivery, used bool, now time.Time) []Event {
	list := env.Spec.Notifications
	if d == nil || len(list) == 0 && next.Notifications == nil {
		return nil
	}
	n := notes{list: list, delivery: d, numbering: backlog.EnvNumbering(), old: cmp.Or(next.Notifications, &v1alpha1.NotificationStatus{})}
	n.out.Announced = n.old.Announced
	var due []backlog.Entry
	if len(list) > 0 && !hasAnnouncedDeletion(n.old) {
		deleted := env.DeletionTimestamp != nil && !used
		due = envEvents(&env.Status, next, deleted, now)
		if deleted {
			n.out.Announced = []v1alpha1.AnnouncedEvents{{EventName: string(event.ComputeEnvDeleted)}}
		}
	}
	n.update(due)
	n.setNotified(conditions.OfComputeEnv(next, next.ObservedGeneration, now), env.Status.Conditions, n.out.Sent > 0)
	next.Notifications = n.result()
	return n.boundedEvents()
}

// envEvents returns the events of a change of the status. deleted says that the ComputeEnv has no nodes any more.
func envEvents(old, next *v1alpha1.ComputeEnvStatus, deleted bool, now time.Time) []backlog.Entry {
	var out []backlog.Entry
	add := func(name event.Name, generation int64, numbers ranges.Set) {
		out = append(out, backlog.Entry{Key: backlog.Key{Name: name, Attempt: int(generation)}, Numbers: numbers, Time: seconds(now).Time})
	}
	if old.ObservedGeneration == 0 {
		add(event.ComputeEnvCreated, 0, ranges.Of(0))
	}
	was, is := int(old.DesiredComputeNodeCount), int(next.DesiredComputeNodeCount)
	if deleted {
		is = 0
	}
	if is > was {
		added := ranges.Span(was, is-1)
		add(event.ComputeNodeCreated, next.ObservedGeneration, added)
		add(event.ComputeNodeRunning, next.ObservedGeneration, added)
	}
	if is < was {
		add(event.ComputeNodeDeleting, next.ObservedGeneration, ranges.Span(is, was-1))
	}
	if deleted {
		add(event.ComputeEnvDeleted, 0, ranges.Of(0))
	}
	return out
}

func hasAnnouncedDeletion(s *v1alpha1.NotificationStatus) bool {
	return s != nil && slices.ContainsFunc(s.Announced, func(a v1alpha1.AnnouncedEvents) bool { return a.EventName == string(event.ComputeEnvDeleted) })
}

// EnvOwesEvents reports whether the receivers of a ComputeEnv's notifications have not acknowledged all events.
func EnvOwesEvents(s *v1alpha1.ComputeEnvStatus) bool { return owes(s.Notifications) }

// EnvNotificationHold returns whether the ComputeEnv with this stored status must be kept from being deleted for its
// events, by v1alpha1.FinalizerNotifications, and if it is only for a time, how long; sending says that events are sent. A
// deletion waits until the events of it are stored, and then for at most DeletionWait.
func EnvNotificationHold(env *v1alpha1.ComputeEnv, status *v1alpha1.ComputeEnvStatus, sending bool, now time.Time) (hold bool, left time.Duration) {
	listed, owes := len(env.Spec.Notifications) > 0, EnvOwesEvents(status)
	switch {
	case !sending:
		return false, 0
	case env.DeletionTimestamp == nil:
		return listed || owes, 0
	case listed && !hasAnnouncedDeletion(status.Notifications):
		return true, 0
	case !owes:
		return false, 0
	}
	since := env.DeletionTimestamp.Time
	for i := range status.Notifications.Topics {
		for _, p := range status.Notifications.Topics[i].Pending {
			if p.Time.After(since) {
				since = p.Time.Time
			}
		}
	}
	left = since.Add(DeletionWait).Sub(now)
	return left > 0, max(left, 0)
}
