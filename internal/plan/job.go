// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// job is what all stages know and none changes.
type job struct {
	obs  Observation
	now  time.Time
	mode mode
	// tasks are in the order of the spec.
	tasks        []task
	terminations *Terminations
}

// task is one task of the job.
type task struct {
	*resolve.Task
	pos    int
	budget budget
	old    *v1alpha1.TaskStatus // nil: PENDING until now
	// terminated are the instances that the annotation terminates.
	terminated ranges.Set
}

// terminates reports whether an instance is to be terminated, alone or with its job.
func (j *job) terminates(t *task, index int) bool {
	return j.mode.terminating || t.terminated.Contains(index)
}

// mode says whether the job runs, drains or ends.
type mode struct {
	// run is the run of the job that new claims belong to.
	run int
	// terminating says that the job is to end, for good.
	terminating bool
	// draining says that all is to stop for a suspension, or that the end of one is awaited.
	draining bool
	// changed says that the status does not say yet whether the job drains.
	changed bool
}

// modeOf decides whether the job runs, drains or ends, and in which run it is.
//
// That a job is being suspended is stored before its first Pod is stopped, so that no
// controller takes the end of one for a failure; and it stays so until the last claim is
// gone. Only then does a new run start: its Pods have other names than those that were
// stopped.
func modeOf(job *v1alpha1.BatchJob) mode {
	m := mode{run: int(job.Status.Run)}
	suspended := meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionSuspended)
	switch {
	case job.Spec.Terminate:
		m.terminating = true
	//mutation:new-run-before-old-stopped
	case job.Spec.Suspend || suspended && hasActive(&job.Status):
		m.draining = true
	case suspended && job.Status.StartTime != nil:
		m.run++
	}
	m.changed = suspended != m.draining
	return m
}

func hasActive(s *v1alpha1.BatchJobStatus) bool {
	return slices.ContainsFunc(s.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Active != "" })
}

// lists say where the instances of one task are. An instance that was not issued yet is in none, any
// other in one.
type lists struct {
	succeeded, failed             ranges.Set
	active, retrying, interrupted groups
	// adopted says that a Pod was found whose claim the status has lost.
	adopted bool
}

// load reads the tasks' lists from the stored status, and the job's annotation. The lists are by the
// position of the task.
func load(obs *Observation, now time.Time) (job, []lists, error) {
	spec, stored := obs.Spec, obs.Job.Status.Tasks
	j := job{obs: *obs, now: now, mode: modeOf(obs.Job), tasks: make([]task, len(spec.Tasks))}
	at := make([]lists, len(spec.Tasks))
	for i := range j.tasks {
		t := &j.tasks[i]
		t.Task, t.pos, t.budget = &spec.Tasks[i], i, budgetOf(&spec.Tasks[i], obs)
		if len(stored) == 0 || stored[0].Name != t.Name {
			continue // PENDING tasks are not in the status
		}
		t.old, stored = &stored[0], stored[1:]
		var err error
		if at[i], err = parseLists(t.old, t.InstanceNum); err != nil {
			return job{}, nil, fmt.Errorf("%w: status of task %q: %w", ErrUnreadable, t.Name, err)
		}
	}
	if len(stored) > 0 {
		return job{}, nil, fmt.Errorf("%w: status.tasks lists task %q, which spec.job.tasks does not have at that position", ErrUnreadable, stored[0].Name)
	}
	j.terminations = ReadTerminations(spec, obs.Job.Annotations[v1alpha1.AnnotationTerminate], obs.Terminations)
	for pos, set := range j.terminations.byTask {
		j.tasks[pos].terminated = set
	}
	return j, at, nil
}

// parseLists reads the lists of a task of n instances.
func parseLists(stored *v1alpha1.TaskStatus, n int) (l lists, err error) {
	if l.succeeded, err = ranges.Parse(stored.Succeeded); err != nil {
		return l, fmt.Errorf("succeeded: %w", err)
	}
	if l.failed, err = ranges.Parse(stored.Failed); err != nil {
		return l, fmt.Errorf("failed: %w", err)
	}
	if l.active, err = parseGroups(stored.Active); err != nil {
		return l, fmt.Errorf("active: %w", err)
	}
	if l.retrying, err = parseGroups(stored.Retrying); err != nil {
		return l, fmt.Errorf("retrying: %w", err)
	}
	if l.interrupted, err = parseGroups(stored.Interrupted); err != nil {
		return l, fmt.Errorf("interrupted: %w", err)
	}
	return l, l.check(n)
}

// check says what is wrong with lists that could be read. A job whose counts never add
// up would never end.
func (l *lists) check(n int) error {
	sets := make([]ranges.Set, 0, 8)
	for _, set := range [...]ranges.Set{l.succeeded, l.failed} {
		if !set.Empty() {
			sets = append(sets, set)
		}
	}
	for _, g := range [...]groups{l.active, l.retrying, l.interrupted} {
		for i := range g {
			sets = append(sets, g[i].set)
		}
	}
	all, sum := union(sets), l.succeeded.Len()+l.failed.Len()+l.active.len()+l.retrying.len()+l.interrupted.len()
	switch {
	case all.Max() >= n:
		return fmt.Errorf("index %d is beyond the last instance, %d", all.Max(), n-1)
	case all.Len() != sum:
		return errors.New("an index is in two lists")
	}
	return nil
}

// union is ranges.UnionAll without its cost for what most tasks have: one set.
func union(sets []ranges.Set) ranges.Set {
	if len(sets) == 1 {
		return sets[0]
	}
	return ranges.UnionAll(sets...)
}

// hasEnded reports whether every one of n instances has succeeded or failed for good.
func (l *lists) hasEnded(n int) bool { return l.succeeded.Len()+l.failed.Len() == n }

// isIssued reports whether an instance was issued and has not ended.
func (l *lists) isIssued() bool {
	return len(l.active) > 0 || len(l.retrying) > 0 || len(l.interrupted) > 0
}

// isBlocked reports whether nothing is left to do for t but to terminate interrupted instances:
// there are no others, or they use up maxConcurrentNum.
func (l *lists) isBlocked(t *task) bool {
	n := l.interrupted.len()
	return n > 0 && len(l.active) == 0 && (l.succeeded.Len()+l.failed.Len()+n == t.InstanceNum || n >= t.MaxConcurrentNum)
}

// unclaimed returns which of n instances have not ended and have no Pod.
func (l *lists) unclaimed(n int) ranges.Set {
	return ranges.Span(0, n-1).Minus(l.succeeded).Minus(l.failed).Minus(l.active.all()).Minus(l.interrupted.all())
}
