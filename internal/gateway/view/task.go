// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// Task is a task of a job, with the sets of its instances by state. It is for one goroutine.
type Task struct {
	Name string
	job  *v1alpha1.BatchJob
	spec *v1alpha1.Task
	// status is nil if the job's status does not have the task.
	status *v1alpha1.TaskStatus
	read   *sets // once they were read
}

// Tasks returns the tasks of a job, in the order of the spec.
func Tasks(job *v1alpha1.BatchJob) []Task {
	byName := make(map[string]*v1alpha1.TaskStatus, len(job.Status.Tasks))
	for i := range job.Status.Tasks {
		byName[job.Status.Tasks[i].Name] = &job.Status.Tasks[i]
	}
	out := make([]Task, len(job.Spec.Job.Tasks))
	for i := range out {
		spec := &job.Spec.Job.Tasks[i]
		name := resolve.TaskName(spec)
		out[i] = Task{Name: name, job: job, spec: spec, status: byName[name]}
	}
	return out
}

// FindTask returns the task of a job with this name; false if there is none.
func FindTask(job *v1alpha1.BatchJob, name string) (Task, bool) {
	all := Tasks(job)
	if i := slices.IndexFunc(all, func(t Task) bool { return t.Name == name }); i >= 0 {
		return all[i], true
	}
	return Task{}, false
}

// State is the state of the task.
func (t *Task) State() string {
	if t.status != nil {
		return string(t.status.State)
	}
	return defaultTaskState(t.job)
}

// View returns the task as DescribeJob lists it.
func (t *Task) View() TaskView {
	v := TaskView{TaskName: t.Name, TaskState: t.State(), CreateTime: stamp(t.job.CreationTimestamp)}
	if len(t.job.Spec.Job.Tasks) == 1 {
		v.EndTime = stampOrNull(t.job.Status.EndTime)
	}
	return v
}

// Count is how many instances the task has.
func (t *Task) Count() int { return instanceNum(t.spec) }

// Label is the task's name as the label of its Pods.
func (t *Task) Label() string { return naming.TaskLabel(t.Name) }

// sets are the instances of a task by what its status says. Each is in one of them.
type sets struct {
	succeeded, failed, interrupted, retrying, unissued ranges.Set
	// active are the instances that were issued, by the number of their attempt.
	active []attempts
}

// attempts are instances with the same number of earlier attempts, in one run of the job.
type attempts struct {
	attempt int
	set     ranges.Set
}

// attemptOf returns the number of the attempt of an active instance.
func (s *sets) attemptOf(index int) (attempt int, ok bool) {
	for _, a := range s.active {
		if a.set.Contains(index) {
			return a.attempt, true
		}
	}
	return 0, false
}

// activeSet returns the instances that were issued.
func (s *sets) activeSet() ranges.Set { return union(s.active) }

// sets returns the lists of the status, which it reads once. The error says which cannot be read.
func (t *Task) sets() (*sets, error) {
	if t.read != nil {
		return t.read, nil
	}
	s, err := t.readSets()
	if err == nil {
		t.read = &s
	}
	return &s, err
}

func (t *Task) readSets() (sets, error) {
	all := ranges.Span(0, t.Count()-1)
	if t.status == nil {
		return sets{unissued: all}, nil
	}
	var s sets
	var err error
	read := func(name, text string) ranges.Set {
		set, problem := ranges.Parse(text)
		if problem != nil && err == nil {
			err = fmt.Errorf("reading %s of task %s: %w", name, t.Name, problem)
		}
		return set
	}
	readGroups := func(name, text string) []attempts {
		groups, problem := parseGroups(text)
		if problem != nil && err == nil {
			err = fmt.Errorf("reading %s of task %s: %w", name, t.Name, problem)
		}
		return groups
	}
	s.succeeded, s.failed = read("succeeded", t.status.Succeeded), read("failed", t.status.Failed)
	s.active = readGroups("active", t.status.Active)
	s.retrying, s.interrupted = union(readGroups("retrying", t.status.Retrying)), union(readGroups("interrupted", t.status.Interrupted))
	s.unissued = all
	for _, set := range []ranges.Set{s.succeeded, s.failed, s.retrying, s.interrupted, s.activeSet()} {
		s.unissued = s.unissued.Minus(set)
	}
	return s, err
}

// parseGroups reads a list such as "0-4,7;r1:8;x1m2:9": see v1alpha1.TaskStatus.
func parseGroups(text string) ([]attempts, error) {
	var out []attempts
	for part := range strings.SplitSeq(text, ";") {
		head, indexes, ok := strings.Cut(part, ":")
		if !ok {
			head, indexes = "", part
		}
		set, err := ranges.Parse(indexes)
		if err != nil {
			return nil, err
		}
		n, err := attemptOf(head)
		if err != nil {
			return nil, err
		}
		out = append(out, attempts{n, set})
	}
	return out, nil
}

// attemptOf returns the number of the attempt in the head of a group: r1m2 is the fourth, 3.
func attemptOf(head string) (int, error) {
	total := 0
	for len(head) > 0 {
		letter, rest := head[0], head[1:]
		end := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:end])
		if err != nil || !strings.ContainsRune("xrm", rune(letter)) {
			return 0, fmt.Errorf("group %q must be such as r1m2", head)
		}
		if letter != 'x' { // which is the run
			total += n
		}
		head = rest[end:]
	}
	return total, nil
}

func union(groups []attempts) ranges.Set {
	if len(groups) == 1 {
		return groups[0].set
	}
	parts := make([]ranges.Set, len(groups))
	for i, g := range groups {
		parts[i] = g.set
	}
	return ranges.UnionAll(parts...)
}

