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
)

// progress is what an attempt does whose Pod has not ended.
type progress struct {
	phase phase
	// stop says that the Pod is to be stopped.
	stop bool
	// lookAgain is when the answer may be another though nothing happened; 0 means never.
	lookAgain time.Duration
	// reason and detail say what the attempt waits for, "" if the user need not know.
	reason, detail string
}

// phase is how far a Pod is.
type phase int

const (
	phaseNone     phase = iota // no node has it
	phaseStarting              // a node prepares it
	phaseRunning               // its command runs, or has ended and the kubelet is clearing up
)

// stopIn asks for the Pod to be stopped when there is no time left.
func (p *progress) stopIn(left time.Duration) {
	if left <= 0 {
		p.stop = true
		return
	}
	p.lookAgain = sooner(p.lookAgain, left)
}

func (p *progress) waitFor(reason, detail string) { p.reason, p.detail = reason, detail }

// progress looks at a Pod that has not finished: what it is doing, what it waits for, and
// whether its time is up, or the acquisition timeout.
func (a *attempt) progress() progress {
	var p progress
	pod, started := a.pod, startedAt(a.pod)
	switch {
	case started != nil, terminated(pod) != nil:
		p.phase = phaseRunning
	case pod.Spec.NodeName != "":
		p.phase = phaseStarting
	}
	if pod.DeletionTimestamp != nil {
		if left := pod.DeletionTimestamp.Add(confirmWait).Sub(a.now); left > 0 {
			p.lookAgain = left
			if p.phase == phaseRunning {
				p.awaitStop(pod)
			} else if reason, detail := a.storedWait(); reason != "" { // so that the outcome can name it
				p.waitFor(reason, detail)
			}
		} else {
			p.waitFor(v1alpha1.ReasonNodeLost, "the Pod was told to stop, but "+nodeOf(pod)+
				" has not confirmed that it did, so it may still run; no other Pod replaces it until the node reports, is deleted, or has the taint "+corev1.TaintNodeOutOfService)
		}
		return p
	}
	//mutation:suspension-stops-nothing
	if a.terminates(a.task, a.instance.Index) || a.mode.draining {
		p.stop = true
		return p
	}
	if stateOf(pod).Terminated != nil {
		switch {
		//mutation:lost-sandbox-awaited
		case lostSandbox(pod), isHeld(pod) && a.task.FailedAction != v1alpha1.FailedActionTerminate: // and another attempt follows
			p.stop = true
		case !p.awaitOutputs(a):
			p.stopSidecars(pod, a.now)
		}
		return p
	}
	if started != nil {
		// The kubelet cuts the time of the start to whole seconds: up to one is not over.
		//mutation:stopped-too-early
		p.stopIn(started.Add(a.task.Timeout + time.Second).Sub(a.now))
		return p
	}
	if p.stop = lostSandbox(pod) || a.isOutdated(); !p.stop {
		a.startup(&p)
	}
	return p
}

// startup says what a Pod waits for whose command has not started, and stops one whose acquisition
// timeout is over.
func (a *attempt) startup(p *progress) {
	pod, b := a.pod, &a.task.budget
	p.reason, p.detail = a.waitsFor()
	if p.reason != "" && b.timesOut(a.history) {
		//mutation:no-acquisition-timeout
		p.stopIn(a.waitingSince().Add(b.timeout(a.history)).Sub(a.now))
	}
	if p.reason == "" && isUnscheduled(pod) {
		p.lookAgain = sooner(p.lookAgain, pod.CreationTimestamp.Add(slowStart).Sub(a.now))
	}
	if gates := pod.Spec.SchedulingGates; p.reason == "" && len(gates) > 0 { // is waited for without end
		p.waitFor(v1alpha1.ReasonSchedulingGated, gatedDetail(gates))
	}
	if since := preparedSince(pod); p.reason == "" && !since.IsZero() && failedInit(pod) == "" {
		if left := since.Add(slowStart).Sub(a.now); left > 0 {
			p.lookAgain = sooner(p.lookAgain, left)
		} else {
			p.waitFor(a.slowStartReason())
		}
	}
}

