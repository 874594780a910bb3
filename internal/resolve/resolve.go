// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resolve decides what a request means once every default is in.
//
// Nothing inside spec.job.tasks is defaulted in the stored object; this package is the
// one place where an absent field gets its meaning. The result is built once for a job,
// whose spec cannot change, and is then shared and read-only.
package resolve

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/dag"
	"batchcompute.dev/operator/internal/dockerrun"
	"batchcompute.dev/operator/internal/naming"
)

// Job is a request with every default decided.
type Job struct {
	// ID is the job's identifier, "job-" and 8 characters of [0-9a-z].
	ID string
	// Tasks are in the order of the spec.
	Tasks []Task
	// Graph is over the positions in Tasks; it has no cycle.
	Graph *dag.Graph
	// DependOn says when a task may start.
	DependOn v1alpha1.TaskExecutionDependOn
	// ReleaseOrder has the positions in Tasks in the order in which their instances are
	// issued when all may be: the task with the longest chain of tasks behind it first,
	// and among equals that of the spec.
	ReleaseOrder []int
	// InstanceNum is the number of instances over all tasks.
	InstanceNum int
	// Priority orders jobs that wait for the same: 0-100, a larger number goes first.
	Priority int
	// WaitsForMachine says that an instance which cannot have a machine waits for ever,
	// and does not fail.
	WaitsForMachine bool
	// Tags are those of the job.
	Tags []v1alpha1.Tag
	// Notifications are those of the job.
	Notifications []v1alpha1.Notification

	name    string
	uid     types.UID
	byLabel map[string]int
}

// Instance names one attempt of one instance in one run of its job: the position of its
// task in the spec, its index, the attempt and the run, all from 0.
type Instance struct {
	Task, Index, Attempt, Run int
	// Machine is how many of the attempts before were without a machine, or lost it. It
	// picks one of several machine types, and is no part of the name.
	Machine int
}

// Task is a task with every default decided.
type Task struct {
	// Spec is the task as submitted.
	Spec *v1alpha1.Task
	// Name is the task's name; the only task of a job may have got it by default.
	Name string
	// Label is Name as a label value.
	Label string
	// InstanceNum is how many instances run, 1 or more.
	InstanceNum int
	// MaxConcurrentNum is how many of them may be active at once, 1 or more.
	MaxConcurrentNum int
	// MaxRetryCount is how many failures of its command an instance survives.
	MaxRetryCount int
	// ResourceMaxRetryCount is how often an instance may not have its machine, or lose
	// it, before that counts as a failure of the command.
	ResourceMaxRetryCount int
	// FailedAction says what becomes of an instance whose command failed.
	FailedAction v1alpha1.FailedAction
	// Timeout bounds one attempt, counted from when its command starts.
	Timeout time.Duration
	// Env is the task's own environment; nil for a task that names a ComputeEnv.
	Env *Env
	// EnvID names a ComputeEnv, by its name or its identifier. Empty: Env it is.
	EnvID string
	// RunOptions are those of application.docker.dockerRunOption.
	RunOptions dockerrun.Options
}

// TaskByLabel returns the position of the task with this label value, or -1.
func (j *Job) TaskByLabel(label string) int {
	if t, ok := j.byLabel[label]; ok {
		return t
	}
	return -1
}

// PodName returns the name of the Pod that runs in.
func (j *Job) PodName(in Instance) string {
	return naming.PodName(j.name, j.uid, j.Tasks[in.Task].Name, in.Index, in.Attempt, in.Run)
}

// Resolve returns what job asks for. The spec must have passed validation: the error
// says what is wrong with it only so that a job that did not is never run by mistake.
// Cost: O(tasks + dependences).
func Resolve(job *v1alpha1.BatchJob) (*Job, error) {
	spec := &job.Spec.Job
	out := &Job{
		ID:            naming.JobID(job.UID),
		Priority:      Priority(job),
		name:          job.Name,
		uid:           job.UID,
		Tasks:         make([]Task, len(spec.Tasks)),
		DependOn:      spec.TaskExecutionDependOn,
		Tags:          spec.Tags,
		Notifications: spec.Notifications,
		byLabel:       make(map[string]int, len(spec.Tasks)),
	}
	switch spec.StateIfCreateCvmFailed {
	case "", v1alpha1.CreateCvmFailedFailed:
	case v1alpha1.CreateCvmFailedRunnable:
		out.WaitsForMachine = true
	default:
		return nil, fmt.Errorf("stateIfCreateCvmFailed %q is unknown", spec.StateIfCreateCvmFailed)
	}
	switch out.DependOn {
	case "":
		out.DependOn = v1alpha1.PreTaskSucceed
	case v1alpha1.PreTaskSucceed, v1alpha1.PreTaskAtLeastPartlySucceed, v1alpha1.PreTaskFinished:
	default:
		return nil, fmt.Errorf("taskExecutionDependOn %q is unknown", out.DependOn)
	}
	if len(spec.Tasks) == 0 {
		return nil, errors.New("there is no task")
	}
	byName, tags := make(map[string]int, len(spec.Tasks)), splitTags(spec.Tags)
	for i := range spec.Tasks {
		t, err := resolveTask(&spec.Tasks[i], &job.Spec.Placement, tags)
		if err != nil {
			return nil, err
		}
		if _, ok := byName[t.Name]; ok {
			return nil, fmt.Errorf("task name %q is given twice", t.Name)
		}
		if twin, ok := out.byLabel[t.Label]; ok {
			return nil, fmt.Errorf("the task names %q and %q make the same label", out.Tasks[twin].Name, t.Name)
		}
		byName[t.Name], out.byLabel[t.Label] = i, i
		out.Tasks[i] = t
		out.InstanceNum += t.InstanceNum
	}
	if out.InstanceNum > v1alpha1.MaxTaskInstances {
		return nil, fmt.Errorf("%d instances are too many", out.InstanceNum)
	}
	graph, err := buildGraph(spec.Dependences, byName)
	if err != nil {
		return nil, err
	}
	out.Graph = graph
	out.ReleaseOrder = releaseOrder(graph)
	return out, nil
}

