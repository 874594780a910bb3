// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// outcomes are what the Pods show, and the claims that have no Pod: which attempts have ended and what
// becomes of their instances, and what the others do.
type outcomes struct {
	*job
	actions
	// tasks are by the position of the task.
	tasks []taskOutcomes
	// unidentified are Pods of which the labels do not say whose they are.
	unidentified []*corev1.Pod
	// adopt and verify are those of the plan.
	adopt, verify []resolve.Instance
	announcer     *announcer
	// failures are the attempts that were found failed now, in order of time once the moves are applied.
	failures []failure
	retries  []Retries
	waiting  waitingList
	// scheduled is when schedulers, by name, looked at Pods last.
	scheduled map[string]time.Time
	// ended is how many attempts were found ended now, and interruptedEnded says that interrupted instances
	// were terminated.
	ended            int
	interruptedEnded bool
}

// taskOutcomes are the outcomes of one task.
type taskOutcomes struct {
	// moves are the instances whose claims have ended, by what becomes of them.
	moves moves
	// seen are active or interrupted instances with a Pod whose outcome is not counted now.
	seen []int
	// adopting is how many claims are without a Pod.
	adopting int
	// ran says that an attempt was found ended now whose command has run.
	ran               bool
	starting, running int
	waits             waits
	// terminated is how many instances were terminated now and had nothing to stop.
	terminated int
	// lastFinal and lastRetried are the last failures that were found now.
	lastFinal, lastRetried *failure
}

// failure is a failed attempt of the task at pos; final, when no other follows.
type failure struct {
	v1alpha1.TaskInstanceFailure
	pos   int
	final bool
	// spent is what the instance has spent of its budgets, for a retry after this failure as well.
	spent history
	// permanent says that it was not retried since another attempt would fail in the same way.
	permanent bool
}

// moves are where instances go whose attempts have ended.
type moves struct {
	succeeded, failed     []int
	retrying, interrupted map[history][]int
}

func newOutcomes(j *job) outcomes { return outcomes{job: j, tasks: make([]taskOutcomes, len(j.tasks))} }

// addCurrent adds what the Pod of a current claim shows.
func (o *outcomes) addCurrent(a *attempt) {
	t, in, pod := &o.tasks[a.task.pos], a.instance, a.pod
	end := a.outcome()
	if end == nil {
		t.seen = append(t.seen, in.Index)
		if pod.DeletionTimestamp == nil && a.isEdited() {
			in.Machine = a.history.machines
			o.adopt = append(o.adopt, in)
		}
		o.follow(a)
		return
	}
	switch next, after := a.verdict(a.task, in.Index, a.history, end); {
	//mutation:stuck-pod-replaced
	case end.stuck && (next == retried || next == returned || next == replaced):
		t.seen = append(t.seen, in.Index)
		o.follow(a)
	case end.refused && (next == retried || next == replaced) && o.waitsOn(a, end):
		t.seen = append(t.seen, in.Index)
	case next == replaced:
		// Nothing is spent and nothing to be stored: once this Pod is gone, the claim is
		// without one, and gets another of the same name.
		t.seen = append(t.seen, in.Index)
		if end.requeued {
			o.wait(a.task, in.Index, pod.Name, end.reason, end.message)
		}
		o.cleanUp(pod, o.now)
		if pod.DeletionTimestamp == nil && HasFinished(pod) {
			o.delete = append(o.delete, pod)
		}
	default:
		o.count(a.task, in, a.history, end, next, after)
		//mutation:finalizer-of-interrupted-removed
		if next != interrupted {
			o.removeFinalizers = append(o.removeFinalizers, pod)
		}
	}
}

// follow adds what an attempt does whose Pod has not ended.
func (o *outcomes) follow(a *attempt) {
	t, p := &o.tasks[a.task.pos], a.progress()
	o.noteScheduler(a.pod)
	switch p.phase {
	case phaseRunning:
		t.running++
	case phaseStarting:
		t.starting++
	}
	o.announcer.follow(a.task, a.instance, a.pod, p.phase)
	if p.lookAgain != 0 {
		o.lookAgain(p.lookAgain)
	}
	if p.stop {
		o.delete = append(o.delete, a.pod)
	}
	if p.reason != "" {
		o.wait(a.task, a.instance.Index, a.pod.Name, p.reason, p.detail)
	}
}