// waitsFor says what a Pod that does not run waits for: the reason and the
// detail. Both are empty while the Pod makes progress.
func (a *attempt) waitsFor() (reason, detail string) {
	pod := a.pod
	if message, ok := unschedulable(pod); ok {
		return a.explainUnschedulable(message)
	}
	if isUnscheduled(pod) && !a.now.Before(pod.CreationTimestamp.Add(slowStart)) {
		if names := devices(envOf(a.task.Task, a.obs.Envs)); names != "" {
			return v1alpha1.ReasonNoScheduler, fmt.Sprintf("no scheduler has looked at the Pod for more than %d s: it waits until its claims exist: %s; or no running scheduler has the name %q",
				int(slowStart/time.Second), names, schedulerOf(pod))
		}
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

// waitedFor says what a Pod waited for that is being deleted. A kubelet that stops a Pod overwrites the reason, which
// the stored status has then.
func (a *attempt) waitedFor() (reason, detail string) {
	if reason, detail = a.waitsFor(); reason != "" {
		return reason, detail
	}
	return a.storedWait()
}

// startReasons are the reasons of waitsFor.
var startReasons = []string{
	v1alpha1.ReasonUnschedulable, v1alpha1.ReasonZoneNotFound, v1alpha1.ReasonNoScheduler,
	v1alpha1.ReasonImagePull, v1alpha1.ReasonContainerConfig, v1alpha1.ReasonInitContainerFailed,
}

// storedWait returns what the stored status says that the start of the Pod waits for. If the list of instances is full,
// the Pod may be missing in it, and the first instance of the same task that waits for its start stands for it.
func (a *attempt) storedWait() (reason, detail string) {
	list := a.obs.Job.Status.Waiting
	for i := range list {
		w := &list[i]
		switch {
		case !slices.Contains(startReasons, w.Reason):
		case w.PodName == a.pod.Name:
			return w.Reason, w.Message
		case len(list) == v1alpha1.MaxWaiting && w.TaskName == a.task.Name && reason == "":
			reason, detail = w.Reason, w.Message
		}
	}
	return reason, detail
}

// unschedulable returns what the scheduler says of a Pod that it finds no node for.
func unschedulable(pod *corev1.Pod) (message string, ok bool) {
	for _, c := range pod.Status.Conditions {
		// The reason is Unschedulable, or SchedulerError where the scheduler itself is in trouble.
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != corev1.PodReasonSchedulingGated {
			return c.Message, true
		}
	}
	return "", false
}

// maxZones is how many zones a sentence lists.
const maxZones = 5

// explainUnschedulable says why no node fits, in better words than the scheduler's where it
// is for the zone.
func (a *attempt) explainUnschedulable(message string) (reason, detail string) {
	var zones []string
	if e := envOf(a.task.Task, a.obs.Envs); e != nil {
		zones = e.Zones
	}
	n := a.obs.Nodes
	if n == nil || len(zones) == 0 || slices.ContainsFunc(zones, func(z string) bool { return slices.Contains(n.Zones, z) }) {
		if advice := schedulerAdvice(message); advice != "" {
			message = advice + ": " + message
		}
		return v1alpha1.ReasonUnschedulable, fmt.Sprintf("no node fits%s: %s", inZones(zones), message)
	}
	known := n.Zones
	there := "no node has the label " + corev1.LabelTopologyZone
	if len(known) > 0 {
		there = "there are nodes" + inZones(known[:min(len(known), maxZones)])
		if more := len(known) - maxZones; more > 0 {
			there += fmt.Sprintf(" and %d more", more)
		}
	}
	return v1alpha1.ReasonZoneNotFound, fmt.Sprintf("no node is%s; %s", inZones(zones), there)
}

// isOutdated reports whether the Pod waits for nodes by their names, and the addresses that
// these were found by are of others by now.
func (a *attempt) isOutdated() bool {
	pod := a.pod
	if a.obs.Nodes == nil || pod.Spec.NodeName != "" {
		return false
	}
	_, rejected := unschedulable(pod)
	e := envOf(a.task.Task, a.obs.Envs)
	if e == nil || !waitsForHosts(pod, rejected) {
		return false
	}
	return strings.Join(a.obs.Nodes.named(e.HostIPs), ",") != pod.Annotations[v1alpha1.AnnotationHosts]
}

// gatedDetail says which gates keep a Pod from the scheduler.
func gatedDetail(gates []corev1.PodSchedulingGate) string {
	var names []string
	for _, g := range gates {
		names = append(names, g.Name)
	}
	return "the Pod is not scheduled until its scheduling gates are removed: " + strings.Join(names, ", ")
}

// lostSandbox reports whether the sandbox of the Pod is gone, as after a restart of its node, while some of its containers
// have not been started. The kubelet makes no second sandbox for a Pod that is not to be restarted, so these would be
// waited for forever. Not so the Pod whose init container has failed: its kubelet stops the sandbox first, and then
// reports that the Pod has failed.
func lostSandbox(pod *corev1.Pod) bool {
	if failedInit(pod) != "" || !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionFalse
	}) {
		return false
	}
	created, waits := false, false
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			switch s := &list[i].State; {
			case s.Running != nil:
				return false
			case s.Terminated != nil:
				created = true
			case s.Waiting != nil:
				waits = true
				created = created || s.Waiting.Reason == "" // it was created, and not started
			}
		}
	}
	return created && waits
}

// slowStart is how long a scheduler may take to look at a Pod, and a node to prepare it, before
// the status says so. A node that hangs in a pull or a mount reports nothing itself.
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
func (a *attempt) slowStartReason() (reason, detail string) {
	pod := a.pod
	if s := runningInit(pod); s != nil {
		if reason, detail, ok := staging(pod, s); ok {
			return reason, detail
		}
		until := "it has ended"
		if isNativeSidecar(pod, s.Name) {
			until = "its startup probe has succeeded"
		}
		return v1alpha1.ReasonInitContainerRunning, fmt.Sprintf(
			"init container %q, which the cluster added to the Pod, has been running since %s: the command starts when %s",
			s.Name, s.State.Running.StartedAt.UTC().Format(time.RFC3339), until)
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
	detail = fmt.Sprintf("node %s has been preparing the container for more than %d s: pulling %s, or mounting volumes",
		pod.Spec.NodeName, int(slowStart/time.Second), image)
	env := envOf(a.task.Task, a.obs.Envs)
	if names := needs(a.task.Spec, env, pod); names != "" {
		detail += "; kubectl describe pod says what fails of: " + names
	}
	if mountsFileSystem(a.task.Spec, env) {
		detail += "; without such an event the file server does not answer"
	}
	return v1alpha1.ReasonContainerCreating, detail
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

// waitingSince is when the acquisition timeout of a Pod started that has no machine: when it was made.
// One that its scheduler has not looked at may only be far back in its queue, so for as long as that
// scheduler is at work the timeout does not start.
func (a *attempt) waitingSince() time.Time {
	pod := a.pod
	since := pod.CreationTimestamp.Time
	if !isUnscheduled(pod) {
		return since
	}
	if at := a.obs.Scheduled[schedulerOf(pod)]; at.After(since) {
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
