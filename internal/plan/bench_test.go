// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// BenchmarkCompute is one pass over a task with many Pods that run.
func BenchmarkCompute(b *testing.B) {
	for _, n := range []int{1, 200, 10_000} {
		b.Run(fmt.Sprintf("%d Pods", n), func(b *testing.B) {
			c, err := newCluster(testutil.Job("j").Task("a", testutil.Instances(int64(n))).Status(v1alpha1.BatchJobStatus{
				State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Active: active(0, fmt.Sprintf("0-%d", n-1))}},
			}).Obj())
			if err != nil {
				b.Fatal(err)
			}
			for i := range n {
				in := resolve.Instance{Index: i}
				c.create(in)
				c.change(c.spec.PodName(in), func(pod *corev1.Pod) { testutil.Bind(pod, "node-1"); testutil.Start(pod, c.now) })
			}
			obs := Observation{Job: c.job, Spec: c.spec, Pods: c.tracked()}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compute(obs, c.now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkComputeTasks is one pass over a job with many tasks that have ended.
func BenchmarkComputeTasks(b *testing.B) {
	job := testutil.Job("j")
	status := v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning}
	for i := range v1alpha1.MaxTasks {
		name := fmt.Sprintf("task-%d", i)
		job.Task(name)
		if i > 0 {
			job.Edges(fmt.Sprintf("task-%d->%s", i-1, name))
			status.Tasks = append(status.Tasks, v1alpha1.TaskStatus{Name: fmt.Sprintf("task-%d", i-1), State: v1alpha1.TaskSucceed, Succeeded: "0"})
		}
	}
	c, err := newCluster(job.Status(status).Obj())
	if err != nil {
		b.Fatal(err)
	}
	obs := Observation{Job: c.job, Spec: c.spec}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compute(obs, c.now); err != nil {
			b.Fatal(err)
		}
	}
}
