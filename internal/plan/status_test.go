// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestJobStatus is the whole status, at the begin and at the end.
func TestJobStatus(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2)).Task("b").Edges("a->b")).step()
	first := metav1.NewTime(w.now)
	id := w.job.Status.JobID
	if !strings.HasPrefix(id, "job-") {
		t.Errorf("jobId is %q", id)
	}
	want := v1alpha1.BatchJobStatus{
		ObservedGeneration: 1, JobID: id, State: v1alpha1.JobRunnable, StartTime: &first,
		TaskProgress: "0/2", TaskInstanceProgress: "0/3",
		TaskMetrics:         v1alpha1.StateMetrics{RunnableCount: 1, PendingCount: 1},
		TaskInstanceMetrics: v1alpha1.StateMetrics{RunnableCount: 2, PendingCount: 1},
		Tasks:               []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunnable, Active: active(0, "0-1")}},
		Conditions: []metav1.Condition{
			{Type: "Accepted", Status: "True", ObservedGeneration: 1, LastTransitionTime: first, Reason: "Accepted", Message: "the request is valid"},
			{Type: "Reconciling", Status: "True", ObservedGeneration: 1, LastTransitionTime: first, Reason: "Progressing", Message: "the job is in progress"},
		},
	}
	if diff := cmp.Diff(want, w.job.Status); diff != "" {
		t.Errorf("status after acceptance (-want +got):\n%s", diff)
	}
	w.wait(90*time.Second).finish("a/0 a/1", 0).step().wait(time.Second).wait(1500*time.Millisecond).finish("b/0", 0).step()
	last := metav1.NewTime(w.now.Truncate(time.Second))
	want = v1alpha1.BatchJobStatus{
		ObservedGeneration: 1, JobID: id, State: v1alpha1.JobSucceed, StartTime: &first, EndTime: &last,
		Reason: "JobSucceed", Message: "2 tasks and 3 instances succeeded",
		TaskProgress: "2/2", TaskInstanceProgress: "3/3",
		TaskMetrics:         v1alpha1.StateMetrics{SucceedCount: 2},
		TaskInstanceMetrics: v1alpha1.StateMetrics{SucceedCount: 3},
		Tasks: []v1alpha1.TaskStatus{
			{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0-1"},
			{Name: "b", State: v1alpha1.TaskSucceed, Succeeded: "0"},
		},
		Conditions: []metav1.Condition{
			{Type: "Accepted", Status: "True", ObservedGeneration: 1, LastTransitionTime: first, Reason: "Accepted", Message: "the request is valid"},
			{Type: "Complete", Status: "True", ObservedGeneration: 1, LastTransitionTime: last, Reason: "JobSucceed", Message: "2 tasks and 3 instances succeeded"},
		},
	}
	if diff := cmp.Diff(want, w.job.Status); diff != "" {
		t.Errorf("status at the end (-want +got):\n%s", diff)
	}
}

func TestFailedConditions(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3))).step().finish("a/0 a/2", 0).finish("a/1", 4).step().step()
	want := "[Accepted=True/Accepted Failed=True/JobFailed Stalled=True/JobFailed]"
	if got := conditionsOf(&w.job.Status); got != want {
		t.Errorf("conditions are %s, want %s", got, want)
	}
	if got, want := w.job.Status.Message, `task "a": 1 of 3 instances failed; instance 1: exit code 4`; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
}

func conditionsOf(s *v1alpha1.BatchJobStatus) string {
	var out []string
	for _, c := range s.Conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	return fmt.Sprint(out)
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, testutil.Job("j").
		Task("done").Task("bad").Task("runs", testutil.Instances(6), testutil.Retries(1)).Task("starts").Task("waits").Task("held").Task("later").
		Edges("bad->held runs->later")).step()
	w.finish("done/0 runs/0", 0).finish("bad/0 runs/1", 1).start("runs/2 runs/3").bind("runs/4 starts/0").step()
	want := v1alpha1.StateMetrics{PendingCount: 1, RunnableCount: 1, StartingCount: 1, RunningCount: 1, SucceedCount: 1, FailedCount: 2}
	if diff := cmp.Diff(want, w.job.Status.TaskMetrics); diff != "" {
		t.Errorf("taskMetrics (-want +got):\n%s", diff)
	}
	want = v1alpha1.StateMetrics{PendingCount: 1, RunnableCount: 3, StartingCount: 2, RunningCount: 2, SucceedCount: 2, FailedCount: 2}
	if diff := cmp.Diff(want, w.job.Status.TaskInstanceMetrics); diff != "" {
		t.Errorf("taskInstanceMetrics (-want +got):\n%s", diff)
	}
	if s := w.job.Status; s.TaskProgress != "1/7" || s.TaskInstanceProgress != "2/12" {
		t.Errorf("progress is %s and %s, want 1/7 and 2/12", s.TaskProgress, s.TaskInstanceProgress)
	}
}

