// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/soak/ledger"
)

// shape is a kind of job: what it asks for, what is done to it, and how it ends. Nothing
// about the end depends on chance or on the machine: commands fail by their index, or by
// the attempt and the run that they read from the name of their host, which is the Pod's.
type shape struct {
	name string
	spec func(*v1alpha1.BatchJobSpec)
	// deeds are done in turn, each when its moment has come.
	deeds []deed
	want  ledger.Want
	// deleted says that nothing of the job is left in the end, and none is looked for.
	deleted bool
	// byName says that commands read the name of their host; on the process node that is
	// the machine's.
	byName bool
}

// work is a command that takes its time, in units of the variable UNIT_SECONDS, and ends at once
// when it is asked to.
func work(units int) string {
	return fmt.Sprintf("trap 'exit 143' TERM; sleep $((%d * UNIT_SECONDS)) & wait $!", units)
}

// forever outlasts the soak.
var forever = work(3600)

// unless prepends to a command that it fails on some instances.
func unless(index, code int, then string) string {
	return fmt.Sprintf("if [ $BATCH_TASK_INSTANCE_INDEX = %d ]; then sleep 1; exit %d; fi; %s", index, code, then)
}

// Commands that can tell what came before them.
func onFirstAttempt(first, later string) string {
	return fmt.Sprintf("case $(hostname) in *-r[0-9]-*|*-r[0-9][0-9]-*) %s;; *) %s;; esac", later, first)
}

func onFirstRun(first, later string) string {
	return fmt.Sprintf("case $(hostname) in *-x[0-9]-*) %s;; *) %s;; esac", later, first)
}

// task is a task with that many instances. Its machines may be lost more often than
// anything here loses them.
func task(name string, instances int64, command string, options ...func(*v1alpha1.Task)) v1alpha1.Task {
	t := v1alpha1.Task{
		TaskName: name, TaskInstanceNum: &instances, ResourceMaxRetryCount: new(int64(50)),
		Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: command},
		ComputeEnv:  &v1alpha1.AnonymousComputeEnv{},
	}
	for _, o := range options {
		o(&t)
	}
	return t
}

func atMost(n int64) func(*v1alpha1.Task)  { return func(t *v1alpha1.Task) { t.MaxConcurrentNum = &n } }
func retries(n int64) func(*v1alpha1.Task) { return func(t *v1alpha1.Task) { t.MaxRetryCount = &n } }
func timeout(seconds int64) func(*v1alpha1.Task) {
	return func(t *v1alpha1.Task) { t.Timeout = &seconds }
}

func onFailure(a v1alpha1.FailedAction) func(*v1alpha1.Task) {
	return func(t *v1alpha1.Task) { t.FailedAction = a }
}

// tasks is a job of tasks without order.
func tasks(list ...v1alpha1.Task) func(*v1alpha1.BatchJobSpec) {
	return func(s *v1alpha1.BatchJobSpec) { s.Job.Tasks = list }
}

// chain is a job of tasks that run one after the other under a rule.
func chain(rule v1alpha1.TaskExecutionDependOn, list ...v1alpha1.Task) func(*v1alpha1.BatchJobSpec) {
	return func(s *v1alpha1.BatchJobSpec) {
		s.Job.Tasks, s.Job.TaskExecutionDependOn = list, rule
		for i := range list[1:] {
			edge(s, list[i].TaskName, list[i+1].TaskName)
		}
	}
}

func edge(s *v1alpha1.BatchJobSpec, from, to string) {
	s.Job.Dependences = append(s.Job.Dependences, v1alpha1.Dependence{StartTask: from, EndTask: to})
}

// diamond is one instance, then twice four beside each other, then one.
func diamond(s *v1alpha1.BatchJobSpec) {
	s.Job.Tasks = []v1alpha1.Task{task("fetch", 1, work(1)), task("left", 4, work(1), atMost(2)), task("right", 4, work(2), atMost(2)), task("merge", 1, work(1))}
	for _, side := range []string{"left", "right"} {
		edge(s, "fetch", side)
		edge(s, side, "merge")
	}
}

// The ends of tasks.
func succeeds(name, all string) ledger.WantTask {
	return ledger.WantTask{Name: name, State: v1alpha1.TaskSucceed, Succeeded: all}
}

func fails(name, succeeded, failed string, failures map[int]int) ledger.WantTask {
	return ledger.WantTask{Name: name, State: v1alpha1.TaskFailed, Succeeded: succeeded, Failed: failed, Failures: failures}
}

// The ends of jobs.
func allSucceed(list ...ledger.WantTask) ledger.Want {
	return ledger.Want{State: v1alpha1.JobSucceed, Tasks: list}
}

