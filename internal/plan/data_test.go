// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/testutil"
)

// result is a termination message of the agent.
func result(class agentapi.Class, message string) string {
	return fmt.Sprintf(`{"version":%d,"class":%q,"message":%q}`, agentapi.Version, class, message)
}

// stageFails ends the container that copies the inputs of a/0, and with it the Pod.
func stageFails(code int32, message string) func(*world) {
	return doA(func(w *world, pod *corev1.Pod) {
		initContainer(pod, exited(code, w.now))
		s := &pod.Status.InitContainerStatuses[0]
		s.Name, s.State.Terminated.Message = podspec.StageContainer, message
		pod.Status.Phase = corev1.PodFailed
	})
}

// withOutputsContainer ends the command of a/0, which has outputs to store, with the given state of the container that
// stores them.
func withOutputsContainer(code int32, state func(w *world) corev1.ContainerState) func(*world) {
	return doA(func(w *world, pod *corev1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: podspec.OutputsContainer})
		testutil.Bind(pod, "node-1")
		testutil.Start(pod, w.now)
		testutil.Finish(pod, code, w.now)
		pod.Status.Phase = corev1.PodRunning
		s := state(w)
		if s.Terminated != nil {
			pod.Status.Phase = corev1.PodSucceeded
			if code != 0 || s.Terminated.ExitCode != 0 {
				pod.Status.Phase = corev1.PodFailed
			}
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: podspec.OutputsContainer, State: s})
	})
}

func outputsEnd(code int32, message string) func(w *world) corev1.ContainerState {
	return func(w *world) corev1.ContainerState {
		s := exited(code, w.now)
		s.Terminated.Message = message
		return s
	}
}

func outputsRun(*world) corev1.ContainerState { return runs() }

// outputsReport is the node's report that the outputs of a/0 are stored, or not.
func outputsReport(code int32, message string) func(*world) {
	return func(w *world) {
		w.wait(time.Second).do("a/0", func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses[1].State = outputsEnd(code, message)(w)
			pod.Status.Phase = corev1.PodFailed
		}).step()
	}
}

// notCreated is the state of a container that the kubelet has still to create.
func notCreated(*world) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
}

// loseSandbox is what a kubelet reports when its node is back, of a Pod in which not all containers had been started.
func loseSandbox(_ *world, pod *corev1.Pod) {
	if t := pod.Status.ContainerStatuses[0].State.Terminated; t != nil && t.ExitCode == 255 {
		t.Reason = "Unknown"
	}
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse})
}

func init() {
	troubles["the store does not answer, or an input cannot be copied for another passing reason"] = []trouble{
		{begin: stageFails(agentapi.ExitTransient, result(agentapi.Transient, "no answer")), reason: v1alpha1.ReasonStageInFailed, after: "m1"},
		{begin: stageFails(137, ""), reason: v1alpha1.ReasonStageInFailed, after: "m1"},
	}
	troubles["the data of the task are being copied to the node"] = []trouble{{
		begin: func(w *world) {
			doA(func(w *world, pod *corev1.Pod) {
				initContainer(pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.now)}})
				pod.Status.InitContainerStatuses[0].Name = podspec.StageContainer
				pod.Status.Conditions[0].LastTransitionTime.Time = w.now
			})(w)
			w.wait(slowStart)
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonStagingData, after: "0",
	}}
	troubles["the command ended with 0, and its outputs cannot be stored for a passing reason"] = []trouble{
		{begin: withOutputsContainer(0, outputsEnd(agentapi.ExitTransient, result(agentapi.Transient, "no answer"))), reason: v1alpha1.ReasonOutputFailed, after: "m1"},
		{begin: withOutputsContainer(0, outputsEnd(137, "")), reason: v1alpha1.ReasonOutputFailed, after: "m1"},
	}
	troubles["the command has ended, and its outputs are being stored"] = []trouble{{
		begin: func(w *world) { withOutputsContainer(3, outputsRun)(w); w.step().wait(slowStart).step() },
		end:   outputsReport(0, ""),
		state: v1alpha1.TaskInstanceRunning, waits: v1alpha1.ReasonStoringOutputs, reason: v1alpha1.ReasonCommandFailed, after: "r1",
	}}
	troubles["the node dies after it started the command and before it started the container that stores the outputs"] = []trouble{{
		begin: func(w *world) { withOutputsContainer(255, notCreated)(w); doA(loseSandbox)(w) },
		end:   func(w *world) { w.step(); outputsReport(137, "")(w) },
		state: v1alpha1.TaskInstanceStarting, reason: v1alpha1.ReasonPodFailed, after: "m1",
	}}
	troubles["the Pod is stopped while the outputs of its command, which has ended, are being stored"] = []trouble{{
		begin: func(w *world) { withOutputsContainer(0, outputsRun)(w); w.step().stop("a/0").step() },
		end:   outputsReport(agentapi.ExitTransient, result(agentapi.Transient, "the transfer was stopped")),
		state: v1alpha1.TaskInstanceRunning, waits: v1alpha1.ReasonOutputsStopped, reason: v1alpha1.ReasonPodDeleted, after: "m1",
	}}
	troubles["the catalogue has no store for a remote path"] = []trouble{{
		begin: notMade(v1alpha1.ReasonStoreUnknown, `inputMappings[0]: "data" is no host with a bucket`), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonStoreUnknown, reason: v1alpha1.ReasonStoreUnknown, after: "m1",
	}}
}

