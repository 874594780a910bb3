// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// largeJob is a job of 100 tasks, every other of which names one of two ComputeEnvs.
func largeJob(change func(*v1alpha1.BatchJob)) *v1alpha1.BatchJob {
	b := testutil.Job("j").Token("t").Priority(7)
	for i := range 100 {
		b.Task(fmt.Sprint("task-", i), func(t *v1alpha1.Task) {
			t.Application.Command = strings.Repeat("x", 1000)
			if i%2 == 0 {
				t.ComputeEnv, t.EnvID = nil, fmt.Sprint("pool-", i%4)
			}
		})
	}
	job := b.Obj()
	job.Namespace, job.UID, job.ResourceVersion, job.Generation = "ns", "u", "7", 2
	job.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if change != nil {
		change(job)
	}
	return job
}

// dormant makes a job one that is suspended, and has been looked at.
func dormant(job *v1alpha1.BatchJob) {
	job.Spec.Suspend = true
	p, err := Compute(Observation{Job: job, Spec: mustResolve(job)}, job.CreationTimestamp.Time)
	if err != nil {
		panic(err)
	}
	job.Status = p.Status
}

func mustResolve(job *v1alpha1.BatchJob) *resolve.Job {
	spec, err := resolve.Resolve(job)
	if err != nil {
		panic(err)
	}
	return spec
}

