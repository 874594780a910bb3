// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

func keys(m map[string]int) iter.Seq[string] { return maps.Keys(m) }

// TestPodDeletedByHand: each is a failed attempt, and the finalizer keeps the evidence.
func TestPodDeletedByHand(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1)))
	p.must("j")
	remove := func(attempt string) {
		t.Helper()
		if err := e.Delete(context.Background(), e.pod(attempt)); err != nil {
			t.Fatal(err)
		}
	}
	remove("a/0") // has no node yet
	e.Bind(t, e.pod("a/1"))
	e.Start(t, e.pod("a/1"), e.clock.Now())
	remove("a/1") // runs: the kubelet has to end it first
	e.Finish(t, e.pod("a/2"), 0, e.clock.Now())
	remove("a/2") // has ended
	e.tick()
	p.must("j")
	e.want("j", "RUNNING 0/1 1/3", "a RUNNING succeeded=2 active=1;r1:0", "failure a/0/0 PodDeleted")
	e.Finish(t, e.pod("a/1"), 137, time.Now().Add(2*time.Second))
	p.must("j")
	e.want("j", "RUNNING 0/1 1/3", "a RUNNING succeeded=2 active=r1:0-1", "failure a/0/0 PodDeleted", "failure a/1/0 PodDeleted 137")
	p.play("j")
	e.want("j", "SUCCEED 1/1 3/3", "a SUCCEED succeeded=0-2", "failure a/0/0 PodDeleted", "failure a/1/0 PodDeleted 137")
}

// TestTimeout: an attempt past its timeout is stopped once, and has failed when it ends.
func TestTimeout(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Timeout(60), testutil.Retries(1)))
	p.must("j")
	e.Bind(t, e.pod("a/0"))
	e.Start(t, e.pod("a/0"), e.clock.Now().Add(-57*time.Second))
	// The controller's clock is some seconds ahead of the API server's.
	e.tick()
	res := p.must("j")
	if res.RequeueAfter != time.Second {
		t.Errorf("it looks again after %s, want 1s", res.RequeueAfter)
	}
	e.clock.SetTime(e.clock.Now().Add(res.RequeueAfter))
	for range 3 {
		p.must("j")
	}
	if p.calls["delete pod"] != 1 || e.pod("a/0").DeletionTimestamp == nil {
		t.Errorf("the Pod was deleted %d times, want once", p.calls["delete pod"])
	}
	e.Finish(t, e.pod("a/0"), 143, time.Now().Add(5*time.Second))
	p.must("j")
	e.want("j", "RUNNING 0/1 0/1", "a RUNNING active=r1:0", "failure a/0/0 Timeout 143")
}

// TestJobDeleted deletes a job in every way at every stage. No Pod keeps our finalizer,
// none is made afterwards, and none is left that the garbage collector should take.
func TestJobDeleted(t *testing.T) {
	e := newEnv(t)
	stages := map[string]func(*env, *process){
		"not looked at": func(*env, *process) {},
		"claimed": func(_ *env, p *process) {
			p.fault = func(_ int, call string) fate {
				if call == "create pod" {
					return failed
				}
				return done
			}
			if _, err := p.pass("j"); err == nil {
				t.Error("no Pod could be made, and that is no error")
			}
			p.fault = nil
		},
		"created": func(_ *env, p *process) { p.must("j") },
		"under way": func(e *env, p *process) {
			p.must("j")
			e.Bind(t, e.pod("a/0"))
			e.Start(t, e.pod("a/0"), e.clock.Now())
			e.Finish(t, e.pod("a/1"), 1, e.clock.Now())
			p.must("j")
			e.Finish(t, e.pod("a/2"), 0, e.clock.Now())
		},
		"ended": func(_ *env, p *process) { p.play("j") },
	}
	for _, way := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		for stage, reach := range stages {
			t.Run(fmt.Sprintf("%s, %s", way, stage), func(t *testing.T) {
				e := &env{ControlPlane: e.ControlPlane, t: t, ns: e.ns, cache: e.cache, clock: e.clock}
				p := e.start(nil)
				e.submit(testutil.Job("j").Task("a", testutil.Instances(4), testutil.Retries(1)))
				reach(e, p)
				pods := len(e.Pods(t, e.ns))
				if err := e.Delete(context.Background(), e.job("j"), client.PropagationPolicy(way)); err != nil {
					t.Fatal(err)
				}
				e.eventually("nothing is left to do", func() bool {
					e.sync()
					writes := p.sum()
					p.must("j")
					for _, pod := range e.Pods(t, e.ns) {
						if pod.DeletionTimestamp != nil {
							e.Finish(t, &pod, 137, e.clock.Now())
						}
					}
					return !e.CollectGarbage(t, e.ns) && p.sum() == writes
				})
				if tracked := e.tracked(); len(tracked) > 0 {
					t.Errorf("Pods are still tracked: %q", tracked)
				}
				want := 0
				if way == metav1.DeletePropagationOrphan {
					want = pods
				}
				if got := len(e.Pods(t, e.ns)); got != want {
					t.Errorf("%d Pods are left, want %d", got, want)
				}
				if len(p.states.byName) > 0 {
					t.Errorf("the job is still remembered")
				}
				e.clear()
			})
		}
	}
}