// TestPermanentDataFailure: a wrong key or a missing bucket fails the instance at once, with retries left, and says why.
func TestPermanentDataFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(*world)
		want string
	}{
		"stage":   {stageFails(agentapi.ExitPermanent, result(agentapi.Permanent, "no such bucket")), "StageInFailed: the data of the task could not be copied to its node: no such bucket"},
		"usage":   {stageFails(agentapi.ExitUsage, "another version"), "StageInFailed: the data of the task could not be copied to its node: another version"},
		"outputs": {withOutputsContainer(0, outputsEnd(agentapi.ExitPermanent, result(agentapi.Permanent, "access denied"))), "OutputFailed: the command succeeded, but its outputs could not be stored: access denied"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(3))).step()
			tc.end(w)
			w.step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
			f := w.job.Status.Failures
			if got := f[len(f)-1].Reason + ": " + f[len(f)-1].Message; len(f) != 1 || got != tc.want {
				t.Errorf("%d failures, the last %q, want %q", len(f), got, tc.want)
			}
		})
	}
}

// TestOutputsDecide: an attempt succeeds when its outputs are stored, and not before; an attempt whose command failed
// fails as the command did, whatever becomes of its outputs.
func TestOutputsDecide(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step()
	withOutputsContainer(0, outputsRun)(w)
	w.step().wait(10*DefaultResourceWait).step().want("RUNNING", "a RUNNING active=0 running=1 (StoringOutputs)")
	if pod := w.pods[w.pod("a/0")]; pod.DeletionTimestamp != nil {
		t.Fatal("the Pod was stopped while its outputs were being stored")
	}
	w.do("a/0", func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses[1].State = exited(0, w.now)
		pod.Status.Phase = corev1.PodSucceeded
	}).step().want("SUCCEED", "a SUCCEED succeeded=0")

	w = newWorld(t, testutil.Job("j").Task("a")).step()
	withOutputsContainer(3, outputsEnd(agentapi.ExitPermanent, result(agentapi.Permanent, "access denied")))(w)
	w.step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	if got, want := w.job.Status.Failures[0].Message, "exit code 3; its outputs and logs could not be stored: access denied"; got != want {
		t.Errorf("the message is %q, want %q", got, want)
	}
}

// TestStoppedBeforeOutputs: a command that ended with 0 runs again if its Pod is taken away before its outputs are stored.
func TestStoppedBeforeOutputs(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.ResourceRetries(1))).step()
	withOutputsContainer(0, outputsRun)(w)
	w.step().wait(time.Minute).stop("a/0")
	w.wait(30*time.Second).do("a/0", func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses[1].State = exited(137, w.now)
		pod.Status.Phase = corev1.PodFailed
	}).step()
	f := w.job.Status.Failures
	if len(f) != 1 || f[0].Reason != v1alpha1.ReasonPodDeleted || !strings.HasPrefix(f[0].Message, "the command succeeded, but its Pod was stopped before its outputs were stored") {
		t.Errorf("failures are %+v", f)
	}
	w.step().want("RUNNING", "a RUNNING active=m1:0")
}

// TestStartErrorWithOutputs: of a command that could not be started there is nothing to store, and the Pod is stopped.
func TestStartErrorWithOutputs(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step()
	withOutputsContainer(128, outputsRun)(w)
	w.do("a/0", func(pod *corev1.Pod) { stateOf(pod).Terminated.Reason = "StartError" })
	w.step().wait(sidecarGrace).step()
	if pod := w.pods[w.pod("a/0")]; pod.DeletionTimestamp == nil {
		t.Error("the Pod waits for outputs of a command that never started")
	}
}