// TestEndsWithItsLastOutcome: the write that stores the last outcome ends the job, and its Pods
// lose their finalizers then, however long that takes; a Pod that is still to be stopped comes first.
func TestEndsWithItsLastOutcome(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step().finish("a/0", 0)
	for try := range 3 { // the finalizer does not come off
		w.live = false
		if p := w.compute(); p.NeedLive != (try > 0) {
			t.Fatalf("plan is %+v; that the job has ended while it has a Pod may be stale", p)
		}
		w.live = true
		p := w.compute()
		if p.Status.EndTime == nil || p.Status.State != v1alpha1.JobSucceed || len(p.RemoveFinalizers) != 1 {
			t.Fatalf("plan is %+v, want a job that has ended and a Pod whose finalizer is to be removed", p)
		}
		if err := w.store(w.job.ResourceVersion, &p.Status); err != nil {
			t.Fatal(err)
		}
	}
	w.step().want("SUCCEED", "a SUCCEED succeeded=0")

	w = newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1))).step().finish("a/0", 1).step()
	w.vanish("a/0").create(w.instance("a/0"))
	w.start("a/0").finish("a/0/r1", 0)
	if p := w.compute(); p.Status.EndTime != nil || p.Status.State != v1alpha1.JobRunning || len(p.Delete) != 1 {
		t.Errorf("plan is %+v, want a job that continues until an earlier attempt has stopped", p)
	}
}

// TestWriteBatched: outcomes by which no instance starts, or few of many, may be batched. What starts or
// ends a task that another depends on, or the job, may not.
func TestWriteBatched(t *testing.T) {
	many := func() *world {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(200), testutil.Concurrent(100)).Task("b").Edges("a->b"))
		if w.step(); w.last.Write == WriteBatched {
			t.Error("the first claims of a task wait")
		}
		return w
	}
	is := func(what string, p Plan, want StatusWrite) {
		t.Helper()
		if p.Write != want {
			t.Errorf("%s: write %d, want %d", what, p.Write, want)
		}
	}
	is("2 of 100 instances", many().finish("a/0 a/1", 0).compute(), WriteBatched)
	is("3 of 100 instances", many().finish("a/0 a/1 a/2", 0).compute(), WriteImmediate)
	is("a suspension", many().suspend(true).compute(), WriteImmediate)
	w := newWorld(t, testutil.Job("j").Task("a").Task("b", testutil.Instances(100)).Task("c").Task("d").Edges("a->c a->d c->d")).step()
	is("the end of a task that another depends on", w.finish("a/0", 0).compute(), WriteImmediate)
	is("the end of one of two tasks that another depends on", newWorld(t, testutil.Job("j").Task("a").Task("b").Task("c").Edges("a->c b->c")).step().finish("a/0", 0).compute(), WriteBatched)
	is("the end of the job", newWorld(t, testutil.Job("j").Task("a")).step().finish("a/0", 0).compute(), WriteImmediate)
}

func TestTerminalStaysTerminal(t *testing.T) {
	for _, state := range []v1alpha1.JobState{v1alpha1.JobSucceed, v1alpha1.JobFailed} {
		t.Run(string(state), func(t *testing.T) {
			status := v1alpha1.BatchJobStatus{ObservedGeneration: 1, State: state, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskState(state), Succeeded: "0"}}}
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3)).Status(status))
			for i := range 3 {
				w.create(w.instance(fmt.Sprintf("a/%d", i)))
			}
			w.start("a/0").finish("a/1", 1).start("a/2").stop("a/2")
			w.live = true
			p := w.compute()
			if p.Changed(&w.job.Status) || len(p.Create)+len(p.Adopt)+len(p.Events) > 0 || p.Write != WriteInformational || p.RequeueAfter != 0 {
				t.Errorf("plan of a job that has ended is %+v", p)
			}
			if got, want := podNames(p.RemoveFinalizers), names(w.pods); !slices.Equal(got, want) {
				t.Errorf("Release is %q, want %q", got, want)
			}
			if got, want := podNames(p.Delete), []string{w.pod("a/0")}; !slices.Equal(got, want) {
				t.Errorf("Delete is %q, want %q", got, want)
			}
		})
	}
}

