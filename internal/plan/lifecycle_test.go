// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// steer changes the job's spec or metadata, as a user does.
func (w *world) steer(change func(*v1alpha1.BatchJob)) *world {
	w.changeJob(func(job *v1alpha1.BatchJob) {
		change(job)
		job.Generation++
	})
	return w
}

func (w *world) suspend(on bool) *world {
	return w.steer(func(job *v1alpha1.BatchJob) { job.Spec.Suspend = on })
}

func (w *world) terminate() *world {
	return w.steer(func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true })
}

func (w *world) retry(token string) *world {
	return w.steer(func(job *v1alpha1.BatchJob) { job.Spec.RetryToken = token })
}

func (w *world) annotate(text string) *world {
	return w.steer(func(job *v1alpha1.BatchJob) {
		metav1.SetMetaDataAnnotation(&job.ObjectMeta, v1alpha1.AnnotationTerminate, text)
	})
}

// condition returns the status and reason of a condition: "True Suspended", "" for none.
func (w *world) condition(kind string) string {
	if c := meta.FindStatusCondition(w.job.Status.Conditions, kind); c != nil {
		return fmt.Sprintf("%s %s", c.Status, c.Reason)
	}
	return ""
}

func (w *world) wantCondition(kind, want string) *world {
	w.t.Helper()
	if got := w.condition(kind); got != want {
		w.t.Errorf("condition %s is %q, want %q", kind, got, want)
	}
	return w
}

func TestSuspend(t *testing.T) {
	job := func() *testutil.JobBuilder {
		return testutil.Job("j").Task("a", testutil.Instances(4), testutil.Concurrent(3), testutil.Retries(1), testutil.ResourceRetries(1)).Task("b").Edges("a->b")
	}
	t.Run("is stored before anything is stopped", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0 a/1").suspend(true)
		p := w.compute()
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionSuspended); p.Write != WriteImmediate || c == nil || c.Status != metav1.ConditionTrue || len(p.Delete) != 3 {
			t.Errorf("write %d, condition %+v, stops %q", p.Write, c, podNames(p.Delete))
		}
	})
	t.Run("what runs is stopped, spends nothing, and begins again", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0 a/1 a/2").finish("a/0", 0).step().start("a/3").suspend(true).step()
		w.want("RUNNING", "a RUNNING succeeded=0 active=1-3 running=3 (Suspended)").wantCondition(v1alpha1.ConditionSuspended, "True Suspended")
		w.wait(2*time.Second).finish("a/1 a/2 a/3", 143).step().step()
		w.want("RUNNING", "a RUNNING succeeded=0 (Suspended)")
		if w.last.RequeueAfter != 0 || len(w.tracked()) > 0 || len(w.job.Status.Failures) > 0 {
			t.Errorf("a suspended job looks again after %s, holds %q, has failures %+v", w.last.RequeueAfter, podNames(w.tracked()), w.job.Status.Failures)
		}
		w.suspend(false).step().want("RUNNING", "a RUNNING succeeded=0 active=1-3").wantCondition(v1alpha1.ConditionSuspended, "False Resumed")
		if w.job.Status.Run != 1 {
			t.Errorf("run is %d, want 1", w.job.Status.Run)
		}
		w.finish("a/1/x1 a/2/x1 a/3/x1", 0).step().finish("b/0/x1", 0).step().step()
		w.want("SUCCEED", "a SUCCEED succeeded=0-3", "b SUCCEED succeeded=0")
	})
	t.Run("a history is kept", func(t *testing.T) {
		w := newWorld(t, job()).step().finish("a/0", 1).step().start("a/0/r1").suspend(true).step()
		w.wait(2*time.Second).finish("a/0/r1", 143).stop("a/1 a/2").step().step()
		w.want("RUNNING", "a RUNNING retrying=r1:0 (Suspended)")
		w.suspend(false).step().want("RUNNING", "a RUNNING active=1-2;r1:0")
		if w.pods[w.spec.PodName(w.instance("a/0/r1/x1"))] == nil {
			t.Errorf("the Pods are %q", names(w.pods))
		}
	})
	t.Run("a command that fails meanwhile has failed", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0").finish("a/0", 3).suspend(true).step()
		w.want("RUNNING", "a RUNNING active=1-2 retrying=r1:0 (Suspended)")
	})
	t.Run("a resumption waits until all has stopped", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0").suspend(true).step().suspend(false).step().step()
		w.want("RUNNING", "a RUNNING active=0 running=1 (Suspended)")
		w.wait(2*time.Second).finish("a/0", 143).step().step()
		w.want("RUNNABLE", "a RUNNABLE active=0-2")
	})
	t.Run("a claim without a Pod is given back once that is known", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0").vanish("a/1 a/2").suspend(true)
		if p := w.compute(); len(p.Adopt) > 0 || len(p.Create) > 0 || fmt.Sprint(p.Verify) != "[{0 1 0 0 0} {0 2 0 0 0}]" {
			t.Errorf("plan adopts %v, creates %v, verifies %v", p.Adopt, p.Create, p.Verify)
		}
		w.step().want("RUNNING", "a RUNNING active=0 running=1 (Suspended)")
	})
	t.Run("from the beginning", func(t *testing.T) {
		w := newWorld(t, job()).suspend(true).step().step()
		w.want("RUNNABLE", "a RUNNABLE (Suspended)")
		if len(w.pods) > 0 {
			t.Errorf("it has Pods %q", names(w.pods))
		}
		w.suspend(false).step().want("RUNNABLE", "a RUNNABLE active=0-2")
		if w.job.Status.Run != 0 {
			t.Errorf("run is %d though nothing had run", w.job.Status.Run)
		}
	})
	t.Run("a node that does not answer keeps it from resuming", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0 a/1 a/2").suspend(true).step().finish("a/1 a/2", 143).step()
		w.suspend(false).wait(time.Hour).step().step()
		w.want("RUNNING", "a RUNNING active=0 running=1 (Suspended)")
		if s := w.job.Status.Waiting; len(s) != 1 || s[0].Reason != v1alpha1.ReasonNodeLost {
			t.Errorf("waiting is %+v", s)
		}
	})
	t.Run("an interrupted instance stays interrupted", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.FailedAction(v1alpha1.FailedActionInterrupt))).step().finish("a/0", 1).step()
		w.suspend(true).step().stop("a/1").step().step().suspend(false).step()
		w.want("RUNNING", "a RUNNING active=1 interrupted=0")
		w.finish("a/1/x1", 0).step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED succeeded=1 interrupted=0 (Interrupted)")
	})
}

