// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Event is one event. It is complete: its forms need nothing else but an Origin.
type Event struct {
	Name    Name
	Subject Subject
	// Occurrence tells apart events with one name about one node, which can be RUNNING, then ABNORMAL, then RUNNING
	// again: a number, or a time in seconds, that is the same whenever the event is computed. 0 at other levels,
	// where an event happens at most once in a run or an attempt.
	Occurrence int64
	// Time is when it happened.
	Time time.Time
	// Vars are the pairs of the notification, in its order. See maxVar and maxVars.
	Vars    []v1alpha1.EventVar
	Details Details
}

// Subject is what an event is about. Either JobID or EnvID is set.
type Subject struct {
	// Namespace and Object name the BatchJob or the ComputeEnv.
	Namespace, Object string
	// JobID is the job's, and Run is status.run, from 0. They are set for jobs and all that belongs to them.
	JobID string
	Run   int64
	// Task is the task's name, for tasks, task instances and the nodes of a job.
	Task string
	// Index is that of the task instance, from 0, and Attempt that of its attempt, from 0. For task instances, and nodes
	// of a job.
	Index, Attempt int64
	// EnvID is that of the ComputeEnv, for it and its nodes.
	EnvID string
	// Node is the ComputeNodeId, for nodes.
	Node string
}

// Details are what else is known. A zero value is left out of the forms. The state that the event announces is in its
// name, and is not repeated here.
type Details struct {
	// DisplayName is jobName of the job or envName of the ComputeEnv.
	DisplayName string
	// JobState and TaskState are those of the job and the task of an event below them.
	JobState, TaskState string
	// ExitCode is that of the attempt's command; nil if it has none.
	ExitCode *int32
	// Reason and Message say why. Their form is that of the status.
	Reason, Message string
	// Machine is the ComputeNodeInstanceId: the name of the cluster node.
	Machine string
	// CPU is in cores, and Memory in GiB.
	CPU, Memory int64
	// Created is when the node's machine was created.
	Created time.Time
}

// maxID bounds the id of an event. Unit: bytes.
const maxID = 512

// ID returns the id: the parts of the subject, then the name of the event, with / between them. It is the same whenever
// the event is computed, and no other event of this cluster has it, as none of the parts contains a /:
//
//	job-1a2b3c4d/0/JOB_SUCCEED                                   JobId, run
//	job-1a2b3c4d/0/render/TASK_FAILED                            and task
//	job-1a2b3c4d/0/render/7/1/TASK_INSTANCE_FAILED               and index, attempt
//	job-1a2b3c4d/0/render/7/1/node-1a2b3c4d/3/COMPUTE_NODE_RUNNING   and node, occurrence
//	env-1a2b3c4d/node-1a2b3c4d/3/COMPUTE_NODE_RUNNING            EnvId, node, occurrence
//	env-1a2b3c4d/COMPUTE_ENV_CREATED                             EnvId
func (e *Event) ID() string {
	s, parts := &e.Subject, []string{e.Subject.EnvID}
	if s.JobID != "" {
		parts = []string{s.JobID, strconv.FormatInt(s.Run, 10)}
		if s.Task != "" {
			parts = append(parts, s.Task)
		}
		if e.hasInstance() {
			parts = append(parts, strconv.FormatInt(s.Index, 10), strconv.FormatInt(s.Attempt, 10))
		}
	}
	if e.Name.Level() == ComputeNode {
		parts = append(parts, s.Node, strconv.FormatInt(e.Occurrence, 10))
	}
	return strings.Join(append(parts, string(e.Name)), "/")
}

// Path returns what the event is about, within its job or ComputeEnv: JobId, task and index, or EnvId; for nodes the
// ComputeNodeId too. It is the same in all runs and attempts.
func (e *Event) Path() string {
	s, parts := &e.Subject, []string{e.Owner()}
	if s.Task != "" {
		parts = append(parts, s.Task)
	}
	if e.hasInstance() {
		parts = append(parts, strconv.FormatInt(s.Index, 10))
	}
	if e.Name.Level() == ComputeNode {
		parts = append(parts, s.Node)
	}
	return strings.Join(parts, "/")
}

// Owner returns the JobId or the EnvId. Events with one owner are ordered.
func (e *Event) Owner() string {
	if e.Subject.JobID != "" {
		return e.Subject.JobID
	}
	return e.Subject.EnvID
}

// hasInstance reports whether the event is about one task instance of a job, or about its node.
func (e *Event) hasInstance() bool {
	level := e.Name.Level()
	return level == TaskInstance || level == ComputeNode && e.Subject.JobID != ""
}

// Validate returns an error if the event has no known name, no time, or a subject that does not fit its name.
func (e *Event) Validate() error {
	s, level := &e.Subject, e.Name.Level()
	ofJob := s.JobID != ""
	switch {
	case level == Unknown:
		return errors.New("the event has an unknown name")
	case e.Time.IsZero():
		return fmt.Errorf("%s has no time", e.Name)
	case ofJob == (s.EnvID != ""):
		return fmt.Errorf("%s must have either a JobId or an EnvId", e.Name)
	case ofJob && level == ComputeEnv, !ofJob && level < ComputeNode:
		return fmt.Errorf("%s is no event of %s", e.Name, e.Owner())
	case (s.Task != "") != (level == Task || e.hasInstance()):
		return fmt.Errorf("%s of %s must have a task only if it is about a task or less", e.Name, e.Owner())
	case (s.Node != "") != (level == ComputeNode):
		return fmt.Errorf("%s of %s must have a node only if it is about one", e.Name, e.Owner())
	case s.Namespace == "" || s.Object == "":
		return fmt.Errorf("%s of %s must name its object", e.Name, e.Owner())
	case strings.Contains(s.JobID+s.EnvID+s.Task+s.Node+s.Namespace+s.Object, "/"):
		return fmt.Errorf("%s: no part of a subject may contain a /", e.Name)
	case len(e.ID()) > maxID || len(s.Namespace)+len(s.Object) > maxID:
		return fmt.Errorf("%s: the subject must have at most %d bytes", e.Name, maxID)
	}
	return nil
}
