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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/proof"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// reread reads a Pod again.
func (e *testEnv) reread(pod *corev1.Pod) *corev1.Pod {
	e.t.Helper()
	now := &corev1.Pod{}
	if err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), now); err != nil {
		e.t.Fatal(err)
	}
	return now
}

// passes does n passes over a job, some seconds apart.
func (p *process) passes(name string, n int) {
	p.e.t.Helper()
	for range n {
		p.must(name)
		p.e.clock.SetTime(p.e.clock.Now().Add(11 * time.Second))
	}
}

// livePodNames returns the names of the Pods of the namespace that may run.
func (e *testEnv) livePodNames() []string {
	e.t.Helper()
	var out []string
	for _, pod := range e.Pods(e.t, e.ns) {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			out = append(out, pod.Name)
		}
	}
	slices.Sort(out)
	return out
}

// TestHostileOwnerReference: a user removes the owner reference of a running Pod, and other metadata that identify it. The Pod
// stays the only one of its instance, its metadata is repaired, and it is counted.
func TestHostileOwnerReference(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Pod){
		"owner":                    func(*corev1.Pod) {},
		"owner and finalizer":      func(pod *corev1.Pod) { pod.Finalizers = nil },
		"owner and job-id":         func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelJobID) },
		"owner and all labels":     func(pod *corev1.Pod) { pod.Labels = nil },
		"owner and the job's name": func(pod *corev1.Pod) { delete(pod.Annotations, v1alpha1.AnnotationJobName) },
		"owner and tracking label": func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTracked) },
		"all but the proof": func(pod *corev1.Pod) {
			pod.Labels, pod.Finalizers = nil, nil
			pod.Annotations = map[string]string{v1alpha1.AnnotationProof: pod.Annotations[v1alpha1.AnnotationProof]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(1), testutil.ResourceRetries(1)))
			p.must("j")
			pod := e.pod("a/0")
			e.Bind(t, pod)
			e.Start(t, pod, e.clock.Now())
			p.must("j")
			was := e.reread(pod)
			controlplane.Change(t, e.ControlPlane, pod, func(pod *corev1.Pod) { pod.OwnerReferences = nil; edit(pod) })
			p = e.start(nil) // a new process, which remembers nothing
			p.passes("j", 4)
			now := e.reread(pod)
			if owner := metav1.GetControllerOf(now); owner == nil || owner.UID != e.job("j").UID || !slices.Contains(now.Finalizers, v1alpha1.FinalizerTracking) ||
				now.Labels[v1alpha1.LabelJobID] != was.Labels[v1alpha1.LabelJobID] || now.Labels[v1alpha1.LabelTracked] != "true" ||
				now.Annotations[v1alpha1.AnnotationJobName] != "j" || now.Annotations[v1alpha1.AnnotationProof] != was.Annotations[v1alpha1.AnnotationProof] {
				t.Errorf("the Pod is not repaired: owner %v, finalizers %q, labels %v, annotations %v", owner, now.Finalizers, now.Labels, now.Annotations)
			}
			if live := e.livePodNames(); len(live) != 2 || now.UID != was.UID {
				t.Errorf("live Pods are %q, want one of each instance", live)
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 2/2", "a SUCCEED succeeded=0-1")
			t.Logf("hostile: %s removed: repaired, %d Pods created in all, job %s", name, len(e.Pods(t, e.ns)), e.job("j").Status.State)
		})
	}
}

