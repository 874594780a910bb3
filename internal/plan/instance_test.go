// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

func TestClaims(t *testing.T) {
	job := func() *testutil.JobBuilder {
		return testutil.Job("j").Task("a", testutil.Instances(5), testutil.Concurrent(2), testutil.Retries(1))
	}
	t.Run("as many as may run at once", func(t *testing.T) {
		w := newWorld(t, job()).step()
		w.want("RUNNABLE", "a RUNNABLE active=0-1")
		w.finish("a/1", 0).step().want("RUNNING", "a RUNNING succeeded=1 active=0,2")
		w.finish("a/0 a/2", 0).step().want("RUNNING", "a RUNNING succeeded=0-2 active=3-4")
	})
	t.Run("a retry goes before what is new", func(t *testing.T) {
		w := newWorld(t, job()).step().finish("a/0", 1).step()
		w.want("RUNNING", "a RUNNING active=1;r1:0")
	})
	t.Run("retries wait for free slots too", func(t *testing.T) {
		status := v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{
			Name: "a", State: v1alpha1.TaskRunning,
			Retrying: "r1:0-3",
		}}}
		w := newWorld(t, job().Status(status)).step()
		w.want("RUNNING", "a RUNNING active=r1:0-1 retrying=r1:2-3")
	})
	t.Run("a batch at a time", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(300)).Task("b", testutil.Instances(300))).step()
		w.want("RUNNABLE", "a RUNNABLE active=0-199", "b RUNNABLE")
		w.step().want("RUNNABLE", "a RUNNABLE active=0-299", "b RUNNABLE active=0-99")
		w.step().want("RUNNABLE", "a RUNNABLE active=0-299", "b RUNNABLE active=0-299")
	})
	t.Run("claims without a Pod belong to the batch", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(1000)))
		for range 3 { // the Pods cannot be made: the network is down
			p := w.compute()
			if n := len(p.Create) + len(p.Adopt); n > MaxBatchSize {
				t.Fatalf("a plan makes %d Pods, want %d at most", n, MaxBatchSize)
			}
			if err := w.store(w.job.ResourceVersion, &p.Status); err != nil {
				t.Fatal(err)
			}
		}
		w.want("RUNNABLE", "a RUNNABLE active=0-199")
	})
	t.Run("the longest chain first, then in the order of the spec", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("z").Task("y", testutil.Instances(2)).Task("x").Task("w").Edges("x->z"))
		want := []resolve.Instance{{Task: 2, Index: 0}, {Task: 1, Index: 0}, {Task: 1, Index: 1}, {Task: 3, Index: 0}}
		if got := w.compute().Create; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Create is %v, want %v", got, want)
		}
	})
}

func TestRetries(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(2))).step()
	w.finish("a/0", 1).step().want("RUNNING", "a RUNNING active=r1:0")
	w.finish("a/0/r1", 2).step().want("RUNNING", "a RUNNING active=r2:0")
	w.finish("a/0/r2", 3).step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	var got []string
	for _, f := range w.job.Status.Failures {
		got = append(got, fmt.Sprintf("%s/%d/%d %s %d %s", f.TaskName, f.TaskInstanceIndex, f.Attempt, f.Reason, *f.ExitCode, f.NodeName))
	}
	want := []string{"a/0/0 CommandFailed 1 node-1", "a/0/1 CommandFailed 2 node-1", "a/0/2 CommandFailed 3 node-1"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("failures are %q, want %q", got, want)
	}
}

func TestRetryThatSucceeds(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1))).step().finish("a/0", 1).step()
	w.finish("a/0/r1", 0).step().step().want("SUCCEED", "a SUCCEED succeeded=0")
}

