// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// MaxBacklogSize bounds what the status of a job has of notifications. Admission reserves it for a job with
// notifications. Unit: bytes.
const MaxBacklogSize = v1alpha1.MaxNotificationStatusSize

// What the parts of NotificationStatus take at most as JSON, without numbers: the counts, a topic without its pending
// events, and announced events. Unit: bytes.
const (
	countsSize    = 160
	topicSize     = 220 + v1alpha1.MaxMessageSize
	announcedSize = 80
)

// maxTopicName is the longest topicName that admission accepts. A longer one is not copied into the status. Unit: bytes.
const maxTopicName = 64

// OwesEvents reports whether the receivers of a job's notifications have not acknowledged all events.
func OwesEvents(s *v1alpha1.BatchJobStatus) bool {
	return s.Notifications != nil && s.Notifications.Pending > 0
}

// notifications returns those of the job of the observation.
func (o *Observation) notifications() []v1alpha1.Notification {
	if o.Spec != nil {
		return o.Spec.Notifications
	}
	return o.Job.Spec.Job.Notifications
}

// numbering returns the numbering of the instances of the job, which may have no Spec if it is rejected or deleted.
func (o *Observation) numbering() backlog.Numbering {
	if o.Spec != nil {
		return numberingOf(o.Spec)
	}
	tasks := o.Job.Spec.Job.Tasks
	return backlog.NewNumbering(len(tasks), func(i int) int { return max(resolve.TaskInstanceNum(&tasks[i]), 0) })
}

// noteEvents updates the part of the next status that is about notifications: with the events that are due now, and
// with what became of those that are stored. announced has the events that must not be announced again; nil means that
// these do not change. It returns the Events that say what went wrong.
func noteEvents(obs *Observation, next *v1alpha1.BatchJobStatus, due []backlog.Entry, announced map[event.Name]ranges.Set, now time.Time) events {
	list := obs.notifications()
	if obs.Delivery == nil || len(list) == 0 || next.Notifications == nil && len(due) == 0 && announced == nil {
		return nil
	}
	old := cmp.Or(next.Notifications, &v1alpha1.NotificationStatus{})
	out := &v1alpha1.NotificationStatus{Sent: old.Sent, GivenUp: old.GivenUp, Announced: old.Announced}
	if announced != nil {
		out.Announced = storedAnnounced(announced)
	}
	var e events
	size := MaxBacklogSize - countsSize
	for _, a := range out.Announced {
		size -= announcedSize + len(a.Numbers)
	}
	size = size/len(list) - topicSize
	numbering := obs.numbering()
	for i := range list {
		if len(list[i].TopicName) <= maxTopicName {
			t := noter{notification: &list[i], delivery: obs.Delivery.topic(i), numbering: numbering, out: out, events: &e}
			t.note(i, storedTopic(old, i), due, size)
		}
	}
	if more := len(e) - maxEvents; more > 0 {
		e = e[:maxEvents]
		e.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("%s more: run kubectl describe", count(more, "such warning")))
	}
	if next.Notifications = out; apiequality.Semantic.DeepEqual(out, &v1alpha1.NotificationStatus{}) {
		next.Notifications = nil
	}
	setNotified(obs, next, out, &e, now)
	return e
}

// storedTopic returns what the status has of the notification at a position; the zero value if it has nothing.
func storedTopic(s *v1alpha1.NotificationStatus, i int) v1alpha1.TopicStatus {
	at := slices.IndexFunc(s.Topics, func(t v1alpha1.TopicStatus) bool { return t.Notification == int64(i) })
	if at < 0 {
		return v1alpha1.TopicStatus{}
	}
	return s.Topics[at]
}

// noter updates what the status has of one notification.
type noter struct {
	notification *v1alpha1.Notification
	delivery     TopicDelivery
	numbering    backlog.Numbering
	out          *v1alpha1.NotificationStatus
	events       *events
}