// TestExecFailedWithOutputs: nor are there outputs of a command that the agent could not start, be it that it could not say so
// to the container that waits for its end.
func TestExecFailedWithOutputs(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step()
	withOutputsContainer(agentapi.ExitTransient, outputsRun)(w)
	w.do("a/0", func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Command = []string{podspec.AgentProgram, "exec"}
		pod.Status.ContainerStatuses[0].State.Terminated.Message = result(agentapi.Transient, "no space left on device")
	})
	w.step().wait(sidecarGrace).step()
	if pod := w.pods[w.pod("a/0")]; pod.DeletionTimestamp == nil {
		t.Error("the Pod waits for outputs of a command that was not started")
	}
}

// TestExecFailed: what the agent could not do is not the command's failure.
func TestExecFailed(t *testing.T) {
	for message, want := range map[string]string{
		result(agentapi.Transient, "no space left on device"): "StartError: the command could not be run: no space left on device",
		result("", ""): "CommandFailed: exit code 75",
	} {
		w := newWorld(t, testutil.Job("j").Task("a")).step()
		w.do("a/0", func(pod *corev1.Pod) {
			for i := range pod.Spec.Containers {
				if pod.Spec.Containers[i].Name == podspec.ContainerName {
					pod.Spec.Containers[i].Command = []string{podspec.AgentProgram, "exec"}
				}
			}
			testutil.Bind(pod, "node-1")
			testutil.Start(pod, w.now)
			testutil.Finish(pod, agentapi.ExitTransient, w.now)
			stateOf(pod).Terminated.Message = message
		}).step()
		if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason+": "+f[0].Message != want {
			t.Errorf("failures are %+v, want %q", f, want)
		}
	}
}

// TestCommandThatCannotStart: the agent says why a command could not be started.
func TestCommandThatCannotStart(t *testing.T) {
	for code, tc := range map[int32]struct{ message, want string }{
		126: {result("", "/bin/sh is a program for arm64"), "CommandFailed: exit code 126: /bin/sh is a program for arm64"},
		127: {result("", "the image has no /bin/sh"), "CommandFailed: exit code 127: the image has no /bin/sh"},
		2:   {result("", "what the command says"), "CommandFailed: exit code 2"},
		255: {result("", ""), "CommandFailed: exit code 255"},
	} {
		w := newWorld(t, testutil.Job("j").Task("a")).step()
		withOutputsContainer(code, outputsEnd(0, result("", "")))(w)
		w.do("a/0", func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Command = []string{podspec.AgentProgram, "exec"}
			stateOf(pod).Terminated.Message = tc.message
		}).step()
		if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason+": "+f[0].Message != tc.want {
			t.Errorf("failures are %+v, want %q", f, tc.want)
		}
	}
}

// TestAgentOutOfMemory: a container of the agent that exceeds its memory limit costs a machine, and the message says what to do.
func TestAgentOutOfMemory(t *testing.T) {
	const advice = "; transfer fewer files, such as archives, or raise the limit if a policy lowers it"
	killed := func(s *corev1.ContainerState) { s.Terminated.Reason = "OOMKilled" }
	for name, tc := range map[string]struct {
		end    func(*world)
		change func(*corev1.Pod)
		want   string
	}{
		"outputs": {withOutputsContainer(0, outputsEnd(137, "")), func(pod *corev1.Pod) { killed(&pod.Status.ContainerStatuses[1].State) },
			"OutputFailed: the command succeeded, but its outputs could not be stored: exit code 137, OOMKilled: container batchcompute-outputs exceeded its memory limit" + advice},
		"stage": {stageFails(137, ""), func(pod *corev1.Pod) { killed(&pod.Status.InitContainerStatuses[0].State) },
			"StageInFailed: the data of the task could not be copied to its node: exit code 137, OOMKilled: container batchcompute-stage exceeded its memory limit" + advice},
	} {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.ResourceRetries(1))).step()
		tc.end(w)
		w.do("a/0", tc.change).step().step().wantActive("m1:0")
		if f := w.job.Status.Failures; len(f) != 1 || !strings.HasPrefix(f[0].Reason+": "+f[0].Message, tc.want) {
			t.Errorf("%s: failures are %+v, want %q", name, f, tc.want)
		}
	}
}

