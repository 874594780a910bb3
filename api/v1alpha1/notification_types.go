// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Notification announces changes of state to a topic.
// Source: BatchCompute, Notification.
type Notification struct {
	// topicName is the topic's name: letters, digits and -, beginning with a
	// letter, at most 64 characters. Required.
	// Source: BatchCompute, Notification.TopicName.
	// +optional
	TopicName string `json:"topicName,omitempty"`

	// eventConfigs are the events that are announced: at least 1. Required.
	// Source: BatchCompute, Notification.EventConfigs.
	// +listType=atomic
	// +optional
	EventConfigs []EventConfig `json:"eventConfigs,omitempty"`
}

// EventConfig is one event and what its message carries.
// Source: BatchCompute, EventConfig.
type EventConfig struct {
	// eventName is JOB_, TASK_ or TASK_INSTANCE_ followed by RUNNING, SUCCEED,
	// FAILED or FAILED_INTERRUPTED; or COMPUTE_NODE_ followed by CREATED,
	// CREATION_FAILED, RUNNING, ABNORMAL or DELETING; or, for a ComputeEnv, COMPUTE_ENV_CREATED or
	// COMPUTE_ENV_DELETED. At most once for a topic. Required.
	// Source: BatchCompute, EventConfig.EventName.
	// +optional
	EventName string `json:"eventName,omitempty"`

	// eventVars are repeated in the message.
	// Source: BatchCompute, EventConfig.EventVars.
	// +listType=atomic
	// +optional
	EventVars []EventVar `json:"eventVars,omitempty"`
}

// EventVar is a key-value pair of a message. Source: BatchCompute, EventVar.
type EventVar struct {
	// name is the pair's key. Required. Source: BatchCompute, EventVar.Name.
	// +optional
	Name string `json:"name,omitempty"`

	// value is the pair's value. Source: BatchCompute, EventVar.Value.
	// +optional
	Value string `json:"value,omitempty"`
}

// NotificationStatus says which events of the notifications of a job or a ComputeEnv are to be sent, and how many were.
type NotificationStatus struct {
	// pending is how many events the receivers have not acknowledged. An event counts once for each
	// topic that announces it.
	// +optional
	Pending int64 `json:"pending,omitempty"`

	// sent is how many events the receivers have acknowledged, in all runs of a job.
	// +optional
	Sent int64 `json:"sent,omitempty"`

	// givenUp is how many events were given up, since their receiver did not acknowledge them in time.
	// +optional
	GivenUp int64 `json:"givenUp,omitempty"`

	// topics are the topics that have pending events, or whose last attempt failed, in the order of
	// the notifications in the spec.
	// +listType=atomic
	// +optional
	Topics []TopicStatus `json:"topics,omitempty"`

	// announced are the events that must not be announced again: of a job, those of the present run.
	// +listType=atomic
	// +optional
	Announced []AnnouncedEvents `json:"announced,omitempty"`
}

// TopicStatus says what is to be sent to one topic.
type TopicStatus struct {
	// notification is the position in spec.job.notifications or spec.notifications, from 0.
	Notification int64 `json:"notification"`

	// topicName is the name of the topic.
	TopicName string `json:"topicName"`

	// pending are the events that the receiver has not acknowledged, in the order in which they are sent.
	// +listType=atomic
	// +optional
	Pending []PendingEvents `json:"pending,omitempty"`

	// failingSince is when sending failed for the first time since the last success. Absent: it does not fail.
	// +optional
	FailingSince *metav1.Time `json:"failingSince,omitempty"`

	// lastError says why sending fails, in a sentence of at most 288 bytes.
	// +optional
	LastError string `json:"lastError,omitempty"`
}

// PendingEvents are events that differ in their number only.
type PendingEvents struct {
	// eventName is the name of the events.
	EventName string `json:"eventName"`

	// numbers are the tasks, the task instances or the nodes of a ComputeEnv that the events are about,
	// as ranges: "0-4,7". A
	// task's number is its position in spec.job.tasks, from 0; the instances of all tasks are counted
	// in the order of the spec, from 0. Many ranges are stored as "bits:" and a bitmap in base64.
	// Absent: the event is about the job or the ComputeEnv.
	// +optional
	Numbers string `json:"numbers,omitempty"`

	// run is the run of the job.
	// +optional
	Run int64 `json:"run,omitempty"`

	// attempt is the attempt of the instances. Of nodes of a ComputeEnv it is the generation of the
	// ComputeEnv that asks for the change.
	// +optional
	Attempt int64 `json:"attempt,omitempty"`

	// time is when it happened; for several events, when the last did.
	Time metav1.Time `json:"time"`

	// jobState is the state that the job had. Absent: RUNNING, or the one in eventName.
	// +optional
	JobState JobState `json:"jobState,omitempty"`

	// exitCode is the exit code of the command. Absent: it has none, or the events differ in it.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`

	// reason says in one word why it happened. Absent: there is none, or the events differ in it.
	// +optional
	Reason string `json:"reason,omitempty"`

	// message explains reason. Absent as well where the events differ in it.
	// +optional
	Message string `json:"message,omitempty"`

	// nodeName is the cluster node. Absent: there is none, or the events differ in it.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
}

// AnnouncedEvents are events that were announced.
type AnnouncedEvents struct {
	// eventName is the name of the events.
	EventName string `json:"eventName"`

	// numbers are those of PendingEvents.
	// +optional
	Numbers string `json:"numbers,omitempty"`
}
