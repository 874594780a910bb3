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

// TestClaimExpires: two processes act as the leader. While the first is slow to create one Pod, the second creates the
// other claimed Pods, one of which is deleted, and removes its finalizer. The first process must not create that Pod
// again.
func TestClaimExpires(t *testing.T) {
	e := newTestEnv(t)
	job := testutil.Job("j").Task("a", testutil.Instances(3), testutil.Retries(1))
	second := e.start(nil)
	var deleted *corev1.Pod
	first := e.start(&faultClient{fault: func(_ int, call string) fault {
		if call != "create pod" || deleted != nil {
			return noFault
		}
		second.must("j") // creates all of them
		deleted = e.pod("a/2")
		if err := e.Delete(context.Background(), deleted); err != nil {
			t.Error(err)
		}
		e.clock.SetTime(deleted.CreationTimestamp.Add(minNameAge))
		second.must("j") // counts it and removes its finalizer
		if !e.isDeleted(deleted) {
			t.Error("the deleted Pod still exists")
		}
		return noFault
	}})
	e.submit(job)
	res, err := first.pass("j")
	switch {
	case err != nil:
		t.Fatal(err)
	case deleted == nil:
		t.Fatal("no Pod was created")
	case !e.isDeleted(deleted):
		t.Errorf("%s was created twice", deleted.Name)
	case res.RequeueAfter <= 0:
		t.Error("RequeueAfter is not set")
	}
	first.play("j")
	e.want("j", "SUCCEED 1/1 3/3", "a SUCCEED succeeded=0-2", "failure a/2/0 PodDeleted")
}

// TestQuota: the status says why no Pod is created, and the job continues when the quota has capacity left.
func TestQuota(t *testing.T) {
	e := newTestEnv(t)
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
	e.resourceWait = 1000 * time.Hour // the clock moves far, and no Pod is scheduled
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(6)).Task("b"))
	passes := func(n int) (waits []time.Duration) {
		for range n {
			res := p.must("j")
			waits = append(waits, res.RequeueAfter)
			e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxCreateBackoff)))
		}
		return waits
	}
	// The API server's view of a quota is stale for a moment.
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
	// The refusal of the other task and the missing scheduler change the status, too.
	e.clock.SetTime(e.clock.Now().Add(30 * time.Second))
	passes(2)
	before := p.sum()
	start := e.clock.Now()
	passes(20)
	if did, took := p.log[before:], e.clock.Since(start); took < time.Minute || len(did) > 20 {
		t.Errorf("20 passes made %d writes in %s, which is a hot loop: %v", len(did), took, did)
	}
	// An instance ends, and the quota has capacity left for the next: the backoff does not grow.
	for n := range 3 {
		for _, pod := range e.Pods(t, e.ns) {
			if pod.Status.Phase == corev1.PodPending {
				e.Finish(t, &pod, 0, e.clock.Now())
			}
		}
		used("0")
		created := len(e.Pods(t, e.ns))
		e.eventually("the quota has capacity left", func() bool {
			passes(1)
			return len(e.Pods(t, e.ns)) > created
		})
		if waits := passes(3); n < 2 && slices.Max(waits) > 4*time.Second {
			t.Errorf("the backoff is %s though Pods are created", waits)
		}
	}
	if err := e.Delete(context.Background(), quota); err != nil {
		t.Fatal(err)
	}
	e.eventually("the job has ended", func() bool {
		passes(1)
		e.work()
		return e.job("j").Status.EndTime != nil
	})
	e.want("j", "SUCCEED 2/2 7/7", "a SUCCEED succeeded=0-5", "b SUCCEED succeeded=0")
}

// TestWebhookOutage: while an admission webhook for Pods does not answer, the status says so, the controller backs off,
// and no attempt is used.
func TestWebhookOutage(t *testing.T) {
	e := newTestEnv(t)
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
		e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxCreateBackoff)))
		return strings.HasPrefix(e.job("j").Status.Message, want)
	})
	before, start := p.sum(), e.clock.Now()
	for e.clock.Since(start) < 2*plan.DefaultResourceWait {
		res := p.must("j")
		e.clock.SetTime(e.clock.Now().Add(min(res.RequeueAfter, maxCreateBackoff)))
	}
	took := e.clock.Since(start)
	if did := p.log[before:]; len(did) > int(took/maxFirstCreateBackoff)+2 { // the first job in the queue retries so often
		t.Errorf("%d writes in %s: %v", len(did), took, did)
	}
	e.want("j", "RUNNABLE 0/1 0/1", "a RUNNABLE active=0 reason=PodCreationRefused")
	if err := e.Delete(context.Background(), hook); err != nil {
		t.Fatal(err)
	}
	e.eventually("the Pod is created", func() bool {
		e.clock.SetTime(e.clock.Now().Add(maxCreateBackoff))
		p.must("j")
		return len(e.Pods(t, e.ns)) == 1
	})
	e.work() // the clock is far ahead of the Pod's creation, so the next pass would find it past the acquisition timeout
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}

// TestNameConflict: a Pod that the operator did not create has the name of an instance's Pod. The instance waits until
// that Pod is deleted.
func TestNameConflict(t *testing.T) {
	e := newTestEnv(t)
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
	want := fmt.Sprintf("task \"a\": 1 instance waits: Pod %q exists, and the operator did not create it; delete that Pod", ours.Name)
	if got := e.job("j").Status.Message; got != want {
		t.Errorf("the job says %q, want %q", got, want)
	}
	if err := e.Delete(context.Background(), theirs); err != nil {
		t.Fatal(err)
	}
	e.clock.SetTime(e.clock.Now().Add(maxCreateBackoff))
	p.play("j")
	e.want("j", "SUCCEED 1/1 1/1", "a SUCCEED succeeded=0")
}