// TestInterruptedJobIsQuiet: the status of a job that waits for a person is not written again just
// because time passes.
func TestInterruptedJobIsQuiet(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction(v1alpha1.FailedActionInterrupt))).step().finish("a/0", 1).step()
	w.want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	if p := w.wait(time.Minute).compute(); p.Changed(&w.job.Status) {
		t.Errorf("a minute later the conditions are %v, want %v as before", p.Status.Conditions, w.job.Status.Conditions)
	}
}

// TestInterruptedPodVanishes: the attempt had failed before, and is an event once.
func TestInterruptedPodVanishes(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction(v1alpha1.FailedActionInterrupt))).step().finish("a/0", 1).step()
	w.vanish("a/0").step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonCommandFailed {
		t.Errorf("failures are %+v, want one, of the command", f)
	}
}

// TestOldViewStopsNothing: Pods that are ahead of a job which has ended, or is suspended,
// belong to what came after that.
func TestOldViewStopsNothing(t *testing.T) {
	change := func(w *world, change func(*v1alpha1.BatchJobSpec)) *v1alpha1.BatchJob {
		old := w.job
		w.changeJob(func(job *v1alpha1.BatchJob) { change(&job.Spec) })
		return old
	}
	suspend := func(yes bool) func(*v1alpha1.BatchJobSpec) {
		return func(s *v1alpha1.BatchJobSpec) { s.Suspend = yes }
	}
	for name, reach := range map[string]func(*world) *v1alpha1.BatchJob{
		"failed, then retried": func(w *world) *v1alpha1.BatchJob {
			w.step().finish("a/0", 1).step().step()
			old := change(w, func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "1" })
			w.step().start("a/0/x1")
			return old
		},
		"suspended from the start, then resumed": func(w *world) *v1alpha1.BatchJob {
			change(w, suspend(true))
			w.step()
			old := change(w, suspend(false))
			w.step().start("a/0")
			return old
		},
		"suspended meanwhile, then resumed": func(w *world) *v1alpha1.BatchJob {
			w.step().start("a/0")
			change(w, suspend(true))
			w.step().finish("a/0", 143).step()
			old := change(w, suspend(false))
			w.step().start("a/0/x1")
			return old
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a"))
			obs := Observation{Job: reach(w), Spec: w.spec, Pods: w.tracked()}
			if p := w.must(obs); !p.NeedLive || len(p.Delete)+len(p.RemoveFinalizers) > 0 {
				t.Errorf("by an old job it stops %q and removes the finalizers of %q, want that it reads the job again", podNames(p.Delete), podNames(p.RemoveFinalizers))
			}
			if p := w.compute(); len(p.Delete)+len(p.RemoveFinalizers) > 0 {
				t.Errorf("by the job as it is it stops %q and removes the finalizers of %q", podNames(p.Delete), podNames(p.RemoveFinalizers))
			}
		})
	}
}

func podNames(pods []*corev1.Pod) []string {
	var out []string
	for _, pod := range pods {
		out = append(out, pod.Name)
	}
	return out
}

// TestDeletion: a job that is being deleted removes the finalizers of its Pods and does no more.
func TestDeletion(t *testing.T) {
	job := func() *testutil.JobBuilder {
		return testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1)).Task("b").Edges("a->b")
	}
	for name, stage := range map[string]func(*world) *world{
		"before it was looked at": func(w *world) *world { return w },
		"claimed": func(w *world) *world {
			p := w.compute()
			_ = w.store(w.job.ResourceVersion, &p.Status)
			return w
		},
		"created": func(w *world) *world { return w.step() },
		"running": func(w *world) *world {
			return w.step().start("a/0").finish("a/1", 1).finish("a/2", 0).step().finish("a/1/r1", 0)
		},
		"ended": func(w *world) *world { return w.finishAll() },
	} {
		t.Run(name, func(t *testing.T) {
			w := stage(newWorld(t, job()))
			w.changeJob(func(job *v1alpha1.BatchJob) { job.DeletionTimestamp = new(metav1.NewTime(w.now)) })
			tracked := podNames(w.tracked())
			p := w.compute()
			if p.Changed(&w.job.Status) || len(p.Create)+len(p.Adopt)+len(p.Delete) > 0 {
				t.Errorf("plan is %+v, want nothing but Release", p)
			}
			if got := podNames(p.RemoveFinalizers); !slices.Equal(got, tracked) {
				t.Errorf("Release is %q, want %q", got, tracked)
			}
			if w.step(); len(w.tracked()) > 0 {
				t.Errorf("Pods are still tracked: %q", podNames(w.tracked()))
			}
		})
	}
}