func TestTerminate(t *testing.T) {
	job := func() *testutil.JobBuilder {
		return testutil.Job("j").Task("a", testutil.Instances(4), testutil.Concurrent(2), testutil.Retries(5), testutil.ResourceRetries(100)).Task("b").Edges("a->b")
	}
	t.Run("what runs fails once it has stopped, the rest at once", func(t *testing.T) {
		w := newWorld(t, job()).step().finish("a/0", 0).step().start("a/1 a/2").terminate().step()
		w.want("RUNNING", "a RUNNING succeeded=0 failed=3 active=1-2 running=2 (Terminated)", "b FAILED failed=0 (Terminated)")
		w.wait(2*time.Second).finish("a/1", 143).step()
		w.want("RUNNING", "a RUNNING succeeded=0 failed=1,3 active=2 running=1 (Terminated)", "b FAILED failed=0 (Terminated)")
		w.finish("a/2", 0).step().step()
		w.want("FAILED", "a FAILED succeeded=0 failed=1-3 (Terminated)", "b FAILED failed=0 (Terminated)")
		if s := w.job.Status; s.Reason != v1alpha1.ReasonTerminated || len(w.tracked()) > 0 {
			t.Errorf("reason is %s, with the finalizer %q", s.Reason, podNames(w.tracked()))
		}
	})
	t.Run("before the first pass", func(t *testing.T) {
		w := newWorld(t, job()).terminate().step()
		w.want("FAILED", "a FAILED failed=0-3 (Terminated)", "b FAILED failed=0 (Terminated)")
		if len(w.pods) > 0 {
			t.Errorf("it has Pods %q", names(w.pods))
		}
	})
	t.Run("a job that had succeeded has", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step().finish("a/0", 0).terminate().step().step()
		w.want("SUCCEED", "a SUCCEED succeeded=0")
	})
	t.Run("a suspended job", func(t *testing.T) {
		w := newWorld(t, job()).step().suspend(true).step().terminate().step().step()
		w.want("FAILED", "a FAILED failed=0-3 (Terminated)", "b FAILED failed=0 (Terminated)").wantCondition(v1alpha1.ConditionSuspended, "False Resumed")
	})
	t.Run("makes no Pod for a claim that has none", func(t *testing.T) {
		w := newWorld(t, job()).step().vanish("a/0").terminate().step()
		if len(w.last.Create)+len(w.last.Adopt) > 0 || w.pods[w.spec.PodName(w.instance("a/0"))] != nil {
			t.Errorf("it creates %v, adopts %v", w.last.Create, w.last.Adopt)
		}
	})
	t.Run("a node that does not answer does not keep it from its end", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step().start("a/0").terminate().step()
		w.wait(30*time.Second+confirmWait-time.Second).step().want("RUNNING", "a RUNNING active=0 running=1")
		w.wait(time.Second).step().step().want("FAILED", "a FAILED failed=0 (Terminated)")
	})
	t.Run("ends what is interrupted", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction(v1alpha1.FailedActionInterrupt))).step().finish("a/0", 1).step()
		w.terminate().step().step().want("FAILED", "a FAILED failed=0 (Terminated)")
		if len(w.tracked()) > 0 {
			t.Errorf("with the finalizer are %q", podNames(w.tracked()))
		}
	})
}

