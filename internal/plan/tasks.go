// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// readiness says whether a task may start.
type readiness int

const (
	waiting readiness = iota
	ready
	impossible // the tasks before it have ended so that it never can
)

// admit decides, once that is known of all tasks before t, whether t may start, and fails
// the instances without a Pod that can no longer run or are terminated.
func (c *computation) admit(t *task) {
	t.ready = c.readiness(t)
	switch {
	case c.terminating:
		t.end(t.unclaimed())
		t.ready = ready
	case t.ready == impossible:
		t.failed = t.failed.Union(t.unclaimed()) // it has no claims, else it would be ready
		c.plan.Urgent = true
	case t.ready == ready && !t.doomed.Empty():
		t.end(t.unclaimed().Intersect(t.doomed))
	}
	c.plan.Urgent = c.plan.Urgent || t.terminatedNow > 0
}

// end fails instances that have no Pod.
func (t *task) end(set ranges.Set) {
	t.terminatedNow += set.Len()
	t.failed = t.failed.Union(set)
	t.retrying = t.retrying.minus(set)
}

// unclaimed returns the instances that have not ended and have no Pod.
func (t *task) unclaimed() ranges.Set {
	return ranges.Span(0, t.InstanceNum-1).Minus(t.succeeded).Minus(t.failed).Minus(t.active.all()).Minus(t.interrupted.all())
}

// readiness applies taskExecutionDependOn. A task that has claims is ready: what allowed
// it to start cannot change in the same run of the job.
// Source: BatchCompute, Job.TaskExecutionDependOn.
func (c *computation) readiness(t *task) readiness {
	if t.adopted || len(t.active) > 0 || len(t.retrying) > 0 || len(t.interrupted) > 0 || t.hasEnded() {
		return ready
	}
	out := ready
	for _, p := range c.obs.Spec.Graph.Predecessors(t.pos) {
		switch c.allows(&c.tasks[p]) {
		case impossible:
			return impossible
		case waiting:
			//mutation:predecessors-ignored
			out = waiting
		}
	}
	return out
}

// allows says whether p, as a predecessor, lets its successors start.
func (c *computation) allows(p *task) readiness {
	if !p.hasEnded() {
		return waiting
	}
	var ok bool
	switch c.obs.Spec.DependOn {
	case v1alpha1.PreTaskFinished:
		ok = true
	case v1alpha1.PreTaskAtLeastPartlySucceed:
		ok = !p.succeeded.Empty()
	default:
		//mutation:failed-predecessor-lets-start
		ok = p.failed.Empty()
	}
	if ok {
		return ready
	}
	return impossible
}

// hasEnded reports whether every instance has succeeded or failed for good.
func (t *task) hasEnded() bool { return t.succeeded.Len()+t.failed.Len() == t.InstanceNum }

// isHeld reports whether nothing is left to do but to terminate instances that are held:
// there are no others, or they have every place that maxConcurrentNum gives.
func (t *task) isHeld() bool {
	n := t.interrupted.len()
	return n > 0 && len(t.active) == 0 && (t.succeeded.Len()+t.failed.Len()+n == t.InstanceNum || n >= t.MaxConcurrentNum)
}

// claim issues instances of t, those to be retried first, as far as maxConcurrentNum
// and the size of the wave allow.
func (c *computation) claim(t *task) {
	if t.ready != ready || c.draining || t.hasEnded() || t.isHeld() {
		return
	}
	if _, ok := c.obs.Refusals[t.pos]; ok && t.adopting > 0 {
		return // what is claimed already must be created first
	}
	if c.obs.NoMemory != "" {
		t.lacking = v1alpha1.ReasonOperatorMemory
		return
	}
	//mutation:interrupted-take-no-slot
	//mutation:limit-from-pods
	room := min(t.MaxConcurrentNum-t.active.len()-t.interrupted.len(), c.waveRoom())
	room = c.inEnvRoom(t, room)
	untouched := t.succeeded.Empty() && t.failed.Empty() && len(t.active) == 0 && len(t.retrying) == 0 && len(t.interrupted) == 0
	var again []ranges.Set
	for _, g := range t.retrying {
		if room <= 0 {
			break
		}
		again = append(again, g.set.First(room))
		room -= c.issue(t, g.history, again[len(again)-1])
	}
	t.retrying = t.retrying.minus(ranges.UnionAll(again...))
	if room > 0 {
		c.issue(t, history{}, t.unclaimed().Minus(t.retrying.all()).First(room))
	}
	c.plan.Opened = c.plan.Opened || untouched && len(t.active) > 0 && len(c.obs.Spec.Graph.Predecessors(t.pos)) > 0
}

// waveRoom is how many more instances the plan may claim.
func (c *computation) waveRoom() int {
	return min(cmp.Or(c.obs.Wave, WaveSize), WaveSize) - len(c.plan.Create) - len(c.plan.Adopt)
}

// issue claims the instances of set and returns how many they are. The caller takes them out of
// t.retrying.
func (c *computation) issue(t *task, h history, set ranges.Set) int {
	if set.Empty() {
		return 0
	}
	t.active = t.active.plus(h, set)
	for i := range set.All() {
		c.plan.Create = append(c.plan.Create, resolve.Instance{Task: t.pos, Index: i, Attempt: h.attempt(), Run: c.runNumber, Machine: h.machines})
	}
	c.took(t, set.Len())
	c.moved += set.Len()
	return set.Len()
}