func TestTimeout(t *testing.T) {
	begin := func(t *testing.T) *world {
		return newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(60), testutil.Instances(2))).step().start("a/0").bind("a/1").step()
	}
	t.Run("is looked at in time", func(t *testing.T) {
		w := begin(t)
		// The kubelet gives whole seconds: up to one of them had passed already.
		if got, want := w.last.RequeueAfter, 61*time.Second; got != want {
			t.Errorf("RequeueAfter is %s, want %s", got, want)
		}
		w.wait(20 * time.Second).start("a/1").step()
		if got, want := w.last.RequeueAfter, 41*time.Second; got != want {
			t.Errorf("RequeueAfter is %s with two that run, want %s", got, want)
		}
	})
	t.Run("never stops an attempt before its time", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(1))).wait(900 * time.Millisecond).step().start("a/0")
		if w.wait(999 * time.Millisecond).step(); len(w.last.Delete) > 0 {
			t.Errorf("was stopped after 0.999 s of the 1 s that it may take")
		}
	})
	t.Run("stops the attempt once", func(t *testing.T) {
		w := begin(t).wait(61 * time.Second).step()
		if len(w.last.Delete) != 1 || w.last.Delete[0].Name != w.pod("a/0") {
			t.Errorf("Delete is %v, want the Pod of a/0", w.last.Delete)
		}
		if w.step(); len(w.last.Delete) != 0 || w.last.RequeueAfter != 30*time.Second+confirmWait {
			t.Errorf("a Pod that is being stopped is stopped again, or looked at again after %s", w.last.RequeueAfter)
		}
		w.want("RUNNING", "a RUNNING active=0-1 starting=1 running=1")
	})
	t.Run("is a failed attempt", func(t *testing.T) {
		w := begin(t).wait(61*time.Second).step().wait(30*time.Second).finish("a/0", 137).step()
		w.want("RUNNING", "a RUNNING failed=0 active=1 starting=1 (TaskInstanceFailed)")
		f := w.job.Status.Failures[0]
		if f.Reason != v1alpha1.ReasonTimeout || f.Message != "took longer than the timeout of 60 s and was stopped" || *f.ExitCode != 137 {
			t.Errorf("failure is %+v", f)
		}
	})
	t.Run("is retried", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(60), testutil.Retries(1))).step().start("a/0").wait(61 * time.Second).step()
		w.finish("a/0", 143).step().want("RUNNING", "a RUNNING active=r1:0")
	})
	t.Run("does not count what waits", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(60))).step().bind("a/0").wait(time.Hour).step()
		if len(w.last.Delete) != 0 || w.last.RequeueAfter != 0 {
			t.Errorf("an attempt that has not started is stopped")
		}
	})
}

func TestLostPods(t *testing.T) {
	t.Run("are made again under the same name, without a retry", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1))).step().vanish("a/1")
		if got, want := fmt.Sprint(w.compute().Adopt), "[{0 1 0 0 0}]"; got != want {
			t.Errorf("Adopt is %s, want %s", got, want)
		}
		w.step().want("RUNNABLE", "a RUNNABLE active=0-2")
		w.pod("a/1")
	})
	t.Run("are not looked for while the cache may lag", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step()
		pending := w.pod("a/1")
		w.vanish("a/0 a/1")
		obs := w.observation()
		obs.Pending = map[string]time.Time{pending: w.now}
		if got, want := fmt.Sprint(w.must(obs).Adopt), "[{0 0 0 0 0}]"; got != want {
			t.Errorf("Adopt is %s, want %s", got, want)
		}
	})
	t.Run("keep their attempt", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1))).step().finish("a/0", 1).step().vanish("a/0/r1").step()
		w.want("RUNNING", "a RUNNING active=r1:0")
		w.pod("a/0/r1")
	})
}

// TestFinalizerIsPutBack: without it a Pod could go before its outcome is stored.
func TestFinalizerIsPutBack(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(4))).step().start("a/2").finish("a/3", 0).stop("a/2")
	w.do("a/0 a/2 a/3", func(pod *corev1.Pod) { pod.Finalizers = nil })
	w.vanish("a/1")
	if got, want := fmt.Sprint(w.compute().Adopt), "[{0 0 0 0 0} {0 1 0 0 0}]"; got != want {
		t.Errorf("Adopt is %s, want %s", got, want)
	}
	if w.step().step(); len(w.last.Adopt) > 0 {
		t.Errorf("Adopt is %v, though all is well again", w.last.Adopt)
	}
}

