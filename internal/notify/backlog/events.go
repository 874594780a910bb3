// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"cmp"
	"fmt"
	"iter"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/resolve"
)

// Job is what the events of a job have of it.
type Job struct {
	UID                    types.UID
	Namespace, Name, JobID string
	// DisplayName is spec.job.jobName.
	DisplayName string
	// Tasks are the names of the tasks, in the order of the spec.
	Tasks     []string
	Numbering Numbering
}

// JobOf returns what events have of a job, which must be whole.
func JobOf(job *v1alpha1.BatchJob) Job {
	tasks := job.Spec.Job.Tasks
	out := Job{
		UID: job.UID, Namespace: job.Namespace, Name: job.Name, JobID: naming.JobID(job.UID), DisplayName: job.Spec.Job.JobName,
		Tasks:     make([]string, len(tasks)),
		Numbering: NewNumbering(len(tasks), func(i int) int { return resolve.TaskInstanceNum(&tasks[i]) }),
	}
	for i := range tasks {
		out.Tasks[i] = resolve.TaskName(&tasks[i])
	}
	return out
}

// Numbers returns the numbering of the instances.
func (j *Job) Numbers() Numbering { return j.Numbering }

// Source makes the events of an object: *Job or *Env.
type Source interface {
	// Numbers returns the numbering that the entries have.
	Numbers() Numbering
	// event returns the event of an entry with a number, as far as the object and the entry say it.
	event(e *Entry, number int) event.Event
}

// Env is what the events of a ComputeEnv have of it.
type Env struct {
	UID                    types.UID
	Namespace, Name, EnvID string
	// DisplayName is spec.envName.
	DisplayName string
	// CPU is in cores, and Memory in GiB; 0 if it is not known.
	CPU, Memory int64
}

// EnvOf returns what events have of a ComputeEnv. The size of its machine is known if it asks for one by
// instanceTypeOptions.
func EnvOf(env *v1alpha1.ComputeEnv) Env {
	out := Env{UID: env.UID, Namespace: env.Namespace, Name: env.Name, EnvID: naming.EnvID(env.UID), DisplayName: env.Spec.EnvName}
	if d := env.Spec.EnvData; d != nil && d.InstanceTypeOptions != nil {
		if cpu := d.InstanceTypeOptions.CPU; cpu != nil {
			out.CPU = *cpu
		}
		if memory := d.InstanceTypeOptions.Memory; memory != nil {
			out.Memory = *memory
		}
	}
	return out
}

// Numbers returns the numbering of the nodes.
func (*Env) Numbers() Numbering { return EnvNumbering() }

// Vars returns the variables that a notification has for an event.
func Vars(n *v1alpha1.Notification, name event.Name) []v1alpha1.EventVar {
	for i := range n.EventConfigs {
		if n.EventConfigs[i].EventName == string(name) {
			return n.EventConfigs[i].EventVars
		}
	}
	return nil
}

// Due is one event of a backlog.
type Due struct {
	Key
	Number int
	Event  event.Event
}

// Events yields the events of the backlog in their order, except those in skip. Each is made when it is asked for.
func (b Backlog) Events(of Source, n *v1alpha1.Notification, skip Acks) iter.Seq[Due] {
	return func(yield func(Due) bool) {
		for i := range b {
			e := &b[i]
			left := e.Numbers
			if set, ok := skip[e.Key]; ok {
				left = left.Minus(set)
			}
			for number := range left.All() {
				due := Due{e.Key, number, of.event(e, number)}
				due.Event.Name, due.Event.Time, due.Event.Vars = e.Name, e.Time, Vars(n, e.Name)
				if !yield(due) {
					return
				}
			}
		}
	}
}

func (j *Job) event(e *Entry, number int) event.Event {
	out := event.Event{
		Subject: event.Subject{Namespace: j.Namespace, Object: j.Name, JobID: j.JobID, Run: int64(e.Run)},
		Details: event.Details{
			DisplayName: j.DisplayName, JobState: cmp.Or(e.JobState, string(v1alpha1.JobRunning)),
			ExitCode: e.ExitCode, Reason: e.Reason, Message: e.Message, Machine: e.Node,
		},
	}
	s := &out.Subject
	switch e.Name.Level() {
	case event.Task:
		s.Task = j.Tasks[number]
	case event.TaskInstance, event.ComputeNode:
		task, index := j.Numbering.Find(number)
		s.Task, s.Index, s.Attempt = j.Tasks[task], int64(index), int64(e.Attempt)
		if e.Name.Level() == event.ComputeNode {
			s.Node = naming.NodeID(j.UID, s.Task, strconv.Itoa(index), strconv.Itoa(e.Attempt), strconv.Itoa(e.Run))
		}
	}
	return out
}

func (v *Env) event(e *Entry, number int) event.Event {
	out := event.Event{
		Subject: event.Subject{Namespace: v.Namespace, Object: v.Name, EnvID: v.EnvID},
		Details: event.Details{DisplayName: v.DisplayName, Reason: e.Reason, Message: e.Message},
	}
	if e.Name.Level() == event.ComputeNode {
		out.Subject.Node, out.Occurrence = naming.NodeID(v.UID, strconv.Itoa(number)), int64(e.Attempt)
		out.Details.CPU, out.Details.Memory = v.CPU, v.Memory
	}
	return out
}

// String returns what identifies the event in its object.
func (d *Due) String() string { return fmt.Sprintf("%s/%d/%d/%d", d.Name, d.Run, d.Attempt, d.Number) }