// TestOutlineOfLargeJobs: whatever a large job does, by its outline the same is decided as by the job:
// whether to look at it, who is to be woken for it, and its position in a queue.
func TestOutlineOfLargeJobs(t *testing.T) {
	now := metav1.Now()
	dormantAnd := func(change func(*v1alpha1.BatchJob)) func(*v1alpha1.BatchJob) {
		return func(job *v1alpha1.BatchJob) {
			dormant(job)
			change(job)
		}
	}
	for name, tc := range map[string]struct {
		change        func(*v1alpha1.BatchJob)
		dormant, idle bool
	}{
		"new":                    {nil, false, true},
		"new and suspended":      {func(j *v1alpha1.BatchJob) { j.Spec.Suspend = true }, false, true},
		"suspended":              {dormant, true, true},
		"resumed":                {dormantAnd(func(j *v1alpha1.BatchJob) { j.Spec.Suspend = false; j.Generation++ }), false, true},
		"suspended, changed":     {dormantAnd(func(j *v1alpha1.BatchJob) { j.Spec.TTLSecondsAfterFinished = new(int64(5)); j.Generation++ }), false, true},
		"suspended, terminated":  {dormantAnd(func(j *v1alpha1.BatchJob) { j.Spec.Terminate = true; j.Generation++ }), false, true},
		"suspended, deleted":     {dormantAnd(func(j *v1alpha1.BatchJob) { j.DeletionTimestamp = &now }), false, true},
		"suspended, not checked": {dormantAnd(func(j *v1alpha1.BatchJob) { j.Status.Conditions = nil }), false, true},
		"suspended, instances to end": {dormantAnd(func(j *v1alpha1.BatchJob) {
			j.Annotations = map[string]string{v1alpha1.AnnotationTerminate: strings.Repeat("task-1/0 ", 1000)}
		}), false, true},
		"suspended, annotation gone": {dormantAnd(func(j *v1alpha1.BatchJob) {
			j.Status.Conditions = append(j.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionInvalidAnnotation, Status: metav1.ConditionTrue})
		}), false, true},
		"waiting": {func(j *v1alpha1.BatchJob) {
			j.Status.State, j.Status.Tasks = v1alpha1.JobRunnable, []v1alpha1.TaskStatus{{Name: "task-0", State: v1alpha1.TaskRunnable, Retrying: "r1:0"}}
		}, false, true},
		"failed, to be run again": {func(j *v1alpha1.BatchJob) {
			j.Status.State, j.Status.EndTime, j.Spec.RetryToken = v1alpha1.JobFailed, &now, "again"
			j.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue}}
		}, false, true},
		"running": {func(j *v1alpha1.BatchJob) {
			j.Status.State, j.Status.Tasks = v1alpha1.JobRunning, []v1alpha1.TaskStatus{{Name: "task-0", State: v1alpha1.TaskRunning, Active: "0", Running: 1}}
			j.Annotations = map[string]string{v1alpha1.AnnotationTerminate: strings.Repeat("task-1/0 ", 100)}
		}, false, false},
		"being stopped": {func(j *v1alpha1.BatchJob) {
			dormant(j)
			j.Status.Tasks = []v1alpha1.TaskStatus{{Name: "task-0", State: v1alpha1.TaskRunning, Active: "0", Running: 1}}
		}, false, false},
		"interrupted": {func(j *v1alpha1.BatchJob) {
			j.Status.Tasks = []v1alpha1.TaskStatus{{Name: "task-0", State: v1alpha1.TaskFailedInterrupted, Interrupted: "0"}}
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			job := largeJob(tc.change)
			before := job.DeepCopy()
			got := Outline(job)
			if diff := cmp.Diff(before, job); diff != "" {
				t.Errorf("the job was changed: %s", diff)
			}
			if !IsOutline(got) || IsOutline(job) || OutlineSize(got) != MemorySize(job) || OutlineSize(job) != 0 {
				t.Fatalf("outline: %t, of %d bytes, want %d", IsOutline(got), OutlineSize(got), MemorySize(job))
			}
			if again := Outline(got); again != got {
				t.Error("the outline of an outline is another one")
			}
			if text, err := json.Marshal(got); err != nil || len(text) > 3<<10 {
				t.Errorf("%d bytes, %v", len(text), err)
			}
			for what, read := range map[string]func(*v1alpha1.BatchJob) any{
				"dormant":     func(j *v1alpha1.BatchJob) any { return IsDormant(j) },
				"idle":        func(j *v1alpha1.BatchJob) any { return IsIdle(j) },
				"may begin":   func(j *v1alpha1.BatchJob) any { return MayBegin(j) },
				"retry due":   func(j *v1alpha1.BatchJob) any { return RetryDue(j) },
				"ComputeEnvs": func(j *v1alpha1.BatchJob) any { return resolve.EnvIDs(j) },
				"steering": func(j *v1alpha1.BatchJob) any {
					s := j.Spec
					return []any{s.ClientToken, s.Suspend, s.Terminate, s.RetryToken, s.TTLSecondsAfterFinished, s.Job.Priority}
				},
				"metadata": func(j *v1alpha1.BatchJob) any {
					return []any{j.Namespace, j.Name, j.UID, j.ResourceVersion, j.Generation, j.CreationTimestamp, j.DeletionTimestamp}
				},
				"status": func(j *v1alpha1.BatchJob) any {
					s := j.Status
					return []any{s.JobID, s.State, s.Reason, s.EndTime, s.RetryToken, s.ObservedGeneration, s.TaskInstanceMetrics}
				},
			} {
				if diff := cmp.Diff(read(job), read(got)); diff != "" {
					t.Errorf("%s (-job +outline):\n%s", what, diff)
				}
			}
			if IsDormant(got) != tc.dormant || IsIdle(got) != tc.idle {
				t.Errorf("dormant %t, idle %t", IsDormant(got), IsIdle(got))
			}
			if !tc.idle {
				if diff := cmp.Diff(job.Status, got.Status); diff != "" || job.Annotations[v1alpha1.AnnotationTerminate] != got.Annotations[v1alpha1.AnnotationTerminate] {
					t.Errorf("of a running job the status and the annotation must be whole: %s", diff)
				}
			}
		})
	}
}

// TestDormantIsFinished: what is dormant has nothing to be done.
func TestDormantIsFinished(t *testing.T) {
	job := largeJob(dormant)
	p, err := Compute(Observation{Job: job, Spec: mustResolve(job)}, job.CreationTimestamp.Add(time.Hour))
	if err != nil || p.Changed(&job.Status) || len(p.Create)+len(p.Adopt)+len(p.Verify) > 0 || p.RequeueAfter != 0 {
		t.Errorf("plan is %+v, %v", p, err)
	}
}

// TestSmallJobsStayWhole: those of ten tasks, and without long commands, cost no read.
func TestSmallJobsStayWhole(t *testing.T) {
	b := testutil.Job("j")
	for i := range 10 {
		b.Task(fmt.Sprint("task-", i))
	}
	job := b.Obj()
	if got := Outline(job); got != job {
		t.Errorf("a job of %d bytes is large", MemorySize(job))
	}
}