func TestTerminateInstances(t *testing.T) {
	job := func() *testutil.JobBuilder {
		return testutil.Job("j").Task("a", testutil.Instances(5), testutil.Concurrent(2), testutil.Retries(3)).Task("b").Edges("a->b").DependOn(v1alpha1.PreTaskFinished)
	}
	t.Run("active, waiting, and not there yet", func(t *testing.T) {
		w := newWorld(t, job()).step().start("a/0 a/1").annotate("a/0,3-4 b/0").step()
		w.want("RUNNING", "a RUNNING failed=3-4 active=0-1 running=2 (Terminated)")
		w.wait(2*time.Second).finish("a/0", 143).step().finish("a/1 a/2", 0).step().step().step()
		w.want("FAILED", "a FAILED succeeded=1-2 failed=0,3-4 (Terminated)", "b FAILED failed=0 (Terminated)")
		w.wantCondition(v1alpha1.ConditionInvalidAnnotation, "")
	})
	t.Run("what has ended stays as it is", func(t *testing.T) {
		w := newWorld(t, job()).step().finish("a/0", 0).annotate("a/0").step()
		w.want("RUNNING", "a RUNNING succeeded=0 active=1-2")
	})
	t.Run("interrupted", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction(v1alpha1.FailedActionFastInterrupt))).step().finish("a/0", 1).step().step()
		w.want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)").wantCondition(v1alpha1.ConditionStalled, "True Interrupted")
		w.annotate("a/0").step().step().want("FAILED", "a FAILED failed=0 (Terminated)")
	})
	for text, want := range map[string]string{
		"c/0":        `annotation batchcompute.dev/terminate-task-instances: there is no task "c"`,
		"a":          `annotation batchcompute.dev/terminate-task-instances: "a" must be task/indexes, as in a/0-4`,
		"a/5":        `annotation batchcompute.dev/terminate-task-instances: "a/5" must be task/indexes, as in a/0-4`,
		"a/x c/0 ++": `annotation batchcompute.dev/terminate-task-instances: "a/x" must be task/indexes, as in a/0-4`,
	} {
		t.Run("unreadable: "+text, func(t *testing.T) {
			w := newWorld(t, job()).annotate(text + " b/0").step().step()
			w.wantCondition(v1alpha1.ConditionInvalidAnnotation, "True InvalidAnnotation")
			if got := meta.FindStatusCondition(w.job.Status.Conditions, v1alpha1.ConditionInvalidAnnotation).Message; got != want {
				t.Errorf("message is %q, want %q", got, want)
			}
			if n := len(slices.DeleteFunc(slices.Clone(w.emitted), func(s string) bool { return !strings.HasPrefix(s, "InvalidAnnotation") })); n != 1 {
				t.Errorf("told %d times: %q", n, w.emitted)
			}
			w.annotate("").step().wantCondition(v1alpha1.ConditionInvalidAnnotation, "")
		})
	}
}

func TestInterrupted(t *testing.T) {
	begin := func(t *testing.T) *world {
		return newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3), testutil.Concurrent(1), testutil.FailedAction(v1alpha1.FailedActionInterrupt)).
			Task("b").Edges("a->b").DependOn(v1alpha1.PreTaskFinished)).step().finish("a/0", 1).step()
	}
	t.Run("keeps its Pod and its slot", func(t *testing.T) {
		w := begin(t).step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
		if pod := w.pods[w.pod("a/0")]; len(pod.Finalizers) == 0 || pod.Labels[v1alpha1.LabelTracked] == "" {
			t.Errorf("the finalizer of its Pod is removed: %+v", pod.ObjectMeta)
		}
	})
	t.Run("until somebody deletes its Pod", func(t *testing.T) {
		w := begin(t).stop("a/0").step().want("RUNNING", "a RUNNING failed=0 active=1 (TaskInstanceFailed)")
		w.finishAll().want("FAILED", "a FAILED succeeded=1-2 failed=0 (TaskInstanceFailed)", "b SUCCEED succeeded=0")
	})
	t.Run("though its timeout stopped it", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(60), testutil.FailedAction(v1alpha1.FailedActionInterrupt))).step().start("a/0")
		w.wait(61*time.Second).step().wait(time.Second).finish("a/0", 143).step().step()
		w.want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	})
	t.Run("until its Pod is gone in spite of its finalizer", func(t *testing.T) {
		begin(t).vanish("a/0").step().want("RUNNING", "a RUNNING failed=0 active=1 (TaskInstanceFailed)")
	})
}

