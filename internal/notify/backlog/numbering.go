// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backlog

import (
	"slices"

	"batchcompute.dev/operator/internal/notify/event"
)

// Numbering gives each instance of a job a number: the instances of all tasks are counted in the order of the spec.
type Numbering struct {
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
	return Numbering{ends}
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
	case level == event.Task:
		return len(n.ends)
	case len(n.ends) == 0:
		return 0
	}
	return n.ends[len(n.ends)-1]
}
