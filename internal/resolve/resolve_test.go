// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

func TestDefaults(t *testing.T) {
	job := testutil.Job("j").Task("").Obj()
	job.Spec.Job.Tasks[0].ComputeEnv = nil
	got, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != naming.JobID(job.UID) || got.DependOn != v1alpha1.PreTaskSucceed || got.InstanceNum != 1 || len(got.Tasks) != 1 || got.Graph.Len() != 1 {
		t.Errorf("job is %+v", got)
	}
	task := got.Tasks[0]
	if task.Name != "task" || task.Label != "task" || task.InstanceNum != 1 || task.MaxConcurrentNum != 1 || task.MaxRetryCount != 0 ||
		task.Timeout != 24*time.Hour || !slices.Equal(task.Env.Zones, []string{"zone-a"}) || task.Spec != &job.Spec.Job.Tasks[0] {
		t.Errorf("task is %+v", task)
	}
}

func TestTask(t *testing.T) {
	for name, tc := range map[string]struct {
		options []testutil.TaskOption
		check   func(resolve.Task) bool
	}{
		"instances run at once":          {[]testutil.TaskOption{testutil.Instances(7)}, func(t resolve.Task) bool { return t.InstanceNum == 7 && t.MaxConcurrentNum == 7 }},
		"0 is no limit":                  {[]testutil.TaskOption{testutil.Instances(7), testutil.Concurrent(0)}, func(t resolve.Task) bool { return t.MaxConcurrentNum == 7 }},
		"limit":                          {[]testutil.TaskOption{testutil.Instances(7), testutil.Concurrent(3)}, func(t resolve.Task) bool { return t.MaxConcurrentNum == 3 }},
		"limit that is none":             {[]testutil.TaskOption{testutil.Instances(7), testutil.Concurrent(math.MaxInt64)}, func(t resolve.Task) bool { return t.MaxConcurrentNum == 7 }},
		"retries":                        {[]testutil.TaskOption{testutil.Retries(5)}, func(t resolve.Task) bool { return t.MaxRetryCount == 5 }},
		"timeout":                        {[]testutil.TaskOption{testutil.Timeout(90)}, func(t resolve.Task) bool { return t.Timeout == 90*time.Second }},
		"timeout 0 is the default":       {[]testutil.TaskOption{testutil.Timeout(0)}, func(t resolve.Task) bool { return t.Timeout == 24*time.Hour }},
		"timeout longer than a Duration": {[]testutil.TaskOption{testutil.Timeout(math.MaxInt64)}, func(t resolve.Task) bool { return t.Timeout == 100*365*24*time.Hour }},
		"zones win over the zone":        {[]testutil.TaskOption{testutil.Zones("b", "c")}, func(t resolve.Task) bool { return slices.Equal(t.Env.Zones, []string{"b", "c"}) }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := resolve.Resolve(testutil.Job("j").Task("a", tc.options...).Obj())
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(got.Tasks[0]) {
				t.Errorf("task is %+v", got.Tasks[0])
			}
		})
	}
	t.Run("no zone", func(t *testing.T) {
		got, err := resolve.Resolve(testutil.Job("j").Zone("").Task("a").Obj())
		if err != nil || got.Tasks[0].Env.Zones != nil {
			t.Errorf("Resolve gave %+v, %v", got, err)
		}
	})
}

func TestGraph(t *testing.T) {
	got, err := resolve.Resolve(testutil.Job("j").Task("c").Task("a", testutil.Instances(4)).Task("b").Edges("a->b b->c a->b").DependOn(v1alpha1.PreTaskFinished).Obj())
	if err != nil {
		t.Fatal(err)
	}
	if order, ok := got.Graph.Order(); !ok || fmt.Sprint(order) != "[1 2 0]" || got.InstanceNum != 6 || got.DependOn != v1alpha1.PreTaskFinished {
		t.Errorf("order is %v, %t; job %+v", order, ok, got)
	}
}