func TestRetry(t *testing.T) {
	failed := func(t *testing.T) *world {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1)).Task("b").Task("c").Edges("a->b")).step()
		w.finish("a/0 a/2 c/0", 0).finish("a/1", 1).step().finish("a/1/r1", 2).step().step()
		w.want("FAILED", "a FAILED succeeded=0,2 failed=1 (TaskInstanceFailed)", "b FAILED failed=0 (PredecessorFailed)", "c SUCCEED succeeded=0")
		return w
	}
	t.Run("runs what failed again, and nothing else, in order", func(t *testing.T) {
		w := failed(t).retry("1").step()
		w.want("RUNNING", "a RUNNING succeeded=0,2 active=1", "c SUCCEED succeeded=0")
		if s := w.job.Status; s.Run != 1 || s.RetryToken != "1" || s.EndTime != nil || len(s.Failures) > 0 || w.condition(v1alpha1.ConditionFailed) != "" {
			t.Errorf("status is %+v", s)
		}
		w.finish("a/1/x1", 0).step().want("RUNNING", "a SUCCEED succeeded=0-2", "b RUNNABLE active=0", "c SUCCEED succeeded=0")
		w.finish("b/0/x1", 0).step().step().want("SUCCEED", "a SUCCEED succeeded=0-2", "b SUCCEED succeeded=0", "c SUCCEED succeeded=0")
	})
	t.Run("with full budgets", func(t *testing.T) {
		w := failed(t).retry("1").step().finish("a/1/x1", 1).step()
		w.want("RUNNING", "a RUNNING succeeded=0,2 active=r1:1", "c SUCCEED succeeded=0")
		w.finish("a/1/r1/x1", 1).step().step()
		w.want("FAILED", "a FAILED succeeded=0,2 failed=1 (TaskInstanceFailed)", "b FAILED failed=0 (PredecessorFailed)", "c SUCCEED succeeded=0")
		w.step().want("FAILED", "a FAILED succeeded=0,2 failed=1 (TaskInstanceFailed)", "b FAILED failed=0 (PredecessorFailed)", "c SUCCEED succeeded=0")
		w.retry("2").step().want("RUNNING", "a RUNNING succeeded=0,2 active=1", "c SUCCEED succeeded=0")
	})
	t.Run("waits for a Pod that may still run", func(t *testing.T) {
		w := failed(t).retry("1")
		obs := w.observation()
		obs.Unfinished = 1
		if p := w.must(obs); len(p.Create) > 0 || p.Status.State != v1alpha1.JobFailed || p.RequeueAfter == 0 {
			t.Errorf("it creates %v, is %s, looks again after %s", p.Create, p.Status.State, p.RequeueAfter)
		}
	})
	t.Run("a token that was there from the beginning does nothing", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).retry("1").step().finish("a/0", 1).step().step().step()
		w.want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	})
	t.Run("nor does any token on a job that was terminated", func(t *testing.T) {
		failed(t).terminate().retry("1").step().want("FAILED", "a FAILED succeeded=0,2 failed=1 (TaskInstanceFailed)", "b FAILED failed=0 (PredecessorFailed)", "c SUCCEED succeeded=0")
	})
	t.Run("a task whose predecessor failed waits again", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").DependOn(v1alpha1.PreTaskAtLeastPartlySucceed).Task("a", testutil.Instances(2)).Task("b", testutil.Instances(2)).Edges("a->b")).step()
		w.finish("a/0", 0).finish("a/1", 1).step().finish("b/0", 0).finish("b/1", 1).step().step()
		w.want("FAILED", "a FAILED succeeded=0 failed=1 (TaskInstanceFailed)", "b FAILED succeeded=0 failed=1 (TaskInstanceFailed)")
		w.retry("1").step().want("RUNNING", "a RUNNING succeeded=0 active=1", "b PENDING succeeded=0")
		w.finish("a/1/x1", 0).step().finish("b/1/x1", 0).step().step().want("SUCCEED", "a SUCCEED succeeded=0-1", "b SUCCEED succeeded=0-1")
	})
}