// TestOrphansAtStart: the job went while no controller ran.
func TestOrphansAtStart(t *testing.T) {
	e := newEnv(t)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3)))
	e.start(nil).must("j")
	if err := e.Delete(context.Background(), e.job("j"), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	// Another one has taken its name, and a Pod lost its owner.
	controlplane.Change(t, e.ControlPlane, e.pod("a/1"), func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	e.submit(testutil.Job("j").Task("b"))
	p := e.start(nil)
	p.must("j")
	for _, pod := range e.Pods(t, e.ns) {
		if held := len(pod.Finalizers) > 0; held != (pod.Labels[v1alpha1.LabelTaskName] == "b") {
			t.Errorf("Pod %s has finalizers %q", pod.Name, pod.Finalizers)
		}
	}
	e.want("j", "RUNNABLE 0/1 0/1", "b RUNNABLE active=0")
}

// TestEditedPodsHeal: labels and finalizer come back, in a few writes, and the job ends as
// if nothing had happened.
func TestEditedPodsHeal(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Pod){
		"tracking label":    func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTracked) },
		"attempt label":     func(pod *corev1.Pod) { pod.Labels[v1alpha1.LabelAttempt] = "7" },
		"task label":        func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTaskName) },
		"all of our labels": func(pod *corev1.Pod) { pod.Labels = map[string]string{"mine": "stays"} },
		"finalizer":         func(pod *corev1.Pod) { pod.Finalizers = nil },
		"label and finalizer": func(pod *corev1.Pod) {
			delete(pod.Labels, v1alpha1.LabelTracked)
			pod.Finalizers = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(2)))
			p.must("j")
			e.sync()
			p.must("j") // sees them
			pod := e.pod("a/0")
			controlplane.Change(t, e.ControlPlane, pod, edit)
			before := p.sum()
			for range 5 {
				p.must("j")
			}
			healed := &corev1.Pod{}
			if err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), healed); err != nil {
				t.Fatal(err)
			}
			if healed.Labels[v1alpha1.LabelTracked] != "true" || healed.Labels[v1alpha1.LabelAttempt] != "0" || healed.Labels[v1alpha1.LabelTaskName] != "a" ||
				!slices.Contains(healed.Finalizers, v1alpha1.FinalizerTracking) {
				t.Errorf("the Pod is not healed: labels %v, finalizers %q", healed.Labels, healed.Finalizers)
			}
			if did := p.log[before:]; len(did) > 2 {
				t.Errorf("that took %q, want one creation and one patch", did)
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 2/2", "a SUCCEED succeeded=0-1")
		})
	}
}

// TestQuota: the status says why no Pod is made, and the job goes on once there is room.
func TestQuota(t *testing.T) {
	e := newEnv(t)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "few", Namespace: e.ns}}
	quota.Spec.Hard = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}
	if err := e.Create(context.Background(), quota); err != nil {
		t.Fatal(err)
	}
	used := func(n string) { // as the quota controller would
		quota.Status.Hard, quota.Status.Used = quota.Spec.Hard, corev1.ResourceList{corev1.ResourcePods: resource.MustParse(n)}
		e.eventually("the quota's status is stored", func() bool {
			err := e.Get(context.Background(), client.ObjectKeyFromObject(quota), &corev1.ResourceQuota{})
			if err != nil {
				return false
			}
			now := quota.DeepCopy()
			now.ResourceVersion = ""
			return e.Status().Patch(context.Background(), now, client.Merge) == nil
		})
	}
	used("0")
	e.resourceWait = 1000 * time.Hour // its clock is far ahead, and nobody schedules
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(6)).Task("b"))
	passes := func(n int) (waits []time.Duration) {
		for range n {
			res := p.must("j")
			waits = append(waits, res.RequeueAfter)
			e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxRefusalWait)))
		}
		return waits
	}
	// The API server's view of a quota is a few moments late.
	e.eventually("the status says why", func() bool {
		passes(2)
		return e.job("j").Status.Reason == v1alpha1.ReasonQuota
	})
	job := e.job("j")
	if !strings.HasPrefix(job.Status.Message, `task "a": the namespace's ResourceQuota is used up; the Pod is created when other Pods end, or the quota is raised: pods "j-a-`) || !strings.Contains(job.Status.Message, "exceeded quota: few") {
		t.Errorf("the job says %q", job.Status.Message)
	}
	if job.Status.State != v1alpha1.JobRunnable {
		t.Errorf("the job is %s", job.Status.State)
	}
	// What the refusal of the other task changes in the status is written, and that no scheduler looks.
	e.clock.SetTime(e.clock.Now().Add(30 * time.Second))
	passes(2)
	before := p.sum()
	start := e.clock.Now()
	passes(20)
	if did, took := p.log[before:], e.clock.Since(start); took < time.Minute || len(did) > 20 {
		t.Errorf("20 passes did %d writes in %s, that is a hot loop: %v", len(did), took, did)
	}
	// One instance ends and leaves room for the next: the wait does not grow then.
	for n := range 3 {
		for _, pod := range e.Pods(t, e.ns) {
			if pod.Status.Phase == corev1.PodPending {
				e.Finish(t, &pod, 0, e.clock.Now())
			}
		}
		used("0")
		made := len(e.Pods(t, e.ns))
		e.eventually("there is room", func() bool {
			passes(1)
			return len(e.Pods(t, e.ns)) > made
		})
		if waits := passes(3); n < 2 && slices.Max(waits) > 4*time.Second {
			t.Errorf("though Pods are made, it waits %s", waits)
		}
	}
	if err := e.Delete(context.Background(), quota); err != nil {
		t.Fatal(err)
	}
	e.eventually("all Pods are made", func() bool {
		passes(1)
		e.work()
		return e.job("j").Status.EndTime != nil
	})
	e.want("j", "SUCCEED 2/2 7/7", "a SUCCEED succeeded=0-5", "b SUCCEED succeeded=0")
}