// TestPodDeletedWhenStagingHasFailed: what deletes a Pod whose inputs could not be copied is not why the attempt failed.
func TestPodDeletedWhenStagingHasFailed(t *testing.T) {
	for asked, want := range map[time.Duration]string{5 * time.Second: v1alpha1.ReasonStageInFailed, 0: v1alpha1.ReasonPodDeleted} {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.ResourceRetries(1))).step()
		stageFails(1, result(agentapi.Transient, "no answer"))(w)
		w.do("a/0", func(pod *corev1.Pod) {
			testutil.AskToStop(pod, pod.Status.InitContainerStatuses[0].State.Terminated.FinishedAt.Add(asked))
		}).step()
		if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != want {
			t.Errorf("deleted %s after the container had failed: failures are %+v, want %s", asked, f, want)
		}
	}
}

// TestInputsExceedDisk: inputs that exceed a limit of the Pod fail the instance, since they would again.
func TestInputsExceedDisk(t *testing.T) {
	const said = `Usage of EmptyDir volume "batchcompute-input-1" exceeds the limit "1Mi". `
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(1), testutil.ResourceRetries(1))).step()
	doA(func(w *world, pod *corev1.Pod) {
		initContainer(pod, exited(137, w.now))
		pod.Status.InitContainerStatuses[0].Name = podspec.StageContainer
		testutil.Fail(pod, "Evicted", said)
		testutil.Disrupt(pod, corev1.PodReasonTerminationByKubelet, said)
	})(w)
	w.step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")
	if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonStageInFailed || !strings.Contains(f[0].Message, `the data of the task are more than its disks hold; raise their diskSize`) || f[0].ExitCode != nil {
		t.Errorf("failures are %+v", f)
	}
}

// commandHeld is a/0 whose command ended with a code: its container still runs, and the outputs are stored.
func commandHeld(code int) func(*world) {
	return func(w *world) {
		withOutputsContainer(0, outputsEnd(0, fmt.Sprintf(`{"version":%d,"class":"","code":%d}`, agentapi.Version, code)))(w)
		w.do("a/0", func(pod *corev1.Pod) {
			pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.now)}}
			pod.Status.Phase = corev1.PodRunning
		})
	}
}

// holdEnds ends the container of a command that was held.
func holdEnds(code int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		s := &pod.Status.ContainerStatuses[0].State
		start := s.Running.StartedAt
		*s = exited(code, start.Add(time.Hour))
		s.Terminated.StartedAt = start
		pod.Status.Phase = corev1.PodFailed
	}
}

// TestHeld: an instance is interrupted while the container of its command is held, and fails when somebody terminates it
// and nothing runs anymore.
func TestHeld(t *testing.T) {
	held := func(retries int64) *world {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.FailedAction("INTERRUPT"), testutil.Retries(retries))).step()
		commandHeld(3)(w)
		return w.step()
	}
	w := held(0).want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	pod := w.pods[w.pod("a/0")]
	if f := w.job.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonCommandFailed || *f[0].ExitCode != 3 || pod.DeletionTimestamp != nil {
		t.Errorf("failures %+v, deleted at %v", f, pod.DeletionTimestamp)
	}
	w.wait(time.Hour).step().terminate().step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	if pod = w.pods[pod.Name]; pod.DeletionTimestamp == nil || len(pod.Finalizers) == 0 {
		t.Errorf("deleted at %v, finalizers %q", pod.DeletionTimestamp, pod.Finalizers)
	}
	w.do("a/0", holdEnds(137)).step().want("FAILED", "a FAILED failed=0 (Terminated)")

	// When nobody came for it, the container ends, and the instance stays as it is.
	held(0).do("a/0", holdEnds(3)).step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")

	// A node that does not answer is not waited for without end.
	w = held(0)
	w.stop("a/0").step().want("FAILED_INTERRUPTED", "a FAILED_INTERRUPTED interrupted=0 (Interrupted)")
	w.wait(confirmWait+time.Minute).step().step().want("FAILED", "a FAILED failed=0 (TaskInstanceFailed)")

	// With another attempt to come nothing is held.
	w = held(1).want("RUNNING", "a RUNNING active=0 running=1")
	if pod := w.pods[w.pod("a/0")]; pod.DeletionTimestamp == nil {
		t.Error("the container is held, though another attempt follows")
	}
	w.wait(3*time.Second).do("a/0", holdEnds(3)).step().want("RUNNING", "a RUNNING active=r1:0")
}

