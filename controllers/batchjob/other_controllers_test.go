// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// This file repeats bugs of other controllers against ours: see docs/lessons.md. The tests that need no API server are in
// internal/plan.

// deleteJob deletes the job with one of the three deletion propagations.
func (e *testEnv) deleteJob(name string, way metav1.DeletionPropagation) {
	e.t.Helper()
	if err := e.Delete(context.Background(), e.job(name), client.PropagationPolicy(way)); err != nil {
		e.t.Fatal(err)
	}
}

// collect runs the garbage collector until it has nothing to do.
func (e *testEnv) collect() {
	e.t.Helper()
	for range 20 {
		if !e.CollectGarbage(e.t, e.ns) {
			return
		}
	}
	e.t.Fatal("the garbage collector does not end")
}

// removePods deletes every Pod of the namespace, as kubectl delete --force does.
func (e *testEnv) removePods() {
	e.t.Helper()
	if err := e.DeleteAllOf(context.Background(), &corev1.Pod{}, client.InNamespace(e.ns), client.GracePeriodSeconds(0)); err != nil {
		e.t.Fatal(err)
	}
	if pods := e.Pods(e.t, e.ns); len(pods) > 0 {
		e.t.Fatalf("%d Pods cannot be deleted", len(pods))
	}
}

// kubernetes/kubernetes 108645: a Pod that was terminating, and not counted, when its Job was deleted kept its finalizer,
// since there was no further event of it, and with --cascade=orphan no owner reference led to the Job. Here the deletion
// of a job starts a pass over all Pods that name it, and a Pod also names its job in an annotation.
func TestLessonKubernetes108645(t *testing.T) {
	for _, way := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan} {
		t.Run(string(way), func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
			p.must("j")
			e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
			if err := e.Delete(context.Background(), e.pod("a/0")); err != nil {
				t.Fatal(err)
			}
			e.deleteJob("j", way)
			e.collect()
			if tracked := e.tracked(); len(tracked) != 3 {
				t.Fatalf("only %q have the finalizer before the pass", tracked)
			}
			for _, pod := range e.Pods(t, e.ns) {
				if got := requestForPod(&pod); got != p.request("j").NamespacedName {
					t.Errorf("an event of Pod %s enqueues %q, want its job", pod.Name, got)
				}
			}
			p.must("j") // for the event of the job
			if tracked := e.tracked(); len(tracked) > 0 {
				t.Errorf("these Pods keep their finalizer: %q", tracked)
			}
		})
	}
}

// kubernetes/kubernetes 109429: a complete Job of which a Pod still had the finalizer could not be deleted in the
// foreground, since the controller did not reconcile complete Jobs. Here a job that has ended, or is being deleted, is
// reconciled until no Pod has the finalizer.
func TestLessonKubernetes109429(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(2)))
	p.play("j")
	addFinalizer := func(attempt string) { // as a controller with that bug left it
		t.Helper()
		controlplane.Change(t, e.ControlPlane, e.pod(attempt), func(pod *corev1.Pod) {
			pod.Finalizers = append(pod.Finalizers, v1alpha1.FinalizerTracking)
			pod.Labels[v1alpha1.LabelTracked] = "true"
		})
	}
	addFinalizer("a/0")
	p.must("j")
	if tracked := e.tracked(); len(tracked) > 0 {
		t.Errorf("the job has ended and %q have the finalizer", tracked)
	}
	addFinalizer("a/1")
	e.deleteJob("j", metav1.DeletePropagationForeground)
	e.collect()
	if e.job("j").DeletionTimestamp == nil || len(e.tracked()) != 1 {
		t.Fatalf("the deletion does not wait for a Pod: %q have the finalizer", e.tracked())
	}
	p.must("j")
	e.collect()
	err := e.Get(context.Background(), p.request("j").NamespacedName, &v1alpha1.BatchJob{})
	if !apierrors.IsNotFound(err) || len(e.Pods(t, e.ns)) > 0 {
		t.Errorf("getting the job: error %v, want NotFound; %d Pods exist", err, len(e.Pods(t, e.ns)))
	}
}

