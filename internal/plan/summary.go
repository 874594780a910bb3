// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// summary says where the job and its tasks are once all is decided, and why.
type summary struct {
	*job
	at     []lists
	pods   *outcomes
	ready  taskReadiness
	claims claims
	// tasks are by the position of the task.
	tasks []taskSummary
	// state, reason and message are those of the job.
	state           v1alpha1.JobState
	reason, message string
}

// taskSummary is the state of one task, and why it is that.
type taskSummary struct {
	state           v1alpha1.TaskState
	reason, message string
}

// summarize gives the tasks and the job their states and explains them: tasks in the order of the graph,
// since some cannot start for what those before them are.
func summarize(j *job, at []lists, pods *outcomes, ready taskReadiness, claims claims) summary {
	s := summary{job: j, at: at, pods: pods, ready: ready, claims: claims, tasks: make([]taskSummary, len(j.tasks))}
	order, _ := j.obs.Spec.Graph.Order()
	for _, i := range order {
		t := &j.tasks[i]
		if s.tasks[i].state = s.taskState(t); s.tasks[i].state != v1alpha1.TaskPending {
			s.explain(t)
		}
	}
	s.state = s.jobState()
	s.reason, s.message = s.jobReason()
	return s
}

// taskState is the state of a task. It is RUNNING from the first instance that runs to
// the end of the last.
func (s *summary) taskState(t *task) v1alpha1.TaskState {
	l, pods := &s.at[t.pos], &s.pods.tasks[t.pos]
	switch {
	case l.hasEnded(t.InstanceNum) && l.failed.Empty():
		return v1alpha1.TaskSucceed
	case l.hasEnded(t.InstanceNum):
		return v1alpha1.TaskFailed
	case s.ready.tasks[t.pos] == waiting:
		return v1alpha1.TaskPending
	case l.isBlocked(t):
		return v1alpha1.TaskFailedInterrupted
	case pods.running > 0 || !l.succeeded.Empty() || !l.failed.Empty() || len(l.retrying) > 0 || len(l.interrupted) > 0 ||
		len(l.active) > 0 && l.active[len(l.active)-1].history != (history{}):
		return v1alpha1.TaskRunning
	case pods.starting > 0:
		return v1alpha1.TaskStarting
	}
	return v1alpha1.TaskRunnable
}

// explain gives t its reason and message: why it failed, else what it waits for.
func (s *summary) explain(t *task) {
	x, l, pods := &s.tasks[t.pos], &s.at[t.pos], &s.pods.tasks[t.pos]
	switch {
	case t.old != nil && t.old.State == x.state && l.hasEnded(t.InstanceNum):
		x.reason, x.message = t.old.Reason, t.old.Message
		return
	case x.state == v1alpha1.TaskSucceed:
		return
	case s.ready.tasks[t.pos] == impossible:
		x.reason, x.message = v1alpha1.ReasonPredecessorFailed, s.predecessorMessage(t)
		return
	case x.state == v1alpha1.TaskFailed:
		x.reason, x.message = s.failure(t)
		return
	case x.state == v1alpha1.TaskFailedInterrupted:
		x.reason, x.message = v1alpha1.ReasonInterrupted, s.interruptedMessage(t)
		return
	case s.mode.draining:
		x.reason = v1alpha1.ReasonSuspended
		return
	}
	if r, ok := s.obs.Refusals[t.pos]; ok && pods.adopting > 0 {
		x.reason, x.message = r.reason(), refusalMessage(r)
		return
	}
	if s.claims.blocked != nil && s.claims.blocked[t.pos] != "" && len(l.active) == 0 {
		x.reason, x.message = s.claims.blocked[t.pos], s.explainBlocked(t)
		return
	}
	if w := pods.waits.worst(); w != nil {
		x.reason, x.message = w.reason, w.message()
		// The detail, as from the scheduler, changes all the time and says little new:
		// keep the sentence for as long as reason and count are the same.
		if t.old != nil && t.old.Reason == x.reason && sameCount(t.old.Message, x.message) {
			x.message = t.old.Message
		}
		return
	}
	if !l.failed.Empty() {
		x.reason, x.message = s.failure(t)
	}
}