// TestLostSandbox: a Pod whose node died before all of its containers were started never ends by itself. It is not stopped
// while the kubelet can still start them.
func TestLostSandbox(t *testing.T) {
	staged := func(state corev1.ContainerState) func(*world) {
		return doA(func(w *world, pod *corev1.Pod) {
			initContainer(pod, state)
			pod.Status.InitContainerStatuses[0].Name = podspec.StageContainer
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.ContainerName, State: notCreated(w)}}
		})
	}
	beside := doA(func(_ *world, pod *corev1.Pod) { // and its container that was to run beside the command ended with the node
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: "mesh", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)})
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, corev1.ContainerStatus{Name: "mesh", State: exited(255, begin)})
	})
	for name, tc := range map[string]struct {
		begin func(*world)
		lost  bool
		stops bool
	}{
		"the command has ended, and the outputs' container is not there": {withOutputsContainer(0, notCreated), true, true},
		"it is about to be created":                                      {withOutputsContainer(0, notCreated), false, false},
		"it runs":                                                        {withOutputsContainer(0, outputsRun), true, false},
		"the inputs are there, and the command was not started":          {staged(exited(0, begin)), true, true},
		"the inputs are there, and the command is about to be created":   {staged(exited(0, begin)), false, false},
		"the inputs are being copied":                                    {staged(runs()), true, false},
		"the inputs are there, and a native sidecar ended with its node": {func(w *world) { staged(exited(0, begin))(w); beside(w) }, true, true},
		"the inputs could not be copied, and the Pod is about to fail":   {staged(exited(1, begin)), true, false},
		"nothing was created, so that the kubelet makes another sandbox": {staged(notCreated(nil)), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a")).step()
			tc.begin(w)
			if tc.lost {
				doA(loseSandbox)(w)
			}
			w.step().wait(time.Second).step()
			if got := w.pods[w.pod("a/0")].DeletionTimestamp != nil; got != tc.stops {
				t.Errorf("the Pod is stopped: %t, want %t", got, tc.stops)
			}
		})
	}
}

// TestTerminatedWhileStoring: the status of an instance whose Pod is stopped says that its command succeeded, and that its
// outputs are not stored.
func TestTerminatedWhileStoring(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a")).step()
	withOutputsContainer(0, outputsRun)(w)
	w.step()
	w.job.Spec.Terminate = true
	w.step().wait(time.Second).step()
	s := &w.job.Status.Tasks[0]
	if want := "the command ended with exit code 0, and the Pod is being stopped while its outputs are being stored: what is not stored within the Pod's grace period is lost"; s.Reason != v1alpha1.ReasonOutputsStopped || s.Message != "1 instance waits: "+want {
		t.Errorf("%s: %q", s.Reason, s.Message)
	}
	outputsReport(agentapi.ExitTransient, result(agentapi.Transient, "the transfer was stopped"))(w)
	w.step().want("FAILED", "a FAILED failed=0 (Terminated)")
	if got, want := w.job.Status.Tasks[0].Message, "1 of 1 instance failed, and the last was terminated after its command had succeeded, and before its outputs were stored"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	f := w.job.Status.Failures
	if len(f) != 1 || f[0].Reason != v1alpha1.ReasonTerminated || !strings.Contains(f[0].Message, "before its outputs were stored") {
		t.Errorf("failures %+v", f)
	}
}

// TestPermanentFailureIsNotCounted: a failure that would come again says so, and not how many attempts are left.
func TestPermanentFailureIsNotCounted(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(3))).step()
	stageFails(agentapi.ExitPermanent, result(agentapi.Permanent, "the bucket does not exist; create it"))(w)
	w.step()
	if got, want := w.job.Status.Tasks[0].Message, "the data of the task could not be copied to its node: the bucket does not exist; create it; not retried, since it would fail again"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}

// TestTimeOfDataFailures: a failure has the time of the container that failed, and not that of the Pod's creation.
func TestTimeOfDataFailures(t *testing.T) {
	for name, tc := range map[string]func(*world){
		"inputs":  stageFails(agentapi.ExitPermanent, result(agentapi.Permanent, "no such bucket")),
		"outputs": withOutputsContainer(0, outputsEnd(agentapi.ExitPermanent, result(agentapi.Permanent, "access denied"))),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a")).step().wait(time.Minute)
			tc(w)
			w.step()
			if f := w.job.Status.Failures; len(f) != 1 || !f[0].Time.Time.Equal(w.now) {
				t.Errorf("failures %+v, want one at %s", f, w.now)
			}
		})
	}
}