func (n *noter) note(i int, old v1alpha1.TopicStatus, due []backlog.Entry, size int) {
	name := n.notification.TopicName
	pending, err := backlog.Parse(old.Pending, n.numbering)
	if err != nil { // somebody has edited the status
		n.out.GivenUp++
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: the pending events in the status cannot be read, and are not sent: %s", name, err))
	}
	pending, sent := pending.Remove(n.delivery.Acknowledged)
	pending, givenUp := pending.Remove(n.delivery.GivenUp)
	pending, overdue := pending.RemoveBefore(n.delivery.GiveUpBefore)
	givenUp += overdue
	pending = pending.Add(n.wanted(due))
	pending, lost := pending.Bound(size)
	n.out.Sent += int64(sent)
	n.out.GivenUp += int64(givenUp + lost)
	n.out.Pending += int64(pending.Len())
	if givenUp > 0 {
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: gave up %s that the receiver did not acknowledge in time; %s", name, count(givenUp, "event"), n.delivery.LastError))
	}
	if lost > 0 {
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: gave up %s of instances, since the status has no space for more events that the receiver has not acknowledged", name, count(lost, "event")))
	}
	t := v1alpha1.TopicStatus{Notification: int64(i), TopicName: name, Pending: pending.Stored()}
	n.failing(&t, &old, sent > 0)
	if len(t.Pending) > 0 || t.FailingSince != nil {
		n.out.Topics = append(n.out.Topics, t)
	}
}

// failing says in t whether sending fails. What is stored stays until sending was tried; since when it fails, until it has
// succeeded, which the stored status may not show yet.
func (n *noter) failing(t, old *v1alpha1.TopicStatus, succeeded bool) {
	d := &n.delivery
	switch {
	case len(t.Pending) == 0:
	case !d.Known:
		t.FailingSince, t.LastError = old.FailingSince, old.LastError
	case !d.FailingSince.IsZero():
		t.FailingSince, t.LastError = old.FailingSince, cut(d.LastError)
		if t.FailingSince == nil || succeeded {
			t.FailingSince = new(seconds(d.FailingSince))
		}
	}
}

// wanted returns those of the events that the notification announces.
func (n *noter) wanted(due []backlog.Entry) []backlog.Entry {
	out := make([]backlog.Entry, 0, len(due))
	for i := range due {
		if slices.ContainsFunc(n.notification.EventConfigs, func(c v1alpha1.EventConfig) bool { return c.EventName == string(due[i].Name) }) {
			out = append(out, due[i])
		}
	}
	return out
}

func storedAnnounced(announced map[event.Name]ranges.Set) []v1alpha1.AnnouncedEvents {
	var out []v1alpha1.AnnouncedEvents
	for _, name := range slices.Sorted(maps.Keys(announced)) {
		if set := announced[name]; !set.Empty() {
			out = append(out, v1alpha1.AnnouncedEvents{EventName: string(name), Numbers: backlog.FormatNumbers(name, set)})
		}
	}
	return out
}

// setNotified sets the condition Notified: False while sending to a topic fails, or if events were given up; True once
// the job has ended and all its events were acknowledged.
func setNotified(obs *Observation, next *v1alpha1.BatchJobStatus, n *v1alpha1.NotificationStatus, e *events, now time.Time) {
	set := conditions.OfBatchJob(next, next.ObservedGeneration, now)
	failing := slices.IndexFunc(n.Topics, func(t v1alpha1.TopicStatus) bool { return t.FailingSince != nil })
	switch {
	case failing >= 0:
		t := &n.Topics[failing]
		message := cut(fmt.Sprintf("topic %q: sending has failed since %s: %s", t.TopicName, t.FailingSince.UTC().Format(time.RFC3339), t.LastError))
		was := meta.FindStatusCondition(obs.Job.Status.Conditions, v1alpha1.ConditionNotified)
		if was == nil || was.Reason != v1alpha1.ReasonDeliveryFailing {
			e.warn(v1alpha1.ReasonDeliveryFailing, message)
		}
		set.False(v1alpha1.ConditionNotified, v1alpha1.ReasonDeliveryFailing, message)
	case n.GivenUp > 0:
		set.False(v1alpha1.ConditionNotified, v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("%s given up, %d sent", count(int(n.GivenUp), "event"), n.Sent))
	case n.Pending == 0 && HasEnded(next):
		set.True(v1alpha1.ConditionNotified, v1alpha1.ReasonDelivered, "the receivers have acknowledged all events")
	default:
		set.Remove(v1alpha1.ConditionNotified)
	}
}
