// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
)

// A service mesh, a log agent or a policy may add containers to every Pod. The outcome of an
// attempt is that of the container that runs the command, whatever the others do.

// sidecarGrace is how long the added containers of a Pod may run after the command has ended,
// to send what they still have. Those that are made for jobs end by themselves within it.
const sidecarGrace = 15 * time.Second

// stopSidecars stops a Pod whose command has ended and in which other containers still run.
// Its outcome is taken when all of it has ended, so that no attempt starts beside it.
func (p *progress) stopSidecars(pod *corev1.Pod, now time.Time) {
	if len(runningSidecars(pod)) == 0 {
		return // the kubelet is about to say that the Pod has ended
	}
	left := min(stateOf(pod).Terminated.FinishedAt.Add(sidecarGrace).Sub(now), sidecarGrace) // a node's clock may be ahead
	if p.stopIn(left); p.stop {
		p.awaitSidecars(pod)
	}
}

// awaitStop says what a Pod that is being stopped waits for if its command has ended.
func (p *progress) awaitStop(pod *corev1.Pod) {
	end := stateOf(pod).Terminated
	switch {
	case end == nil:
	case outputsState(pod).Running != nil:
		p.waitFor(v1alpha1.ReasonOutputsStopped, fmt.Sprintf(
			"the command ended with exit code %d, and the Pod is being stopped while its outputs are being stored: what is not stored within the Pod's grace period is lost", end.ExitCode))
	default:
		p.awaitSidecars(pod)
	}
}

// awaitSidecars says that a Pod is being stopped whose command has ended, and which added containers still run.
func (p *progress) awaitSidecars(pod *corev1.Pod) {
	end, others := stateOf(pod).Terminated, runningSidecars(pod)
	others = slices.DeleteFunc(others, func(name string) bool { return name == podspec.OutputsContainer })
	if len(others) == 0 {
		return
	}
	p.waitFor(v1alpha1.ReasonSidecarsStopped, fmt.Sprintf(
		"the command ended with exit code %d, and %s had not ended %d s later: the Pod is being stopped, and the exit code of the command decides the attempt",
		end.ExitCode, named(others), int(sidecarGrace/time.Second)))
}

// isInterruptible reports whether the command has failed for good and its Pod is kept for debugging, though its
// own container is held or added containers still run in it: they are not stopped.
func (a *attempt) isInterruptible() bool {
	//mutation:finalizer-removed-while-storing
	end := terminated(a.pod)
	if end == nil || end.ExitCode == 0 || a.pod.DeletionTimestamp != nil || a.task.FailedAction == v1alpha1.FailedActionTerminate ||
		a.terminates(a.task, a.instance.Index) || a.mode.draining {
		return false
	}
	if !isHeld(a.pod) && (len(runningSidecars(a.pod)) == 0 || a.now.Before(end.FinishedAt.Add(sidecarGrace))) {
		return false
	}
	next, _ := a.verdict(a.task, a.instance.Index, a.history, &outcome{kind: byCommand, ran: true})
	return next == interrupted
}

// runningSidecars returns the names of the containers beside the command's that have not ended. The kubelet
// itself stops init containers that run on, and ephemeral containers, when those have ended.
func runningSidecars(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name != podspec.ContainerName && s.State.Terminated == nil {
			names = append(names, s.Name)
		}
	}
	return names
}

// stoppedSidecars returns the names of the containers that ran on when the command had ended, until
// the Pod was stopped.
func stoppedSidecars(pod *corev1.Pod) []string {
	if pod.DeletionTimestamp == nil {
		return nil
	}
	asked, names := askedToStop(pod), runningSidecars(pod)
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if t := s.State.Terminated; s.Name != podspec.ContainerName && t != nil && !t.FinishedAt.Time.Before(asked) {
			names = append(names, s.Name)
		}
	}
	return names
}

// withSidecars is a sentence about how the command ended, and which containers were stopped then.
func withSidecars(pod *corev1.Pod, sentence string) string {
	if names := stoppedSidecars(pod); len(names) > 0 {
		return sentence + "; stopped after it: " + named(names)
	}
	return sentence
}