// TestPastPods: a Pod whose attempt is counted loses its finalizer and, if it runs, is stopped.
func TestPastPods(t *testing.T) {
	for name, tc := range map[string]struct {
		status v1alpha1.TaskStatus
		in     resolve.Instance
		want   string
	}{
		"succeeded":      {v1alpha1.TaskStatus{Succeeded: "0", Active: active(0, "1")}, resolve.Instance{}, "a RUNNING succeeded=0 active=1"},
		"failed":         {v1alpha1.TaskStatus{Failed: "0", Active: active(0, "1")}, resolve.Instance{Attempt: 1}, "a RUNNING failed=0 active=1 (TaskInstanceFailed)"},
		"of a new claim": {v1alpha1.TaskStatus{Active: active(1, "0-1")}, resolve.Instance{}, "a RUNNING active=r1:0-1"},
		"to be retried":  {v1alpha1.TaskStatus{Active: active(0, "1"), Retrying: active(2, "0")}, resolve.Instance{Attempt: 1}, "a RUNNING active=1;r2:0"},
	} {
		for _, finished := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, finished %t", name, finished), func(t *testing.T) {
				tc.status.Name, tc.status.State = "a", v1alpha1.TaskRunning
				w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(2)).
					Status(v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{tc.status}}))
				w.create(tc.in)
				pod := w.spec.PodName(tc.in)
				w.change(pod, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
				if finished {
					w.change(pod, func(pod *corev1.Pod) { testutil.Finish(pod, 0, w.now) })
				}
				w.step().want("RUNNING", tc.want)
				if got := w.pods[pod]; (got.DeletionTimestamp == nil) != finished || len(got.Finalizers) > 0 || got.Labels[v1alpha1.LabelTracked] != "" {
					t.Errorf("the Pod is %+v", got.ObjectMeta)
				}
			})
		}
	}
}

func active(retries int, indexes string) string {
	if retries == 0 {
		return indexes
	}
	return fmt.Sprintf("r%d:%s", retries, indexes)
}

// TestFuturePods: Pods that are ahead of the status, as after a restore of the job from
// a backup.
func TestFuturePods(t *testing.T) {
	begin := func(t *testing.T, options ...testutil.TaskOption) *world {
		w := newWorld(t, testutil.Job("j").Task("a", append(options, testutil.Instances(3), testutil.Retries(1))...))
		return w.step()
	}
	lose := func(w *world) *world {
		w.changeJob(func(job *v1alpha1.BatchJob) { job.Status = v1alpha1.BatchJobStatus{} })
		return w
	}
	t.Run("need the job from the API server", func(t *testing.T) {
		w := lose(begin(t))
		p := w.compute()
		if !p.NeedLive || len(p.Create) > 0 || len(p.Adopt) > 0 || len(p.RemoveFinalizers) > 0 || p.Status.State != "" {
			t.Errorf("plan is %+v, want NeedLive and nothing else", p)
		}
	})
	t.Run("are claims", func(t *testing.T) {
		w := lose(begin(t).start("a/0").finish("a/1", 0)).step()
		w.want("RUNNING", "a RUNNING succeeded=1 active=0,2 running=1")
	})
	t.Run("of a retry", func(t *testing.T) {
		w := begin(t).finish("a/0", 1).step()
		w.changeJob(func(job *v1alpha1.BatchJob) { job.Status.Tasks[0].Active = active(0, "0-2") })
		w.step().want("RUNNING", "a RUNNING active=1-2;r1:0")
	})
	t.Run("of an instance that is to be retried", func(t *testing.T) {
		w := begin(t).finish("a/0", 1).step()
		w.changeJob(func(job *v1alpha1.BatchJob) {
			job.Status.Tasks[0].Active, job.Status.Tasks[0].Retrying = active(0, "1-2"), active(1, "0")
		})
		w.step().want("RUNNING", "a RUNNING active=1-2;r1:0")
	})
	t.Run("leave no index below them unissued", func(t *testing.T) {
		w := begin(t).finish("a/0", 0).step() // is counted, and its finalizer removed
		lose(w).step().want("RUNNABLE", "a RUNNABLE active=0-2")
		w.finishAll().want("SUCCEED", "a SUCCEED succeeded=0-2")
	})
	t.Run("of a task that may not start yet", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a").Task("b").Edges("a->b")).step().finish("a/0", 0).step().finish("b/0", 0)
		lose(w).step().want("RUNNING", "a RUNNABLE active=0", "b SUCCEED succeeded=0")
		w.finishAll().want("SUCCEED", "a SUCCEED succeeded=0", "b SUCCEED succeeded=0")
	})
	t.Run("that failed, of a task that may not start yet", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a").Task("b").Edges("a->b")).step().finish("a/0", 0).step().finish("b/0", 1)
		lose(w).step().want("RUNNING", "a RUNNABLE active=0", "b FAILED failed=0 (TaskInstanceFailed)")
	})
}