// explainBlocked says why no instance of a task can be issued of which none is active.
func (s *summary) explainBlocked(t *task) string {
	reason := s.claims.blocked[t.pos]
	detail := ComputeEnvNotFound(t.EnvID).Error()
	if e, ok := s.obs.Envs[t.EnvID]; ok {
		switch {
		case e.Size == 0:
			detail = fmt.Sprintf("ComputeEnv %q has no nodes; set its desiredComputeNodeCount to 1 or more", e.Env.Name)
		default:
			detail = fmt.Sprintf("ComputeEnv %q has no free node: its %s are in use, or go to jobs ahead in the queue; raise its desiredComputeNodeCount to wait less", e.Env.Name, count(e.Size, "node"))
		}
	}
	if reason == v1alpha1.ReasonOperatorMemory {
		detail = s.obs.NoMemory
	}
	next := ranges.Span(0, t.InstanceNum-1).Minus(s.at[t.pos].succeeded).Minus(s.at[t.pos].failed).First(1)
	for i := range next.All() {
		s.pods.wait(t, i, "", reason, detail)
	}
	return cut(detail)
}

// predecessorMessage says which task before t does not let it start, and by which rule.
func (s *summary) predecessorMessage(t *task) string {
	for _, p := range s.obs.Spec.Graph.Predecessors(t.pos) {
		if pred := &s.job.tasks[p]; allows(s.obs.Spec.DependOn, &s.at[p], pred.InstanceNum) == impossible {
			return fmt.Sprintf("cannot start: task %q ended %s, and taskExecutionDependOn is %s", pred.Name, s.tasks[p].state, s.obs.Spec.DependOn)
		}
	}
	return ""
}

// failure sums up the instances that failed for good, with the last one's own words: "2 of
// 20 instances failed; instance 7: exit code 1, attempt 3 of 3".
func (s *summary) failure(t *task) (reason, message string) {
	failed, pods := s.at[t.pos].failed.Len(), &s.pods.tasks[t.pos]
	f := pods.lastFinal
	switch {
	case f == nil && pods.terminated > 0 || f != nil && f.Reason == v1alpha1.ReasonTerminated:
		return v1alpha1.ReasonTerminated, fmt.Sprintf("%d of %s failed, and the last was %s", failed, count(t.InstanceNum, "instance"), terminatedHow(f))
	case f != nil && t.InstanceNum == 1:
		return v1alpha1.ReasonTaskFailed, cut(f.words(t))
	case f != nil:
		return v1alpha1.ReasonTaskFailed, cut(fmt.Sprintf("%d of %d instances failed; %s", failed, t.InstanceNum, f.words(t)))
	case t.old != nil && slices.Contains([]string{v1alpha1.ReasonTaskFailed, v1alpha1.ReasonTerminated}, t.old.Reason) && t.old.Message != "":
		return t.old.Reason, t.old.Message
	}
	return v1alpha1.ReasonTaskFailed, fmt.Sprintf("%d of %s failed", failed, count(t.InstanceNum, "instance"))
}

// terminatedHow says how the last failed instance was terminated; f is nil if it had no Pod.
func terminatedHow(f *failure) string {
	if f != nil && f.Reason == v1alpha1.ReasonTerminated {
		return f.Message
	}
	return "terminated"
}

// interruptedMessage says with which words the last of the interrupted instances failed, and how to end
// them all: "2 instances are interrupted; instance 4: exit code 1; to end them, …".
func (s *summary) interruptedMessage(t *task) string {
	interrupted, f := s.at[t.pos].interrupted, s.pods.tasks[t.pos].lastFinal
	out := isOrAre(interrupted.len(), "instance") + " interrupted"
	switch {
	case f != nil:
		out += "; " + f.words(t)
	case t.old != nil && t.old.Reason == v1alpha1.ReasonInterrupted && sameCount(t.old.Message, out):
		return t.old.Message
	}
	return cut(fmt.Sprintf("%s; to end what is interrupted, annotate the job with %s=%s/%s", out, v1alpha1.AnnotationTerminate, t.Name, interrupted.all()))
}

