// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// The containers of the agent belong to the attempt: an attempt whose inputs are not there has not run, and
// one whose outputs are not stored has not succeeded.

// hasOutputs reports whether the Pod stores something when its command has ended.
func hasOutputs(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == podspec.OutputsContainer })
}

// outputsState returns the state of the container that stores the outputs; it is empty as long as none is
// known.
func outputsState(pod *corev1.Pod) corev1.ContainerState {
	return containerState(pod, podspec.OutputsContainer)
}

// heldEnd returns how the command ended if its container, whose state is given, runs longer than the command
// did: that of a command that failed may be held, so that somebody can look at it. The container of the outputs
// says how the command ended. nil means that the container ended with the command, or that the command runs.
func heldEnd(pod *corev1.Pod, state *corev1.ContainerState) *corev1.ContainerStateTerminated {
	if state.Waiting != nil || !hasOutputs(pod) {
		return nil
	}
	outputs := outputsState(pod).Terminated
	if outputs == nil || state.Terminated != nil && !state.Terminated.FinishedAt.After(outputs.FinishedAt.Time) {
		return nil
	}
	code := agentapi.ParseResult(outputs.Message).Code
	if code == nil || *code == 0 {
		return nil
	}
	end := &corev1.ContainerStateTerminated{Reason: "Error"}
	switch t := state.Terminated; {
	case t != nil && int(t.ExitCode) == *code:
		end = t.DeepCopy()
	case t != nil:
		end.StartedAt = t.StartedAt
	case state.Running != nil:
		end.StartedAt = state.Running.StartedAt
	}
	end.ExitCode, end.FinishedAt = int32(*code), outputs.FinishedAt
	return end
}

// isHeld reports whether the container of a command that has failed is still there.
func isHeld(pod *corev1.Pod) bool {
	state := containerState(pod, podspec.ContainerName)
	return state.Running != nil && heldEnd(pod, &state) != nil
}

// storedOutputs reports whether all that the Pod should store is stored.
func storedOutputs(pod *corev1.Pod) bool {
	if !hasOutputs(pod) {
		return true
	}
	t := outputsState(pod).Terminated
	//mutation:failed-outputs-are-stored
	return t != nil && t.ExitCode == 0 && !isUnknown(t)
}

// stageEnd returns how the container ended that copies the inputs, if it failed; else nil.
func stageEnd(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for i := range pod.Status.InitContainerStatuses {
		if s := &pod.Status.InitContainerStatuses[i]; s.Name == podspec.StageContainer && s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 {
			return s.State.Terminated
		}
	}
	return nil
}

// stageFailedBefore reports whether the container that copies the inputs had failed before the time.
func stageFailedBefore(pod *corev1.Pod, at time.Time) bool {
	t := stageEnd(pod)
	return t != nil && !isUnknown(t) && t.FinishedAt.Time.Before(at)
}

// agentFailure says why the container of the agent with this name failed, and whether trying again cannot help.
func agentFailure(name string, t *corev1.ContainerStateTerminated) (message string, permanent bool) {
	r := agentapi.ParseResult(t.Message)
	if message = r.Message; message == "" {
		message = fmt.Sprintf("exit code %d", t.ExitCode)
		if t.Reason != "" && t.Reason != "Error" {
			message += ", " + t.Reason
		}
		if t.Reason == "OOMKilled" {
			message += fmt.Sprintf(": container %s exceeded its memory limit; transfer fewer files, such as archives, or raise the limit if a policy lowers it", name)
		}
	}
	return message, r.Class == agentapi.Permanent || t.ExitCode == agentapi.ExitUsage
}

// isStaging reports whether the Pod has inputs that have not all been copied.
func isStaging(pod *corev1.Pod) bool {
	return startedAt(pod) == nil && slices.ContainsFunc(pod.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == podspec.StageContainer && (s.State.Terminated == nil || s.State.Terminated.ExitCode != 0)
	})
}

// runsInAgent reports whether the agent runs the command.
func runsInAgent(pod *corev1.Pod) bool {
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == podspec.ContainerName })
	return i >= 0 && len(pod.Spec.Containers[i].Command) > 0 && pod.Spec.Containers[i].Command[0] == podspec.AgentProgram
}

// execFailed reports whether the container of the command ended since the agent itself failed in it.
func execFailed(pod *corev1.Pod, ended *corev1.ContainerStateTerminated) bool {
	return runsInAgent(pod) && agentapi.ParseResult(ended.Message).Class != ""
}

