// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package event has the events of notifications as values, and the forms in which a receiver gets them: a CloudEvent
// 1.0, and the body that BatchCompute sends to a topic.
//
// The id of an event follows from what happened, so a receiver can drop an event that it gets a second time. All texts
// in an event are bounded: as JSON, an event has less than 64 KiB.
package event

import "strings"

// Name is the name of an event: what it is about, and the state that this has entered. Source: BatchCompute,
// EventConfig.EventName.
type Name string

// The events of jobs, tasks and task instances.
const (
	JobRunning                    Name = "JOB_RUNNING"
	JobSucceed                    Name = "JOB_SUCCEED"
	JobFailed                     Name = "JOB_FAILED"
	JobFailedInterrupted          Name = "JOB_FAILED_INTERRUPTED"
	TaskRunning                   Name = "TASK_RUNNING"
	TaskSucceed                   Name = "TASK_SUCCEED"
	TaskFailed                    Name = "TASK_FAILED"
	TaskFailedInterrupted         Name = "TASK_FAILED_INTERRUPTED"
	TaskInstanceRunning           Name = "TASK_INSTANCE_RUNNING"
	TaskInstanceSucceed           Name = "TASK_INSTANCE_SUCCEED"
	TaskInstanceFailed            Name = "TASK_INSTANCE_FAILED"
	TaskInstanceFailedInterrupted Name = "TASK_INSTANCE_FAILED_INTERRUPTED"
)

// The events of nodes, of a job or of a ComputeEnv, and those of ComputeEnvs.
const (
	ComputeNodeCreated        Name = "COMPUTE_NODE_CREATED"
	ComputeNodeCreationFailed Name = "COMPUTE_NODE_CREATION_FAILED"
	ComputeNodeRunning        Name = "COMPUTE_NODE_RUNNING"
	ComputeNodeAbnormal       Name = "COMPUTE_NODE_ABNORMAL"
	ComputeNodeDeleting       Name = "COMPUTE_NODE_DELETING"
	ComputeEnvCreated         Name = "COMPUTE_ENV_CREATED"
	ComputeEnvDeleted         Name = "COMPUTE_ENV_DELETED"
)

// names are all names, in the order of the constants.
var names = []Name{
	JobRunning, JobSucceed, JobFailed, JobFailedInterrupted,
	TaskRunning, TaskSucceed, TaskFailed, TaskFailedInterrupted,
	TaskInstanceRunning, TaskInstanceSucceed, TaskInstanceFailed, TaskInstanceFailedInterrupted,
	ComputeNodeCreated, ComputeNodeCreationFailed, ComputeNodeRunning, ComputeNodeAbnormal, ComputeNodeDeleting,
	ComputeEnvCreated, ComputeEnvDeleted,
}

// Names returns all names: job, task, task instance, node, ComputeEnv.
func Names() []Name { return append([]Name(nil), names...) }

// Level is what an event is about.
type Level int

// The levels. The zero value is that of a name that does not exist.
const (
	Unknown Level = iota
	Job
	Task
	TaskInstance
	ComputeNode
	ComputeEnv
)

// prefixes are the beginnings of the names of each level. TASK_INSTANCE_ goes before TASK_.
var prefixes = []struct {
	level  Level
	prefix string
}{{Job, "JOB_"}, {TaskInstance, "TASK_INSTANCE_"}, {Task, "TASK_"}, {ComputeNode, "COMPUTE_NODE_"}, {ComputeEnv, "COMPUTE_ENV_"}}

// Level returns what events of this name are about; Unknown if there is no such name.
func (n Name) Level() Level {
	level, _ := n.split()
	return level
}

// State returns the state in the name, such as FAILED_INTERRUPTED; "" if there is no such name.
func (n Name) State() string {
	_, state := n.split()
	return state
}

func (n Name) split() (Level, string) {
	for _, known := range names {
		if n != known {
			continue
		}
		for _, p := range prefixes {
			if state, ok := strings.CutPrefix(string(n), p.prefix); ok {
				return p.level, state
			}
		}
	}
	return Unknown, ""
}