// noteScheduler notes when the Pod's scheduler looked at it.
func (o *outcomes) noteScheduler(pod *corev1.Pod) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodScheduled || c.Reason == corev1.PodReasonSchedulingGated {
			continue
		}
		if name := schedulerOf(pod); c.LastTransitionTime.After(o.scheduled[name]) {
			if o.scheduled == nil {
				o.scheduled = map[string]time.Time{}
			}
			o.scheduled[name] = c.LastTransitionTime.Time
		}
	}
}

// waitsOn reports whether the instance of a machine that was refused still waits for one, until the
// acquisition timeout. The Pod that was refused stays until then: its time of creation is what the wait
// is counted from, whoever counts.
func (o *outcomes) waitsOn(a *attempt, end *outcome) bool {
	left := a.pod.CreationTimestamp.Add(a.task.budget.timeout(a.history)).Sub(o.now)
	if left <= 0 {
		return false
	}
	o.lookAgain(left)
	o.wait(a.task, a.instance.Index, a.pod.Name, end.reason, end.message)
	return true
}

// addInterrupted adds what the Pod of an interrupted instance shows: the instance has failed once
// somebody deletes its Pod, or terminates it, and nothing runs in it anymore.
func (o *outcomes) addInterrupted(a *attempt) {
	t, index, pod := &o.tasks[a.task.pos], a.instance.Index, a.pod
	_, late := stopOf(pod, a.task.Timeout)
	terminated := o.terminates(a.task, index)
	if terminated {
		t.terminated++
	}
	over := terminated || pod.DeletionTimestamp != nil && !late
	if over && !HasFinished(pod) && !isStuck(pod, o.now) {
		t.seen = append(t.seen, index)
		o.awaitEnd(pod, o.now)
		if pod.DeletionTimestamp == nil {
			o.delete = append(o.delete, pod)
		}
		return
	}
	if over {
		t.moves.failed = append(t.moves.failed, index)
		o.removeFinalizers = append(o.removeFinalizers, pod)
		o.interruptedEnded = true
		return
	}
	t.seen = append(t.seen, index)
	if pod.DeletionTimestamp == nil && a.isEdited() {
		o.verify = append(o.verify, a.instance)
	}
}

// count notes how an attempt ended: where its instance goes, and why it failed.
func (o *outcomes) count(t *task, in resolve.Instance, h history, end *outcome, next verdict, after history) {
	o.ended++
	o.tasks[t.pos].ran = o.tasks[t.pos].ran || end.ran || end.kind == success
	o.announcer.ended(t, in, end, next)
	m := &o.tasks[t.pos].moves
	switch next {
	case succeeded:
		m.succeeded = append(m.succeeded, in.Index)
		return
	case returned:
		m.retry(h, in.Index)
		return
	case retried:
		m.retry(after, in.Index)
		o.spend(h, after, end.reason)
	case interrupted:
		h.run = in.Run
		m.interrupt(h, in.Index)
	case failed:
		m.failed = append(m.failed, in.Index)
	}
	o.failures = append(o.failures, failure{v1alpha1.TaskInstanceFailure{
		TaskName: t.Name, TaskInstanceIndex: int64(in.Index), Attempt: int64(in.Attempt),
		Time: end.time, ExitCode: end.exitCode, Reason: end.reason, Message: end.message,
		PodName: end.podName, NodeName: end.nodeName,
	}, in.Task, next != retried, after, end.permanent && next == failed})
}

