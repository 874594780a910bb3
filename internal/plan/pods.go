// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// maxMessage bounds every message in a status, in bytes.
const maxMessage = 300

// outcome is how an attempt ended.
type outcome struct {
	succeeded       bool
	reason, message string
	exitCode        *int32
	time            metav1.Time
}

// outcomeOf returns how the attempt that pod runs ended, or nil while it has not.
//
// An exit with 0 that came only after somebody had asked for the Pod's deletion is no
// success: a program that handles the signal ends so with its work undone. All times are
// in whole seconds. Within one and the same the command is believed, unless a signal
// ended it or the deletion was for its timeout.
func outcomeOf(pod *corev1.Pod, timeout time.Duration) *outcome {
	if !hasFinished(pod) {
		return nil
	}
	end := &outcome{time: finishedAt(pod)}
	ended := terminated(pod)
	if ended != nil && neverRan(ended) {
		ended = nil // the kubelet's filler for a container that it lost or never made
	}
	if ended != nil {
		end.exitCode = new(ended.ExitCode)
	}
	stopped, late := stopOf(pod, ended, timeout)
	switch {
	case stopped && late:
		end.reason, end.message = v1alpha1.ReasonTimeout, fmt.Sprintf("took longer than the timeout of %d s and was stopped", int64(timeout/time.Second))
	case stopped:
		end.reason, end.message = v1alpha1.ReasonPodDeleted, "the Pod was deleted before the command had ended"
	case pod.Status.Phase == corev1.PodSucceeded:
		end.succeeded = true
	case pod.Status.Reason == "Evicted":
		end.reason, end.message = v1alpha1.ReasonEvicted, cut("evicted: "+pod.Status.Message)
	case ended == nil || pod.Status.Reason != "":
		end.reason, end.message = v1alpha1.ReasonPodFailed, cut(sentence("the Pod failed", pod.Status.Reason, pod.Status.Message))
	case ended.Reason == "OOMKilled":
		end.reason, end.message = v1alpha1.ReasonOOMKilled, fmt.Sprintf("exit code %d, OOMKilled: the command used more memory than it may", ended.ExitCode)
	case ended.Reason == "StartError" || ended.Reason == "ContainerCannotRun":
		end.reason, end.message = v1alpha1.ReasonStartError, cut(sentence("the container could not start", "", ended.Message))
	default:
		end.reason, end.message = v1alpha1.ReasonCommandFailed, exitMessage(ended.ExitCode)
	}
	return end
}

// hasFinished reports whether nothing of the Pod runs, or ever will.
func hasFinished(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed:
		return true
	}
	return pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" // no kubelet has it
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

// stateOf returns the state of the container that runs the command; it is empty as long
// as none is known. A Pod may have others, which some cluster's webhook injects.
func stateOf(pod *corev1.Pod) corev1.ContainerState {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == podspec.ContainerName {
			return s.State
		}
	}
	return corev1.ContainerState{}
}

// terminated returns how the command ended, or nil.
func terminated(pod *corev1.Pod) *corev1.ContainerStateTerminated { return stateOf(pod).Terminated }

func neverRan(t *corev1.ContainerStateTerminated) bool {
	return t.Reason == "ContainerStatusUnknown" || (t.StartedAt.IsZero() && t.Reason != "StartError" && t.Reason != "ContainerCannotRun")
}

// startedAt returns since when the command runs, or nil when it does not run now.
func startedAt(pod *corev1.Pod) *metav1.Time {
	if running := stateOf(pod).Running; running != nil {
		return &running.StartedAt
	}
	return nil
}

// finishedAt returns when the attempt ended, as well as the Pod knows.
func finishedAt(pod *corev1.Pod) metav1.Time {
	if t := terminated(pod); t != nil && !t.FinishedAt.IsZero() {
		return t.FinishedAt
	}
	if pod.DeletionTimestamp != nil {
		return *pod.DeletionTimestamp
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime
		}
	}
	return pod.CreationTimestamp
}

// askedToStop returns when the Pod's deletion was asked for.
func askedToStop(pod *corev1.Pod) time.Time {
	var grace int64
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	return pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
}