func TestNames(t *testing.T) {
	job := testutil.Job("j").Task("plain").Task("ends_").Obj()
	got, err := resolve.Resolve(job)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"plain", "ends_"} {
		if at := got.TaskByLabel(naming.TaskLabel(name)); at != i {
			t.Errorf("TaskByLabel of %q is %d, want %d", name, at, i)
		}
		in := resolve.Instance{Task: i, Index: 3, Attempt: 1}
		if got, want := got.PodName(in), naming.PodName("j", job.UID, name, 3, 1, 0); got != want {
			t.Errorf("PodName is %q, want %q", got, want)
		}
	}
	for _, unknown := range []string{"", "other", "ends_"} {
		if at := got.TaskByLabel(unknown); at != -1 {
			t.Errorf("TaskByLabel of %q is %d, want -1", unknown, at)
		}
	}
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		job  *testutil.JobBuilder
		want string
	}{
		"no task":              {testutil.Job("j"), "there is no task"},
		"name given twice":     {testutil.Job("j").Task("a").Task("a"), `task name "a" is given twice`},
		"two without a name":   {testutil.Job("j").Task("").Task(""), `task name "task" is given twice`},
		"labels that are one":  {testutil.Job("j").Task("a_").Task(naming.TaskLabel("a_")), fmt.Sprintf("the task names %q and %q make the same label", "a_", naming.TaskLabel("a_"))},
		"unknown start":        {testutil.Job("j").Task("a").Edges("x->a"), `dependence "x" -> "a" names a task that is not there`},
		"unknown end":          {testutil.Job("j").Task("a").Edges("a->x"), `dependence "a" -> "x" names a task that is not there`},
		"cycle":                {testutil.Job("j").Task("a").Task("b").Edges("a->b b->a"), "the dependences form a cycle"},
		"itself":               {testutil.Job("j").Task("a").Edges("a->a"), "the dependences form a cycle"},
		"rule":                 {testutil.Job("j").Task("a").DependOn("SOMETIMES"), `taskExecutionDependOn "SOMETIMES" is unknown`},
		"no instance":          {testutil.Job("j").Task("a", testutil.Instances(0)), `task "a": taskInstanceNum 0 is out of range`},
		"negative instances":   {testutil.Job("j").Task("a", testutil.Instances(-1)), `task "a": taskInstanceNum -1 is out of range`},
		"too many instances":   {testutil.Job("j").Task("a", testutil.Instances(math.MaxInt64)), `task "a": taskInstanceNum 9223372036854775807 is out of range`},
		"too many together":    {testutil.Job("j").Task("a", testutil.Instances(60_000)).Task("b", testutil.Instances(60_000)), "120000 instances are too many"},
		"negative retries":     {testutil.Job("j").Task("a", testutil.Retries(-1)), `task "a": maxRetryCount -1 is out of range`},
		"retries without end":  {testutil.Job("j").Task("a", testutil.Retries(math.MaxInt64)), `task "a": maxRetryCount 9223372036854775807 is out of range`},
		"negative timeout":     {testutil.Job("j").Task("a", testutil.Timeout(-1)), `task "a": timeout -1 is out of range`},
		"negative concurrency": {testutil.Job("j").Task("a", testutil.Concurrent(-1)), `task "a": maxConcurrentNum -1 is out of range`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := resolve.Resolve(tc.job.Obj())
			if err == nil || got != nil {
				t.Fatalf("Resolve gave %+v, %v; want an error", got, err)
			}
			if err.Error() != tc.want {
				t.Errorf("error is %q, want %q", err, tc.want)
			}
		})
	}
}

func BenchmarkResolve(b *testing.B) {
	job := testutil.Job("j")
	for i := range v1alpha1.MaxTasks {
		job.Task(fmt.Sprintf("task-%d", i))
		if i > 0 {
			job.Edges(fmt.Sprintf("task-%d->task-%d", i/2, i))
		}
	}
	obj := job.Obj()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := resolve.Resolve(obj); err != nil {
			b.Fatal(err)
		}
	}
}
