// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/testutil"
)

// reference returns the job builder of a job that uses many features, and sets the script for it: several instances at
// once, maxConcurrentNum, a retry that succeeds, a retry that fails, a task after a failed task, and an independent one.
func (e *testEnv) reference(name string) *testutil.JobBuilder {
	e.script = func(task string, index, attempt int) int32 {
		switch fmt.Sprintf("%s/%d/%d", task, index, attempt) {
		case "a/1/0":
			return 1
		case "b/2/0", "b/2/1":
			return 3
		}
		return 0
	}
	return testutil.Job(name).
		Task("a", testutil.Instances(2), testutil.Retries(1)).
		Task("b", testutil.Instances(3), testutil.Concurrent(2), testutil.Retries(1)).
		Task("c").Task("d").
		Edges("a->b b->c a->d")
}

var referenceEnd = []string{
	"FAILED 2/4 5/7",
	"a SUCCEED succeeded=0-1",
	"b FAILED succeeded=0-1 failed=2 reason=TaskInstanceFailed",
	"c FAILED failed=0 reason=PredecessorFailed",
	"d SUCCEED succeeded=0",
	"failure a/1/0 CommandFailed 1", "failure b/2/0 CommandFailed 3", "failure b/2/1 CommandFailed 3",
}

// referencePods is how many Pods the reference job has had when it ends.
const referencePods = 8

// wantReference checks the status of the reference job at its end, and that each attempt had one Pod.
func (e *testEnv) wantReference(name string) {
	e.t.Helper()
	e.want(name, referenceEnd...)
	var got []string
	for _, pod := range e.Pods(e.t, e.ns) {
		if strings.HasPrefix(pod.Name, name+"-") {
			attempt := strings.TrimPrefix(pod.Name, name+"-")
			got = append(got, attempt[:strings.LastIndex(attempt, "-")]) // without the hash
		}
	}
	slices.Sort(got)
	want := []string{"a-0", "a-1", "a-1-r1", "b-0", "b-1", "b-2", "b-2-r1", "d-0"}
	if !slices.Equal(got, want) {
		e.t.Errorf("Pods were created for %q, want %q", got, want)
	}
	if tracked := e.tracked(); len(tracked) > 0 {
		e.t.Errorf("Pods are still tracked: %q", tracked)
	}
}

// TestJobRunsInOrder: tasks run in the order of the dependences.
func TestJobRunsInOrder(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("c").Task("a", testutil.Instances(2)).Task("b").Edges("a->b b->c"))
	p.must("j")
	e.want("j", "RUNNABLE 0/3 0/4", "a RUNNABLE active=0-1")
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	e.clock.SetTime(e.clock.Now().Add(flow.MinBatchInterval))
	p.must("j")
	e.want("j", "RUNNING 0/3 1/4", "a RUNNING succeeded=0 active=1")
	e.Finish(t, e.pod("a/1"), 0, e.clock.Now())
	p.must("j")
	e.want("j", "RUNNING 1/3 2/4", "a SUCCEED succeeded=0-1", "b RUNNABLE active=0")
	p.play("j")
	e.want("j", "SUCCEED 3/3 4/4", "c SUCCEED succeeded=0", "a SUCCEED succeeded=0-1", "b SUCCEED succeeded=0")
}

// TestReferenceJob: the reference job ends as it should, and is then neither written nor remembered.
func TestReferenceJob(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(e.reference("ref"))
	p.play("ref")
	e.wantReference("ref")
	before := p.sum()
	for range 3 {
		p.must("ref")
		e.tick()
	}
	if p.sum() != before {
		t.Errorf("writes after the end of the job: %q", p.log[before:])
	}
	if len(p.states.byName) != 0 {
		t.Errorf("the process remembers %d finished jobs", len(p.states.byName))
	}
}

// TestInvalidJob: an invalid job that got past the webhook fails with its error code, and no Pod is created.
func TestInvalidJob(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a").Task("b").Edges("a->b b->a"))
	p.must("j")
	job := e.job("j")
	if s := job.Status; s.State != v1alpha1.JobFailed || s.Reason != "InvalidParameterValue.DependenceUnfeasible" || s.Message == "" || s.EndTime == nil {
		t.Errorf("status is %+v", s)
	}
	for range 3 {
		p.must("j")
	}
	if n := p.sum(); n != 1 || len(e.Pods(t, e.ns)) > 0 {
		t.Errorf("writes are %q", p.log)
	}
}