// TestHostileOtherController: a user gives a running Pod to another controller. It is not the job's anymore, but nothing is
// started instead of it while it may run, not even after a suspension or the acquisition timeout.
func TestHostileOtherController(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", testutil.Instances(3), testutil.Concurrent(2), testutil.ResourceRetries(2)))
	p.must("j")
	pod := e.pod("a/0")
	for _, pod := range []*corev1.Pod{pod, e.pod("a/1")} {
		e.Bind(t, pod)
		e.Start(t, pod, e.clock.Now())
	}
	p.must("j")
	controlplane.Change(t, e.ControlPlane, pod, func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "rs-1", Controller: new(true)}}
	})
	p.passes("j", 3)
	for _, other := range []string{"a/1", "a/2"} { // they continue
		e.Finish(t, e.pod(other), 0, e.clock.Now())
		p.passes("j", 3)
	}
	for range 4 {
		e.clock.SetTime(e.clock.Now().Add(pastAcquisitionTimeout))
		p.passes("j", 3)
	}
	job := e.job("j")
	if got := job.Status.Tasks[0].Reason; got != v1alpha1.ReasonPodNameTaken || !strings.Contains(job.Status.Message, `now belongs to ReplicaSet "web"`) {
		t.Errorf("the reason is %q: %q", got, job.Status.Message)
	}
	if live := e.livePodNames(); !slices.Equal(live, []string{pod.Name}) || job.Status.Tasks[0].Active != "0" || job.Status.Tasks[0].Succeeded != "1-2" {
		t.Errorf("live Pods are %q, task %+v", live, job.Status.Tasks[0])
	}
	t.Logf("hostile: given to a ReplicaSet: %s: %s", job.Status.Tasks[0].Reason, job.Status.Message)
	suspend := func(yes bool) {
		controlplane.Change(t, e.ControlPlane, e.job("j"), func(job *v1alpha1.BatchJob) { job.Spec.Suspend = yes })
		p.passes("j", 4)
	}
	suspend(true)
	suspend(false)
	if live := e.livePodNames(); !slices.Equal(live, []string{pod.Name}) {
		t.Errorf("live Pods are %q after a suspension", live)
	}
	if now := e.reread(pod); len(now.Finalizers) > 0 || now.Labels[v1alpha1.LabelTracked] != "" {
		t.Errorf("the Pod keeps our finalizer: %q, labels %v", now.Finalizers, now.Labels)
	}
	if err := e.Delete(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	e.Finish(t, e.reread(pod), 143, e.clock.Now())
	e.clock.SetTime(e.clock.Now().Add(maxCreateBackoff))
	p.play("j")
	if s := e.job("j").Status; s.State != v1alpha1.JobSucceed {
		t.Errorf("the job is %s: %s", s.State, s.Message)
	}
}

// pastAcquisitionTimeout is longer than the acquisition timeout of a first machine.
const pastAcquisitionTimeout = 700 * time.Second

// createForgedPod creates the Pod of an attempt as the operator would, with an owner reference, all labels and the finalizer,
// and finishes it with exit code 0.
func (e *testEnv) createForgedPod(job *v1alpha1.BatchJob, in resolve.Instance, change func(*corev1.Pod)) *corev1.Pod {
	e.t.Helper()
	spec, err := resolve.Resolve(job)
	if err != nil {
		e.t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: podspec.Meta(job, spec, in, nil)}
	pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "evil", Command: []string{"true"}}}
	if change != nil {
		change(pod)
	}
	if err := e.Create(context.Background(), pod); err != nil {
		e.t.Fatal(err)
	}
	e.Finish(e.t, pod, 0, e.clock.Now())
	return pod
}

