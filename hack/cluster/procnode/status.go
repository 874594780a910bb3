// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newStatus returns the fields of a Pod's status that are the node's: as they
// were stored, or those of a new Pod.
func newStatus(pod *corev1.Pod, ip string) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase: cmp.Or(pod.Status.Phase, corev1.PodPending), StartTime: new(metav1.Now()),
		HostIP: ip, HostIPs: []corev1.HostIP{{IP: ip}}, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
	}
	if old := pod.Status.DeepCopy(); len(old.ContainerStatuses) > 0 {
		s.StartTime = old.StartTime
		s.InitContainerStatuses, s.ContainerStatuses = old.InitContainerStatuses, old.ContainerStatuses
		return s
	}
	reason := "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 {
		reason = "PodInitializing"
	}
	statuses := func(containers []corev1.Container) (list []corev1.ContainerStatus) {
		for _, c := range containers {
			list = append(list, corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: waiting(reason, "")})
		}
		return list
	}
	s.InitContainerStatuses, s.ContainerStatuses = statuses(pod.Spec.InitContainers), statuses(pod.Spec.Containers)
	return s
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// summarize computes what follows from the containers' states: Ready, which is
// what controllers go by, and the phase. A container is terminated only if it
// won't be started again; one that will be waits.
func summarize(s *corev1.PodStatus) {
	failed, ended, started, ready := false, true, true, true
	for i := range s.InitContainerStatuses {
		c := &s.InitContainerStatuses[i]
		c.Ready = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
		failed = failed || c.State.Terminated != nil && !c.Ready
	}
	initFailed := failed
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		c.Ready = c.State.Running != nil
		ready = ready && c.Ready
		started = started && (c.State.Waiting == nil || c.RestartCount > 0)
		ended = ended && c.State.Terminated != nil
		failed = failed || c.State.Terminated != nil && c.State.Terminated.ExitCode != 0
	}
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
	switch {
	case initFailed || ended && failed:
		s.Phase, condition.Reason = corev1.PodFailed, "PodFailed"
	case ended:
		s.Phase, condition.Reason = corev1.PodSucceeded, "PodCompleted"
	case ready:
		s.Phase, condition.Status = corev1.PodRunning, corev1.ConditionTrue
	case started:
		s.Phase, condition.Reason = corev1.PodRunning, "ContainersNotReady"
	default:
		s.Phase, condition.Reason = corev1.PodPending, "ContainersNotReady"
	}
	if len(s.Conditions) > 0 && s.Conditions[0].Status == condition.Status {
		condition.LastTransitionTime = s.Conditions[0].LastTransitionTime
	}
	s.Conditions = []corev1.PodCondition{condition}
}

// settle ends the containers that don't run but have no end.
func settle(list []corev1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated != nil {
			continue
		}
		end := &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: "ContainerStatusUnknown", FinishedAt: metav1.Now(),
			Message: "The container was not running when its Pod was ended, or ended with its process node",
		}
		if running := list[i].State.Running; running != nil {
			end.StartedAt = running.StartedAt
		}
		list[i].State = corev1.ContainerState{Terminated: end}
	}
}

func isTerminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}