// commandSucceeded reports whether the command ended with 0, in whatever way the Pod as a whole
// ended.
func commandSucceeded(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	end := terminated(pod)
	// A kubelet that evicts says since when, by which endedAfterEviction goes. One that does not is not
	// believed: a command that heeds the signal may end with 0.
	return end != nil && end.ExitCode == 0 && !isStartError(end) && (pod.Status.Reason == "" || disruption(pod) != nil)
}

// failedInit says which init container failed, so that the command was never started; it is empty
// for a Pod in which none did. Only a cluster's policy or webhook adds any. One that is to run beside the command
// fails no Pod: the kubelet starts it again, or it ended with its node.
func failedInit(pod *corev1.Pod) string {
	for i := range pod.Status.InitContainerStatuses {
		s := &pod.Status.InitContainerStatuses[i]
		end := s.State.Terminated
		if end == nil || end.ExitCode == 0 || isNativeSidecar(pod, s.Name) {
			continue
		}
		out := fmt.Sprintf("init container %q ended with exit code %d", s.Name, end.ExitCode)
		if end.Reason != "" && end.Reason != "Error" {
			out += ", " + end.Reason
		}
		return out + because("", end.Message)
	}
	return ""
}

// runningInit returns the init container that the start of the command waits for; nil if it waits
// for none that runs. One that is to run beside the command holds up nothing once it has started,
// and the kubelet says of the Pod then that it is initialized.
func runningInit(pod *corev1.Pod) *corev1.ContainerStatus {
	if !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodInitialized && c.Status == corev1.ConditionFalse
	}) {
		return nil
	}
	var last *corev1.ContainerStatus // they run in order
	for i := range pod.Status.InitContainerStatuses {
		if s := &pod.Status.InitContainerStatuses[i]; s.State.Running != nil {
			last = s
		}
	}
	return last
}

// isNativeSidecar reports whether an init container runs beside the command.
func isNativeSidecar(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// waitingContainer says why a container is not created, if the user should know.
func waitingContainer(s *corev1.ContainerStatus, isInit bool) (reason, detail string) {
	w := s.State.Waiting
	if w == nil {
		return "", ""
	}
	whose := ""
	switch {
	case isInit:
		whose = fmt.Sprintf("init container %q: ", s.Name)
	case s.Name != podspec.ContainerName:
		whose = fmt.Sprintf("container %q: ", s.Name)
	}
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
		advice := ""
		if whose == "" {
			advice = loginAdvice(w.Message)
		}
		return v1alpha1.ReasonImagePull, fmt.Sprintf("%sthe image %q cannot be pulled%s: %s", whose, s.Image, advice, w.Message)
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return v1alpha1.ReasonContainerConfig, whose + "the container cannot be created" + configAdvice(w.Message) + ": " + w.Message
	case "CrashLoopBackOff":
		if isInit {
			return v1alpha1.ReasonInitContainerFailed, whose + "it keeps failing: " + w.Message
		}
	}
	return "", ""
}

// loginWords are, in lower case, what registries and runtimes say where a login is missing or wrong.
var loginWords = [...]string{"authorization", "authorize", "unauthorized", "authentication", "access denied", "403 forbidden", "credentials"}

// loginAdvice says what to look at where a registry did not let the kubelet in; "" elsewhere. The
// kubelet says nothing of a Secret that does not exist: it tries without.
func loginAdvice(message string) string {
	message = strings.ToLower(message)
	if !slices.ContainsFunc(loginWords[:], func(word string) bool { return strings.Contains(message, word) }) {
		return ""
	}
	return "; if it exists, check the Secret of passwordSecretRef or imagePullSecrets"
}

// named lists containers in a sentence.
func named(containers []string) string {
	quoted := make([]string, len(containers))
	for i, name := range containers {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	if len(quoted) == 1 {
		return "container " + quoted[0]
	}
	return "containers " + strings.Join(quoted, ", ")
}
