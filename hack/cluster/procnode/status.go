// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// record is what we know of one container, and what state.json holds.
type record struct {
	Image    string                `json:"image,omitempty"` // its directory, once found
	Pid      int                   `json:"pid,omitempty"`   // of the last process started
	Start    string                `json:"start,omitempty"` // see startTime
	Restarts int32                 `json:"restarts"`
	State    corev1.ContainerState `json:"state"`
	Last     corev1.ContainerState `json:"last"`
}

// id returns the container's id, "" when no process was ever started.
func (r *record) id() string {
	if r.Pid == 0 {
		return ""
	}
	return fmt.Sprintf("process://%d-%s", r.Pid, r.Start)
}

func (r *record) failed() bool { return r.State.Terminated != nil && r.State.Terminated.ExitCode != 0 }
func (r *record) done() bool   { return r.State.Terminated != nil && r.State.Terminated.ExitCode == 0 }

// facts are what a Pod's status is computed from.
type facts struct {
	pod         *corev1.Pod
	ip          string
	start       metav1.Time
	inits, main []*record // in spec order
	stopped     bool      // no container runs and none will be started again
	deadline    bool      // stopped for activeDeadlineSeconds
}

// computeStatus returns the fields of a Pod's status that the node owns, worded
// as the kubelet words them. Conditions keep their transition time from prev
// while their status stays the same.
// Source: kubernetes, pkg/kubelet/kubelet_pods.go and status/generate.go.
func computeStatus(f facts, prev corev1.PodStatus, now metav1.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		ObservedGeneration: f.pod.Generation,
		Phase:              computePhase(f),
		HostIP:             f.ip,
		HostIPs:            []corev1.HostIP{{IP: f.ip}},
		PodIP:              f.ip,
		PodIPs:             []corev1.PodIP{{IP: f.ip}},
		StartTime:          &f.start,
	}
	if f.deadline && f.stopped {
		s.Reason = "DeadlineExceeded"
		s.Message = "Pod was active on the node longer than the specified deadline"
	}
	for i, r := range f.inits {
		s.InitContainerStatuses = append(s.InitContainerStatuses,
			containerStatus(&f.pod.Spec.InitContainers[i], r, "PodInitializing", r.done()))
	}
	waiting := "ContainerCreating"
	if slices.ContainsFunc(f.inits, func(r *record) bool { return !r.done() }) {
		waiting = "PodInitializing"
	}
	for i, r := range f.main {
		s.ContainerStatuses = append(s.ContainerStatuses,
			containerStatus(&f.pod.Spec.Containers[i], r, waiting, r.State.Running != nil))
	}
	s.Conditions = computeConditions(f, &s)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.ObservedGeneration, c.LastTransitionTime = f.pod.Generation, now
		for _, old := range prev.Conditions {
			if old.Type == c.Type && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return s
}

func containerStatus(c *corev1.Container, r *record, waiting string, ready bool) corev1.ContainerStatus {
	running := r.State.Running != nil
	s := corev1.ContainerStatus{
		Name:                 c.Name,
		State:                *r.State.DeepCopy(),
		LastTerminationState: *r.Last.DeepCopy(),
		Ready:                ready,
		Started:              &running,
		RestartCount:         r.Restarts,
		Image:                c.Image,
		ContainerID:          r.id(),
	}
	if r.Image != "" {
		s.ImageID = "process://" + r.Image
	}
	if s.State == (corev1.ContainerState{}) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waiting}
	}
	return s
}

// computePhase follows the kubelet's rules: a failed init container that will
// not run again fails the Pod, one that waits for its first start keeps it
// Pending, and a Pod that is stopped early is Failed unless all exited with 0.
func computePhase(f facts) corev1.PodPhase {
	policy := f.pod.Spec.RestartPolicy
	pending, running, restarting, failed := false, false, false, f.deadline && f.stopped
	for _, r := range f.inits {
		switch {
		case r.failed() && !shouldRestart(policy, r):
			failed = true
		case !r.done():
			pending = true
		}
	}
	if failed {
		return corev1.PodFailed
	}
	for _, r := range f.main {
		switch {
		case r.State.Running != nil:
			running = true
		case r.State.Terminated != nil:
			failed = failed || r.failed()
			restarting = restarting || shouldRestart(policy, r)
		case r.Last.Terminated != nil: // in back-off
			failed = failed || r.Last.Terminated.ExitCode != 0
			restarting = true
		default:
			pending = true
		}
	}
	switch {
	case f.stopped && (pending || failed):
		return corev1.PodFailed
	case f.stopped:
		return corev1.PodSucceeded
	case pending:
		return corev1.PodPending
	case running || restarting:
		return corev1.PodRunning
	case failed:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// shouldRestart tells whether a container that has ended is to be started again.
// An init container that succeeded never is; its caller doesn't ask.
func shouldRestart(policy corev1.RestartPolicy, r *record) bool {
	return policy == corev1.RestartPolicyAlways || (policy == corev1.RestartPolicyOnFailure && r.failed())
}

func isTerminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// computeConditions returns the node's conditions. PodScheduled is the scheduler's.
func computeConditions(f facts, s *corev1.PodStatus) []corev1.PodCondition {
	var incomplete, unready []string
	for _, c := range s.InitContainerStatuses {
		if !c.Ready {
			incomplete = append(incomplete, c.Name)
		}
	}
	for _, c := range s.ContainerStatuses {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	started := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
	initialized := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	if isTerminal(s.Phase) {
		started.Status, started.Reason = corev1.ConditionFalse, "PodSandboxNotReady"
	}
	switch {
	case s.Phase == corev1.PodSucceeded:
		initialized.Reason = "PodCompleted"
	case len(incomplete) > 0:
		initialized.Status, initialized.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		initialized.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	switch {
	case s.Phase == corev1.PodSucceeded:
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodCompleted"
	case s.Phase == corev1.PodFailed:
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodFailed"
	case len(unready) > 0:
		ready.Status, ready.Reason = corev1.ConditionFalse, "ContainersNotReady"
		ready.Message = fmt.Sprintf("containers with unready status: %s", unready)
	}
	containersReady := ready
	containersReady.Type = corev1.ContainersReady
	for _, gate := range f.pod.Spec.ReadinessGates {
		if ready.Status == corev1.ConditionTrue && !hasCondition(f.pod, gate.ConditionType) {
			ready.Status, ready.Reason = corev1.ConditionFalse, "ReadinessGatesNotReady"
			ready.Message = fmt.Sprintf("the status of pod readiness gate %q is not \"True\"", gate.ConditionType)
		}
	}
	return []corev1.PodCondition{started, initialized, ready, containersReady}
}

func hasCondition(pod *corev1.Pod, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == t && c.Status == corev1.ConditionTrue
	})
}