// conclude gives t its state and explains it.
func (c *computation) conclude(t *task) {
	t.state = t.computeState()
	if t.state != v1alpha1.TaskPending {
		c.explain(t)
	}
}

// computeState is the state of a task. It is RUNNING from the first instance that runs to
// the end of the last.
func (t *task) computeState() v1alpha1.TaskState {
	switch {
	case t.hasEnded() && t.failed.Empty():
		return v1alpha1.TaskSucceed
	case t.hasEnded():
		return v1alpha1.TaskFailed
	case t.ready == waiting:
		return v1alpha1.TaskPending
	case t.isHeld():
		return v1alpha1.TaskFailedInterrupted
	case t.running > 0 || !t.succeeded.Empty() || !t.failed.Empty() || len(t.retrying) > 0 || len(t.interrupted) > 0 ||
		len(t.active) > 0 && t.active[len(t.active)-1].history != (history{}):
		return v1alpha1.TaskRunning
	case t.starting > 0:
		return v1alpha1.TaskStarting
	}
	return v1alpha1.TaskRunnable
}

// explain gives t its reason and message: why it failed, else what it waits for.
func (c *computation) explain(t *task) {
	switch {
	case t.old != nil && t.old.State == t.state && t.hasEnded():
		t.reason, t.message = t.old.Reason, t.old.Message
		return
	case t.state == v1alpha1.TaskSucceed:
		return
	case t.ready == impossible:
		t.reason, t.message = v1alpha1.ReasonPredecessorFailed, c.blame(t)
		return
	case t.state == v1alpha1.TaskFailed:
		t.reason, t.message = t.failure()
		return
	case t.state == v1alpha1.TaskFailedInterrupted:
		t.reason, t.message = v1alpha1.ReasonInterrupted, t.heldMessage()
		return
	case c.draining:
		t.reason = v1alpha1.ReasonSuspended
		return
	}
	if r, ok := c.obs.Refusals[t.pos]; ok && t.adopting > 0 {
		t.reason, t.message = r.reason(), refusalMessage(r)
		return
	}
	if t.lacking != "" && len(t.active) == 0 {
		c.explainLack(t)
		return
	}
	if w := t.waits.worst(); w != nil {
		t.reason, t.message = w.reason, w.message()
		// The detail, as from the scheduler, changes all the time and says little new:
		// keep the sentence for as long as reason and count are the same.
		if t.old != nil && t.old.Reason == t.reason && sameCount(t.old.Message, t.message) {
			t.message = t.old.Message
		}
		return
	}
	if !t.failed.Empty() {
		t.reason, t.message = t.failure()
	}
}

// blame says which task before t does not let it start, and by which rule.
func (c *computation) blame(t *task) string {
	for _, p := range c.obs.Spec.Graph.Predecessors(t.pos) {
		if pred := &c.tasks[p]; c.allows(pred) == impossible {
			return fmt.Sprintf("cannot start: task %q ended %s, and taskExecutionDependOn is %s", pred.Name, pred.state, c.obs.Spec.DependOn)
		}
	}
	return ""
}

// failure sums up the instances that failed for good, with the last one's own words: "2 of
// 20 instances failed; instance 7: exit code 1, attempt 3 of 3".
func (t *task) failure() (reason, message string) {
	f := t.lastFinal
	switch {
	case f == nil && t.terminatedNow > 0 || f != nil && f.Reason == v1alpha1.ReasonTerminated:
		return v1alpha1.ReasonTerminated, fmt.Sprintf("%d of %s failed, and the last was terminated", t.failed.Len(), count(t.InstanceNum, "instance"))
	case f != nil && t.InstanceNum == 1:
		return v1alpha1.ReasonTaskFailed, cut(f.words(t))
	case f != nil:
		return v1alpha1.ReasonTaskFailed, cut(fmt.Sprintf("%d of %d instances failed; %s", t.failed.Len(), t.InstanceNum, f.words(t)))
	case t.old != nil && slices.Contains([]string{v1alpha1.ReasonTaskFailed, v1alpha1.ReasonTerminated}, t.old.Reason) && t.old.Message != "":
		return t.old.Reason, t.old.Message
	}
	return v1alpha1.ReasonTaskFailed, fmt.Sprintf("%d of %s failed", t.failed.Len(), count(t.InstanceNum, "instance"))
}

// heldMessage says which instances are held, and with which words the last one failed.
func (t *task) heldMessage() string {
	out := fmt.Sprintf("%s held until terminated: %s", isOrAre(t.interrupted.len(), "instance"), t.interrupted.all())
	switch {
	case t.lastFinal != nil:
		return cut(fmt.Sprintf("%s; %s", out, t.lastFinal.words(t)))
	case t.old != nil && t.old.Reason == v1alpha1.ReasonInterrupted && sameCount(t.old.Message, out):
		return t.old.Message
	}
	return cut(out)
}

func isOrAre(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

// sameCount reports whether two messages of waiting instances begin with the same
// number.
func sameCount(a, b string) bool {
	number := func(s string) (n int) {
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	return a[:number(a)] == b[:number(b)]
}
