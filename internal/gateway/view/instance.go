// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// Instance is a task instance. Source: BatchCompute, TaskInstanceView.
type Instance struct {
	TaskInstanceIndex     int64
	TaskInstanceState     string
	ExitCode              *int64
	StateReason           *string
	StateDetailedReason   *string
	ComputeNodeInstanceID *string `json:"ComputeNodeInstanceId"`
	CreateTime            string
	LaunchTime            *string
	RunningTime           *string
	EndTime               *string
	RedirectInfo          *Redirect
}

// Pods are the Pods of a task: of each instance the one of its last attempt.
type Pods map[int]*corev1.Pod

// NewPods chooses from the Pods of one task that of the last attempt of each instance. A Pod whose labels are no
// numbers is left out.
func NewPods(all []corev1.Pod) Pods {
	out := make(Pods, len(all))
	for i := range all {
		pod := &all[i]
		index, ok := number(pod, v1alpha1.LabelTaskInstanceIndex)
		if !ok {
			continue
		}
		if known := out[index]; known == nil || isLater(pod, known) {
			out[index] = pod
		}
	}
	return out
}

// isLater reports whether pod is of a later attempt than other.
func isLater(pod, other *corev1.Pod) bool {
	if run, known := runOf(pod), runOf(other); run != known {
		return run > known
	}
	attempt, _ := number(pod, v1alpha1.LabelAttempt)
	known, _ := number(other, v1alpha1.LabelAttempt)
	return attempt > known
}

func runOf(pod *corev1.Pod) int {
	run, _ := number(pod, v1alpha1.LabelRun) // absent in run 0
	return run
}

func number(pod *corev1.Pod, label string) (int, bool) {
	n, err := strconv.Atoi(pod.Labels[label])
	return n, err == nil && n >= 0
}

// Instances returns the instances with these indexes, in the order of the indexes. pods are those of these
// instances that still exist. Cost: O(indexes * ranges).
func (t *Task) Instances(indexes []int, pods Pods) ([]Instance, error) {
	s, err := t.sets()
	if err != nil {
		return nil, err
	}
	failures, waiting := t.failures(), t.waiting()
	out := make([]Instance, len(indexes))
	for i, index := range indexes {
		v := &out[i]
		v.TaskInstanceIndex, v.CreateTime = int64(index), stamp(t.job.CreationTimestamp)
		v.RedirectInfo = t.Redirect(index)
		var pod *corev1.Pod
		v.TaskInstanceState, pod = t.state(s, index, pods)
		if pod != nil {
			v.showPod(pod)
		}
		if f := failures[index]; f != nil && isBad(v.TaskInstanceState) {
			v.showFailure(f)
		}
		if w := waiting[index]; w != nil && slices.Contains(activeStates, v.TaskInstanceState) {
			v.StateReason, v.StateDetailedReason = textOrNull(w.Reason), textOrNull(w.Message)
		}
	}
	return out, nil
}

// isBad reports whether a state is that of an instance that failed.
func isBad(state string) bool {
	return state == string(v1alpha1.TaskInstanceFailed) || state == string(v1alpha1.TaskInstanceFailedInterrupted)
}

// state returns the state of an instance, and the Pod that shows its details, nil for none.
func (t *Task) state(s *sets, index int, pods Pods) (string, *corev1.Pod) {
	pod := pods[index]
	switch {
	case s.succeeded.Contains(index):
		return string(v1alpha1.TaskInstanceSucceed), pod
	case s.failed.Contains(index):
		if pod != nil && int64(runOf(pod)) != t.job.Status.Run {
			pod = nil // it failed again without one
		}
		return string(v1alpha1.TaskInstanceFailed), pod
	case s.interrupted.Contains(index):
		return string(v1alpha1.TaskInstanceFailedInterrupted), pod
	case s.retrying.Contains(index):
		return string(v1alpha1.TaskInstanceRunnable), nil
	case s.unissued.Contains(index):
		return t.unissuedState(), nil
	}
	return t.activeState(s, index, pods), t.activePod(s, index, pods)
}

// activePod returns the Pod of the attempt that an active instance is in, nil if it does not exist.
func (t *Task) activePod(s *sets, index int, pods Pods) *corev1.Pod {
	pod := pods[index]
	if pod == nil || int64(runOf(pod)) != t.job.Status.Run {
		return nil
	}
	want, _ := s.attemptOf(index)
	if attempt, ok := number(pod, v1alpha1.LabelAttempt); ok && attempt < want {
		return nil
	}
	return pod
}

