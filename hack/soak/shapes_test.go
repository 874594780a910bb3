// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/validation"
)

// TestShapes checks that every shape is admitted, and that its end speaks of every
// instance of every task.
func TestShapes(t *testing.T) {
	validator := validation.Validator{Catalog: catalog.Default}
	var names []string
	for _, sh := range shapes {
		t.Run(sh.name, func(t *testing.T) {
			if slices.Contains(names, sh.name) {
				t.Error("the name is taken")
			}
			names = append(names, sh.name)
			job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Name: sh.name + "-1", Namespace: namespace}}
			sh.spec(&job.Spec)
			job.Spec.Placement.Zone = "ap-guangzhou-2"
			for _, p := range validator.ValidateCreate(job) {
				t.Errorf("%s: %s", p.Field, p.Detail)
			}
			if sh.deleted {
				return
			}
			if len(sh.want.Tasks) != len(job.Spec.Job.Tasks) {
				t.Fatalf("the end speaks of %d tasks of %d", len(sh.want.Tasks), len(job.Spec.Job.Tasks))
			}
			for i, want := range sh.want.Tasks {
				task := job.Spec.Job.Tasks[i]
				all, _ := ranges.Parse(want.Succeeded)
				failed, _ := ranges.Parse(want.Failed)
				if got, want := all.Union(failed).String(), ranges.Span(0, int(*task.TaskInstanceNum)-1).String(); got != want {
					t.Errorf("task %s: the end speaks of the instances %s of %s", task.TaskName, got, want)
				}
				if want.Name != task.TaskName {
					t.Errorf("the end of task %s is where that of %s should be", want.Name, task.TaskName)
				}
			}
		})
	}
}