// clockSkew is how far the clocks of nodes, API server and controller may be apart.
const clockSkew = 5 * time.Second

// stopOf reports whether the Pod's deletion ended the command, and whether that was
// asked for when its timeout was over. ended is nil when the command never ran.
func stopOf(pod *corev1.Pod, ended *corev1.ContainerStateTerminated, timeout time.Duration) (stopped, late bool) {
	if pod.DeletionTimestamp == nil {
		return false, false
	}
	if ended == nil {
		return true, false
	}
	asked, finished := askedToStop(pod), ended.FinishedAt.Time
	ran := finished.Sub(ended.StartedAt.Time)
	late = ended.StartedAt.Unix() > 0 && ran >= timeout && asked.Sub(ended.StartedAt.Time) >= timeout-clockSkew
	signalled := ended.ExitCode > 128
	return finished.IsZero() || finished.After(asked) || finished.Equal(asked) && (late || signalled), late
}

// waitsFor says what a Pod that does not run waits for, if that is worth telling: the
// reason and the detail. Both are empty for a Pod that gets on.
func waitsFor(pod *corev1.Pod, t *resolve.Task) (reason, detail string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return v1alpha1.ReasonUnschedulable, fmt.Sprintf("no node fits%s: %s", inZones(t.Zones), c.Message)
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		w := s.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
			return v1alpha1.ReasonImagePull, fmt.Sprintf("the image %q cannot be pulled: %s", s.Image, w.Message)
		case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
			return v1alpha1.ReasonContainerConfig, "the container cannot be made: " + w.Message
		}
	}
	return "", ""
}

// slowStart is how long a node may prepare a Pod before that is worth telling. A node
// that hangs in a pull or a mount says nothing itself.
const slowStart = 20 * time.Second

// preparedSince returns since when a node prepares a Pod whose command has never
// started; the zero time for any other Pod.
func preparedSince(pod *corev1.Pod) metav1.Time {
	if pod.Spec.NodeName == "" || startedAt(pod) != nil || terminated(pod) != nil {
		return metav1.Time{}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c.LastTransitionTime
		}
	}
	return metav1.Time{}
}

func slowStartDetail(pod *corev1.Pod) string {
	image := "its image"
	for _, s := range pod.Status.ContainerStatuses {
		image = fmt.Sprintf("the image %q", s.Image)
	}
	return fmt.Sprintf("node %s has been preparing the container for more than %d s: pulling %s, or mounting volumes",
		pod.Spec.NodeName, int(slowStart/time.Second), image)
}

func inZones(zones []string) string {
	switch len(zones) {
	case 0:
		return ""
	case 1:
		return " in zone " + zones[0]
	}
	return " in zones " + strings.Join(zones, ", ")
}

// waits sums up, by reason, what the instances of one task wait for.
type waits []wait

// wait is the instances that wait for one reason: how many, the lowest index, and what
// that one says.
type wait struct {
	reason, detail string
	first, count   int
}

func (w *waits) add(reason, detail string, index int) {
	for i := range *w {
		x := &(*w)[i]
		if x.reason != reason {
			continue
		}
		x.count++
		if index < x.first {
			x.first, x.detail = index, detail
		}
		return
	}
	*w = append(*w, wait{reason, detail, index, 1})
}

// worst returns what is told of the task: the reason of the lowest index.
func (w waits) worst() *wait {
	if len(w) == 0 {
		return nil
	}
	first := slices.MinFunc(w, func(a, b wait) int { return a.first - b.first })
	return &first
}

// message is the sentence that sums up: "3 instances wait: no node fits …".
func (w *wait) message() string {
	noun := "instances wait"
	if w.count == 1 {
		noun = "instance waits"
	}
	return cut(fmt.Sprintf("%d %s: %s", w.count, noun, w.detail))
}

func sentence(head, reason, message string) string {
	for _, s := range []string{reason, message} {
		if s != "" {
			head += ": " + s
		}
	}
	return head
}

// cut bounds a message that came from outside, at the border of a character.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= maxMessage {
		return s
	}
	s = s[:maxMessage-len("…")]
	return strings.ToValidUTF8(s, "") + "…"
}
