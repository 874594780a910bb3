// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// addMissing adds the claims, and the interrupted instances, of which no Pod is seen. A claim gets its Pod again, unless nothing may be made for it any more: then the
// API server must have said that there is none before that is the end of it.
func (o *outcomes) addMissing(at []lists) {
	for i := range o.job.tasks {
		l, t := &at[i], &o.tasks[i]
		if l.active.len()+l.interrupted.len() != len(t.seen)+t.moves.len() {
			o.addMissingOf(&o.job.tasks[i], l)
		}
	}
}

func (o *outcomes) addMissingOf(t *task, l *lists) {
	out := &o.tasks[t.pos]
	known := ranges.Of(slices.Concat(out.seen, out.moves.all())...)
	for _, g := range l.interrupted.minus(known) {
		for i := range g.set.All() {
			o.addAbsent(t, resolve.Instance{Task: t.pos, Index: i, Attempt: g.attempt(), Run: g.run, Machine: g.machines}, g.history, true)
		}
	}
	for _, g := range l.active.minus(known) {
		for i := range g.set.All() {
			in := resolve.Instance{Task: t.pos, Index: i, Attempt: g.attempt(), Run: o.mode.run, Machine: g.machines}
			switch {
			case o.isPending(in):
			case o.terminates(t, i), o.mode.draining, o.refusalTimedOut(t, g.history), o.nameConflictTimedOut(t, in, g.history):
				o.addAbsent(t, in, g.history, false)
			default:
				out.adopting++
				o.adopt = append(o.adopt, in)
				o.explainNameConflict(t, in)
			}
		}
	}
}

// isPending reports whether the cache may not show the Pod of an instance yet.
func (o *outcomes) isPending(in resolve.Instance) bool {
	if len(o.obs.Pending) == 0 {
		return false
	}
	_, ok := o.obs.Pending[o.obs.Spec.PodName(in)]
	return ok
}

// addAbsent ends the claim of an instance that has no Pod, or asks whether it has one. wasInterrupted
// says that the instance is interrupted.
func (o *outcomes) addAbsent(t *task, in resolve.Instance, h history, wasInterrupted bool) {
	name := o.obs.Spec.PodName(in)
	conflict, hasConflict := o.obs.NameConflicts[name]
	switch {
	case o.obs.Absent == nil, !hasConflict && !o.obs.Absent[name]:
		o.verify = append(o.verify, in)
		return
	case o.obs.Absent[name]:
	//mutation:suspension-forgets-disowned-pod
	case !o.terminates(t, in.Index) && !wasInterrupted:
		// The Pod may have been the instance's and run it still: nothing may follow.
		o.explainNameConflict(t, in)
		o.lookAgain(nameConflictRetry)
		return
	}
	if wasInterrupted { // that its attempt failed is known already
		out := &o.tasks[t.pos]
		if o.terminates(t, in.Index) {
			out.terminated++
		}
		out.moves.failed = append(out.moves.failed, in.Index)
		o.interruptedEnded = true
		return
	}
	end := &outcome{kind: byMachine, time: seconds(o.now), reason: v1alpha1.ReasonPodDeleted, message: "the Pod was deleted before its outcome was known"}
	if r, ok := o.obs.Refusals[t.pos]; ok {
		end.reason, end.message = r.reason(), refusalMessage(r)
	}
	if hasConflict {
		end.reason, end.message = v1alpha1.ReasonPodNameTaken, cut(conflict.Message)
	}
	next, after := o.verdict(t, in.Index, h, end)
	o.count(t, in, h, end, next, after)
}

// nameConflictRetry is when to look again whether a Pod of somebody else still has the name of one of the
// job's, of which there is no event.
const nameConflictRetry = 10 * time.Second

// explainNameConflict says of an instance that somebody else's Pod has the name of its Pod, where that is so.
func (o *outcomes) explainNameConflict(t *task, in resolve.Instance) {
	if len(o.obs.NameConflicts) == 0 {
		return
	}
	name := o.obs.Spec.PodName(in)
	if conflict, ok := o.obs.NameConflicts[name]; ok {
		o.wait(t, in.Index, name, v1alpha1.ReasonPodNameTaken, conflict.Message)
	}
}

// nameConflictTimedOut reports whether a Pod of somebody else that has finished has had the name of the
// instance's Pod for longer than the acquisition timeout. While it may run, the instance waits.
func (o *outcomes) nameConflictTimedOut(t *task, in resolve.Instance, h history) bool {
	if len(o.obs.NameConflicts) == 0 {
		return false
	}
	conflict, ok := o.obs.NameConflicts[o.obs.Spec.PodName(in)]
	if !ok || conflict.MayRun || !t.budget.timesOut(h) {
		return false
	}
	return o.isOver(conflict.Since.Add(t.budget.timeout(h)))
}

// refusalTimedOut reports whether the cluster has refused to make the Pods of t for so long
// that an instance with this history is not asked for any more. It may have been refused
// before, for each machine that it did not acquire.
func (o *outcomes) refusalTimedOut(t *task, h history) bool {
	r, ok := o.obs.Refusals[t.pos]
	if !ok || r.NoTimeout || !t.budget.timesOut(h) {
		return false
	}
	return o.isOver(r.Since.Add(t.budget.timeouts(h)))
}

// isOver reports whether the time has come, and looks again when it does.
func (o *outcomes) isOver(at time.Time) bool {
	left := at.Sub(o.now)
	if left > 0 {
		o.lookAgain(left)
	}
	return left <= 0
}