// TestHostilePodCreatedInAdvance: a tenant creates the Pod of a retry before the retry is claimed. It does not make a failing job
// succeed, whatever proof it has.
func TestHostilePodCreatedInAdvance(t *testing.T) {
	stolen := func(e *testEnv) func(*corev1.Pod) { // the proof of another Pod of the job
		return func(pod *corev1.Pod) {
			pod.Annotations[v1alpha1.AnnotationProof] = e.pod("a/0").Annotations[v1alpha1.AnnotationProof]
		}
	}
	own := func(*testEnv) func(*corev1.Pod) { // a proof of a key of the tenant's own
		return func(pod *corev1.Pod) {
			key, err := proof.New([]byte("a key that the tenant has made, 32"))
			if err != nil {
				t.Fatal(err)
			}
			pod.Annotations[v1alpha1.AnnotationProof] = key.Sign(pod.Namespace, pod.Name)
		}
	}
	for name, proofOf := range map[string]func(*testEnv) func(*corev1.Pod){
		"no proof": func(*testEnv) func(*corev1.Pod) { return nil }, "another Pod's proof": stolen, "a proof of another key": own,
		"without our labels": func(*testEnv) func(*corev1.Pod) {
			return func(pod *corev1.Pod) { pod.Labels, pod.Finalizers = nil, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			e.script = func(string, int, int) int32 { return 1 }
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Retries(1)))
			p.must("j")
			fake := e.createForgedPod(e.job("j"), resolve.Instance{Attempt: 1}, proofOf(e))
			p.passes("j", 2)
			e.Finish(t, e.pod("a/0"), 1, e.clock.Now())
			p.passes("j", 4)
			job := e.job("j")
			want := fmt.Sprintf("Pod %q exists, and the operator did not create it; delete that Pod", fake.Name)
			if job.Status.State == v1alpha1.JobSucceed || !strings.Contains(job.Status.Message, want) {
				t.Errorf("the job is %s: %q", job.Status.State, job.Status.Message)
			}
			if now := e.reread(fake); len(now.Finalizers) > 0 || now.Labels[v1alpha1.LabelTracked] != "" {
				t.Errorf("the Pod keeps our finalizer: %q, labels %v", now.Finalizers, now.Labels)
			}
			message := job.Status.Message
			// The Pod is deleted, as the message asks for, and the retry runs.
			if err := e.Delete(context.Background(), fake); err != nil {
				t.Fatal(err)
			}
			e.forceDelete(fake)
			e.clock.SetTime(e.clock.Now().Add(maxCreateBackoff))
			p.play("j")
			e.want("j", "FAILED 0/1 0/1", "a FAILED failed=0 reason=TaskInstanceFailed", "failure a/0/0 CommandFailed 1", "failure a/0/1 CommandFailed 1")
			t.Logf("hostile: created in advance, %s: %q, then %s", name, message, e.job("j").Status.State)
		})
	}
}

// forceDelete deletes a Pod without a grace period.
func (e *testEnv) forceDelete(pod *corev1.Pod) {
	e.t.Helper()
	if err := e.Delete(context.Background(), pod, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
		e.t.Fatal(err)
	}
}

// TestHostileFirstPod: the Pod of the first attempt is created before the first pass over the job, with the identifier of an
// unknown key in its proof.
func TestHostileFirstPod(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a"))
	e.createForgedPod(e.job("j"), resolve.Instance{}, func(pod *corev1.Pod) {
		pod.Annotations[v1alpha1.AnnotationProof] = "00000000.0123456789abcdef"
	})
	p.passes("j", 4)
	if s := e.job("j").Status; s.State != v1alpha1.JobRunnable || s.Reason != v1alpha1.ReasonPodNameTaken || len(s.PodKeys) != 1 {
		t.Errorf("the job is %s, %s, keys %q", s.State, s.Reason, s.PodKeys)
	}
}

// TestHostileScheduler: an instance whose scheduler does not exist has the reason NoScheduler, and fails after the acquisition
// timeout.
func TestHostileScheduler(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a", func(task *v1alpha1.Task) {
		task.ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{SchedulerName: "nope"}
	}))
	p.must("j")
	e.clock.SetTime(e.clock.Now().Add(30 * time.Second))
	p.passes("j", 2)
	s := e.job("j").Status
	if s.Reason != v1alpha1.ReasonNoScheduler || !strings.Contains(s.Message, `its schedulerName is "nope"`) {
		t.Errorf("the reason is %s: %q", s.Reason, s.Message)
	}
	t.Logf("hostile: schedulerName nope: %s: %s", s.Reason, s.Message)
	e.clock.SetTime(e.clock.Now().Add(pastAcquisitionTimeout))
	p.passes("j", 3)
	if s := e.job("j").Status; s.State != v1alpha1.JobFailed || len(s.Failures) != 1 {
		t.Errorf("the job is %s after the acquisition timeout, failures %+v", s.State, s.Failures)
	}
}