func TestReject(t *testing.T) {
	const code, message = "InvalidParameter.TaskName", "spec.job.tasks[0].taskName must be …"
	reject := func(w *world) Plan {
		p := Reject(w.observation(), code, message, w.now)
		for range 10 { // maps are walked in any order
			if diff := cmp.Diff(p, Reject(w.observation(), code, message, w.now)); diff != "" {
				t.Fatalf("a second answer differs:\n%s", diff)
			}
		}
		return p
	}
	t.Run("new", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a"))
		p := reject(w)
		if s := p.Status; s.State != v1alpha1.JobFailed || s.Reason != code || s.Message != message || s.EndTime == nil || s.ObservedGeneration != 1 || p.Write != WriteImmediate {
			t.Errorf("status is %+v", s)
		}
		if got, want := conditionsOf(&p.Status), "[Accepted=False/InvalidRequest Failed=True/InvalidRequest Stalled=True/InvalidRequest]"; got != want {
			t.Errorf("conditions are %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(p.Events), "[{true false InvalidRequest "+message+"}]"; got != want {
			t.Errorf("transitions are %s, want %s", got, want)
		}
	})
	t.Run("running", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(4))).step().start("a/0 a/1").finish("a/2", 0)
		p := reject(w)
		if len(p.Create)+len(p.Adopt) > 0 || !slices.Equal(podNames(p.RemoveFinalizers), names(w.pods)) || len(p.Delete) != 3 || !slices.IsSorted(podNames(p.Delete)) {
			t.Errorf("plan is %+v", p)
		}
		if got, want := conditionsOf(&p.Status), "[Accepted=False/InvalidRequest Failed=True/InvalidRequest Stalled=True/InvalidRequest]"; got != want {
			t.Errorf("conditions are %s, want %s", got, want)
		}
	})
	t.Run("ended", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).finishAll()
		if p := reject(w); p.Changed(&w.job.Status) || len(p.Events) > 0 {
			t.Errorf("the status of a job that has ended becomes %+v", p.Status)
		}
	})
	t.Run("being deleted", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step()
		w.changeJob(func(job *v1alpha1.BatchJob) { job.DeletionTimestamp = new(metav1.NewTime(w.now)) })
		if p := reject(w); p.Changed(&w.job.Status) || len(p.RemoveFinalizers) != 1 {
			t.Errorf("plan is %+v, want nothing but Release", p)
		}
	})
}

