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
func (b Backlog) Events(job *Job, n *v1alpha1.Notification, skip Acks) iter.Seq[Due] {
	return func(yield func(Due) bool) {
		for i := range b {
			e := &b[i]
			left := e.Numbers
			if set, ok := skip[e.Key]; ok {
				left = left.Minus(set)
			}
			for number := range left.All() {
				if !yield(Due{e.Key, number, e.event(job, Vars(n, e.Name), number)}) {
					return
				}
			}
		}
	}
}

// event returns the event of the entry with a number.
func (e *Entry) event(job *Job, vars []v1alpha1.EventVar, number int) event.Event {
	out := event.Event{
		Name: e.Name, Time: e.Time, Vars: vars,
		Subject: event.Subject{Namespace: job.Namespace, Object: job.Name, JobID: job.JobID, Run: int64(e.Run)},
		Details: event.Details{
			DisplayName: job.DisplayName, JobState: cmp.Or(e.JobState, string(v1alpha1.JobRunning)),
			ExitCode: e.ExitCode, Reason: e.Reason, Message: e.Message, Machine: e.Node,
		},
	}
	s := &out.Subject
	switch e.Name.Level() {
	case event.Task:
		s.Task = job.Tasks[number]
	case event.TaskInstance, event.ComputeNode:
		task, index := job.Numbering.Find(number)
		s.Task, s.Index, s.Attempt = job.Tasks[task], int64(index), int64(e.Attempt)
		if e.Name.Level() == event.ComputeNode {
			s.Node = naming.NodeID(job.UID, s.Task, strconv.Itoa(index), strconv.Itoa(e.Attempt), strconv.Itoa(e.Run))
		}
	}
	return out
}

// String returns what identifies the event in its job.
func (d *Due) String() string { return fmt.Sprintf("%s/%d/%d/%d", d.Name, d.Run, d.Attempt, d.Number) }
