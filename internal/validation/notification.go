// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// maxTopicName is the message queue's limit. Source: CMQ, CreateTopic.
const maxTopicName = 64

// notificationTargets are the message services that a topic may be of.
// Source: BatchCompute, Job.NotificationTarget.
var notificationTargets = []string{"CMQ", "TDMQ_CMQ"}

// event is one event of one topic.
type event struct{ topic, name string }

// checkNotifications checks the notifications of the object at path. An event may be given once for a
// topic, in whichever notification.
func (c *checker) checkNotifications(notifications []v1alpha1.Notification, path *field.Path) {
	if len(notifications) == 0 {
		return
	}
	seen := map[event]bool{}
	path = path.Child("notifications")
	if n := len(notifications); n > v1alpha1.MaxNotifications {
		c.fail(errcode.LimitExceeded, path, "", "must be at most %d, got %d: give the events of one topic in one notification", v1alpha1.MaxNotifications, n)
		return
	}
	for i := range notifications {
		c.checkNotification(&notifications[i], seen, path.Index(i))
	}
}

func (c *checker) checkNotification(n *v1alpha1.Notification, seen map[event]bool, path *field.Path) {
	switch topic := n.TopicName; {
	case topic == "":
		c.required(topic, path, "topicName")
	case longerThan(topic, maxTopicName):
		c.fail(errcode.NotificationTopicNameTooLong, path, "topicName", "must be at most %d characters, got %s", maxTopicName, quote(topic))
	case !isTopicName(topic):
		c.fail(errcode.NotificationTopicName, path, "topicName", "must be letters, digits and -, beginning with a letter, got %s", quote(topic))
	default:
		c.checkTopic(topic, path)
	}
	if len(n.EventConfigs) == 0 {
		c.fail(errcode.MissingParameter, path, "eventConfigs", "must have at least one event")
		return
	}
	events := path.Child("eventConfigs")
	for i := range n.EventConfigs {
		c.checkEventConfig(&n.EventConfigs[i], n.TopicName, seen, i, events)
	}
}

func isTopicName(s string) bool {
	return s != "" && len(s) <= maxTopicName && isLetter(s[0]) && only(s, "-")
}

func (c *checker) checkEventConfig(e *v1alpha1.EventConfig, topic string, seen map[event]bool, i int, events *field.Path) {
	key := event{topic, e.EventName}
	switch {
	case e.EventName == "":
		c.fail(errcode.MissingParameter, events.Index(i), "eventName", "must be given")
	case !isEventName(e.EventName) && !contains(c.action.events, e.EventName):
		further := ""
		for _, name := range c.action.events {
			further += ", or " + name
		}
		c.fail(errcode.InvalidParameterValue, events.Index(i), "eventName",
			"must be JOB_, TASK_ or TASK_INSTANCE_ and RUNNING, SUCCEED, FAILED or FAILED_INTERRUPTED, "+
				"or COMPUTE_NODE_ and CREATED, CREATION_FAILED, RUNNING, ABNORMAL or DELETING%s; got %s", further, quote(e.EventName))
	case seen[key]:
		c.fail(errcode.NotificationEventNameDuplicate, events.Index(i), "eventName",
			"must be given once for a topic, got %s again", e.EventName)
	}
	seen[key] = true
	for j := range e.EventVars {
		if e.EventVars[j].Name == "" {
			c.fail(errcode.MissingParameter, events.Index(i).Child("eventVars").Index(j), "name", "must be given")
		}
	}
}

// isEventName says whether s is an event of SubmitJob.
// Source: BatchCompute, EventConfig.EventName.
func isEventName(s string) bool {
	if state, ok := strings.CutPrefix(s, "COMPUTE_NODE_"); ok {
		switch state {
		case "CREATED", "CREATION_FAILED", "RUNNING", "ABNORMAL", "DELETING":
			return true
		}
		return false
	}
	for _, prefix := range [...]string{"JOB_", "TASK_INSTANCE_", "TASK_"} {
		if state, ok := strings.CutPrefix(s, prefix); ok {
			switch state {
			case "RUNNING", "SUCCEED", "FAILED", "FAILED_INTERRUPTED":
				return true
			}
			return false
		}
	}
	return false
}
