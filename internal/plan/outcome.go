// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// outcome is how an attempt ended.
type outcome struct {
	kind outcomeKind
	// ran says that the command has run, for however short a time.
	ran bool
	// started says that it is known to have run.
	started bool
	// refused says that the node rejected the Pod.
	refused bool
	// outdated says that the Pod waited for a node by names that mean others now.
	outdated bool
	// requeued says that a queueing controller, such as Kueue, took the Pod away to give its
	// resources to others: that spends nothing, and the instance waits in the queue again.
	requeued bool
	// permanent says that another attempt would fail in the same way, so that none is made.
	permanent bool
	// unstored says that the command succeeded, and that its Pod was stopped before its outputs were stored.
	unstored bool
	// stuck says that the Pod was asked to stop, and that its node has not confirmed its
	// end in time: what it ran may still run.
	stuck bool

	reason, message   string
	exitCode          *int32
	time              metav1.Time
	podName, nodeName string
}

// outcomeKind says to whom an outcome is due, and with that which budget it spends.
type outcomeKind int

const (
	success outcomeKind = iota
	byCommand
	byMachine
)

// Bounds of what is believed of nodes.
const (
	// clockSkew is how far the clocks of nodes, API server and controller may be apart.
	clockSkew = 5 * time.Second
	// confirmWait is how long after its grace period the end of a Pod may be unconfirmed
	// before its node counts as lost.
	confirmWait = 60 * time.Second
)

// outcome returns how the attempt ended, or nil while it has not.
//
// An exit with 0 that came only after somebody had asked for the Pod's deletion is no
// success: a program that handles the signal ends so with its work undone. All times are
// in whole seconds. Within one and the same the command is believed, unless a signal
// ended it or the deletion was for its timeout. Likewise what a kubelet evicts, see endedAfterEviction.
func (a *attempt) outcome() *outcome {
	pod := a.pod
	//mutation:retry-while-old-pod-runs
	finished := HasFinished(pod) || a.isInterruptible()
	if !finished && !isStuck(pod, a.now) {
		return nil
	}
	ended := terminated(pod)
	end := &outcome{
		stuck: !finished, ran: ended != nil || startedAt(pod) != nil || endIsUnknown(pod),
		time: finishedAt(pod, a.now), podName: pod.Name, nodeName: pod.Spec.NodeName,
	}
	end.started = end.ran
	if ended != nil {
		end.exitCode = new(ended.ExitCode)
	}
	stopped, late := stopOf(pod, a.task.Timeout)
	switch {
	case stopped && !end.ran && stageFailedBefore(pod, askedToStop(pod)):
		end.stageFailed(stageEnd(pod))
	case stopped && late:
		end.by(byCommand, v1alpha1.ReasonTimeout, "took longer than the timeout of %d s and was stopped", int64(a.task.Timeout/time.Second))
	case stopped:
		a.blameMachine(end)
	case exceededStorage(pod) && isStaging(pod):
		end.permanent = true // the inputs are as large the next time
		end.by(byMachine, v1alpha1.ReasonStageInFailed, "the data of the task are more than its disks hold; %s%s", largerDisks, because("", pod.Status.Message))
	case exceededStorage(pod):
		end.ran = true
		end.by(byCommand, v1alpha1.ReasonStorageExceeded, "stopped: it wrote more than its disks hold; %s%s", largerDisks, because("", pod.Status.Message))
	//mutation:evicted-is-success
	case commandSucceeded(pod) && !endedAfterEviction(pod) && storedOutputs(pod):
		end.kind = success
	case commandSucceeded(pod) && !endedAfterEviction(pod):
		a.outputsFailed(end)
	case disruption(pod) != nil && !endedBeforeDisruption(pod):
		end.ran = true // or was about to: the node had taken it
		a.blameMachine(end)
	case pod.Status.Reason == "Evicted" && end.ran && !endedBeforeDisruption(pod):
		end.by(byMachine, v1alpha1.ReasonEvicted, "evicted%s", because("", pod.Status.Message))
	case !end.ran && stageEnd(pod) != nil:
		end.stageFailed(stageEnd(pod))
	case !end.ran && failedInit(pod) != "":
		end.refused = true
		end.by(byMachine, v1alpha1.ReasonInitContainerFailed, "%s", failedInit(pod))
	case !end.ran:
		end.refused = true
		end.by(byMachine, v1alpha1.ReasonMachineRefused, "%s rejected the Pod%s", nodeOf(pod), because(pod.Status.Reason, pod.Status.Message))
	case ended == nil || pod.Status.Reason != "" && !endedBeforeDisruption(pod):
		end.by(byMachine, v1alpha1.ReasonPodFailed, "the Pod failed%s", because(pod.Status.Reason, pod.Status.Message))
	case ended.Reason == "OOMKilled":
		end.by(byCommand, v1alpha1.ReasonOOMKilled, "exit code %d, OOMKilled: the command exceeded its memory limit; use a larger instanceType, or raise computeEnv.kubernetes.resources.limits", ended.ExitCode)
	case isStartError(ended) && timedOut(ended.Message):
		end.ran = false
		end.by(byMachine, v1alpha1.ReasonStartError, "%s could not start the container in time%s", nodeOf(pod), because("", ended.Message))
	case isStartError(ended):
		end.by(byCommand, v1alpha1.ReasonStartError, "the container could not start%s", because("", ended.Message))
	case execFailed(pod, ended):
		message, permanent := agentFailure(podspec.ContainerName, ended)
		end.permanent = permanent
		end.by(byMachine, v1alpha1.ReasonStartError, "the command could not be run: %s", message)
	default:
		end.by(byCommand, v1alpha1.ReasonCommandFailed, "%s", withOutputs(pod, withSidecars(pod, endMessage(pod, ended))))
	}
	return end
}