// Priority returns the priority of a job, of which there may be but an outline: 0-100, a larger number
// goes first.
func Priority(job *v1alpha1.BatchJob) int {
	return int(min(max(valueOr(job.Spec.Job.Priority, v1alpha1.DefaultPriority), 0), v1alpha1.MaxPriority))
}

// releaseOrder sorts the nodes by the number of edges on the longest path that begins at
// them, the largest first.
func releaseOrder(g *dag.Graph) []int {
	order, _ := g.Order()
	behind, out := make([]int, g.Len()), make([]int, g.Len())
	for _, i := range slices.Backward(order) {
		for _, s := range g.Successors(int(i)) {
			behind[i] = max(behind[i], behind[s]+1)
		}
	}
	for i := range out {
		out[i] = i
	}
	slices.SortStableFunc(out, func(a, b int) int { return behind[b] - behind[a] })
	return out
}

// buildGraph returns the graph of the dependences, which must not have a cycle.
func buildGraph(dependences []v1alpha1.Dependence, byName map[string]int) (*dag.Graph, error) {
	edges := make([]dag.Edge, len(dependences))
	for i, d := range dependences {
		from, okFrom := byName[d.StartTask]
		to, okTo := byName[d.EndTask]
		if !okFrom || !okTo {
			return nil, fmt.Errorf("dependence %q -> %q names a task that is not there", d.StartTask, d.EndTask)
		}
		edges[i] = dag.Edge{From: from, To: to}
	}
	graph := dag.New(len(byName), edges)
	if _, ok := graph.Order(); !ok {
		return nil, errors.New("the dependences form a cycle")
	}
	return graph, nil
}

// check says which number of a task has no meaning.
func check(t *Task) error {
	for _, f := range []struct {
		name               string
		value              *int64
		smallest, greatest int64
	}{
		{"taskInstanceNum", t.Spec.TaskInstanceNum, 1, v1alpha1.MaxTaskInstances},
		{"maxConcurrentNum", t.Spec.MaxConcurrentNum, 0, math.MaxInt64},
		{"maxRetryCount", t.Spec.MaxRetryCount, 0, v1alpha1.MaxRetryCountLimit},
		{"resourceMaxRetryCount", t.Spec.ResourceMaxRetryCount, 0, v1alpha1.MaxResourceRetryCount},
		{"timeout", t.Spec.Timeout, 0, math.MaxInt64},
	} {
		if n := valueOr(f.value, f.smallest); n < f.smallest || n > f.greatest {
			return fmt.Errorf("task %q: %s %d is out of range", t.Name, f.name, n)
		}
	}
	switch t.FailedAction {
	case v1alpha1.FailedActionTerminate, v1alpha1.FailedActionInterrupt, v1alpha1.FailedActionFastInterrupt:
		return nil
	}
	return fmt.Errorf("task %q: failedAction %q is unknown", t.Name, t.FailedAction)
}

// TaskName returns the name of a task: the default one if it has none, which only the single task of a job may.
func TaskName(spec *v1alpha1.Task) string { return cmp.Or(spec.TaskName, v1alpha1.DefaultTaskName) }

// TaskInstanceNum returns how many instances a task has.
func TaskInstanceNum(spec *v1alpha1.Task) int { return int(valueOr(spec.TaskInstanceNum, 1)) }

func resolveTask(spec *v1alpha1.Task, placement *v1alpha1.Placement, tags tagSet) (Task, error) {
	t := Task{
		Spec:          spec,
		Name:          TaskName(spec),
		InstanceNum:   TaskInstanceNum(spec),
		MaxRetryCount: int(valueOr(spec.MaxRetryCount, 0)),

		ResourceMaxRetryCount: int(valueOr(spec.ResourceMaxRetryCount, 0)),
		FailedAction:          cmp.Or(spec.FailedAction, v1alpha1.FailedActionTerminate),
	}
	t.Label = naming.TaskLabel(t.Name)
	t.MaxConcurrentNum = t.InstanceNum
	if n := valueOr(spec.MaxConcurrentNum, 0); n > 0 {
		t.MaxConcurrentNum = int(min(n, int64(t.InstanceNum)))
	}
	seconds := valueOr(spec.Timeout, 0)
	if seconds == 0 {
		seconds = v1alpha1.DefaultTimeoutSeconds
	}
	// A century is as good as for ever, and does not overflow a Duration.
	t.Timeout = time.Duration(min(seconds, 100*365*86400)) * time.Second
	if err := check(&t); err != nil {
		return t, err
	}
	if spec.EnvID != "" && spec.ComputeEnv == nil {
		t.EnvID = spec.EnvID
		t.FailedAction = v1alpha1.FailedActionTerminate // the other values have no effect
	} else {
		t.Env = anonymous(spec.ComputeEnv, placement, tags)
	}
	if d := spec.Application.Docker; d != nil && d.DockerRunOption != "" {
		var err error
		if t.RunOptions, err = dockerrun.Parse(d.DockerRunOption); err != nil {
			return t, fmt.Errorf("task %q: dockerRunOption: %w", t.Name, err)
		}
	}
	return t, nil
}

func valueOr(p *int64, otherwise int64) int64 {
	if p == nil {
		return otherwise
	}
	return *p
}
