// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// attempt is a Pod, and which attempt of which instance it runs.
type attempt struct {
	*job
	pod      *corev1.Pod
	task     *task
	instance resolve.Instance
	// history is that of the instance before this attempt.
	history history
}

// class is how a Pod's attempt relates to what the status says of its instance.
type class int

const (
	unidentified      class = iota // the labels do not say whose it is
	current                        // the attempt that is claimed now
	lastOfInterrupted              // the last attempt of an instance that is interrupted
	past                           // counted already, or stopped for a suspension
	ahead                          // the job as it was observed may be older than the Pod
)

// classify finds out what a.pod runs and returns its class; for current and lastOfInterrupted the rest of
// a is set as well. A Pod whose claim the stored status has lost, as after a restore of the database, is
// the better witness: its attempt counts as claimed in at.
func (a *attempt) classify(at []lists) class {
	if !a.identify() {
		//mutation:unlabelled-pod-judged-by-cache
		if a.obs.Live {
			return unidentified
		}
		return ahead
	}
	a.task = &a.tasks[a.instance.Task]
	l := &at[a.instance.Task]
	where := a.find(l)
	if where != ahead || !a.obs.Live {
		return where
	}
	one := ranges.Of(a.instance.Index)
	l.adopted = true
	l.retrying = l.retrying.minus(one)
	l.active = l.active.minus(one).plus(a.history, one)
	return current
}

// identify reads the labels of the Pod. It is false for a Pod that the operator
// would not have made: labels can be edited, but the name says what they must be.
func (a *attempt) identify() bool {
	spec, labels := a.obs.Spec, a.pod.Labels
	in := resolve.Instance{Task: spec.TaskByLabel(labels[v1alpha1.LabelTaskName])}
	var ok [3]bool
	in.Index, ok[0] = number(labels[v1alpha1.LabelTaskInstanceIndex])
	in.Attempt, ok[1] = number(labels[v1alpha1.LabelAttempt])
	in.Run, ok[2] = number(labels[v1alpha1.LabelRun])
	if in.Task < 0 || ok != [3]bool{true, true, true} || in.Index >= spec.Tasks[in.Task].InstanceNum {
		return false
	}
	a.instance = in
	return spec.PodName(in) == a.pod.Name
}

// number reads a number that is not negative.
func number(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}

// find returns the class of the attempt in l, and sets the history that the instance has then.
func (a *attempt) find(l *lists) class {
	in, run := a.instance, a.mode.run
	if h, ok := l.interrupted.find(in.Index); ok {
		if a.history = h; in.Run == h.run && in.Attempt == h.attempt() {
			return lastOfInterrupted
		}
		return past
	}
	switch {
	case in.Run < run, l.succeeded.Contains(in.Index), l.failed.Contains(in.Index):
		return past
	case in.Run > run && a.obs.Live:
		return past // the status has lost a whole run: the Pod must not be in the way
	case in.Run > run:
		return ahead
	}
	if h, ok := l.active.find(in.Index); ok {
		switch a.history = h; {
		case in.Attempt == h.attempt():
			return current
		//mutation:outcome-counted-twice
		case in.Attempt < h.attempt():
			return past
		}
	} else if h, ok := l.retrying.find(in.Index); ok && in.Attempt < h.attempt() || a.mode.draining && a.obs.Live {
		// While the job drains nothing is claimed. But one that was suspended before it started
		// continues in the same run, and Job may not show that yet.
		return past
	}
	// Which budget paid for the attempts before is lost with the claim.
	machines := min(in.Attempt, a.task.budget.machines)
	a.history = history{retries: in.Attempt - machines, machines: machines}
	return ahead
}

// isEdited reports whether somebody removed the finalizer of a Pod, or what shows whose it is.
func (a *attempt) isEdited() bool {
	pod := a.pod
	return !slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || metav1.GetControllerOfNoCopy(pod) == nil ||
		pod.Labels[v1alpha1.LabelJobID] != a.obs.Spec.ID ||
		a.asksForProof() && pod.Annotations[v1alpha1.AnnotationProof] == ""
}

// asksForProof reports whether all Pods of the job have proved that the operator made them.
func (j *job) asksForProof() bool { return j.obs.PodKey != "" && len(j.obs.Job.Status.PodKeys) > 0 }