func (o *outcome) by(kind outcomeKind, reason, format string, args ...any) {
	o.kind, o.reason, o.message = kind, reason, cut(fmt.Sprintf(format, args...))
}

// blameMachine says who stopped a Pod, or disturbed it, for another reason than its
// timeout.
func (a *attempt) blameMachine(end *outcome) {
	pod, timeout := a.pod, a.task.budget.timeout(a.history)
	if d := disruption(pod); d != nil {
		if d.Type == TerminationTarget {
			end.requeued = true
			end.by(byMachine, v1alpha1.ReasonPreempted, "preempted by the queue that had admitted it%s; it is queued again, and no retry is used", because(d.Reason, d.Message))
			return
		}
		switch d.Reason {
		case corev1.PodReasonPreemptionByScheduler:
			end.by(byMachine, v1alpha1.ReasonPreempted, "preempted%s", because("", d.Message))
		case "DeletionByTaintManager", "DeletionByPodGC":
			end.by(byMachine, v1alpha1.ReasonNodeLost, "%s was lost%s", nodeOf(pod), because("", d.Message))
		case "EvictionByEvictionAPI", corev1.PodReasonTerminationByKubelet:
			end.by(byMachine, v1alpha1.ReasonEvicted, "evicted%s", because("", cmp.Or(pod.Status.Message, d.Message)))
		default:
			end.by(byMachine, v1alpha1.ReasonEvicted, "evicted%s", because(d.Reason, cmp.Or(pod.Status.Message, d.Message)))
		}
		return
	}
	switch {
	case end.stuck:
		end.by(byMachine, v1alpha1.ReasonNodeLost, "%s has not confirmed that the Pod stopped when it was told to", nodeOf(pod))
	case !end.ran && !askedToStop(pod).Before(pod.CreationTimestamp.Add(timeout)):
		reason, detail := a.waitedFor()
		if reason == "" {
			reason, detail = v1alpha1.ReasonMachineRefused, nodeOf(pod)+" never started the container"
		}
		end.by(byMachine, reason, "no machine was acquired within %d s: %s", int64(timeout/time.Second), detail)
	case !end.ran && pod.Spec.NodeName == "" && pod.Annotations[v1alpha1.AnnotationHosts] != "":
		// Whether the addresses are of other nodes at this moment is no matter.
		end.outdated = true
		end.by(byMachine, v1alpha1.ReasonHostNotFound, "the nodes that the Pod waited for no longer have the addresses of placement.hostIps; another Pod is created")
	case endIsUnknown(pod) && stateOf(pod).Terminated.Reason == "Unknown": // and then the operator stopped what was left
		end.by(byMachine, v1alpha1.ReasonPodFailed, "%s restarted while the command ran", nodeOf(pod))
	default:
		end.by(byMachine, v1alpha1.ReasonPodDeleted, "the Pod was deleted before the command had ended")
	}
}

// HasFinished reports whether nothing of the Pod runs, or ever will.
func HasFinished(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		return true
	}
	//mutation:unscheduled-deleted-pod-awaited
	return pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" // no kubelet has it
}

// isStuck reports whether the Pod should have ended by now.
func isStuck(pod *corev1.Pod, now time.Time) bool {
	return pod.DeletionTimestamp != nil && !now.Before(pod.DeletionTimestamp.Add(confirmWait))
}

