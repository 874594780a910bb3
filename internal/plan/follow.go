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
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// follow looks at a Pod that has not finished: what it is doing, what it waits for, and
// whether its time is up, or the patience with it.
func (c *computation) follow(t *task, in resolve.Instance, h history, pod *corev1.Pod) {
	started := startedAt(pod)
	c.noteScheduler(pod)
	switch {
	case started != nil, terminated(pod) != nil: // ended, and the kubelet is clearing up
		t.running++
	case pod.Spec.NodeName != "":
		t.starting++
	}
	if pod.DeletionTimestamp != nil {
		if left := pod.DeletionTimestamp.Add(confirmWait).Sub(c.now); left > 0 {
			c.lookAgain(left)
			c.waitForSidecars(t, in, pod)
		} else {
			c.wait(t, in.Index, pod.Name, v1alpha1.ReasonNodeLost, "the Pod was asked to stop and "+nodeOf(pod)+
				" does not confirm that it has: it may still run; nothing is started in its place until the node answers, is deleted, or is tainted "+corev1.TaintNodeOutOfService)
		}
		return
	}
	//mutation:suspension-stops-nothing
	if c.isDoomed(t, in.Index) || c.draining {
		c.plan.Delete = append(c.plan.Delete, pod)
		return
	}
	if stateOf(pod).Terminated != nil {
		c.stopSidecars(t, in, pod)
		return
	}
	if started != nil {
		// The kubelet cuts the time of the start to whole seconds: up to one is not over.
		//mutation:stopped-too-early
		c.stopIn(started.Add(t.Timeout+time.Second).Sub(c.now), pod)
		return
	}
	if neverStarts(pod) {
		c.plan.Delete = append(c.plan.Delete, pod)
		return
	}
	if c.isOutdated(t, pod) {
		c.plan.Delete = append(c.plan.Delete, pod)
		return
	}
	reason, detail := c.waitsFor(pod, t)
	if reason != "" && c.movesOn(t, h) {
		//mutation:no-acquisition-timeout
		c.stopIn(c.waitingSince(pod).Add(c.patience(t, h)).Sub(c.now), pod)
	}
	if reason == "" && isUnscheduled(pod) {
		c.lookAgain(pod.CreationTimestamp.Add(slowStart).Sub(c.now))
	}
	if gates := pod.Spec.SchedulingGates; reason == "" && len(gates) > 0 { // is waited for without end
		reason, detail = v1alpha1.ReasonSchedulingGated, gatedDetail(gates)
	}
	if since := preparedSince(pod); reason == "" && !since.IsZero() {
		if left := since.Add(slowStart).Sub(c.now); left > 0 {
			c.lookAgain(left)
		} else {
			reason, detail = slowStartReason(pod)
		}
	}
	if reason != "" {
		c.wait(t, in.Index, pod.Name, reason, detail)
	}
}

// stopIn asks for the deletion of a Pod when there is no time left.
func (c *computation) stopIn(left time.Duration, pod *corev1.Pod) {
	if left <= 0 {
		c.plan.Delete = append(c.plan.Delete, pod)
		return
	}
	c.lookAgain(left)
}

// waitsFor says what a Pod that does not run waits for, if that is worth telling: the
// reason and the detail. Both are empty for a Pod that gets on.
func (c *computation) waitsFor(pod *corev1.Pod, t *task) (reason, detail string) {
	if message, ok := unschedulable(pod); ok {
		return c.explainUnschedulable(t, message)
	}
	if isUnscheduled(pod) && !c.now.Before(pod.CreationTimestamp.Add(slowStart)) {
		return v1alpha1.ReasonNoScheduler, fmt.Sprintf("no scheduler has looked at the Pod for more than %d s: its schedulerName is %q, which no running scheduler may have: start that scheduler, or create the job again with another computeEnv.kubernetes.schedulerName",
			int(slowStart/time.Second), schedulerOf(pod))
	}
	for i := range pod.Status.InitContainerStatuses {
		if reason, detail = waitingContainer(&pod.Status.InitContainerStatuses[i], true); reason != "" {
			return reason, detail
		}
	}
	for i := range pod.Status.ContainerStatuses {
		if reason, detail = waitingContainer(&pod.Status.ContainerStatuses[i], false); reason != "" {
			return reason, detail
		}
	}
	return "", ""
}

// gatedDetail says what holds a Pod back from the scheduler.
func gatedDetail(gates []corev1.PodSchedulingGate) string {
	var names []string
	for _, g := range gates {
		names = append(names, g.Name)
	}
	return "the Pod is held back by its scheduling gates: " + strings.Join(names, ", ")
}