func TestBadStatusIsAnError(t *testing.T) {
	task := func(s v1alpha1.TaskStatus) []v1alpha1.TaskStatus {
		s.Name, s.State = "a", v1alpha1.TaskRunning
		return []v1alpha1.TaskStatus{s}
	}
	for name, tc := range map[string]struct {
		tasks []v1alpha1.TaskStatus
		want  string
	}{
		"unknown task":        {[]v1alpha1.TaskStatus{{Name: "x"}}, `status.tasks lists task "x", which spec.job.tasks does not have at that position`},
		"order":               {[]v1alpha1.TaskStatus{{Name: "b"}, {Name: "a"}}, `status.tasks lists task "a", which spec.job.tasks does not have at that position`},
		"succeeded":           {task(v1alpha1.TaskStatus{Succeeded: "x"}), `status of task "a": succeeded: index "x" must be a decimal number from 0 to 2147483647`},
		"failed":              {task(v1alpha1.TaskStatus{Failed: "3-1"}), `status of task "a": failed: range "3-1" must begin after -1 and not end before it begins`},
		"active":              {task(v1alpha1.TaskStatus{Active: active(0, "1,1")}), `status of task "a": active: range "1" must begin after 1 and not end before it begins`},
		"retrying":            {task(v1alpha1.TaskStatus{Retrying: active(1, " ")}), `status of task "a": retrying: index " " must be a decimal number from 0 to 2147483647`},
		"index too large":     {task(v1alpha1.TaskStatus{Succeeded: "0-5"}), `status of task "a": index 5 is beyond the last instance, 4`},
		"index in two":        {task(v1alpha1.TaskStatus{Succeeded: "0-3", Active: active(0, "3")}), `status of task "a": an index is in two lists`},
		"index in two groups": {task(v1alpha1.TaskStatus{Active: "1;r1:1"}), `status of task "a": an index is in two lists`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(5)).Task("b").Status(v1alpha1.BatchJobStatus{Tasks: tc.tasks}))
			_, err := Compute(w.observation(), w.now)
			if !errors.Is(err, ErrUnreadable) || err.Error() != "the stored status cannot be read: "+tc.want {
				t.Fatalf("error is %v, want %s", err, tc.want)
			}
			p := Unreadable(w.observation(), err, w.now)
			stalled := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionStalled)
			if stalled == nil || stalled.Reason != v1alpha1.ReasonStatusUnreadable || !strings.Contains(stalled.Message, tc.want) || len(p.Events) != 1 {
				t.Fatalf("conditions are %+v, transitions %+v", p.Status.Conditions, p.Events)
			}
			// Once it is stored there is nothing to write or to tell.
			w.job.Status = p.Status
			if again := Unreadable(w.observation(), err, w.now.Add(time.Hour)); again.Changed(&w.job.Status) || len(again.Events) > 0 || again.RequeueAfter > 0 {
				t.Errorf("the second plan is %+v", again)
			}
		})
	}
}

func TestFailuresAreBoundedAndOrdered(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("b", testutil.Instances(8)).Task("a", testutil.Instances(8))).step()
	list := func() string {
		var out []string
		for _, f := range w.job.Status.Failures {
			out = append(out, fmt.Sprintf("%s/%d", f.TaskName, f.TaskInstanceIndex))
		}
		return strings.Join(out, " ")
	}
	w.finish("a/5 b/3", 1).wait(time.Second).finish("b/1 a/7", 1).step()
	if got, want := list(), "b/3 a/5 b/1 a/7"; got != want {
		t.Errorf("failures are %s, want %s", got, want)
	}
	// What is seen late is not the last that happened.
	w.wait(10*time.Second).finish("a/0", 1).step()
	w.wait(-5*time.Second).finish("a/1", 1).wait(5 * time.Second).step()
	if got, want := list(), "b/3 a/5 b/1 a/7 a/1 a/0"; got != want {
		t.Errorf("failures are %s, want %s", got, want)
	}
	w.finish("b/0 b/2 b/4 b/5 b/6 b/7", 1).step()
	if got, want := list(), "b/1 a/7 a/1 a/0 b/0 b/2 b/4 b/5 b/6 b/7"; got != want {
		t.Errorf("failures are %s, want %s", got, want)
	}
}

// TestFailureMessage: the sum counts all, and quotes the last that failed for good.
func TestFailureMessage(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(4), testutil.Retries(1))).step()
	message := func(want string) {
		t.Helper()
		if got := w.job.Status.Tasks[0].Message; got != want {
			t.Errorf("message is %q, want %q", got, want)
		}
	}
	w.finish("a/0 a/1", 1).step()
	message("")
	w.finish("a/0/r1", 2).wait(time.Second).finish("a/2", 3).step()
	message("1 of 4 instances failed; instance 0: exit code 2, attempt 2 of 2")
	w.step()
	message("1 of 4 instances failed; instance 0: exit code 2, attempt 2 of 2")
	w.do("a/1/r1", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") }).step()
	message("1 instance waits: no node fits in zone zone-a: full")
	w.start("a/1/r1").step()
	message("1 of 4 instances failed")
	w.finish("a/1/r1 a/2/r1", 5).finish("a/3", 0).step().step()
	message("3 of 4 instances failed; instance 2: exit code 5, attempt 2 of 2")
}