func someFail(list ...ledger.WantTask) ledger.Want {
	return ledger.Want{State: v1alpha1.JobFailed, Tasks: list}
}

// afterAnotherRun is an end after one more run.
func afterAnotherRun(w ledger.Want) ledger.Want {
	w.Run++
	return w
}

// shapes are the jobs, in the order in which they are submitted, again and again.
var shapes = []shape{
	{name: "single", spec: tasks(task("a", 1, work(2))), want: allSucceed(succeeds("a", "0"))},
	{name: "fan", spec: tasks(task("a", 6, work(2), atMost(2))), want: allSucceed(succeeds("a", "0-5"))},
	{name: "diamond", spec: diamond,
		want: allSucceed(succeeds("fetch", "0"), succeeds("left", "0-3"), succeeds("right", "0-3"), succeeds("merge", "0"))},
	{name: "chain", spec: chain("", task("a", 1, work(1)), task("b", 2, work(1)), task("c", 1, work(1))),
		want: allSucceed(succeeds("a", "0"), succeeds("b", "0-1"), succeeds("c", "0"))},
	{name: "flaky", byName: true, spec: tasks(task("a", 3, onFirstAttempt("sleep 1; exit 5", work(1)), retries(3))),
		want: allSucceed(succeeds("a", "0-2"))},
	{name: "used-up", spec: chain("", task("a", 2, unless(1, 3, work(1)), retries(2)), task("b", 2, work(1))),
		want: someFail(fails("a", "0", "1", map[int]int{1: 3}), fails("b", "", "0-1", nil))},
	{name: "partly", spec: chain(v1alpha1.PreTaskAtLeastPartlySucceed, task("a", 3, unless(0, 4, work(1)), retries(1)), task("b", 1, work(1))),
		want: someFail(fails("a", "1-2", "0", map[int]int{0: 2}), succeeds("b", "0"))},
	{name: "finished", spec: chain(v1alpha1.PreTaskFinished, task("a", 2, "exit 4"), task("b", 1, work(1))),
		want: someFail(fails("a", "", "0-1", map[int]int{0: 1, 1: 1}), succeeds("b", "0"))},
	{name: "timeout", spec: tasks(task("a", 2, forever, timeout(3), retries(1))), want: someFail(fails("a", "", "0-1", nil))},
	{name: "deleted", deleted: true, spec: tasks(task("a", 3, forever)), deeds: []deed{whenRunning(remove)}},
	{name: "suspended", byName: true, spec: tasks(task("a", 2, onFirstRun(forever, work(1)))),
		deeds: []deed{whenRunning(suspend), whenSuspended(resume)}, want: afterAnotherRun(allSucceed(succeeds("a", "0-1")))},
	{name: "terminated", spec: chain("", task("a", 1, work(1)), task("b", 2, forever), task("c", 1, work(1))),
		deeds: []deed{whenRuns("b", terminate)},
		want:  someFail(succeeds("a", "0"), fails("b", "", "0-1", nil), fails("c", "", "0", nil))},
	{name: "held", spec: tasks(task("a", 3, unless(1, 7, work(1)), retries(1), onFailure(v1alpha1.FailedActionInterrupt))),
		deeds: []deed{whenIs(v1alpha1.JobFailedInterrupted, terminateInstance("a/1"))},
		want:  someFail(fails("a", "0,2", "1", map[int]int{1: 2}))},
	{name: "held-at-once", spec: tasks(task("a", 2, unless(0, 9, work(1)), retries(3), onFailure(v1alpha1.FailedActionFastInterrupt))),
		deeds: []deed{whenIs(v1alpha1.JobFailedInterrupted, terminate)},
		want:  someFail(fails("a", "1", "0", map[int]int{0: 1}))},
	{name: "again", byName: true, spec: chain("", task("a", 3, onFirstRun(unless(2, 6, work(1)), work(1)), retries(1)), task("b", 1, work(1))),
		deeds: []deed{whenIs(v1alpha1.JobFailed, retry)},
		want: afterAnotherRun(allSucceed(ledger.WantTask{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0-2", Failures: map[int]int{2: 2}},
			succeeds("b", "0")))},
	{name: "in-vain", spec: tasks(task("a", 2, unless(1, 6, work(1)), retries(1))), deeds: []deed{whenIs(v1alpha1.JobFailed, retry)},
		want: afterAnotherRun(someFail(fails("a", "0", "1", map[int]int{1: 4})))},
	{name: "short-lived", spec: func(s *v1alpha1.BatchJobSpec) {
		tasks(task("a", 2, work(1)))(s)
		s.TTLSecondsAfterFinished = new(int64(2))
	}, want: allSucceed(succeeds("a", "0-1"))},
}