// words say which attempt failed and how: "instance 7: exit code 1, attempt 3 of 3", without the instance where there is
// only one, and without the attempt likewise. Where machines may fail as well, each budget is told apart: "exit code 1,
// attempt 3; 2 of 2 retries and 0 of 4 machine retries used".
func (f *failure) words(t *task) string {
	out := f.Message
	if t.InstanceNum > 1 {
		out = fmt.Sprintf("instance %d: %s", f.TaskInstanceIndex, out)
	}
	// The budgets may have been reduced since: with a ComputeEnv's, for instance.
	retries, machines := max(t.budget.retries, f.spent.retries), max(t.budget.machines, f.spent.machines)
	switch n := int(f.Attempt) + 1; {
	case f.permanent && retries+machines > 0:
		return out + "; not retried, since it would fail again"
	case machines > 0:
		return fmt.Sprintf("%s, attempt %d; %d of %d retries and %d of %d machine retries used", out, n, f.spent.retries, retries, f.spent.machines, machines)
	case retries > 0:
		return fmt.Sprintf("%s, attempt %d of %d", out, n, max(retries+1, n))
	}
	return out
}

// jobState is the state of the job. It is final when nothing of it runs and all that is left
// to do is to remove finalizers, which follows at once.
func (s *summary) jobState() v1alpha1.JobState {
	state, failed := v1alpha1.JobPending, false
	ended, blocked, pending := 0, 0, 0
	for i := range s.job.tasks {
		t, l, x := &s.job.tasks[i], &s.at[i], v1alpha1.JobState(s.tasks[i].state)
		switch {
		case l.hasEnded(t.InstanceNum):
			ended++
			failed = failed || x == v1alpha1.JobFailed
			x = v1alpha1.JobRunning
		case l.isBlocked(t):
			blocked++
			x = v1alpha1.JobRunning
		case x == v1alpha1.JobPending:
			pending++
		}
		if progressOf(x) > progressOf(state) {
			state = x
		}
	}
	switch n := len(s.tasks); {
	case blocked > 0 && ended+blocked+pending == n:
		return v1alpha1.JobFailedInterrupted
	//mutation:final-while-pod-runs
	case ended < n || !s.isDoneWithPods():
		return state
	case failed:
		return v1alpha1.JobFailed
	}
	return v1alpha1.JobSucceed
}

// progressOf orders the states of a job that has not ended.
func progressOf(s v1alpha1.JobState) int {
	switch s {
	case v1alpha1.JobRunnable:
		return 1
	case v1alpha1.JobStarting:
		return 2
	case v1alpha1.JobRunning:
		return 3
	}
	return 0
}

// isDoneWithPods reports whether the finalizers of all Pods are to be removed, and none has to be stopped.
func (s *summary) isDoneWithPods() bool {
	pods := s.pods.removeFinalizers
	return len(pods) == len(s.obs.Pods) && !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return !HasFinished(pod) })
}

// jobReason is the reason and message of the job: the end's, else those of the first
// task that has any.
func (s *summary) jobReason() (reason, message string) {
	if s.state == v1alpha1.JobSucceed {
		return v1alpha1.ReasonJobSucceed, fmt.Sprintf("%s and %s succeeded", count(len(s.tasks), "task"), count(s.obs.Spec.InstanceNum, "instance"))
	}
	if s.mode.draining && s.state != v1alpha1.JobFailed && s.state != v1alpha1.JobFailedInterrupted {
		return v1alpha1.ReasonSuspended, s.suspension()
	}
	for i := range s.tasks {
		x := &s.tasks[i]
		if x.reason == "" || x.reason == v1alpha1.ReasonPredecessorFailed || s.state == v1alpha1.JobFailedInterrupted && !s.at[i].isBlocked(&s.job.tasks[i]) {
			continue
		}
		reason, message = x.reason, cut(fmt.Sprintf("task %q: %s", s.job.tasks[i].Name, x.message))
		break
	}
	switch {
	case s.state == v1alpha1.JobFailed && s.mode.terminating:
		return v1alpha1.ReasonTerminated, message
	case s.state == v1alpha1.JobFailed:
		return v1alpha1.ReasonJobFailed, message
	}
	return reason, message
}

// suspension says how far the suspension of the job is.
func (s *summary) suspension() string {
	n := 0
	for i := range s.at {
		n += s.at[i].active.len()
	}
	if n > 0 {
		return isOrAre(n, "instance") + " being stopped"
	}
	return "all instances have stopped; set spec.suspend to false to resume"
}

func isOrAre(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
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