// kubernetes/kubernetes 119159: a Job became final in the pass that removed the last finalizers; if that failed, no later
// pass removed them. Here a job that has ended is reconciled until no Pod has the finalizer.
func TestLessonKubernetes119159(t *testing.T) {
	for name, f := range map[string]fault{"refused": callFails, "died before": diesBefore, "died after": diesAfter, "answer lost": answerLost} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
			p.must("j")
			e.work()
			for range 4 {
				p.fault = func(_ int, call string) fault {
					if call == "patch pod" {
						return f
					}
					return noFault
				}
				if _, err := p.pass("j"); err == nil && len(e.tracked()) > 0 {
					t.Error("finalizers were not removed, and the pass returned no error")
				}
				p = e.start(nil)
				e.tick()
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 3/3", "a SUCCEED succeeded=0-2")
			if tracked := e.tracked(); len(tracked) > 0 {
				t.Errorf("the job has ended and %q have the finalizer", tracked)
			}
		})
	}
}

// kubernetes/kubernetes 62382: the number of failures was a count in the work queue, which every successful pass reset, so
// that backoffLimit was never reached and a broken command ran forever. Here the number is part of the claim in the stored
// status: restarts, successful passes and instances that succeed do not change it.
func TestLessonKubernetes62382(t *testing.T) {
	e := newTestEnv(t)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(5), testutil.Concurrent(2), testutil.Retries(2)))
	e.script = func(_ string, index, _ int) int32 {
		if index == 0 {
			return 1
		}
		return 0
	}
	for round := 0; e.job("j").Status.EndTime == nil; round++ {
		if round == 20 {
			t.Fatalf("the job has not ended: %q", brief(e.job("j")))
		}
		p := e.start(nil)
		for range 3 {
			p.must("j")
			e.tick()
		}
		e.work()
	}
	e.want("j", "FAILED 0/1 4/5", "a FAILED succeeded=1-4 failed=0 reason=TaskInstanceFailed",
		"failure a/0/0 CommandFailed 1", "failure a/0/1 CommandFailed 1", "failure a/0/2 CommandFailed 1")
	if got := len(e.Pods(t, e.ns)); got != 3+4 {
		t.Errorf("%d Pods were created, want 3 for the instance that fails and one for each of the others", got)
	}
}

// replay runs passes with a cache that has an old version of the job and no Pods, and returns the writes. The process
// remembers what known remembers, or nothing if known is nil.
func (e *testEnv) replay(old *v1alpha1.BatchJob, known *process) []string {
	e.t.Helper()
	p := e.start(&faultClient{cached: &frozen{Reader: e.cache, job: old, noPods: true}})
	if known != nil {
		p.states.byName = known.states.byName
	}
	for range 3 {
		p.must(old.Name)
		e.clock.SetTime(e.clock.Now().Add(cacheLag))
	}
	return p.log
}

// argoproj/argo-workflows 13986: an event of an older version overwrote the controller's own write in its cache, and it
// created Pods for finished steps. Here a process does nothing until its cache has its own last write. The claims of any
// other process with an old version fail with a conflict before it creates a Pod.
func TestLessonArgo13986(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Retries(1)).Task("b").Edges("a->b"))
	submitted := e.job("j")
	p.must("j")
	e.Finish(t, e.pod("a/0"), 1, e.clock.Now())
	p.must("j")
	e.Finish(t, e.pod("a/0/1"), 0, e.clock.Now())
	p.must("j")
	e.want("j", "RUNNING 1/2 1/2", "a SUCCEED succeeded=0", "b RUNNABLE active=0", "failure a/0/0 CommandFailed 1")
	now := e.job("j")
	e.deleteCountedPods()
	if did := e.replay(submitted, p); len(did) > 0 {
		t.Errorf("with a version older than its own last write the process wrote %q", did)
	}
	for _, call := range e.replay(submitted, nil) {
		if call != "patch status j" {
			t.Errorf("with an old version another process wrote %q", call)
		}
	}
	if got := e.job("j"); got.ResourceVersion != now.ResourceVersion {
		t.Errorf("an old version changed the job from %q to %q", brief(now), brief(got))
	}
}

// deleteCountedPods deletes the Pods whose finalizer was removed.
func (e *testEnv) deleteCountedPods() {
	e.t.Helper()
	for _, pod := range e.Pods(e.t, e.ns) {
		if len(pod.Finalizers) > 0 {
			continue
		}
		if err := e.Delete(context.Background(), &pod, client.GracePeriodSeconds(0)); err != nil {
			e.t.Fatal(err)
		}
	}
}