// TestForeignPods: Pods of the job that it would not have made itself.
func TestForeignPods(t *testing.T) {
	for name, edit := range map[string]func(map[string]string){
		"task":             func(l map[string]string) { l[v1alpha1.LabelTaskName] = "other" },
		"index":            func(l map[string]string) { l[v1alpha1.LabelTaskInstanceIndex] = "one" },
		"index too large":  func(l map[string]string) { l[v1alpha1.LabelTaskInstanceIndex] = "2" },
		"negative index":   func(l map[string]string) { l[v1alpha1.LabelTaskInstanceIndex] = "-1" },
		"attempt":          func(l map[string]string) { l[v1alpha1.LabelAttempt] = "" },
		"negative attempt": func(l map[string]string) { l[v1alpha1.LabelAttempt] = "-1" },
		"another index":    func(l map[string]string) { l[v1alpha1.LabelTaskInstanceIndex] = "1" },
		"another attempt":  func(l map[string]string) { l[v1alpha1.LabelAttempt] = "1" },
	} {
		t.Run(name+" edited", func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(1))).step()
			w.do("a/0", func(pod *corev1.Pod) { edit(pod.Labels) })
			if !w.compute().NeedLive {
				t.Errorf("a Pod that cannot be identified is judged by a job that may be old")
			}
			obs := w.observation()
			obs.Live = true
			p := w.must(obs)
			if fmt.Sprint(p.Adopt) != "[{0 0 0 0 0}]" || len(p.Create) > 0 || len(p.Delete) > 0 {
				t.Errorf("Adopt %v, Create %v, Delete %v: want the claim of a/0 to be looked into", p.Adopt, p.Create, p.Delete)
			}
			if len(p.RemoveFinalizers) > 0 {
				t.Errorf("the finalizer of a claim's Pod is removed, though its outcome is not known")
			}
			w.step().finish("a/0 a/1", 0).step().step().want("SUCCEED", "a SUCCEED succeeded=0-1")
		})
	}
	t.Run("no claim", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step()
		mine := w.pods[w.pod("a/0")].DeepCopy()
		mine.Name, mine.UID = "mine", "other"
		w.pods["mine"] = mine
		w.step()
		if got := w.pods["mine"]; got == nil || got.DeletionTimestamp != nil || len(got.Finalizers) > 0 || got.Labels[v1alpha1.LabelTracked] != "" {
			t.Errorf("the user's Pod is %+v, want its finalizer removed and nothing else changed", got)
		}
		w.want("RUNNABLE", "a RUNNABLE active=0")
	})
	t.Run("no claim, and a proof", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step()
		w.changeJob(func(job *v1alpha1.BatchJob) { job.Status.PodKeys = []string{"0123abcd"} })
		unclaimed := w.pods[w.pod("a/0")].DeepCopy()
		unclaimed.Name, unclaimed.UID = "unclaimed", "other"
		delete(unclaimed.Labels, v1alpha1.LabelAttempt)
		obs := w.observation()
		obs.Live, obs.PodKey, obs.Pods = true, "0123abcd", []*corev1.Pod{unclaimed}
		if p := w.must(obs); fmt.Sprint(podNames(p.Delete), podNames(p.RemoveFinalizers)) != "[unclaimed] [unclaimed]" {
			t.Errorf("Delete %q, Release %q, want the operator's Pod that nobody claims to be stopped", podNames(p.Delete), podNames(p.RemoveFinalizers))
		}
	})
	t.Run("a claim of this plan", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a")).step().do("a/0", func(pod *corev1.Pod) { clear(pod.Labels); pod.Labels[v1alpha1.LabelTracked] = "true" })
		w.changeJob(func(job *v1alpha1.BatchJob) { job.Status = v1alpha1.BatchJobStatus{} })
		if w.step(); len(w.last.Create) != 1 || len(w.last.RemoveFinalizers) != 0 {
			t.Errorf("plan is %+v, want the Pod to be claimed and kept", w.last)
		}
	})
}