// TestOnlySomeTasksCarryAMessage, and those that failed by themselves come first.
func TestOnlySomeTasksCarryAMessage(t *testing.T) {
	job := testutil.Job("j")
	for i := range 50 {
		job.Task(fmt.Sprintf("held%d", i)).Edges(fmt.Sprintf("bad->held%d", i))
	}
	w := newWorld(t, job.Task("bad")).step().finish("bad/0", 1).step().step()
	messages := 0
	for _, s := range w.job.Status.Tasks {
		if s.Message != "" {
			messages++
		}
		if s.Name == "bad" && s.Message == "" {
			t.Errorf("the task that failed says nothing")
		}
	}
	if messages != v1alpha1.MaxTaskMessages {
		t.Errorf("%d tasks carry a message, want %d", messages, v1alpha1.MaxTaskMessages)
	}
	if got, want := w.job.Status.Message, `task "bad": exit code 1`; got != want {
		t.Errorf("the job's message is %q, want %q", got, want)
	}
}

func TestRefusal(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Instances(4), testutil.Concurrent(2)).Task("b")
	lost := func(t *testing.T) *world {
		w := newWorld(t, job).step().vanish("a/1")
		w.refusals = map[int]Refusal{0: {Message: `pods "x" is forbidden: violates PodSecurity`, Since: w.now}}
		return w
	}
	t.Run("is said", func(t *testing.T) {
		p := lost(t).compute()
		s := p.Status.Tasks[0]
		if s.Reason != v1alpha1.ReasonCreateRefused || s.Message != `InternalError.CallCvm: the cluster refused to create a Pod: remove what asks for more rights (dockerRunOption, computeEnv.kubernetes.securityContext), or use another namespace: violates PodSecurity` || p.Write != WriteInformational {
			t.Errorf("the task is %+v, write %d", s, p.Write)
		}
		if p.Status.Reason != v1alpha1.ReasonCreateRefused || p.Status.Tasks[1].Reason != "" {
			t.Errorf("the job says %q, the other task %q", p.Status.Reason, p.Status.Tasks[1].Reason)
		}
	})
	t.Run("stops claims", func(t *testing.T) {
		w := lost(t).finish("a/0", 0)
		if p := w.compute(); len(p.Create) > 0 || fmt.Sprint(p.Adopt) != "[{0 1 0 0 0}]" || len(p.RemoveFinalizers) != 1 {
			t.Errorf("plan is %+v, want the lost claim and no new one", p)
		}
	})
	t.Run("is over when no claim lacks its Pod", func(t *testing.T) {
		w := lost(t)
		w.create(w.instance("a/1"))
		w.finish("a/0", 0).step().want("RUNNING", "a RUNNING succeeded=0 active=1-2", "b RUNNABLE active=0")
	})
}

func TestEvents(t *testing.T) {
	t.Run("each once", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(1)).Task("b").Edges("a->b"))
		again := func() { w.step().step() }
		again()
		w.do("a/0", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") })
		again()
		w.start("a/0")
		again()
		w.finish("a/0", 1).finish("a/1", 0)
		again()
		w.finish("a/0/r1", 0)
		again()
		w.finish("b/0", 9)
		again()
		want := []string{
			"Accepted: " + w.job.Status.JobID + ": 2 tasks, 3 instances",
			`Unschedulable: task "a": 1 instance waits: no node fits in zone zone-a: full`,
			"JobRunning: the first instance runs",
			`TaskRunning: task "a" runs`,
			`TaskInstanceRetry: task "a": 1 attempt failed and will be retried; instance 0: exit code 1, attempt 1 of 2`,
			`TaskSucceed: task "a": 2 instances succeeded`,
			`TaskInstanceFailed: task "b": exit code 9`,
			`JobFailed: task "b": exit code 9`,
		}
		if diff := cmp.Diff(want, w.emitted); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	t.Run("success", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).finishAll()
		want := []string{
			"Accepted: " + w.job.Status.JobID + ": 1 task, 1 instance",
			"JobSucceed: 1 task and 1 instance succeeded",
		}
		if diff := cmp.Diff(want, w.emitted); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	t.Run("a retry speaks of an attempt that is retried", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1))).step().finish("a/0", 1).step()
		w.emitted = nil
		w.finish("a/1", 2).wait(time.Second).finish("a/0/r1", 3).step()
		want := []string{
			`TaskInstanceRetry: task "a": 1 attempt failed and will be retried; instance 1: exit code 2, attempt 1 of 2`,
			`TaskInstanceFailed: task "a": 1 of 3 instances failed; instance 0: exit code 3, attempt 2 of 2`,
		}
		if diff := cmp.Diff(want, w.emitted); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		job := testutil.Job("j").Task("bad")
		for i := range 100 {
			job.Task(fmt.Sprintf("held%d", i)).Edges(fmt.Sprintf("bad->held%d", i))
		}
		w := newWorld(t, job).step().finish("bad/0", 1).step()
		got := w.last.Events
		if len(got) != maxEvents+2 || got[1].Reason != v1alpha1.ReasonPredecessorFailed || got[maxEvents].Message != "81 more changes are only in the status: run kubectl describe" || got[maxEvents+1].Reason != v1alpha1.ReasonJobFailed {
			t.Errorf("%d transitions, from %+v to %+v", len(got), got[1], got[len(got)-1])
		}
	})
}

