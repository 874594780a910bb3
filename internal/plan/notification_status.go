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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	return owes(s.Notifications)
}

func owes(s *v1alpha1.NotificationStatus) bool { return s != nil && s.Pending > 0 }

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
	n := notes{list: list, delivery: obs.Delivery, numbering: obs.numbering(), old: old}
	n.out.Announced = old.Announced
	if announced != nil {
		n.out.Announced = storedAnnounced(announced)
	}
	n.update(due)
	set := conditions.OfBatchJob(next, next.ObservedGeneration, now)
	n.setNotified(set, obs.Job.Status.Conditions, HasEnded(next))
	next.Notifications = n.result()
	return n.boundedEvents()
}

// notes updates what the status of a job or a ComputeEnv has of its notifications.
type notes struct {
	list      []v1alpha1.Notification
	delivery  *Delivery
	numbering backlog.Numbering
	old       *v1alpha1.NotificationStatus
	// out is the next status. The caller sets Announced before update.
	out    v1alpha1.NotificationStatus
	events events
}

// update computes the next status, with the events that are due now.
func (n *notes) update(due []backlog.Entry) {
	n.out.Sent, n.out.GivenUp = n.old.Sent, n.old.GivenUp
	size := MaxBacklogSize - countsSize
	for _, a := range n.out.Announced {
		size -= announcedSize + len(a.Numbers)
	}
	size = size/max(len(n.list), 1) - topicSize
	stored := n.storedTopics()
	for i := range n.list {
		if len(n.list[i].TopicName) <= maxTopicName {
			n.updateTopic(i, stored[i], due, size)
		}
	}
}

// result returns the next status; nil if it has nothing.
func (n *notes) result() *v1alpha1.NotificationStatus {
	if apiequality.Semantic.DeepEqual(&n.out, &v1alpha1.NotificationStatus{}) {
		return nil
	}
	return &n.out
}

// boundedEvents returns the Events; what is more than maxEvents is summed up.
func (n *notes) boundedEvents() events {
	e := n.events
	if more := len(e) - maxEvents; more > 0 {
		e = e[:maxEvents]
		e.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("%s more: run kubectl describe", count(more, "such warning")))
	}
	return e
}

// storedTopics returns what the status has of each notification, by its position in the list; the zero value if it has
// nothing. The list of a ComputeEnv can change: what the status has of a topic moves with it, and the pending events of
// a topic that the list does not have any more are not sent.
func (n *notes) storedTopics() []v1alpha1.TopicStatus {
	out, taken := make([]v1alpha1.TopicStatus, len(n.list)), make([]bool, len(n.list))
	var moved []v1alpha1.TopicStatus
	for _, t := range n.old.Topics {
		if i := int(t.Notification); i >= 0 && i < len(n.list) && n.list[i].TopicName == t.TopicName {
			out[i], taken[i] = t, true
		} else {
			moved = append(moved, t)
		}
	}
	for _, t := range moved {
		to := -1
		for i := range n.list {
			if to < 0 && !taken[i] && n.list[i].TopicName == t.TopicName {
				to = i
			}
		}
		if to >= 0 {
			out[to], taken[to] = t, true
			continue
		}
		dropped := 0
		for i := range t.Pending {
			dropped += backlog.Count(&t.Pending[i])
		}
		n.out.GivenUp += int64(dropped)
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: %s will not be sent, since the notifications do not have the topic any more", t.TopicName, count(dropped, "pending event")))
	}
	return out
}

// updateTopic updates what the status has of the notification at position i.
func (n *notes) updateTopic(i int, old v1alpha1.TopicStatus, due []backlog.Entry, size int) {
	name, delivery := n.list[i].TopicName, TopicDelivery{}
	if old.TopicName != "" {
		delivery = n.delivery.topic(int(old.Notification))
	}
	pending, err := backlog.Parse(old.Pending, n.numbering)
	if err != nil { // somebody has edited the status
		n.out.GivenUp++
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: the pending events in the status cannot be read, and are not sent: %s", name, err))
	}
	pending, sent := pending.Remove(delivery.Acknowledged)
	pending, givenUp := pending.Remove(delivery.GivenUp)
	pending, overdue := pending.RemoveBefore(delivery.GiveUpBefore)
	givenUp += overdue
	pending = pending.Add(wanted(&n.list[i], due))
	pending, lost := pending.Bound(size)
	n.out.Sent += int64(sent)
	n.out.GivenUp += int64(givenUp + lost)
	n.out.Pending += int64(pending.Len())
	if givenUp > 0 {
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: gave up %s that the receiver did not acknowledge in time; %s", name, count(givenUp, "event"), delivery.LastError))
	}
	if lost > 0 {
		n.events.warn(v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("topic %q: gave up %s of instances or nodes, since the status has no space for more events that the receiver has not acknowledged", name, count(lost, "event")))
	}
	t := v1alpha1.TopicStatus{Notification: int64(i), TopicName: name, Pending: pending.Stored()}
	setFailing(&t, &old, &delivery, sent > 0)
	if len(t.Pending) > 0 || t.FailingSince != nil {
		n.out.Topics = append(n.out.Topics, t)
	}
}

// setFailing says in t whether sending fails. What is stored stays until sending was tried; since when it fails, until it has
// succeeded, which the stored status may not show yet.
func setFailing(t, old *v1alpha1.TopicStatus, d *TopicDelivery, succeeded bool) {
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

// wanted returns those of the events that a notification announces.
func wanted(n *v1alpha1.Notification, due []backlog.Entry) []backlog.Entry {
	out := make([]backlog.Entry, 0, len(due))
	for i := range due {
		if slices.ContainsFunc(n.EventConfigs, func(c v1alpha1.EventConfig) bool { return c.EventName == string(due[i].Name) }) {
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

// setNotified sets the condition Notified: False while sending to a topic fails, or if events were given up; True if no event
// is pending and complete says so. stored are the conditions before the pass.
func (n *notes) setNotified(set conditions.Setter, stored []metav1.Condition, complete bool) {
	failing := slices.IndexFunc(n.out.Topics, func(t v1alpha1.TopicStatus) bool { return t.FailingSince != nil })
	switch {
	case failing >= 0:
		t := &n.out.Topics[failing]
		message := cut(fmt.Sprintf("topic %q: sending has failed since %s: %s", t.TopicName, t.FailingSince.UTC().Format(time.RFC3339), t.LastError))
		was := meta.FindStatusCondition(stored, v1alpha1.ConditionNotified)
		if was == nil || was.Reason != v1alpha1.ReasonDeliveryFailing {
			n.events.warn(v1alpha1.ReasonDeliveryFailing, message)
		}
		set.False(v1alpha1.ConditionNotified, v1alpha1.ReasonDeliveryFailing, message)
	case n.out.GivenUp > 0:
		set.False(v1alpha1.ConditionNotified, v1alpha1.ReasonEventsGivenUp, fmt.Sprintf("%s given up, %d sent", count(int(n.out.GivenUp), "event"), n.out.Sent))
	case n.out.Pending == 0 && complete:
		set.True(v1alpha1.ConditionNotified, v1alpha1.ReasonDelivered, "the receivers have acknowledged all events")
	default:
		set.Remove(v1alpha1.ConditionNotified)
	}
}