// TestNoMemory: a job for which there is no memory claims nothing and says why; what is claimed continues.
func TestNoMemory(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Instances(2)).Task("b").Edges("a->b").Obj()
	const why = "there is none"
	p, err := Compute(Observation{Job: job, Spec: mustResolve(job), NoMemory: why}, time.Unix(1000, 0))
	if err != nil || len(p.Create) > 0 || p.Status.State != v1alpha1.JobRunnable || p.Status.Reason != v1alpha1.ReasonOperatorMemory ||
		!strings.Contains(p.Status.Message, why) || p.Status.StartTime != nil || len(p.Wanted) > 0 {
		t.Errorf("plan is %+v, %v", p, err)
	}
	job.Status = p.Status
	if p, err = Compute(Observation{Job: job, Spec: mustResolve(job), NoMemory: why}, time.Unix(2000, 0)); err != nil || p.Changed(&job.Status) {
		t.Errorf("it says so again: %+v, %v", p, err)
	}
	if p, err = Compute(Observation{Job: job, Spec: mustResolve(job)}, time.Unix(2000, 0)); err != nil || len(p.Create) != 2 || p.Status.Reason != "" {
		t.Errorf("it does not continue: %+v, %v", p, err)
	}
}

// TestMemorySize: what is estimated is what is used, within a third, for jobs of every kind.
func TestMemorySize(t *testing.T) {
	tasks := func(n int, change func(*v1alpha1.Task)) *v1alpha1.BatchJob {
		b := testutil.Job("j")
		for i := range n {
			b.Task(fmt.Sprint("task-", i), change)
		}
		return b.Obj()
	}
	edges := tasks(500, func(*v1alpha1.Task) {})
	for i := range 5000 {
		edges.Spec.Job.Dependences = append(edges.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprint("task-", i%400), EndTask: "task-450"})
	}
	started := tasks(500, func(*v1alpha1.Task) {})
	for i := range 500 {
		started.Status.Tasks = append(started.Status.Tasks, v1alpha1.TaskStatus{Name: fmt.Sprint("task-", i), State: v1alpha1.TaskRunning, Active: "0"})
	}
	for name, job := range map[string]*v1alpha1.BatchJob{
		"many tasks":    tasks(1000, func(*v1alpha1.Task) {}),
		"long commands": tasks(30, func(t *v1alpha1.Task) { t.Application.Command = strings.Repeat("x", 16_000) }),
		"maps": tasks(500, func(t *v1alpha1.Task) {
			t.ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{Labels: map[string]string{"a": "b"}, NodeSelector: map[string]string{"a": "b"}}
		}),
		"variables": tasks(50, func(t *v1alpha1.Task) {
			for i := range 100 {
				t.EnvVars = append(t.EnvVars, v1alpha1.EnvVar{Name: fmt.Sprint("NAME", i), Value: "value"})
			}
		}),
		"dependences": edges,
		"status":      started,
	} {
		text, err := json.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		const n = 20
		jobs, specs := make([]*v1alpha1.BatchJob, n), make([]*resolve.Job, n)
		for i := range jobs {
			jobs[i] = &v1alpha1.BatchJob{}
			if err := json.Unmarshal(text, jobs[i]); err != nil {
				t.Fatal(err)
			}
			specs[i] = mustResolve(jobs[i])
		}
		guess, all := MemorySize(jobs[0]), StartedSize(jobs[0])
		with := heapInUse()
		runtime.KeepAlive(specs)
		whole := heapInUse()
		runtime.KeepAlive(jobs)
		none := heapInUse()
		object, spec := int(whole-none)/n, int(with-whole)/n
		t.Logf("%s: %d bytes as JSON, %d in memory, %d by the estimate; started %d, by the estimate %d", name, len(text), object, guess, object+spec, all)
		if guess < object*2/3 || guess > object*3/2 {
			t.Errorf("%s: estimated are %d bytes, and used %d", name, guess, object)
		}
		if all < object+spec-len(job.Status.Tasks)*400 {
			t.Errorf("%s: a started job is estimated at %d bytes and uses %d", name, all, object+spec)
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkMemorySize(b *testing.B) {
	job := largeJob(nil)
	b.ReportAllocs()
	for b.Loop() {
		MemorySize(job)
	}
}