// bustle is a job in which about everything happens at once.
func bustle(t *testing.T) *world {
	w := newWorld(t, testutil.Job("j").
		Task("a", testutil.Instances(12), testutil.Retries(2), testutil.Timeout(60)).Task("b", testutil.Instances(3)).Task("c").Task("d").
		Edges("b->c a->d"))
	w.step().start("a/0 a/1 a/2").finish("a/3 a/4 a/5", 1).step().finish("a/3/r1 a/4/r1", 1).step()
	w.wait(61*time.Second).start("a/6 a/7").finish("a/3/r2 a/8", 1).finish("a/9", 0).vanish("a/10").finish("b/0 b/1", 0).finish("b/2", 1)
	w.do("a/11", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") })
	w.do("a/4/r2", func(pod *corev1.Pod) { testutil.Bind(pod, "node-2"); testutil.Wait(pod, "ErrImagePull", "no") })
	w.do("a/5/r1", func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelAttempt) })
	w.live = true // for the sake of that Pod
	return w
}

// TestDeterminism: the order of the Pods makes no difference, byte for byte.
func TestDeterminism(t *testing.T) {
	w := bustle(t)
	asked, err := json.Marshal(w.observation().Pods)
	if err != nil {
		t.Fatal(err)
	}
	text := func(p Plan) string {
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	want := text(w.compute())
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		obs := w.observation()
		random.Shuffle(len(obs.Pods), func(i, j int) { obs.Pods[i], obs.Pods[j] = obs.Pods[j], obs.Pods[i] })
		order := podNames(obs.Pods)
		if got := text(w.must(obs)); got != want {
			t.Fatalf("another order of Pods gave another plan:\n%s\n%s", got, want)
		}
		if !slices.Equal(order, podNames(obs.Pods)) {
			t.Fatal("the observation was changed")
		}
	}
	if now, _ := json.Marshal(w.observation().Pods); string(now) != string(asked) {
		t.Error("the Pods were changed")
	}
}

// TestIdempotence: the plan of a plan's own status, with the same Pods, claims nothing
// and counts nothing.
func TestIdempotence(t *testing.T) {
	w := bustle(t)
	first := w.compute()
	if len(first.Create) == 0 || len(first.RemoveFinalizers) == 0 || len(first.Adopt) == 0 || len(first.Delete) == 0 {
		t.Fatalf("plan is %+v, want some of each", first)
	}
	if err := w.store(w.job.ResourceVersion, &first.Status); err != nil {
		t.Fatal(err)
	}
	second := w.compute()
	if diff := cmp.Diff(first.Status, second.Status); diff != "" || !apiequality.Semantic.DeepEqual(first.Status, second.Status) || second.Write != WriteInformational {
		t.Errorf("the status changed (-first +second):\n%s", diff)
	}
	if len(second.Create) > 0 || len(second.Adopt) != len(first.Create)+len(first.Adopt) || len(second.Events) > 0 {
		t.Errorf("second plan is %+v", second)
	}
	if diff := cmp.Diff(podNames(first.RemoveFinalizers), podNames(second.RemoveFinalizers)); diff != "" {
		t.Errorf("Release differs (-first +second):\n%s", diff)
	}
	if first.RequeueAfter != second.RequeueAfter || !slices.Equal(podNames(first.Delete), podNames(second.Delete)) {
		t.Errorf("RequeueAfter or Delete differ")
	}
}

func TestChanged(t *testing.T) {
	p := Plan{Status: v1alpha1.BatchJobStatus{Tasks: []v1alpha1.TaskStatus{}}}
	if p.Changed(&v1alpha1.BatchJobStatus{}) {
		t.Error("an empty list is no change from none")
	}
	if !p.Changed(&v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning}) {
		t.Error("another state is a change")
	}
}
