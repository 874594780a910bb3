// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// What went wrong in other projects, played against ours; see docs/lessons.md. Those that
// take an API server are in controllers/batchjob.

// kubernetes/kubernetes 115844: a Job made the replacement of a Pod as soon as its deletion
// was asked for, so that for the length of the grace period two Pods worked on one index.
// Here the claim of an instance is as long as its Pod lives, and an attempt has ended only
// when its Pod has, whoever asked it to stop, and however long its node is silent.
func TestLessonKubernetes115844(t *testing.T) {
	for name, tc := range map[string]struct {
		ask  func(*world)
		next string // the Pod that comes after
	}{
		"deleted by a person": {func(w *world) { w.stop("a/0") }, "a/0/r1"},
		"drained": {func(w *world) {
			w.do("a/0", func(pod *corev1.Pod) { testutil.Disrupt(pod, "EvictionByEvictionAPI", "") }).stop("a/0")
		}, "a/0/r1"},
		"its node is lost": {func(w *world) {
			w.do("a/0", func(pod *corev1.Pod) { testutil.Disrupt(pod, "DeletionByTaintManager", "") }).stop("a/0")
		}, "a/0/r1"},
		"past its timeout": {func(w *world) { w.wait(2 * time.Minute) }, "a/0/r1"},
		"suspended and resumed": {func(w *world) {
			w.changeJob(func(job *v1alpha1.BatchJob) { job.Spec.Suspend = true })
			w.step().changeJob(func(job *v1alpha1.BatchJob) { job.Spec.Suspend = false })
		}, "a/0/x1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1), testutil.Timeout(60))).step().start("a/0").step()
			first := w.pod("a/0")
			tc.ask(w)
			for range 60 {
				if w.wait(time.Minute).step(); len(w.pods) != 1 || w.pods[first] == nil {
					t.Fatalf("while %s is being stopped there are the Pods %q", first, names(w.pods))
				}
			}
			w.finish("a/0", 143).step().step()
			if got := names(w.pods); !slices.Equal(got, []string{w.pod(tc.next)}) {
				t.Errorf("after its end there are the Pods %q, want the next one", got)
			}
		})
	}
}

// kubernetes/kubernetes 119378: failures that a Job's policy ignores did not count towards
// the delay before the next Pod either, so that a Pod which failed at once was made again
// at once, for ever. Here a machine that is refused is waited for as long as the table of
// acquisition timeouts says, from when the Pod was made, whether or not a budget pays for it.
func TestLessonKubernetes119378(t *testing.T) {
	for name, job := range map[string]*testutil.JobBuilder{
		"that cost nothing":          testutil.Job("j").Task("a").WaitForMachine(),
		"that the machine's pays":    testutil.Job("j").Task("a", testutil.ResourceRetries(100)),
		"that both of them pay":      testutil.Job("j").Task("a", testutil.ResourceRetries(2), testutil.Retries(5)),
		"that only the command pays": testutil.Job("j").Task("a", testutil.Retries(5)),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, job)
			start := w.now
			for w.now.Sub(start) < time.Hour {
				w.step()
				for _, pod := range w.tracked() {
					if !HasFinished(pod) {
						w.change(pod.Name, func(pod *corev1.Pod) {
							testutil.Bind(pod, "node-1")
							testutil.Fail(pod, "OutOfcpu", "full")
						})
					}
				}
				w.wait(5 * time.Second)
			}
			if w.uids < 3 || w.uids > 7 {
				t.Errorf("in an hour %d Pods were made for one instance, want one in ten minutes or fewer", w.uids)
			}
		})
	}
}

// evicted runs the command of a/0, evicts its Pod as change says, and returns how the
// instance stands then.
func evicted(t *testing.T, job *testutil.JobBuilder, change func(w *world, pod *corev1.Pod)) *world {
	t.Helper()
	w := newWorld(t, job).step().start("a/0").step().wait(10 * time.Second)
	return w.do("a/0", func(pod *corev1.Pod) { change(w, pod) }).step()
}

// wantEvicted expects that an eviction is paid for by the machine's budget, and fails the
// job when there is none.
func wantEvicted(t *testing.T, change func(w *world, pod *corev1.Pod)) {
	t.Helper()
	w := evicted(t, testutil.Job("j").Task("a", testutil.ResourceRetries(1)), change)
	w.want("RUNNING", "a RUNNING active=m1:0")
	if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonEvicted || !strings.Contains(f[0].Message, "out of room") {
		t.Errorf("failures are %+v, want one that names the eviction", f)
	}
	evicted(t, testutil.Job("j").Task("a"), change).step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
}

// tektoncd/pipeline 6145: a Pod was evicted for filling its volume while its containers were
// ending; the exit codes were looked at and not the Pod, so that a step which ended with 0
// made the TaskRun a success, and one that was killed a failed command. Here the phase of
// the Pod decides whether it succeeded, and the eviction who is to blame.
func TestLessonTekton6145(t *testing.T) {
	for name, state := range map[string]func(*world, *corev1.Pod){
		"its command ended with 0": func(w *world, pod *corev1.Pod) { testutil.Finish(pod, 0, w.now) },
		"its command was killed":   func(w *world, pod *corev1.Pod) { testutil.Finish(pod, 137, w.now) },
		"its container is lost sight of": func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 137, w.now)
			pod.Status.ContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137}
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantEvicted(t, func(w *world, pod *corev1.Pod) {
				state(w, pod)
				pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, "Evicted", "out of room"
			})
		})
	}
}

// tektoncd/pipeline 7218, whose text was not at hand, is listed with 6145 as an eviction
// that counted as success. So this plays the other way to that: a kubelet puts a Pod out,
// the command heeds the signal and ends with 0, and the phase is Succeeded. Here a command
// that ends after its kubelet's DisruptionTarget is not believed to have done its work.
func TestLessonTekton7218(t *testing.T) {
	for name, takes := range map[string]time.Duration{"at once": 0, "after a while": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			wantEvicted(t, func(w *world, pod *corev1.Pod) {
				testutil.Disrupt(pod, corev1.PodReasonTerminationByKubelet, "out of room")
				pod.Status.Conditions[len(pod.Status.Conditions)-1].LastTransitionTime = metav1.NewTime(w.now)
				testutil.Finish(pod, 0, w.now.Add(takes))
			})
		})
	}
}