// spend counts a retry for the metrics.
func (o *outcomes) spend(before, after history, reason string) {
	r := Retries{Budget: "machine", Reason: reason}
	if after.retries > before.retries {
		r.Budget = "command"
	}
	at, found := slices.BinarySearchFunc(o.retries, r, func(a, b Retries) int {
		return cmp.Or(cmp.Compare(a.Budget, b.Budget), cmp.Compare(a.Reason, b.Reason))
	})
	if !found {
		o.retries = slices.Insert(o.retries, at, r)
	}
	o.retries[at].Count++
}

// applyMoves moves the instances whose attempts have ended to the lists where they belong, and orders the
// failures.
func (o *outcomes) applyMoves(at []lists) {
	for i := range at {
		at[i].apply(&o.tasks[i].moves)
	}
	slices.SortFunc(o.failures, func(a, b failure) int {
		return cmp.Or(a.Time.Compare(b.Time.Time), cmp.Compare(a.pos, b.pos),
			cmp.Compare(a.TaskInstanceIndex, b.TaskInstanceIndex), cmp.Compare(a.Attempt, b.Attempt))
	})
	for i := range o.failures {
		f := &o.failures[i]
		if t := &o.tasks[f.pos]; f.final {
			t.lastFinal = f
		} else {
			t.lastRetried = f
		}
	}
	inOrder := func(a, b resolve.Instance) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Index, b.Index))
	}
	slices.SortFunc(o.adopt, inOrder)
	slices.SortFunc(o.verify, inOrder)
}

func (l *lists) apply(m *moves) {
	if m.len() == 0 {
		return
	}
	ended := ranges.Of(m.all()...)
	l.succeeded = l.succeeded.Union(ranges.Of(m.succeeded...))
	l.failed = l.failed.Union(ranges.Of(m.failed...))
	l.active, l.interrupted = l.active.minus(ended), l.interrupted.minus(ended)
	for h, indexes := range m.retrying {
		if h != (history{}) { // else it is as if it had never been issued
			l.retrying = l.retrying.plus(h, ranges.Of(indexes...))
		}
	}
	for h, indexes := range m.interrupted {
		l.interrupted = l.interrupted.plus(h, ranges.Of(indexes...))
	}
}

// cleanUpUnidentified removes the finalizers of Pods that could not be identified, except those that have
// the name of a claim: somebody edited their labels, and adoption repairs them. One that nobody claims and
// that the operator has made must not run on. Without a proof it may be a user's, and is left alone.
func (o *outcomes) cleanUpUnidentified(create []resolve.Instance) {
	if len(o.unidentified) == 0 {
		return
	}
	claimed := map[string]bool{}
	for _, in := range slices.Concat(create, o.adopt, o.verify) {
		claimed[o.obs.Spec.PodName(in)] = true
	}
	for _, pod := range o.unidentified {
		switch {
		//mutation:finalizer-of-edited-pod-removed
		case claimed[pod.Name]:
		case o.asksForProof():
			o.cleanUp(pod, o.now)
		case !HoldsNode(pod, o.now):
			o.removeFinalizers = append(o.removeFinalizers, pod)
		}
	}
}

// retriesNow is how many attempts were found failed now and are to be retried.
func (t *taskOutcomes) retriesNow() int {
	n := 0
	for _, indexes := range t.moves.retrying {
		n += len(indexes)
	}
	return n
}

func (m *moves) retry(h history, index int) {
	if m.retrying == nil {
		m.retrying = map[history][]int{}
	}
	m.retrying[h] = append(m.retrying[h], index)
}

func (m *moves) interrupt(h history, index int) {
	if m.interrupted == nil {
		m.interrupted = map[history][]int{}
	}
	m.interrupted[h] = append(m.interrupted[h], index)
}

func (m *moves) len() int {
	n := len(m.succeeded) + len(m.failed)
	for _, list := range m.retrying {
		n += len(list)
	}
	for _, list := range m.interrupted {
		n += len(list)
	}
	return n
}

func (m *moves) all() []int {
	out := slices.Concat(m.succeeded, m.failed)
	for _, list := range m.retrying {
		out = append(out, list...)
	}
	for _, list := range m.interrupted {
		out = append(out, list...)
	}
	return out
}
