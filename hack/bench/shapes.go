// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// shape is a kind of work: so many jobs, all alike.
type shape struct {
	name     string
	jobs     int
	tasks    []task
	subjects []string
	// probed has a small job submitted every second meanwhile, to see how long it waits.
	probed bool
	// priority is that of the jobs; 0 stands for the default.
	priority int64
	// once is measured in the first round only, and not unless it is asked for.
	once bool
}

// task is so many instances, which wait for the tasks of the numbers in after.
type task struct {
	instances, concurrent int
	after                 []int
}

// perJob is how many Pods one job takes.
func (s shape) perJob() (n int) {
	for _, t := range s.tasks {
		n += t.instances
	}
	return n
}

// total is how many Pods it all takes.
func (s shape) total() int { return s.jobs * s.perJob() }

// single is one task.
func single(instances int) []task { return []task{{instances: instances}} }

// layers are tasks of one instance, so many in each layer. Task i of a layer waits for those
// of the layer before that before returns, of so many.
func layers(widths []int, before func(i, of int) []int) (tasks []task) {
	for l, width := range widths {
		for i := range width {
			t := task{instances: 1}
			if l > 0 {
				first := len(tasks) - i - widths[l-1]
				for _, b := range before(i, widths[l-1]) {
					t.after = append(t.after, first+b)
				}
			}
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// all has a task wait for the whole layer before.
func all(_, of int) (list []int) {
	for i := range of {
		list = append(list, i)
	}
	return list
}

// next has a task wait for the one before it and that one's neighbour.
func next(i, of int) []int { return []int{i, (i + 1) % of} }

// chain is tasks that wait for one another.
func chain(n int) []task {
	widths := make([]int, n)
	for i := range widths {
		widths[i] = 1
	}
	return layers(widths, all)
}

// Who does the work. See the package's comment.
const (
	floor  = "floor"
	floor2 = "floor2"
	ours   = "ours"
	job    = "job"
)

// part is by what the work is divided.
func part(small bool) int {
	if small {
		return 10
	}
	return 1
}

// every is all subjects, in the order in which they take turns.
var every = []string{floor, floor2, ours, job}

// s8 is a tenant's flood of jobs at the highest priority. As with S6, the small jobs beside it are of
// another namespace.
const s8 = "S8"

// shapes are what can be measured. S7 is more than a shape, and is told in aging.go; so is
// memory, in memory.go.
func shapes(small bool) []shape {
	n := part(small)
	bare := []string{floor, floor2, ours}
	wide := make([]int, 10)
	for i := range wide {
		wide[i] = 50 / n
	}
	return []shape{
		{name: "S1-1000", jobs: 1, tasks: single(1000 / n), subjects: every},
		{name: "S1-2000", jobs: 1, tasks: single(2000 / n), subjects: every},
		{name: "S1-10000", jobs: 1, tasks: single(10_000 / n), subjects: every},
		{name: "S2", jobs: 300 / n, tasks: layers([]int{1, 4, 4, 1}, all), subjects: bare},
		{name: "S3", jobs: 1, tasks: layers(wide, next), subjects: bare},
		{name: "S4", jobs: 2000 / n, tasks: single(1), subjects: every},
		{name: "S5", jobs: 1, tasks: chain(50), subjects: []string{ours}},
		{name: "S6", jobs: 1, tasks: []task{{instances: 100_000 / n, concurrent: 2000 / n}}, subjects: []string{ours}, probed: true, once: true},
		{name: s8, jobs: 60 / n, tasks: single(150), priority: v1alpha1.MaxPriority, subjects: []string{ours}, probed: true, once: true},
	}
}

// checked are the shapes of --check, which CI has a minute for, and the part of floor2's rate
// below which ours must not fall.
var checked = []struct {
	shape shape
	least float64
}{
	{shape{name: "S1-400", jobs: 1, tasks: single(400), subjects: []string{floor2, ours}}, 0.6},
	{shape{name: "S4-200", jobs: 200, tasks: single(1), subjects: []string{floor2, ours}}, 0.35},
}

// zone is that of the pretended nodes.
const zone = "ap-guangzhou-2"

// runs are the annotations that say how long a pretended Pod does.
func runs(duration string) map[string]string { return map[string]string{"sim/duration": duration} }

// atOnce is how long Pods run whose end is waited for.
const atOnce = "0s"

func taskName(t int) string { return fmt.Sprint("task-", t) }

// batchJob is the i-th job of a shape, as the operator takes it.
func batchJob(namespace string, i int, s shape, duration string) *v1alpha1.BatchJob {
	job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("job-", i)}}
	job.Spec.Placement.Zone = zone
	if s.priority > 0 {
		job.Spec.Job.Priority = &s.priority
	}
	for n, t := range s.tasks {
		task := v1alpha1.Task{
			TaskName: taskName(n), TaskInstanceNum: new(int64(t.instances)),
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
			ComputeEnv:  &v1alpha1.AnonymousComputeEnv{Kubernetes: &v1alpha1.KubernetesOptions{Annotations: runs(duration)}},
		}
		if t.concurrent > 0 {
			task.MaxConcurrentNum = new(int64(t.concurrent))
		}
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, task)
		for _, before := range t.after {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: taskName(before), EndTask: taskName(n)})
		}
	}
	return job
}
