// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/event"
)

// Numbering gives each instance of a job a number: the instances of all tasks are counted in the order of the spec. The nodes
// of a ComputeEnv have the numbers from 0.
type Numbering struct {
	// ofEnv says that it is that of a ComputeEnv, which has no tasks.
	ofEnv bool
	// ends are the numbers behind the last instance of each task.
	ends []int
}

// NewNumbering returns the numbering of a job with n tasks of these numbers of instances.
func NewNumbering(n int, instances func(task int) int) Numbering {
	ends, sum := make([]int, n), 0
	for i := range ends {
		sum += instances(i)
		ends[i] = sum
	}
	return Numbering{ends: ends}
}

// EnvNumbering returns the numbering of a ComputeEnv.
func EnvNumbering() Numbering { return Numbering{ofEnv: true} }

// has reports whether events of this name can be those of the object.
func (n Numbering) has(name event.Name) bool {
	switch name.Level() {
	case event.Job, event.Task, event.TaskInstance:
		return !n.ofEnv
	case event.ComputeEnv:
		return n.ofEnv
	case event.ComputeNode:
		return true
	}
	return false
}

// Start returns the number of the first instance of a task, by the task's position.
func (n Numbering) Start(task int) int {
	if task == 0 {
		return 0
	}
	return n.ends[task-1]
}

// Find returns the task, by its position, and the index of the instance with a number.
func (n Numbering) Find(number int) (task, index int) {
	task, _ = slices.BinarySearch(n.ends, number+1)
	return task, number - n.Start(task)
}

// limit returns the number that those of events of this name are less than.
func (n Numbering) limit(name event.Name) int {
	switch level := name.Level(); {
	case n.ofEnv:
		return v1alpha1.MaxComputeNodeCount
	case level == event.Task:
		return len(n.ends)
	case len(n.ends) == 0:
		return 0
	}
	return n.ends[len(n.ends)-1]
}
