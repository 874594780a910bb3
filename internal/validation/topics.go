// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
)

// ownSinkField is the receiver that a user names.
var ownSinkField = field.NewPath("metadata", "annotations").Key(v1alpha1.AnnotationNotificationSink)

// topics is what is known of the topics of an object. Nil: nothing.
type topics struct {
	known         *catalog.Notifications
	namespace     string
	notifications []v1alpha1.Notification
	// ownSink says that the user names a receiver, and refusal why the catalogue does not allow it.
	ownSink bool
	refusal error
	names   nearest
}

// topicsOf returns what the catalogue has of the topics of an object.
func topicsOf(o offers, meta *metav1.ObjectMeta, notifications []v1alpha1.Notification) *topics {
	if o == nil || o.Notifications() == nil {
		return nil
	}
	t := &topics{known: o.Notifications(), namespace: meta.Namespace, notifications: notifications, names: nearest{budget: nearestBudget}}
	var sink string
	if sink, t.ownSink = meta.Annotations[v1alpha1.AnnotationNotificationSink]; t.ownSink {
		t.refusal = t.known.CheckUserSink(sink)
	}
	return t
}

// topics is topicsOf for a checker, which asks only in admission.
func (v Validator) topics(o offers, meta *metav1.ObjectMeta, notifications []v1alpha1.Notification) *topics {
	if !v.Notifications {
		return nil
	}
	return topicsOf(o, meta, notifications)
}

// has reports whether the catalogue has a topic.
func (t *topics) has(name string) bool { return t.known.Topic(t.namespace, name) != nil }

// isUnknown reports whether nobody knows where the events of a topic go. A name of another form is another problem.
func (t *topics) isUnknown(name string) bool {
	return isTopicName(name) && !t.has(name) && (!t.ownSink || t.refusal != nil)
}

// suggestion returns " (did you mean NAME?)", or nothing if no known name is near.
func (t *topics) suggestion(name string) string {
	if t.names.known == nil {
		t.names.known = t.known.TopicNames(t.namespace)
	}
	if near := t.names.to(name); near != "" {
		return " (did you mean " + near + "?)"
	}
	return ""
}

// maxKnownTopics is how long the list of topics in a problem is. Unit: bytes.
const maxKnownTopics = 100

// checkTopic checks a topic whose name has the right form.
func (c *checker) checkTopic(name string, path *field.Path) {
	t := c.topics
	if t == nil || !t.known.RefuseUnknown || !t.isUnknown(name) {
		return
	}
	suggestion, known := "", ""
	if !c.full() { // else it is only counted
		suggestion, known = t.suggestion(name), t.known.KnownTopics(t.namespace, maxKnownTopics)
	}
	c.fail(errcode.NotificationTopicName, path, "topicName", "must be a topic of the operator's catalogue, got %s%s; known in this namespace: %s",
		quote(name), suggestion, known)
}

// checkOwnSink checks the receiver that the user names. The API has no such field, so its problem is the last.
func (c *checker) checkOwnSink() {
	if t := c.topics; t != nil && t.refusal != nil {
		c.fail(errcode.InvalidParameterValue, ownSinkField, "", "%s", t.refusal)
	}
}

// advice returns what is to be said of the receiver that the user names.
func (t *topics) advice() []string {
	if t == nil || !t.ownSink || t.refusal != nil {
		return nil // what is wrong with it is a problem, or was one when the object was created
	}
	for i := range t.notifications {
		if !t.has(t.notifications[i].TopicName) {
			return nil
		}
	}
	if len(t.notifications) == 0 {
		return []string{ownSinkField.String() + " has no effect: there are no notifications"}
	}
	return []string{ownSinkField.String() + " has no effect: the operator's catalogue has all topics of notifications, and goes before it"}
}

// topicAdvice is the row of the first topic that nobody knows.
func topicAdvice(field string) adviceRow {
	return adviceRow{
		field: field,
		asks:  func(s *subject, v reflect.Value) bool { return s.topics != nil && s.topics.isUnknown(v.String()) },
		text:  "is no topic of the operator's catalogue, so nothing is sent to ",
		says:  func(s *subject, v reflect.Value) string { return s.topics.says(v.String()) },
	}
}

// maxTopicsText bounds what a warning says of topics, so that the field and the rest of the text fit. Unit: bytes.
const maxTopicsText = MaxWarning - 110

// says returns what is to be said of the first topic that nobody knows: its name and how many follow, and, if they fit,
// a suggestion and the names that there are.
func (t *topics) says(name string) string {
	more := map[string]bool{}
	for i := range t.notifications {
		if other := t.notifications[i].TopicName; other != name && t.isUnknown(other) {
			more[other] = true
		}
	}
	text := name
	if len(more) > 0 {
		text += fmt.Sprintf(" and %d more", len(more))
	}
	if suggestion := t.suggestion(name); len(text)+len(suggestion) <= maxTopicsText {
		text += suggestion
	}
	const known = "; known here: "
	if list := t.known.KnownTopics(t.namespace, maxTopicsText-len(text)-len(known)); len(text)+len(known)+len(list) <= maxTopicsText {
		text += known + list
	}
	return text
}