// activeState returns the state of an active instance.
func (t *Task) activeState(s *sets, index int, pods Pods) string {
	pod := t.activePod(s, index, pods)
	switch {
	case pod == nil:
		return string(v1alpha1.TaskInstanceRunnable)
	case command(pod).Running != nil || command(pod).Terminated != nil:
		return string(v1alpha1.TaskInstanceRunning)
	case pod.Spec.NodeName != "":
		return string(v1alpha1.TaskInstanceStarting)
	}
	return string(v1alpha1.TaskInstanceRunnable)
}

// showPod fills in what a Pod knows of its attempt.
func (v *Instance) showPod(pod *corev1.Pod) {
	v.ComputeNodeInstanceID = textOrNull(pod.Spec.NodeName)
	if pod.Spec.NodeName != "" {
		v.LaunchTime = new(stamp(scheduledAt(pod)))
	}
	state := command(pod)
	if state.Running != nil {
		v.RunningTime = stampOrNull(&state.Running.StartedAt)
	}
	ended := state.Terminated
	if ended == nil || v.TaskInstanceState == string(v1alpha1.TaskInstanceRunning) {
		if ended != nil {
			v.RunningTime = stampOrNull(&ended.StartedAt)
		}
		return
	}
	v.RunningTime, v.EndTime = stampOrNull(&ended.StartedAt), stampOrNull(&ended.FinishedAt)
	if ended.StartedAt.IsZero() {
		return // the kubelet fills in a code for a container that it lost sight of
	}
	v.ExitCode = new(int64(ended.ExitCode))
	switch {
	case v.TaskInstanceState == string(v1alpha1.TaskInstanceSucceed):
		v.StateReason, v.StateDetailedReason = new(reasonSucceed), new(reasonSucceed)
	case pod.Status.Reason != "":
		v.StateReason, v.StateDetailedReason = &pod.Status.Reason, textOrNull(pod.Status.Message)
	default:
		v.StateReason = new(fmt.Sprintf("exit code %d", ended.ExitCode))
	}
}

// reasonSucceed is the reason of an instance that succeeded. Source: BatchCompute, StateDetailedReason.
const reasonSucceed = "successful"

// showFailure fills in what the job's status has of the last failure of the instance. It knows why, and what
// a Pod that is gone had known.
func (v *Instance) showFailure(f *v1alpha1.TaskInstanceFailure) {
	v.StateReason, v.StateDetailedReason = textOrNull(f.Reason), textOrNull(f.Message)
	if v.ExitCode == nil && f.ExitCode != nil {
		v.ExitCode = new(int64(*f.ExitCode))
	}
	if v.EndTime == nil {
		v.EndTime = stampOrNull(&f.Time)
	}
	if v.ComputeNodeInstanceID == nil {
		v.ComputeNodeInstanceID = textOrNull(f.NodeName)
	}
}

// failures are the last known failures of instances of the task.
func (t *Task) failures() map[int]*v1alpha1.TaskInstanceFailure {
	out := map[int]*v1alpha1.TaskInstanceFailure{}
	for i := range t.job.Status.Failures {
		if f := &t.job.Status.Failures[i]; f.TaskName == t.Name { // the newest is the last
			out[int(f.TaskInstanceIndex)] = f
		}
	}
	return out
}

// waiting are the instances of the task that the status says to wait.
func (t *Task) waiting() map[int]*v1alpha1.TaskInstanceWait {
	out := map[int]*v1alpha1.TaskInstanceWait{}
	for i := range t.job.Status.Waiting {
		if w := &t.job.Status.Waiting[i]; w.TaskName == t.Name {
			out[int(w.TaskInstanceIndex)] = w
		}
	}
	return out
}

// command returns the state of the command in a Pod. Once a command has failed whose container is held, the
// agent's container reports how it ended.
func command(pod *corev1.Pod) corev1.ContainerState {
	state := containerState(pod, podspec.ContainerName)
	if state.Running == nil {
		return state
	}
	outputs := containerState(pod, podspec.OutputsContainer).Terminated
	if outputs == nil {
		return state
	}
	if code := agentapi.ParseResult(outputs.Message).Code; code != nil {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(*code), StartedAt: state.Running.StartedAt, FinishedAt: outputs.FinishedAt,
		}}
	}
	return state
}

func containerState(pod *corev1.Pod, name string) corev1.ContainerState {
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.Name == name {
			return s.State
		}
	}
	return corev1.ContainerState{}
}

// scheduledAt returns when a Pod got its node.
func scheduledAt(pod *corev1.Pod) metav1.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime
		}
	}
	return pod.CreationTimestamp
}