// endMessage explains how a command ended that failed. The agent says why it could not start one. Without it the
// runtime prints that to the log of the container.
func endMessage(pod *corev1.Pod, ended *corev1.ContainerStateTerminated) string {
	agent, code := runsInAgent(pod), ended.ExitCode
	if text := agentapi.ParseResult(ended.Message).Message; agent && (code == 126 || code == 127) && text != "" {
		return fmt.Sprintf("exit code %d: %s", code, text)
	}
	if !agent && code == 255 {
		return "exit code 255; if kubectl logs says \"exec format error\", the image is for another architecture than its node"
	}
	return exitMessage(code)
}

// exitMessage explains an exit code as a shell gives it.
func exitMessage(code int32) string {
	switch {
	case code == 126:
		return "exit code 126: the command cannot be executed"
	case code == 127:
		return "exit code 127: the command was not found"
	case code > 128 && code < 160:
		return fmt.Sprintf("exit code %d: ended by signal %d", code, code-128)
	}
	return fmt.Sprintf("exit code %d", code)
}

// stateOf returns the state of the command: that of its container, except while that is held and afterwards, see
// heldEnd. It is empty as long as none is known. A Pod may have other containers, which some cluster's webhook
// injects.
func stateOf(pod *corev1.Pod) corev1.ContainerState {
	state := containerState(pod, podspec.ContainerName)
	if end := heldEnd(pod, &state); end != nil {
		return corev1.ContainerState{Terminated: end}
	}
	return state
}

// containerState returns the state of a container; it is empty as long as none is known.
func containerState(pod *corev1.Pod, name string) corev1.ContainerState {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == name {
			return s.State
		}
	}
	return corev1.ContainerState{}
}

// terminated returns how the command ended, or nil. It is nil as well where nobody knows
// that: for the kubelet's filler for a container that it lost sight of or never made, and
// for a container that ran when its node died.
func terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	t := stateOf(pod).Terminated
	if t == nil || isUnknown(t) || t.StartedAt.IsZero() && !isStartError(t) {
		return nil
	}
	return t
}

// isStartError reports whether the container could not be started.
func isStartError(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "StartError" || t.Reason == "ContainerCannotRun"
}

// timedOut reports whether a container could not be started because its runtime was too
// slow or died, and not for what it was to run. Only the text tells the two apart.
func timedOut(message string) bool {
	return slices.ContainsFunc([]string{"context deadline exceeded", "context canceled", "ttrpc: closed"}, func(s string) bool { return strings.Contains(message, s) })
}

// isUnknown reports whether it is not known how the container ended. "Unknown", with the
// exit code 255, is what containerd finds of a container that ran when the node died.
func isUnknown(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "ContainerStatusUnknown" || t.Reason == "Unknown"
}

// endIsUnknown reports whether a node had the container and does not know how it ended. A
// kubelet says the same of one that it never made when the Pod was deleted.
func endIsUnknown(pod *corev1.Pod) bool {
	t := stateOf(pod).Terminated
	return t != nil && isUnknown(t) && (pod.DeletionTimestamp == nil || !t.StartedAt.IsZero())
}

// startedAt returns since when the command runs, or nil when it does not run now.
func startedAt(pod *corev1.Pod) *metav1.Time {
	if running := stateOf(pod).Running; running != nil {
		return &running.StartedAt
	}
	return nil
}

// finishedAt returns when the attempt ended, as well as the Pod knows: when its command ended, or when the outputs of one
// that succeeded turned out not to be stored; else when it was deleted, or when its last container ended, such as the one
// that could not copy the inputs; else when it was disturbed, or became ready last. The time of a deletion is that at which
// the grace period is over, which may be after now.
func finishedAt(pod *corev1.Pod, now time.Time) metav1.Time {
	if t := terminated(pod); t != nil && !t.FinishedAt.IsZero() {
		if outputs := outputsState(pod).Terminated; t.ExitCode == 0 && outputs != nil && outputs.FinishedAt.After(t.FinishedAt.Time) {
			return outputs.FinishedAt
		}
		return t.FinishedAt
	}
	if pod.DeletionTimestamp != nil {
		return earlier(*pod.DeletionTimestamp, now)
	}
	var last metav1.Time
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if t := list[i].State.Terminated; t != nil && !isUnknown(t) && t.FinishedAt.After(last.Time) {
				last = t.FinishedAt
			}
		}
	}
	if !last.IsZero() {
		return last
	}
	if d := disruption(pod); d != nil && !d.LastTransitionTime.IsZero() {
		return d.LastTransitionTime
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime
		}
	}
	return pod.CreationTimestamp
}

