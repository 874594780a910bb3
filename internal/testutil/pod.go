// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// What follows changes a Pod as the scheduler, a kubelet or an API server does. A Pod
// that comes from a cache must be copied first.

// Bind gives the Pod a node, which begins to prepare it.
func Bind(pod *corev1.Pod, node string) {
	pod.Spec.NodeName = node
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	setState(pod, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})
}

// Unschedulable says that the scheduler finds no node.
func Unschedulable(pod *corev1.Pod, message string) {
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
	}}
}

// Gate says that the scheduler leaves the Pod alone as long as it has these gates.
func Gate(pod *corev1.Pod, names ...string) {
	pod.Status.Phase = corev1.PodPending
	for _, name := range names {
		pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: name})
	}
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
		Message: "Scheduling is blocked due to non-empty scheduling gates",
	}}
}

// Wait says why the container cannot start yet.
func Wait(pod *corev1.Pod, reason, message string) {
	pod.Status.Phase = corev1.PodPending
	setState(pod, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})
}

// Start says that the command runs since the time at.
func Start(pod *corev1.Pod, at time.Time) {
	pod.Status.Phase = corev1.PodRunning
	setState(pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stored(at)}})
}

// Finish ends the command with an exit code at the time at.
func Finish(pod *corev1.Pod, code int32, at time.Time) {
	reason := "Completed"
	pod.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		reason, pod.Status.Phase = "Error", corev1.PodFailed
	}
	end := corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: stored(at), FinishedAt: stored(at)}
	if s := pod.Status.ContainerStatuses; len(s) > 0 && s[len(s)-1].State.Running != nil {
		end.StartedAt = s[len(s)-1].State.Running.StartedAt
	}
	setState(pod, corev1.ContainerState{Terminated: &end})
}

// Stage says that the data of the task are being copied since the time at.
func Stage(pod *corev1.Pod, at time.Time) {
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: podspec.StageContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stored(at)}},
	}}
}

// EndStage ends the copying with the exit code of an agent and its result.
func EndStage(pod *corev1.Pod, code int32, r agentapi.Result, at time.Time) {
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: podspec.StageContainer, State: agentEnd(code, r, at)}}
	if code != 0 {
		pod.Status.Phase = corev1.PodFailed
	}
}

// StartWithOutputs is Start for a Pod that stores outputs.
func StartWithOutputs(pod *corev1.Pod, at time.Time) {
	Start(pod, at)
	setOutputs(pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: stored(at)}})
}

// EndCommand is Finish for a Pod that stores outputs: it does so from now on.
func EndCommand(pod *corev1.Pod, code int32, at time.Time) {
	outputs := pod.Status.ContainerStatuses[1]
	Finish(pod, code, at)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, outputs)
}

// Strand is what a kubelet reports when its node has restarted after it started the command, and before it started the
// container that stores the outputs, which it then never does.
func Strand(pod *corev1.Pod, at time.Time) {
	EndCommand(pod, 255, at)
	pod.Status.ContainerStatuses[0].State.Terminated.Reason = "Unknown"
	setOutputs(pod, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})
	pod.Status.Phase = corev1.PodPending
	pod.Status.Conditions = append(slices.Clone(pod.Status.Conditions), corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse})
}

// EndOutputs ends the storing of the outputs, and so the Pod, with the exit code of an agent and its result.
func EndOutputs(pod *corev1.Pod, code int32, r agentapi.Result, at time.Time) {
	r.Code = new(int(pod.Status.ContainerStatuses[0].State.Terminated.ExitCode))
	setOutputs(pod, agentEnd(code, r, at))
	pod.Status.Phase = corev1.PodSucceeded
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].State.Terminated.ExitCode != 0 {
			pod.Status.Phase = corev1.PodFailed
		}
	}
}

// setOutputs sets the state of the container that stores the outputs.
func setOutputs(pod *corev1.Pod, state corev1.ContainerState) {
	pod.Status.ContainerStatuses = append(slices.Clone(pod.Status.ContainerStatuses[:1]), corev1.ContainerStatus{Name: podspec.OutputsContainer, State: state})
}

// agentEnd is the end of a container of the agent. One that was killed has no message.
func agentEnd(code int32, r agentapi.Result, at time.Time) corev1.ContainerState {
	end := corev1.ContainerStateTerminated{ExitCode: code, Reason: "Completed", StartedAt: stored(at), FinishedAt: stored(at)}
	if code != 0 {
		end.Reason = "Error"
	}
	if code <= 128 {
		end.Message = string(agentapi.EncodeResult(r, agentapi.MaxMessageBytes))
	}
	return corev1.ContainerState{Terminated: &end}
}

// Fail ends the Pod as a whole, with a reason such as Evicted, without word from its
// container.
func Fail(pod *corev1.Pod, reason, message string) {
	pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, reason, message
	pod.Status.ContainerStatuses = nil
}

// Disrupt says who is about to stop the Pod, as the scheduler, the eviction API, the taint
// manager, the garbage collector of Pods and the kubelet do.
func Disrupt(pod *corev1.Pod, reason, message string) {
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message,
	})
}

// AskToStop is what a deletion does to a Pod that a finalizer holds: a running one gets
// 30 seconds, any other none.
func AskToStop(pod *corev1.Pod, at time.Time) {
	if pod.DeletionTimestamp != nil {
		return
	}
	var grace int64
	if pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		grace = 30
	}
	at = at.Add(time.Duration(grace) * time.Second)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = new(stored(at)), &grace
}

func setState(pod *corev1.Pod, state corev1.ContainerState) {
	image := ""
	if len(pod.Spec.Containers) > 0 {
		image = pod.Spec.Containers[0].Image
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.ContainerName, Image: image, State: state}}
}

// stored is t as the API server keeps it.
func stored(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
