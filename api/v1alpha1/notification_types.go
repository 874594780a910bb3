// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

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
	// CREATION_FAILED, RUNNING, ABNORMAL or DELETING. At most once for a topic. Required.
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
