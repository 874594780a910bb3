// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// sidecar puts a container that the cluster added beside the command's.
func sidecar(pod *corev1.Pod, state corev1.ContainerState) {
	pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: "mesh", State: state})
}

func runs() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func exited(code int32, at time.Time) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", FinishedAt: metav1.NewTime(at)}}
}

// commandEnds ends the command of a/0 while another container runs on.
func commandEnds(code int32) func(*world) {
	return doA(func(w *world, pod *corev1.Pod) {
		testutil.Bind(pod, "node-1")
		testutil.Start(pod, w.now)
		testutil.Finish(pod, code, w.now)
		pod.Status.Phase = corev1.PodRunning
		sidecar(pod, runs())
	})
}

// sidecarEnds is the node's word that a Pod which was asked to stop has ended, with all that was in it.
func sidecarEnds(w *world) {
	w.wait(time.Second).do("a/0", func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses[1].State = exited(143, w.now)
		pod.Status.Phase = corev1.PodFailed
	}).step()
}

// init puts an init container that the cluster added into a Pod of which a node has taken hold.
func initContainer(pod *corev1.Pod, state corev1.ContainerState) {
	testutil.Bind(pod, "node-1")
	testutil.Wait(pod, "PodInitializing", "")
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionFalse})
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", Image: "setup:1", State: state}}
}

func init() {
	troubles["the command has ended, and a container that the cluster added continues to run"] = []trouble{{
		begin: func(w *world) { commandEnds(3)(w); w.step().wait(sidecarGrace).step() }, end: sidecarEnds,
		state: v1alpha1.TaskInstanceRunning, waits: v1alpha1.ReasonSidecarsStopped, reason: v1alpha1.ReasonCommandFailed, after: "r1",
	}}
	troubles["an init container that the cluster added fails"] = []trouble{{
		begin: doA(func(w *world, pod *corev1.Pod) {
			initContainer(pod, exited(7, w.now))
			pod.Status.Phase = corev1.PodFailed
		}),
		end: timesOut, state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonInitContainerFailed, reason: v1alpha1.ReasonInitContainerFailed, after: "m1",
	}}
	troubles["an init container that the cluster added, and that is restarted, fails again and again"] = []trouble{{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			initContainer(pod, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s"}})
		}),
		end: timesOutAndStops, state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonInitContainerFailed, reason: v1alpha1.ReasonInitContainerFailed, after: "m1",
	}}
	troubles["an init container that the cluster added runs for a long time"] = []trouble{{
		begin: func(w *world) {
			doA(func(w *world, pod *corev1.Pod) {
				initContainer(pod, runs())
				pod.Status.Conditions[0].LastTransitionTime.Time = w.now
			})(w)
			w.wait(slowStart)
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonInitContainerRunning, after: "0",
	}}
	troubles["the queue that had admitted the Pod, such as Kueue's, takes it away"] = []trouble{{
		begin: func(w *world) {
			running(func(w *world, pod *corev1.Pod) {
				pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
					Type: TerminationTarget, Status: corev1.ConditionTrue, Reason: "WorkloadEvictedDueToPreempted", Message: "for film-2",
				})
				testutil.AskToStop(pod, w.now)
			})(w)
			w.step().wait(time.Second).do("a/0", func(pod *corev1.Pod) {
				testutil.Finish(pod, 143, w.now)
				pod.Status.Phase = corev1.PodFailed
			})
		},
		end: func(w *world) {
			w.step().step()
			doA(func(_ *world, pod *corev1.Pod) {
				if pod.DeletionTimestamp != nil {
					panic("the Pod that was taken away is still there")
				}
			})(w)
		},
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonPreempted, after: "0",
	}}
}

// TestInterruptedWithSidecar: an instance is interrupted though an added container of its Pod runs on, which is kept.
func TestInterruptedWithSidecar(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction("INTERRUPT"))).step()
	commandEnds(3)(w)
	w.step().wait(sidecarGrace).step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	if pod := w.pods[w.pod("a/0")]; pod == nil || pod.DeletionTimestamp != nil || len(pod.Finalizers) == 0 {
		t.Errorf("the Pod is not kept: %+v", pod)
	}
	w.stop("a/0")
	sidecarEnds(w)
	w.step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
}

// TestSidecars: whatever the other containers of a Pod do, its attempt ends as the command did.
func TestSidecars(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(w *world)
		want string
	}{
		"ends by itself": {func(w *world) {
			commandEnds(0)(w)
			w.step().do("a/0", func(pod *corev1.Pod) {
				pod.Status.ContainerStatuses[1].State = exited(0, w.now)
				pod.Status.Phase = corev1.PodSucceeded
			}).step()
		}, "SUCCEED a SUCCEED succeeded=0"},
		"fails after the command succeeded": {func(w *world) {
			commandEnds(0)(w)
			w.step().do("a/0", func(pod *corev1.Pod) {
				pod.Status.ContainerStatuses[1].State = exited(137, w.now)
				pod.Status.Phase = corev1.PodFailed
			}).step()
		}, "SUCCEED a SUCCEED succeeded=0"},
		"is stopped after the command succeeded": {func(w *world) {
			commandEnds(0)(w)
			w.step()
			if w.last.RequeueAfter == 0 || len(w.last.Delete) > 0 {
				panic("it gets no time to end")
			}
			w.wait(sidecarGrace).step()
			sidecarEnds(w)
		}, "SUCCEED a SUCCEED succeeded=0"},
		"is stopped after the command failed": {func(w *world) {
			commandEnds(3)(w)
			w.step().wait(sidecarGrace).step()
			sidecarEnds(w)
		}, "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"cannot be pulled": {func(w *world) {
			doA(func(w *world, pod *corev1.Pod) {
				testutil.Bind(pod, "node-1")
				testutil.Start(pod, w.now)
				testutil.Finish(pod, 0, w.now)
				pod.Status.Phase = corev1.PodPending
				sidecar(pod, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}})
			})(w)
			w.step().wait(sidecarGrace).step()
			sidecarEnds(w)
		}, "SUCCEED a SUCCEED succeeded=0"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a")).step()
			tc.end(w)
			w.step()
			if got := strings.Join(brief(&w.job.Status), " "); got != tc.want {
				t.Errorf("the status is %q, want %q", got, tc.want)
			}
			if f := w.job.Status.Failures; len(f) > 0 && (f[0].ExitCode == nil || *f[0].ExitCode != 3 || f[0].Message != `exit code 3; stopped after it: container "mesh"`) {
				t.Errorf("the failure is %+v", f[0])
			}
		})
	}
}
