// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/testutil"
)

// BenchmarkDescribeJobs lists 100 of 10,000 jobs, by a filter that half of them match.
func BenchmarkDescribeJobs(b *testing.B) {
	forJobs, _, _ := objects.Indexers()
	jobs := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, forJobs)
	begin := time.Now()
	for i := range 10000 {
		state := v1alpha1.JobSucceed
		if i%2 == 0 {
			state = v1alpha1.JobFailed
		}
		job := testutil.Job(fmt.Sprint("j", i)).Task("a").Status(v1alpha1.BatchJobStatus{State: state}).Obj()
		job.UID, job.CreationTimestamp = types.UID(fmt.Sprint("uid-", i)), metav1.NewTime(begin.Add(time.Duration(i*7919%10000)*time.Second))
		if err := jobs.Add(job); err != nil {
			b.Fatal(err)
		}
	}
	in := &describeJobsRequest{Filters: []filter{{"job-state", []string{"FAILED"}}}, Limit: new(int64(100))}
	for b.Loop() {
		list, err := jobs.ByIndex(toolscache.NamespaceIndex, "default")
		if err != nil {
			b.Fatal(err)
		}
		all := make([]*v1alpha1.BatchJob, len(list))
		for i := range list {
			all[i] = list[i].(*v1alpha1.BatchJob)
		}
		out, err := selectJobs(all, in)
		if err != nil || len(out.JobSet) != 100 || out.TotalCount != 5000 {
			b.Fatal(out.TotalCount, err)
		}
	}
}

// BenchmarkDescribeTask shows 1,000 of 100,000 instances in a status with the worst pattern, whose Pods are gone.
func BenchmarkDescribeTask(b *testing.B) {
	text := make([]byte, 0, 300000)
	for i := 0; i < 100000; i += 2 {
		text = fmt.Appendf(text, "%d,", i)
	}
	job := testutil.Job("j").Task("a", testutil.Instances(100000)).Status(v1alpha1.BatchJobStatus{
		State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Succeeded: string(text[:len(text)-1])}},
	}).Obj()
	for b.Loop() {
		task, _ := view.FindTask(job, "a")
		all, err := task.Select(nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		page := view.Page(all, 50000, 1000)
		if !task.MayHavePods(page) {
			b.Fatal("no Pods are looked for")
		}
		if out, err := task.Instances(page, nil); err != nil || len(out) != 1000 {
			b.Fatal(err)
		}
		if _, err := task.Metrics(); err != nil {
			b.Fatal(err)
		}
	}
}