func TestTimeToLive(t *testing.T) {
	ended := func(t *testing.T, ttl int64) *world {
		return newWorld(t, testutil.Job("j").Task("a")).steer(func(job *v1alpha1.BatchJob) { job.Spec.TTLSecondsAfterFinished = &ttl }).step().finish("a/0", 0).step().step()
	}
	t.Run("is waited for", func(t *testing.T) {
		w := ended(t, 60).wait(20 * time.Second).step()
		if w.last.Expire || w.last.RequeueAfter != 40*time.Second {
			t.Errorf("after 20 of 60 s: expires %t, looks again after %s", w.last.Expire, w.last.RequeueAfter)
		}
		if w.wait(40 * time.Second).step(); !w.last.Expire {
			t.Errorf("it does not expire after 60 s")
		}
	})
	t.Run("at once", func(t *testing.T) {
		if w := ended(t, 0).step(); !w.last.Expire {
			t.Errorf("it does not expire")
		}
	})
	t.Run("not while a Pod has the finalizer", func(t *testing.T) {
		w := ended(t, 0)
		w.create(w.instance("a/0"))
		w.do("a/0", func(pod *corev1.Pod) {
			pod.Labels[v1alpha1.LabelTracked], pod.Finalizers = "true", []string{v1alpha1.FinalizerTracking}
		})
		if p := w.compute(); p.Expire {
			t.Errorf("it expires with Pods %q", podNames(w.tracked()))
		}
	})
	t.Run("the same request again shows the old result and is kept", func(t *testing.T) {
		w := ended(t, 0)
		stone, err := TombstoneOf(w.job)
		if err != nil {
			t.Fatal(err)
		}
		again := newWorld(t, testutil.Job("j").Task("a")).steer(func(job *v1alpha1.BatchJob) { job.Spec.TTLSecondsAfterFinished = new(int64(0)) })
		if d, err := Digest(again.job); err != nil || d != stone.Request {
			t.Fatalf("digest is %s, %v, want %s", d, err, stone.Request)
		}
		p := AlreadyRan(again.observation(), stone, again.now)
		if err := again.store(again.job.ResourceVersion, &p.Status); err != nil {
			t.Fatal(err)
		}
		again.want("SUCCEED").wantCondition(v1alpha1.ConditionComplete, "True AlreadyRan")
		again.wait(time.Hour).step()
		if s := again.job.Status; again.last.Expire || len(again.pods) > 0 || s.JobID != w.job.Status.JobID || !s.EndTime.Equal(w.job.Status.EndTime) {
			t.Errorf("it expires %t, has %d Pods, status %+v", again.last.Expire, len(again.pods), s)
		}
	})
	t.Run("another request is another digest, however it is steered", func(t *testing.T) {
		digest := func(change func(*v1alpha1.BatchJob)) string {
			job := testutil.Job("j").Task("a").Obj()
			change(job)
			d, err := Digest(job)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		same := digest(func(*v1alpha1.BatchJob) {})
		if digest(func(j *v1alpha1.BatchJob) { j.Spec.Suspend, j.Spec.RetryToken, j.UID = true, "x", "y" }) != same {
			t.Errorf("steering a job makes it another request")
		}
		if digest(func(j *v1alpha1.BatchJob) { j.Spec.Job.Tasks[0].Application.Command = "false" }) == same {
			t.Errorf("another command is the same request")
		}
	})
}

// TestObservedGeneration: kstatus takes a job for one in progress whose status speaks of
// an older generation.
func TestObservedGeneration(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step().finish("a/0", 0).step().step()
	w.steer(func(job *v1alpha1.BatchJob) { job.Spec.Suspend = true }).step()
	if s := w.job.Status; s.ObservedGeneration != w.job.Generation || s.State != v1alpha1.JobSucceed {
		t.Errorf("generation %d, observed %d, state %s", w.job.Generation, s.ObservedGeneration, s.State)
	}
}

// TestGroups: what is written is read as the same, and nothing else is taken.
func TestGroups(t *testing.T) {
	for _, text := range []string{"", "0", "0-4,7", "r1:8", "0-4,7;m2:1;r1:8;r1m2:10", "x1r1m2:3", "0;x2:1"} {
		if g, err := parseGroups(text); err != nil || g.String() != text {
			t.Errorf("%q is read as %q, %v", text, g, err)
		}
	}
	for _, text := range []string{";", "0;", "r1:", "r0:1", "r01:1", "m1r1:3", "q1:2", "r1:1;0", "r1:1;r1:2", "r:1", "r1", "r1m:2", ":1x", "r99999999999:1"} {
		if g, err := parseGroups(text); err == nil {
			t.Errorf("%q is read as %q", text, g)
		}
	}
}
