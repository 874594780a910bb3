// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/dag"
	"batchcompute.dev/operator/internal/errcode"
)

// checkDependences checks that both ends of every dependence are tasks of the job and
// that they form no cycle. Dependences with an end that is missing take no part in
// the search for cycles; one that is given twice counts once.
func (c *checker) checkDependences(job *v1alpha1.Job, names taskNames, path *field.Path) {
	if len(job.Dependences) == 0 {
		return
	}
	c.names = nearest{budget: nearestBudget}
	edges := make([]dag.Edge, 0, len(job.Dependences))
	for i := range job.Dependences {
		d := &job.Dependences[i]
		from, fromOK := c.taskNamed(d.StartTask, job, names, path, i, "startTask")
		to, toOK := c.taskNamed(d.EndTask, job, names, path, i, "endTask")
		if fromOK && toOK {
			edges = append(edges, dag.Edge{From: from, To: to})
		}
	}
	if len(job.Tasks) > v1alpha1.MaxTasks {
		return // refused already, and the search is only promised to be quick up to there
	}
	if cycle := dag.New(len(job.Tasks), edges).ShortestCycle(); cycle != nil {
		c.fail(errcode.DependenceUnfeasible, path, "dependences", "must not form a cycle, got %s", describeCycle(job.Tasks, cycle))
	}
}

// taskNamed returns the position of the task that one end of dependence i names.
func (c *checker) taskNamed(name string, job *v1alpha1.Job, names taskNames, path *field.Path, i int, end string) (int, bool) {
	if at, ok := names[name]; ok && name != "" {
		return at, true
	}
	if c.full() {
		c.total++
		return 0, false
	}
	path = path.Child("dependences").Index(i)
	switch near := c.nearestTask(name, job.Tasks); {
	case name == "":
		c.fail(errcode.MissingParameter, path, end, "must be given")
	case near != "":
		c.fail(errcode.DependenceNotFoundTaskName, path, end, "must name a task of this job, got %s; did you mean %s?", quote(name), quote(near))
	default:
		c.fail(errcode.DependenceNotFoundTaskName, path, end, "must name a task of this job, got %s", quote(name))
	}
	return 0, false
}

func (c *checker) nearestTask(name string, tasks []v1alpha1.Task) string {
	if c.names.known == nil {
		c.names.known = make([]string, 0, len(tasks))
		for i := range tasks {
			if tasks[i].TaskName != "" || len(tasks) == 1 {
				c.names.known = append(c.names.known, taskName(tasks, i))
			}
		}
	}
	return c.names.to(name)
}

// taskName is the name of task i, the default one if it has none.
func taskName(tasks []v1alpha1.Task, i int) string {
	if name := tasks[i].TaskName; name != "" {
		return name
	}
	return v1alpha1.DefaultTaskName
}

// describeCycle writes "a -> b -> c -> a". Of a cycle that does not fit, the
// beginning is shown and the rest is counted.
func describeCycle(tasks []v1alpha1.Task, cycle []int32) string {
	const room = MaxDetail - 100 // the sentence around it, the count, and the first name again
	first := shortName(taskName(tasks, int(cycle[0])))
	text := first
	for k, i := range cycle[1:] {
		name := shortName(taskName(tasks, int(i)))
		if len(text)+len(" -> ")+len(name)+len(first) > room {
			return fmt.Sprintf("%s -> (%d more) -> %s", text, len(cycle)-1-k, first)
		}
		text += " -> " + name
	}
	return text + " -> " + first
}

// shortName is a task's name as it stands in a cycle: bare when it is a valid one, and
// else quoted.
func shortName(name string) string {
	if isTaskName(name) && len(name) <= v1alpha1.MaxTaskNameLength {
		return name
	}
	return quote(name)
}
