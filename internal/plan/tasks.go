// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// advance decides, once the states of all tasks before t are known, whether t may
// start, which instances it claims now, and what its state is.
func (c *computation) advance(t *task) {
	switch c.readiness(t) {
	case waiting:
		t.state = v1alpha1.TaskPending
		return
	case impossible:
		t.failed = ranges.Span(0, t.InstanceNum-1)
		c.plan.Urgent = true
	case ready:
		c.claim(t)
	}
	t.state = t.computeState()
	c.explain(t)
}

// readiness says whether a task may start.
type readiness int

const (
	waiting readiness = iota
	ready
	impossible // the tasks before it have ended so that it never can
)

// readiness applies taskExecutionDependOn. A task that has started stays ready.
// Source: BatchCompute, Job.TaskExecutionDependOn.
func (c *computation) readiness(t *task) readiness {
	if t.old != nil || t.adopted {
		return ready
	}
	out := ready
	for _, p := range c.obs.Spec.Graph.Predecessors(t.pos) {
		switch c.allows(&c.tasks[p]) {
		case impossible:
			return impossible
		case waiting:
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
		ok = p.failed.Empty()
	}
	if ok {
		return ready
	}
	return impossible
}

// hasEnded reports whether every instance has succeeded or failed for good.
func (t *task) hasEnded() bool { return t.succeeded.Len()+t.failed.Len() == t.InstanceNum }

// claim issues instances of t, those to be retried first, as far as maxConcurrentNum
// and the size of the wave allow.
func (c *computation) claim(t *task) {
	if c.obs.Refusal != nil {
		return // what is claimed already must be created first
	}
	room := min(t.MaxConcurrentNum-t.active.len(), WaveSize-len(c.plan.Create)-len(c.plan.Adopt))
	for _, g := range t.retrying {
		room -= c.issue(t, g.retries, g.set.First(room))
	}
	if room > 0 {
		c.issue(t, 0, t.fresh().First(room))
	}
}

// fresh returns the instances that have not been issued yet. They are the highest ones,
// but for a status that was lost and read off the Pods that were left.
func (t *task) fresh() ranges.Set {
	all := ranges.Span(0, t.InstanceNum-1).Minus(t.succeeded).Minus(t.failed)
	for _, g := range slices.Concat(t.active, t.retrying) {
		all = all.Minus(g.set)
	}
	return all
}

// issue claims the instances of set and returns how many they are.
func (c *computation) issue(t *task, retries int, set ranges.Set) int {
	if set.Empty() {
		return 0
	}
	t.retrying = t.retrying.minus(set)
	t.active = t.active.plus(retries, set)
	for i := range set.All() {
		c.plan.Create = append(c.plan.Create, resolve.Instance{Task: t.pos, Index: i, Attempt: retries})
	}
	c.plan.Urgent = true
	return set.Len()
}

// computeState is the state of a task that may start or has ended. It is RUNNING from
// the first instance that runs to the end of the last.
func (t *task) computeState() v1alpha1.TaskState {
	switch {
	case t.hasEnded() && t.failed.Empty():
		return v1alpha1.TaskSucceed
	case t.hasEnded():
		return v1alpha1.TaskFailed
	case t.running > 0 || !t.succeeded.Empty() || !t.failed.Empty() || len(t.retrying) > 0 || len(t.active) > 0 && t.active[len(t.active)-1].retries > 0:
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
	case t.state == v1alpha1.TaskFailed && t.old == nil && !t.adopted:
		t.reason = v1alpha1.ReasonPredecessorFailed
		t.message = c.blame(t)
		return
	case t.state == v1alpha1.TaskFailed:
		t.reason = v1alpha1.ReasonTaskFailed
		t.message = t.failureMessage()
		return
	case t.state == v1alpha1.TaskSucceed:
		return
	}
	if r := c.obs.Refusal; r != nil && r.Task == t.pos {
		t.reason = v1alpha1.ReasonCreateRefused
		t.message = cut("InternalError.CallCvm: the cluster refused to make a Pod: " + r.Message)
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
		t.reason, t.message = v1alpha1.ReasonTaskFailed, t.failureMessage()
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

// failureMessage sums up the instances that failed for good, with the last one's own
// words: "2 of 20 instances failed; instance 7: exit code 1, attempt 3 of 3".
func (t *task) failureMessage() string {
	f := t.lastFinal
	switch {
	case f != nil && t.InstanceNum == 1:
		return cut(f.words(t))
	case f != nil:
		return cut(fmt.Sprintf("%d of %d instances failed; %s", t.failed.Len(), t.InstanceNum, f.words(t)))
	case t.old != nil && t.old.Reason == v1alpha1.ReasonTaskFailed && t.old.Message != "":
		return t.old.Message
	}
	return fmt.Sprintf("%d of %s failed", t.failed.Len(), count(t.InstanceNum, "instance"))
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