// TestHostileHandMadePods: Pods that a user creates with our labels, our finalizer and an owner reference do not count as
// using nodes of a ComputeEnv, whether they exist before the operator starts or not. Our finalizer and label are removed.
func TestHostileHandMadePods(t *testing.T) {
	for name, owned := range map[string]bool{"of a job that does not exist": false, "of a job that exists": true} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			pool := e.pool("pool", 1)
			suspended := testutil.Job("victim").Task("a", testutil.EnvID("pool")).New(e.ns)
			suspended.Spec.Suspend = true
			if err := e.Create(context.Background(), suspended); err != nil {
				t.Fatal(err)
			}
			hand := func(i int) {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("hand-%d", i), Namespace: e.ns, Finalizers: []string{v1alpha1.FinalizerTracking},
					Labels: map[string]string{
						v1alpha1.LabelJobID: "job-0a1b2c3d", v1alpha1.LabelEnvID: naming.EnvID(pool.UID), v1alpha1.LabelTracked: "true",
						v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "0", v1alpha1.LabelAttempt: "0", v1alpha1.LabelRun: "0",
					},
					Annotations: map[string]string{v1alpha1.AnnotationJobName: "ghost"},
				}}
				if owned {
					pod.Labels[v1alpha1.LabelJobID] = naming.JobID(suspended.UID)
					pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(suspended, v1alpha1.GroupVersion.WithKind("BatchJob"))}
				}
				pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "evil"}}
				if err := e.Create(context.Background(), pod); err != nil {
					t.Fatal(err)
				}
				e.sync()
			}
			visit := func(p *process) {
				for range 3 {
					for _, job := range []string{"ghost", "victim", "j"} {
						p.must(job)
					}
					e.clock.SetTime(e.clock.Now().Add(2 * time.Second))
				}
			}
			hand(0)
			hand(1)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(2), testutil.EnvID("pool")))
			visit(p)
			hand(2)
			visit(p)
			if got := e.job("j").Status.Tasks[0]; got.Active != "0" {
				t.Errorf("the job's task is %+v", got)
			}
			stats := p.pool.Ledger.Stats(types.NamespacedName{Namespace: e.ns, Name: "pool"})
			if stats.InUse != 1 {
				t.Errorf("%d nodes are in use, want 1", stats.InUse)
			}
			for _, pod := range e.Pods(t, e.ns) {
				if strings.HasPrefix(pod.Name, "hand-") && (len(pod.Finalizers) > 0 || pod.Labels[v1alpha1.LabelTracked] != "" || pod.DeletionTimestamp != nil) {
					t.Errorf("%s has finalizers %q, labels %v", pod.Name, pod.Finalizers, pod.Labels)
				}
			}
			t.Logf("hostile: 3 Pods created by hand, %s: %d of 1 node in use, job %s", name, stats.InUse, e.job("j").Status.State)
		})
	}
}

// TestHostileRetryBlocked: Pods that a user creates do not block the retry of a job.
func TestHostileRetryBlocked(t *testing.T) {
	e := newTestEnv(t)
	e.script = func(string, int, int) int32 { return 1 }
	p := e.start(nil)
	e.submit(testutil.Job("j").Task("a"))
	p.play("j")
	job := e.job("j")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "hand", Namespace: e.ns, Labels: map[string]string{v1alpha1.LabelJobID: job.Status.JobID},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, v1alpha1.GroupVersion.WithKind("BatchJob"))},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "evil"}}
	if err := e.Create(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	controlplane.Change(t, e.ControlPlane, job, func(job *v1alpha1.BatchJob) { job.Spec.RetryToken = "again" })
	p.passes("j", 2)
	if s := e.job("j").Status; s.Run != 1 || s.Tasks[0].Active != "0" {
		t.Errorf("the job is %s, run %d", s.State, s.Run)
	}
	t.Logf("hostile: a Pod created by hand, and the job is retried: run %d, %s", e.job("j").Status.Run, e.job("j").Status.State)
}