// argoproj/argo-workflows 14833: under load a Pod ran, was deleted, and was created again under the same name by a
// controller whose cache did not have its end: a name does not protect once it is free again. Here a claim of an earlier
// pass is read again from the API server before its Pod is created.
func TestLessonArgo14833(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a").Task("b").Edges("a->b"))
	p.must("j")
	claimed := e.job("j")
	e.Finish(t, e.pod("a/0"), 0, e.clock.Now())
	p.must("j")
	e.deleteCountedPods()
	pods := len(e.Pods(t, e.ns))
	if did := e.replay(claimed, nil); len(did) > 0 {
		t.Errorf("with an old claim it wrote %q", did)
	}
	if got := len(e.Pods(t, e.ns)); got != pods {
		t.Errorf("there are %d Pods, want %d", got, pods)
	}
}

// argoproj/argo-workflows 16294: hours after a workflow was complete, an old version of it came back into the cache, and a
// step of it ran again. Here no old version of a finished job can start anything: new claims get a conflict, and old claims
// are read again from the API server.
func TestLessonArgo16294(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(e.reference("ref"))
	versions := []*v1alpha1.BatchJob{e.job("ref")}
	for versions[len(versions)-1].Status.EndTime == nil {
		p.must("ref")
		if job := e.job("ref"); job.ResourceVersion != versions[len(versions)-1].ResourceVersion {
			versions = append(versions, job)
		}
		e.work()
		e.tick()
	}
	e.wantReference("ref")
	end := versions[len(versions)-1]
	p.must("ref") // forgets the job
	e.removePods()
	for _, old := range versions[:len(versions)-1] {
		for name, known := range map[string]*process{"the same process": p, "another process": nil} {
			for _, call := range e.replay(old, known) {
				if call != "patch status ref" {
					t.Errorf("%s, with version %q, wrote %q", name, brief(old), call)
				}
			}
		}
	}
	t.Logf("%d versions were replayed", len(versions)-1)
	if got := e.job("ref"); got.ResourceVersion != end.ResourceVersion || len(e.Pods(t, e.ns)) > 0 {
		t.Errorf("the job is %q, and there are %d Pods", brief(got), len(e.Pods(t, e.ns)))
	}
}

// fill makes the job so large that it has capacity left for 2 to 3 KiB only. It pads the name of an owner reference.
func (e *testEnv) fill(name string) {
	e.t.Helper()
	pad := func(size int) error {
		job := e.job(name)
		job.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Padding", Name: strings.Repeat("x", size), UID: "padding"}}
		return e.Update(context.Background(), job)
	}
	stored, refused := 5<<18, 3<<19
	for refused-stored > 1<<10 {
		size := (stored + refused) / 2
		switch err := pad(size); {
		case err == nil:
			stored = size
		case isTooLarge(err):
			refused = size
		default:
			e.t.Fatal(err)
		}
	}
	if err := pad(stored - 2<<10); err != nil {
		e.t.Fatal(err)
	}
}

// tektoncd/pipeline 6076: a PipelineRun whose status was too large to be written was retried forever, and so its timeout
// had no effect. Here the write is repeated immediately without explanations: instances past their timeout are stopped, and
// the job ends.
func TestLessonTekton6076(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(12), testutil.Timeout(60)))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.Start(t, e.pod("a/0"), e.clock.Now())
	p.must("j")
	e.fill("j")
	for i := 1; i < 12; i++ {
		pod := e.pod(fmt.Sprintf("a/%d", i))
		e.Finish(t, pod, 1, e.clock.Now())
		e.Report(t, pod, func(pod *corev1.Pod) {
			pod.Status.Reason, pod.Status.Message = "Evicted", strings.Repeat("out of memory. ", 40)
		})
	}
	e.clock.SetTime(e.clock.Now().Add(2 * time.Minute))
	p.log = nil
	p.must("j")
	if writes := len(slices.DeleteFunc(slices.Clone(p.log), func(call string) bool { return call != "patch status j" })); writes != 2 {
		t.Fatalf("the status was written %d times, want twice: whole, and then without explanations", writes)
	}
	e.want("j", "RUNNING 0/1 0/12", "a RUNNING failed=1-11 active=0")
	if e.pod("a/0").DeletionTimestamp == nil {
		t.Errorf("an instance past its timeout was not stopped")
	}
	e.Finish(t, e.pod("a/0"), 143, time.Now().Add(2*time.Minute))
	p.play("j")
	if s := e.job("j").Status; s.State != v1alpha1.JobFailed || s.Tasks[0].Failed != "0-11" {
		t.Errorf("the job is %q", brief(e.job("j")))
	}
}