// TestWebhookOutage: while a webhook that must be asked about Pods does not answer, the status says so, the
// controller backs off, and no attempt is used.
func TestWebhookOutage(t *testing.T) {
	e := newEnv(t)
	hook := &admissionregv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: e.ns},
		Webhooks: []admissionregv1.MutatingWebhook{{
			Name: "inject.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionregv1.SideEffectClassNone),
			ClientConfig:      admissionregv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: e.ns}},
			Rules: []admissionregv1.RuleWithOperations{{
				Operations: []admissionregv1.OperationType{admissionregv1.Create},
				Rule:       admissionregv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	if err := e.Create(context.Background(), hook); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Delete(context.Background(), hook) })
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a"))
	const want = `task "a": InternalError.CallCvm: the cluster refused to create a Pod: an admission webhook of the cluster does not answer`
	e.eventually("the status says that a webhook does not answer", func() bool {
		res := p.must("j")
		e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxRefusalWait)))
		return strings.HasPrefix(e.job("j").Status.Message, want)
	})
	before, start := p.sum(), e.clock.Now()
	for e.clock.Since(start) < 2*plan.DefaultResourceWait {
		res := p.must("j")
		e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxRefusalWait)))
	}
	if did := p.log[before:]; len(did) > 120 { // the first in the queue tries every 10 s
		t.Errorf("%d writes in %s: %v", len(did), e.clock.Since(start), did)
	}
	e.want("j", "RUNNABLE 0/1 0/1", "a RUNNABLE active=0 reason=PodCreationRefused")
	if err := e.Delete(context.Background(), hook); err != nil {
		t.Fatal(err)
	}
	e.eventually("the Pod is created", func() bool {
		e.clock.SetTime(e.clock.Now().Add(maxRefusalWait))
		p.must("j")
		return len(e.Pods(t, e.ns)) == 1
	})
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}

// TestTakenName: a Pod of somebody else has the name that ours should have.
func TestTakenName(t *testing.T) {
	e := newEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a"))
	p.must("j")
	ours := e.pod("a/0")
	controlplane.Change(t, e.ControlPlane, ours, func(pod *corev1.Pod) { pod.Finalizers = nil })
	if err := e.Delete(context.Background(), ours); err != nil {
		t.Fatal(err)
	}
	theirs := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: ours.Name, Namespace: e.ns}, Spec: *ours.Spec.DeepCopy()}
	if err := e.Create(context.Background(), theirs); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(e.clock.Now().Add(cacheLag + time.Second))
	for range 3 {
		e.clock.SetTime(e.clock.Now().Add(p.must("j").RequeueAfter))
	}
	want := fmt.Sprintf("task \"a\": 1 instance waits: the name %q is taken by a Pod that the operator did not make; delete that Pod", ours.Name)
	if got := e.job("j").Status.Message; got != want {
		t.Errorf("the job says %q, want %q", got, want)
	}
	if err := e.Delete(context.Background(), theirs); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(e.clock.Now().Add(maxRefusalWait))
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}

// TestInvalidJob: one that got past the webhook ends with its code, and makes no Pod.
func TestInvalidJob(t *testing.T) {
	e := newEnv(t)
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
		t.Errorf("it did %q", p.log)
	}
}