// MayHavePods reports whether one of the instances was ever issued, so that it may have a Pod to show.
func (t *Task) MayHavePods(indexes []int) bool {
	if len(indexes) == 0 {
		return false
	}
	s, err := t.sets()
	return err != nil || slices.ContainsFunc(indexes, func(i int) bool { return !s.unissued.Contains(i) && !s.retrying.Contains(i) })
}

// WasIssued reports whether an attempt of an instance was started in this run of the job, so that what it stored may be
// there. It is false if the status cannot be read.
func (t *Task) WasIssued(index int) bool {
	s, err := t.sets()
	return err == nil && !s.unissued.Contains(index)
}

// IsFinal reports whether an instance has ended and is neither retried nor interrupted.
func (t *Task) IsFinal(index int) (bool, error) {
	s, err := t.sets()
	return s.succeeded.Contains(index) || s.failed.Contains(index), err
}

// Metrics counts the instances of the task by state.
func (t *Task) Metrics() (Metrics, error) {
	s, err := t.sets()
	if err != nil {
		return Metrics{}, err
	}
	m := Metrics{
		SucceedCount: int64(s.succeeded.Len()), FailedCount: int64(s.failed.Len()), FailedInterruptedCount: int64(s.interrupted.Len()),
	}
	*counterOf(&m, t.unissuedState()) += int64(s.unissued.Len())
	waiting := int64(s.retrying.Len() + s.activeSet().Len())
	if t.status != nil {
		m.StartingCount, m.RunningCount = t.status.Starting, t.status.Running
		waiting -= t.status.Starting + t.status.Running
	}
	m.RunnableCount += max(waiting, 0)
	return m, nil
}

// unissuedState is the state of instances that were not issued yet.
func (t *Task) unissuedState() string {
	switch state := t.State(); state {
	case string(v1alpha1.TaskStarting), string(v1alpha1.TaskRunning):
		return string(v1alpha1.TaskRunnable) // wait for a slot
	default:
		return state
	}
}

// activeStates are the states of an active instance, which only its Pod tells apart.
var activeStates = []string{
	string(v1alpha1.TaskInstanceRunnable), string(v1alpha1.TaskInstanceStarting), string(v1alpha1.TaskInstanceRunning),
}

// NeedsPods reports whether Select needs the Pods of all active instances to choose those in one of states.
func NeedsPods(states []string) bool {
	n := 0
	for _, state := range activeStates {
		if slices.Contains(states, state) {
			n++
		}
	}
	return n > 0 && n < len(activeStates)
}

// Select returns the indexes of the instances in one of states; nil states stand for all. pods are needed only
// if NeedsPods says so: those of the active instances.
func (t *Task) Select(states []string, pods Pods) (ranges.Set, error) {
	if states == nil {
		return ranges.Span(0, t.Count()-1), nil
	}
	s, err := t.sets()
	if err != nil {
		return ranges.Set{}, err
	}
	var parts []ranges.Set
	add := func(state v1alpha1.TaskInstanceState, set ranges.Set) {
		if slices.Contains(states, string(state)) {
			parts = append(parts, set)
		}
	}
	add(v1alpha1.TaskInstanceSucceed, s.succeeded)
	add(v1alpha1.TaskInstanceFailed, s.failed)
	add(v1alpha1.TaskInstanceFailedInterrupted, s.interrupted)
	add(v1alpha1.TaskInstanceRunnable, s.retrying)
	add(v1alpha1.TaskInstanceState(t.unissuedState()), s.unissued)
	switch active := s.activeSet(); {
	case NeedsPods(states):
		var some []int
		for i := range active.All() {
			if slices.Contains(states, t.activeState(s, i, pods)) {
				some = append(some, i)
			}
		}
		parts = append(parts, ranges.Of(some...))
	case slices.Contains(states, activeStates[0]):
		parts = append(parts, active)
	}
	return ranges.UnionAll(parts...), nil
}

// Page returns at most limit indexes of a set, after the first offset, ascending.
// Cost: O(ranges + offset + limit).
func Page(set ranges.Set, offset, limit int) []int {
	out := make([]int, 0, min(limit, set.Len()))
	n := 0
	for i := range set.All() {
		if len(out) == limit {
			break
		}
		if n >= offset {
			out = append(out, i)
		}
		n++
	}
	return out
}

// Redirect is where the streams of an instance are stored, with the placeholders of the names replaced.
type Redirect struct {
	StdoutRedirectPath, StderrRedirectPath, StdoutRedirectFileName, StderrRedirectFileName string
}

// Redirect returns where the streams of an instance are stored; nil for nowhere.
func (t *Task) Redirect(index int) *Redirect {
	r := t.spec.RedirectInfo
	if r == nil || r.StdoutRedirectPath+r.StderrRedirectPath == "" {
		return nil
	}
	names := strings.NewReplacer(
		"${"+v1alpha1.EnvJobID+"}", naming.JobID(t.job.UID), "${"+v1alpha1.EnvTaskName+"}", t.Name, "${"+v1alpha1.EnvTaskInstanceIndex+"}", strconv.Itoa(index),
	)
	name := func(dir, file, stream string) string {
		if dir == "" {
			return ""
		}
		return names.Replace(cmp.Or(file, stream+".${"+v1alpha1.EnvJobID+"}.${"+v1alpha1.EnvTaskName+"}.${"+v1alpha1.EnvTaskInstanceIndex+"}.log"))
	}
	return &Redirect{
		StdoutRedirectPath: names.Replace(r.StdoutRedirectPath), StdoutRedirectFileName: name(r.StdoutRedirectPath, r.StdoutRedirectFileName, "stdout"),
		StderrRedirectPath: names.Replace(r.StderrRedirectPath), StderrRedirectFileName: name(r.StderrRedirectPath, r.StderrRedirectFileName, "stderr"),
	}
}
