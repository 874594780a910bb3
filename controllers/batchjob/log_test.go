// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
	"batchcompute.dev/operator/internal/testutil"
)

// simulatedLog plays a job of two tasks, of which one instance fails once, and returns what is logged up to a level:
// a line each, without the job's identifier, which every line of level 1 must have.
func simulatedLog(t *testing.T, level int) []string {
	t.Helper()
	job := testutil.Job("sim").Task("a", testutil.Instances(2), testutil.Retries(1)).Task("b").Edges("a->b").Obj()
	s := newSimulation(simSetup{jobs: []*v1alpha1.BatchJob{job}})
	s.script = []string{"running", "exit 1"}
	id := ` "jobId"="` + naming.JobID(s.jobs["sim"].UID) + `"`
	var lines []string
	s.logger = funcr.New(func(_, args string) {
		if strings.Contains(args, `"level"=1`) && !strings.Contains(args, id) {
			t.Errorf("no jobId: %s", args)
		}
		lines = append(lines, strings.Replace(args, id, "", 1))
	}, funcr.Options{Verbosity: level})
	if err := s.play(30); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestLogLevel1 follows the life of a job in the log: nothing at level 0, and at level 1 one line for each change.
func TestLogLevel1(t *testing.T) {
	if lines := simulatedLog(t, 0); len(lines) > 0 {
		t.Errorf("level 0: %q", lines)
	}
	want := `"Submitted" "tasks"="0/2" "instances"="0/3"
"Task changed state" "task"="a" "from"="PENDING" "to"="RUNNABLE"
"Job changed state" "from"="SUBMITTED" "to"="RUNNABLE" "instances"="0/3"
"Task changed state" "task"="a" "from"="RUNNABLE" "to"="STARTING"
"Job changed state" "from"="RUNNABLE" "to"="STARTING" "instances"="0/3"
"Task changed state" "task"="a" "from"="STARTING" "to"="RUNNING"
"Event" "reason"="TaskInstanceRetry" "message"="task \"a\": 1 attempt failed and will be retried; instance 0: exit code 1, attempt 1 of 2"
"Job changed state" "from"="STARTING" "to"="RUNNING" "instances"="0/3"
"Task changed state" "task"="a" "from"="RUNNING" "to"="SUCCEED"
"Task changed state" "task"="b" "from"="PENDING" "to"="RUNNABLE"
"Task changed state" "task"="b" "from"="RUNNABLE" "to"="STARTING"
"Task changed state" "task"="b" "from"="STARTING" "to"="RUNNING"
"Task changed state" "task"="b" "from"="RUNNING" "to"="SUCCEED"
"Job changed state" "from"="RUNNING" "to"="SUCCEED" "instances"="3/3"`
	var got []string
	for _, line := range simulatedLog(t, 1) {
		got = append(got, strings.TrimPrefix(line, `"level"=1 "msg"=`))
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLogLevel2 explains the first pass, and every other one has a line for its end at least.
func TestLogLevel2(t *testing.T) {
	lines := simulatedLog(t, 2)
	for i, want := range []string{
		`"level"=2 "msg"="Planned" "state"="RUNNABLE" "reason"="" "pods"=0 "writeStatus"="now" "blocked"=false "create"=2 "adopt"=0 "verify"=0 "delete"=0 "removeFinalizers"=0 "requeueAfter"="0s"`,
		`"level"=1 "msg"="Submitted" "tasks"="0/2" "instances"="0/3"`,
		`"level"=1 "msg"="Task changed state" "task"="a" "from"="PENDING" "to"="RUNNABLE"`,
		`"level"=1 "msg"="Job changed state" "from"="SUBMITTED" "to"="RUNNABLE" "instances"="0/3"`,
		`"level"=2 "msg"="Ended the pass" "requeueAfter"="30s"`,
	} {
		if lines[i] != want {
			t.Errorf("line %d is %s, want %s", i, lines[i], want)
		}
	}
	planned, ended := 0, 0
	for _, line := range lines {
		switch {
		case strings.Contains(line, `"Planned"`):
			planned++
		case strings.Contains(line, `"Ended the pass"`):
			if ended++; planned > ended {
				t.Errorf("%d passes planned and %d ended: %s", planned, ended, line)
			}
		}
	}
	if planned < 5 || !strings.Contains(strings.Join(lines, "\n"), `"create"=1 "adopt"=0 "verify"=0 "delete"=0 "removeFinalizers"=1 `) {
		t.Errorf("the pass that retries is not explained:\n%s", strings.Join(lines, "\n"))
	}
}

// TestLogSaysWhy: a pass that writes its status later, waits for something or ends early says so.
func TestLogSaysWhy(t *testing.T) {
	var lines []string
	ctx := logr.NewContext(t.Context(), funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{Verbosity: 2}))
	p := &plan.Plan{RequeueAfter: time.Minute}
	p.Status.Waiting = []v1alpha1.TaskInstanceWait{{Reason: v1alpha1.ReasonQuota}}
	logPlan(ctx, &observation{}, p, statusDelay{wait: 250 * time.Millisecond, blocks: true})
	if _, err := requeue(ctx, time.Minute, nil); err != nil {
		t.Error(err)
	}
	if _, err := requeue(ctx, 0, errStale); err != nil {
		t.Error(err)
	}
	want := []string{
		`"level"=2 "msg"="Planned" "jobId"="" "state"="" "reason"="QuotaExceeded" "pods"=0 "writeStatus"="in 250ms" "blocked"=true "create"=0 "adopt"=0 "verify"=0 "delete"=0 "removeFinalizers"=0 "requeueAfter"="1m0s"`,
		`"level"=2 "msg"="Ended the pass" "requeueAfter"="1m0s"`,
		`"level"=2 "msg"="Ended the pass" "error"="` + errStale.Error() + `" "requeueAfter"="` + staleRetry.String() + `"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLogIsFree: a level that is off costs no memory.
func TestLogIsFree(t *testing.T) {
	ctx := logr.NewContext(context.Background(), funcr.New(func(string, string) {}, funcr.Options{}))
	p, obs, old := &plan.Plan{}, &observation{}, &v1alpha1.BatchJobStatus{}
	p.Status.Tasks, p.Events = make([]v1alpha1.TaskStatus, 100), make([]plan.Event, 10)
	err := retry.After(time.Second, errStale)
	if n := testing.AllocsPerRun(100, func() {
		logPlan(ctx, obs, p, statusDelay{write: true})
		logEnd(ctx, time.Second, err)
		logChanges(ctx, old, p)
	}); n > 6 { // what V and FromContext themselves take
		t.Errorf("%v allocations", n)
	}
}
