// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
)

// storedJob is a job as the API server sends it, with some of everything.
func storedJob() *v1alpha1.BatchJob {
	now := metav1.NewTime(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	return &v1alpha1.BatchJob{
		TypeMeta: metav1.TypeMeta{APIVersion: "batchcompute.dev/v1alpha1", Kind: "BatchJob"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "render", Namespace: "team", UID: "0b8cf9b4-c7a1-4c4a-b1b5-0f4d7a9d6c1f", Generation: 3, CreationTimestamp: now,
			Labels:          map[string]string{"a": "b", "c": "<d>"},
			Annotations:     map[string]string{"notes": strings.Repeat("\"x\"\n", 1000)},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "n", UID: "u", Controller: new(true)}},
			Finalizers:      []string{"example.com/f"},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kubectl-create", Operation: "Update", APIVersion: "batchcompute.dev/v1alpha1", Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{".":{},"f:job":{}}}`),
			}},
		},
		Spec: v1alpha1.BatchJobSpec{Placement: v1alpha1.Placement{Zone: "z"}, Job: v1alpha1.Job{Tasks: []v1alpha1.Task{
			{TaskName: "a", TaskInstanceNum: new(int64(1000)), Application: v1alpha1.Application{Command: "true"}}, {TaskName: "b"},
		}}},
		Status: v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", Succeeded: "0-999"}}},
	}
}

func TestStoredSize(t *testing.T) {
	lengthOf := func(v any) int64 {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return int64(len(data))
	}
	job := storedJob()
	withWorst := lengthOf(job) - lengthOf(job.Status) + int64(WorstStatusSize(&job.Spec))
	if got := StoredSize(job); got != withWorst {
		t.Errorf("a job that runs: %d bytes, want %d", got, withWorst)
	}
	job.Status.EndTime = &job.CreationTimestamp
	if got, want := StoredSize(job), lengthOf(job); got != want || want >= withWorst {
		t.Errorf("a job that has ended: %d bytes, want %d, less than %d", got, want, withWorst)
	}
	job.Status.EndTime = nil
	job.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue}}
	if got, want := StoredSize(job), lengthOf(job); got != want {
		t.Errorf("a duplicate: %d bytes, want %d", got, want)
	}
	job.TypeMeta = metav1.TypeMeta{} // as a client decodes it
	if got, want := StoredSize(job), lengthOf(job)+int64(len(`"kind":"BatchJob","apiVersion":"batchcompute.dev/v1alpha1",`)); got != want {
		t.Errorf("without its kind: %d bytes, want %d", got, want)
	}
}

// TestPropertyStoredSize compares the size with the length of the JSON form, whatever the job.
func TestPropertyStoredSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := storedJob()
		job.Spec = *drawSpec(t)
		text := rapid.MapOfN(rapid.String(), rapid.String(), 0, 4)
		job.Labels, job.Annotations = text.Draw(t, "labels"), text.Draw(t, "annotations")
		job.Status.EndTime = &job.CreationTimestamp
		data, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		// Two keys that are no UTF-8 may be the same JSON; the API server has none.
		if got := StoredSize(job); got != int64(len(data)) {
			t.Errorf("%d bytes, want %d", got, len(data))
		}
	})
}

// fatJob has a spec of almost 1 MiB: tasks so many with commands so long.
func fatJob(tasks int) *v1alpha1.BatchJob {
	job := storedJob()
	job.Spec.Job.Tasks = nil
	for i := range tasks {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{
			TaskName: fmt.Sprint("task-", i), ComputeEnv: &v1alpha1.AnonymousComputeEnv{},
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: strings.Repeat("c", (1<<20)/tasks-120)},
		})
	}
	return job
}

// TestStoredSizeAllocatesLittle holds that what is allocated does not grow with the job.
func TestStoredSizeAllocatesLittle(t *testing.T) {
	for _, tasks := range []int{64, 5000} {
		job := fatJob(tasks)
		if n := testing.AllocsPerRun(5, func() { StoredSize(job) }); n > 20 {
			t.Errorf("%d tasks: %v allocations", tasks, n)
		}
	}
}

// BenchmarkStoredSize shows what measuring takes beside decoding, which each event of the job
// takes anyway.
func BenchmarkStoredSize(b *testing.B) {
	for _, tasks := range []int{64, 5000} {
		job := fatJob(tasks)
		data, err := json.Marshal(job)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("measure/%d-tasks", tasks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				StoredSize(job)
			}
		})
		b.Run(fmt.Sprintf("decode/%d-tasks", tasks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := json.Unmarshal(data, &v1alpha1.BatchJob{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