// stageFailed sets the outcome of an attempt whose inputs could not be copied.
func (o *outcome) stageFailed(t *corev1.ContainerStateTerminated) {
	message, permanent := agentFailure(podspec.StageContainer, t)
	o.permanent = permanent
	//mutation:inputs-spend-command-budget
	o.by(byMachine, v1alpha1.ReasonStageInFailed, "the data of the task could not be copied to its node: %s", message)
}

// outputsFailed sets the outcome of an attempt whose command ended with 0 and whose outputs are not stored.
func (a *attempt) outputsFailed(end *outcome) {
	t := outputsState(a.pod).Terminated
	message := ""
	if t != nil {
		message, _ = agentFailure(podspec.OutputsContainer, t)
	}
	switch {
	case t != nil && agentapi.ParseResult(t.Message).Class == agentapi.Permanent:
		end.permanent = true
		end.by(byMachine, v1alpha1.ReasonOutputFailed, "the command succeeded, but its outputs could not be stored: %s", message)
	case a.pod.DeletionTimestamp != nil, disruption(a.pod) != nil, a.pod.Status.Reason != "":
		end.unstored = true
		end.by(byMachine, cmp.Or(interruption(a.pod), v1alpha1.ReasonPodDeleted), "the command succeeded, but its Pod was stopped before its outputs were stored%s",
			because("", a.pod.Status.Message))
	case t == nil || isUnknown(t):
		end.by(byMachine, v1alpha1.ReasonPodFailed, "the command succeeded, but the Pod failed before its outputs were stored")
	default:
		end.by(byMachine, v1alpha1.ReasonOutputFailed, "the command succeeded, but its outputs could not be stored: %s", message)
	}
}

// interruption is the reason for a Pod that was taken away; empty if nobody said who did it.
func interruption(pod *corev1.Pod) string {
	d := disruption(pod)
	switch {
	case d == nil && pod.Status.Reason == "Evicted":
		return v1alpha1.ReasonEvicted
	case d == nil && pod.Status.Reason != "":
		return v1alpha1.ReasonPodFailed
	case d == nil:
		return ""
	case d.Type == TerminationTarget, d.Reason == corev1.PodReasonPreemptionByScheduler:
		return v1alpha1.ReasonPreempted
	}
	return v1alpha1.ReasonEvicted
}

// withOutputs is a sentence about how the command failed, and why its outputs are not stored.
func withOutputs(pod *corev1.Pod, sentence string) string {
	t := outputsState(pod).Terminated
	if !hasOutputs(pod) || t == nil || t.ExitCode == 0 {
		return sentence
	}
	message, _ := agentFailure(podspec.OutputsContainer, t)
	return sentence + "; its outputs and logs could not be stored: " + message
}

// awaitOutputs says what an attempt does whose command has ended while its outputs are being stored. It is
// false once they are, or if there are none to wait for: of a command that was not started there are none.
func (p *progress) awaitOutputs(a *attempt) bool {
	pod := a.pod
	end, state := stateOf(pod).Terminated, outputsState(pod)
	//mutation:outputs-stopped-as-sidecars
	if !hasOutputs(pod) || state.Terminated != nil || isStartError(end) || execFailed(pod, end) {
		return false
	}
	since := end.FinishedAt.Time
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if s.Name != podspec.OutputsContainer {
			continue
		}
		if reason, detail := waitingContainer(s, false); reason != "" {
			p.waitFor(reason, detail)
			p.stopIn(since.Add(a.task.budget.timeout(a.history)).Sub(a.now))
			return true
		}
	}
	if left := since.Add(slowStart).Sub(a.now); left > 0 {
		p.lookAgain = sooner(p.lookAgain, min(left, slowStart))
		return true
	}
	p.waitFor(v1alpha1.ReasonStoringOutputs, fmt.Sprintf("the command ended with exit code %d at %s, and its outputs are being stored, or the store does not answer; to see which: kubectl logs %s -c %s",
		end.ExitCode, end.FinishedAt.UTC().Format(time.RFC3339), pod.Name, podspec.OutputsContainer))
	return true
}

// staging says that the inputs of a Pod are being copied, if s is the container that does it.
func staging(pod *corev1.Pod, s *corev1.ContainerStatus) (reason, detail string, ok bool) {
	if s.Name != podspec.StageContainer {
		return "", "", false
	}
	return v1alpha1.ReasonStagingData, fmt.Sprintf("the data of the task is being copied to node %s since %s, or its store does not answer; to see which: kubectl logs %s -c %s",
		pod.Spec.NodeName, s.State.Running.StartedAt.UTC().Format(time.RFC3339), pod.Name, podspec.StageContainer), true
}