// earlier returns t, or now in whole seconds if t is after it.
func earlier(t metav1.Time, now time.Time) metav1.Time {
	if t.After(now) {
		return seconds(now)
	}
	return t
}

// askedToStop returns when the Pod's deletion was asked for.
func askedToStop(pod *corev1.Pod) time.Time {
	var grace int64
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	return pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
}

// stopOf reports whether the Pod's deletion ended the command, or ends it, and whether
// that was asked for when its timeout was over.
func stopOf(pod *corev1.Pod, timeout time.Duration) (stopped, late bool) {
	if pod.DeletionTimestamp == nil {
		return false, false
	}
	// When a Pod that was stopped is taken away, by its kubelet or by the garbage collector of
	// Pods, the API server forgets when that was asked for: from then on the time is that of
	// the taking away.
	cleared := pod.Spec.NodeName != "" && (pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds == 0)
	asked, ended := askedToStop(pod), terminated(pod)
	if ended == nil {
		started := startedAt(pod)
		// How long it ran is not known. Of a short timeout the better half must be over.
		return true, started != nil && !cleared && asked.Sub(started.Time) >= timeout-min(clockSkew, timeout/2)
	}
	finished := ended.FinishedAt.Time
	ran := finished.Sub(ended.StartedAt.Time)
	late = ended.StartedAt.Unix() > 0 && ran >= timeout && asked.Sub(ended.StartedAt.Time) >= timeout-clockSkew
	signalled := ended.ExitCode > 128
	//mutation:exit-0-after-deletion-is-success
	return finished.IsZero() || finished.After(asked) || finished.Equal(asked) && (late || signalled) ||
		signalled && cleared && asked.Sub(finished) <= confirmWait, late
}

// TerminationTarget is the condition that Kueue sets on a Pod before it deletes it, when it evicts
// the Pod's Workload: for one of higher priority, a queue that is drained, or a node that failed.
const TerminationTarget corev1.PodConditionType = "TerminationTarget"

// disruption returns the condition that says who disturbed the Pod, or nil. A queueing controller decides, even if
// its deletion then counts as an eviction.
func disruption(pod *corev1.Pod) *corev1.PodCondition {
	var found *corev1.PodCondition
	for i := range pod.Status.Conditions {
		switch c := &pod.Status.Conditions[i]; {
		case c.Status != corev1.ConditionTrue:
		case c.Type == TerminationTarget:
			return c
		case c.Type == corev1.DisruptionTarget:
			found = c
		}
	}
	return found
}

// endedAfterEviction reports whether the command ended only after its kubelet had started to evict the Pod.
// An eviction for want of memory or disk, and the shutdown of a node, delete no Pod, so
// that a command which heeds the signal and ends with 0 looks like one that is done. In the
// same second the command is not believed: kubelets leave alone what has ended.
func endedAfterEviction(pod *corev1.Pod) bool {
	d, ended := disruption(pod), terminated(pod)
	return d != nil && d.Reason == corev1.PodReasonTerminationByKubelet && pod.DeletionTimestamp == nil &&
		ended != nil && !ended.FinishedAt.Before(&d.LastTransitionTime)
}

// endedBeforeDisruption reports whether the command had ended when somebody disturbed the Pod, in which added
// containers still ran: then its exit code counts.
func endedBeforeDisruption(pod *corev1.Pod) bool {
	d, ended := disruption(pod), terminated(pod)
	return d != nil && ended != nil && ended.FinishedAt.Before(&d.LastTransitionTime)
}

// largerDisks is what to do about a Pod that wrote more than a limit of its own allows.
const largerDisks = "raise their diskSize, or in computeEnv.kubernetes the limit of ephemeral-storage or the sizeLimit of the volume"

// exceededStorage reports whether the kubelet evicted the Pod because it wrote more than its
// own limits allow, and not because the node was short of disk. Only the text tells the two
// apart.
func exceededStorage(pod *corev1.Pod) bool {
	return pod.Status.Reason == "Evicted" && slices.ContainsFunc([]string{"exceeds the total limit of containers", "exceeds the limit", "exceeded its local ephemeral storage limit"},
		func(s string) bool { return strings.Contains(pod.Status.Message, s) })
}

func nodeOf(pod *corev1.Pod) string { return "node " + pod.Spec.NodeName }

// because is what is appended to a sentence to say why: a colon, and what is known.
func because(reason, message string) string {
	out := ""
	for _, s := range []string{reason, strings.TrimRight(message, ". ")} { // more may follow
		if s != "" {
			out += ": " + s
		}
	}
	return out
}