// neverStarts reports whether the node died after it had made the container and before it
// started it. The kubelet makes no second sandbox for a Pod that is not to be restarted, so
// the Pod would be pending for ever; the container is not being made, and has no reason to
// wait.
func neverStarts(pod *corev1.Pod) bool {
	w := stateOf(pod).Waiting
	return w != nil && w.Reason == "" && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionFalse
	})
}

// slowStart is how long a scheduler may take to look at a Pod, and a node to prepare it, before
// that is worth telling. A node that hangs in a pull or a mount says nothing itself.
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
	return pod.CreationTimestamp // who bound it did not say when
}

// slowStartReason says what a node does that prepares a Pod for long.
func slowStartReason(pod *corev1.Pod) (reason, detail string) {
	if s := runningInit(pod); s != nil {
		return v1alpha1.ReasonInitContainerRunning, fmt.Sprintf(
			"init container %q, which the cluster added to the Pod, has been running since %s: the command starts when it has ended",
			s.Name, s.State.Running.StartedAt.UTC().Format(time.RFC3339))
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		return v1alpha1.ReasonContainerCreating, fmt.Sprintf("node %s has not reported on the Pod for more than %d s: its kubelet may not run", pod.Spec.NodeName, int(slowStart/time.Second))
	}
	image := "its image"
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == podspec.ContainerName {
			image = fmt.Sprintf("the image %q", s.Image)
		}
	}
	return v1alpha1.ReasonContainerCreating, fmt.Sprintf("node %s has been preparing the container for more than %d s: pulling %s, or mounting volumes",
		pod.Spec.NodeName, int(slowStart/time.Second), image)
}

// isUnscheduled reports whether the Pod waits for a scheduler that has not said anything of it.
// One that had scheduling gates has the condition from the beginning.
func isUnscheduled(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) == 0 && len(pod.Status.ContainerStatuses) == 0 &&
		!slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
}

func schedulerOf(pod *corev1.Pod) string {
	return cmp.Or(pod.Spec.SchedulerName, corev1.DefaultSchedulerName)
}

// noteScheduler notes when the Pod's scheduler looked at it.
func (c *computation) noteScheduler(pod *corev1.Pod) {
	for i := range pod.Status.Conditions {
		x := &pod.Status.Conditions[i]
		if x.Type != corev1.PodScheduled || x.Reason == corev1.PodReasonSchedulingGated {
			continue
		}
		if name := schedulerOf(pod); x.LastTransitionTime.After(c.plan.Scheduled[name]) {
			if c.plan.Scheduled == nil {
				c.plan.Scheduled = map[string]time.Time{}
			}
			c.plan.Scheduled[name] = x.LastTransitionTime.Time
		}
	}
}

// waitingSince is when the patience with a Pod began that has no machine: when it was made. One that
// its scheduler has not looked at may only be far back in its queue, so for as long as that scheduler
// is at work the patience does not begin.
func (c *computation) waitingSince(pod *corev1.Pod) time.Time {
	since := pod.CreationTimestamp.Time
	if !isUnscheduled(pod) {
		return since
	}
	if at := c.obs.Scheduled[schedulerOf(pod)]; at.After(since) {
		return at
	}
	return since
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

// waiter is an instance that waits, of the task at pos.
type waiter struct {
	pos int
	v1alpha1.TaskInstanceWait
}

// wait says what an instance waits for.
func (c *computation) wait(t *task, index int, podName, reason, detail string) {
	t.waits.add(reason, detail, index)
	w := waiter{t.pos, v1alpha1.TaskInstanceWait{TaskName: t.Name, TaskInstanceIndex: int64(index), Reason: reason, PodName: podName}}
	at, _ := slices.BinarySearchFunc(c.waiting, w, func(a, b waiter) int {
		return cmp.Or(cmp.Compare(a.pos, b.pos), cmp.Compare(a.TaskInstanceIndex, b.TaskInstanceIndex))
	})
	if at == v1alpha1.MaxWaiting {
		return
	}
	w.Message = cut(detail)
	c.waiting = slices.Insert(c.waiting, at, w)
	c.waiting = c.waiting[:min(len(c.waiting), v1alpha1.MaxWaiting)]
}

// waits sums up, by reason, what the instances of one task wait for.
type waits []waitSum

// waitSum is the instances that wait for one reason: how many, the lowest index, and what
// that one says.
type waitSum struct {
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
	*w = append(*w, waitSum{reason, detail, index, 1})
}

// worst returns what is told of the task: the reason of the lowest index.
func (w waits) worst() *waitSum {
	if len(w) == 0 {
		return nil
	}
	first := slices.MinFunc(w, func(a, b waitSum) int { return a.first - b.first })
	return &first
}

// message is the sentence that sums up: "3 instances wait: no node fits …".
func (w *waitSum) message() string {
	noun := "instances wait"
	if w.count == 1 {
		noun = "instance waits"
	}
	return cut(fmt.Sprintf("%d %s: %s", w.count, noun, w.detail))
}
