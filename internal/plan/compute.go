// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// ErrUnreadable says that the stored status of a job cannot be read: somebody who may write statuses
// has edited it, or a version of the operator that this one does not know has written it.
var ErrUnreadable = errors.New("the stored status cannot be read")

// Compute returns what is to be done for the observed job at the time now. The error
// is ErrUnreadable. Cost: O(tasks + dependences + Pods +
// ranges in the status).
func Compute(obs Observation, now time.Time) (Plan, error) {
	c := &computation{obs: obs, now: now}
	switch {
	case obs.Job.DeletionTimestamp != nil:
		// The garbage collector, or nobody with --cascade=orphan, deletes the Pods: all
		// that is ours to do is to let go of them.
		c.plan.Status = *obs.Job.Status.DeepCopy()
		for _, pod := range obs.Pods {
			//mutation:deletion-keeps-finalizers
			if !HoldsNode(pod, now) {
				c.plan.Release = append(c.plan.Release, pod)
				continue
			}
			c.awaitEnd(pod)
		}
		c.plan.InEnv = InEnv(obs.Spec, &obs.Job.Status, obs.Envs)
	//mutation:retry-beside-running-pods
	case RetryDue(obs.Job) && obs.Unfinished == 0:
		c.restart()
		if err := c.run(); err != nil {
			return Plan{}, err
		}
	//mutation:final-status-computed-again
	case isTerminal(obs.Job.Status.State):
		if len(obs.Pods) > 0 && !obs.Live {
			// A job ends when none of its Pods is tracked any more. These may be of a later
			// run, of which Job does not know yet.
			return Plan{NeedLive: true}, nil
		}
		c.rest()
	default:
		if err := c.run(); err != nil {
			return Plan{}, err
		}
	}
	return c.sorted(), nil
}

// Reject returns the plan for a job that must not run: it is FAILED with code as its
// reason and message as its sentence, and Pods that it may have are let go of.
func Reject(obs Observation, code, message string, now time.Time) Plan {
	c := &computation{obs: obs, now: now}
	if isTerminal(obs.Job.Status.State) {
		c.rest()
		return c.sorted()
	}
	c.plan.Status = *obs.Job.Status.DeepCopy()
	if obs.Job.DeletionTimestamp == nil {
		c.reject(code, message)
	}
	c.dismiss(obs.Pods)
	return c.sorted()
}

// Duplicate returns the plan for a job in whose place original runs, since both carry the
// same client token: it stays SUBMITTED and shows the identifier of the other.
func Duplicate(obs Observation, original *v1alpha1.BatchJob, now time.Time) Plan {
	c := &computation{obs: obs, now: now}
	c.plan.Status = *obs.Job.Status.DeepCopy()
	c.duplicate(original)
	c.dismiss(obs.Pods)
	return c.sorted()
}

// Unreadable returns the plan for a job of which Compute gives ErrUnreadable: nothing is done before the
// status is mended, and a condition says so.
func Unreadable(obs Observation, err error, now time.Time) Plan {
	c := &computation{obs: obs, now: now}
	c.plan.Status = *obs.Job.Status.DeepCopy()
	message := cut(err.Error() + "; nothing is done for the job before it is mended or deleted")
	was := meta.FindStatusCondition(c.plan.Status.Conditions, v1alpha1.ConditionStalled)
	if was == nil || was.Status != metav1.ConditionTrue || was.Message != message {
		c.news(true, v1alpha1.ReasonStatusUnreadable, "%s", message)
	}
	set := conditions.OfBatchJob(&c.plan.Status, obs.Job.Generation, now)
	set.True(v1alpha1.ConditionStalled, v1alpha1.ReasonStatusUnreadable, message)
	set.Remove(v1alpha1.ConditionReconciling)
	return c.plan
}

// sorted returns the plan with its Pods in order of name.
func (c *computation) sorted() Plan {
	byName := func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(c.plan.Delete, byName)
	slices.SortFunc(c.plan.Release, byName)
	return c.plan
}

// computation is one call of Compute.
type computation struct {
	obs   Observation
	now   time.Time
	plan  Plan
	tasks []task
	// run of the job that new claims belong to.
	runNumber int
	// terminating says that the job is to end, for good; draining, that all is to stop for
	// a suspension, or that the rest of one is awaited.
	terminating, draining bool
	// strangers are Pods that could not be identified.
	strangers []*corev1.Pod
	// failures are the attempts that were found failed now, in order of time.
	failures []failure
	// waiting are the first instances that wait.
	waiting []waiter
	// By ComputeEnv: all claims in it, those that are new, and the instances that lack
	// nothing but a node.
	inEnv, issued, wanted map[string]int
	// lingering are Pods beyond the claims that still have a node, by the identifier of their
	// ComputeEnv.
	lingering map[string]int
	// moved are the outcomes and the claims that are new.
	moved int
	// terminations is what the annotation that terminates instances says.
	terminations *Terminations
}

// failure is a failed attempt of the task at pos; final, when no other follows.
type failure struct {
	v1alpha1.TaskInstanceFailure
	pos   int
	final bool
}

// task is one task while its next status is being worked out.
type task struct {
	*resolve.Task
	pos int
	old *v1alpha1.TaskStatus // nil: PENDING until now
	// adopted says that a Pod was found whose claim the status has lost.
	adopted bool
	// doomed are the instances that somebody terminates, one by one.
	doomed ranges.Set
	// attempts is how many an instance can have: machineLimit counts the rounds of machine types,
	// and the budget of a ComputeEnv.
	attempts int

	succeeded, failed             ranges.Set
	active, retrying, interrupted groups

	// moves are the instances whose claims have ended, by what becomes of them.
	moves moves
	// seen are active or held instances with a Pod whose outcome is not counted now.
	seen []int
	// adopting is how many claims are without a Pod.
	adopting          int
	starting, running int
	waits             waits

	ready readiness
	// lacking is the reason why no instance of the task can be issued that could be else.
	lacking         string
	terminatedNow   int // instances that were terminated now and had nothing to stop
	state           v1alpha1.TaskState
	reason, message string
	lastFinal       *failure // found now
	lastRetried     *failure // found now
}

// moves are where instances go whose attempts have ended.
type moves struct {
	succeeded, failed []int
	retrying, held    map[history][]int
}

func (m *moves) retry(h history, index int) {
	if m.retrying == nil {
		m.retrying = map[history][]int{}
	}
	m.retrying[h] = append(m.retrying[h], index)
}

func (m *moves) hold(h history, index int) {
	if m.held == nil {
		m.held = map[history][]int{}
	}
	m.held[h] = append(m.held[h], index)
}

func (c *computation) run() error {
	c.chooseMode()
	if err := c.load(); err != nil {
		return err
	}
	for _, pod := range c.obs.Pods {
		if !c.look(pod) {
			c.plan = Plan{NeedLive: true}
			return nil
		}
	}
	for i := range c.tasks {
		c.findLost(&c.tasks[i])
		c.tasks[i].settle()
	}
	c.sortFailures()
	order, _ := c.obs.Spec.Graph.Order()
	for _, i := range order {
		c.admit(&c.tasks[i])
	}
	c.countInEnvs()
	for _, i := range c.obs.Spec.ReleaseOrder {
		c.claim(&c.tasks[i])
	}
	c.plan.InEnv, c.plan.Wanted = c.inEnv, c.wanted
	for _, i := range order {
		c.conclude(&c.tasks[i])
	}
	c.dismissStrangers()
	inOrder := func(a, b resolve.Instance) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Index, b.Index))
	}
	slices.SortFunc(c.plan.Adopt, inOrder)
	slices.SortFunc(c.plan.Verify, inOrder)
	c.summarize()
	return nil
}

// chooseMode decides whether the job runs, drains or ends, and in which run it is.
//
// That a job is being suspended is stored before its first Pod is stopped, so that no
// controller takes the end of one for a failure; and it stays so until the last claim is
// gone. Only then a new run begins: its Pods have other names than those that were
// stopped.
func (c *computation) chooseMode() {
	job := c.obs.Job
	c.runNumber = int(job.Status.Run)
	suspended := meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionSuspended)
	switch {
	case job.Spec.Terminate:
		c.terminating = true
	//mutation:new-run-before-old-stopped
	case job.Spec.Suspend || suspended && hasActive(&job.Status):
		c.draining = true
	case suspended && job.Status.StartTime != nil:
		c.runNumber++
	}
	c.plan.Urgent = suspended != c.draining
}

func hasActive(s *v1alpha1.BatchJobStatus) bool {
	return slices.ContainsFunc(s.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Active != "" })
}

// load reads the tasks' lists from the stored status, and the job's annotation.
func (c *computation) load() error {
	spec, stored := c.obs.Spec, c.obs.Job.Status.Tasks
	c.tasks = make([]task, len(spec.Tasks))
	for i := range spec.Tasks {
		t := &c.tasks[i]
		t.Task, t.pos = &spec.Tasks[i], i
		t.attempts = t.MaxRetryCount + c.machineLimit(t) + 1
		if len(stored) == 0 || stored[0].Name != t.Name {
			continue // PENDING tasks are not in the status
		}
		t.old, stored = &stored[0], stored[1:]
		if err := t.load(); err != nil {
			return fmt.Errorf("%w: status of task %q: %w", ErrUnreadable, t.Name, err)
		}
	}
	if len(stored) > 0 {
		return fmt.Errorf("%w: it has a task %q that the spec does not have there", ErrUnreadable, stored[0].Name)
	}
	c.terminations = ReadTerminations(spec, c.obs.Job.Annotations[v1alpha1.AnnotationTerminate], c.obs.Terminations)
	for pos, set := range c.terminations.byTask {
		c.tasks[pos].doomed = set
	}
	return nil
}

func (t *task) load() (err error) {
	if t.succeeded, err = ranges.Parse(t.old.Succeeded); err != nil {
		return fmt.Errorf("succeeded: %w", err)
	}
	if t.failed, err = ranges.Parse(t.old.Failed); err != nil {
		return fmt.Errorf("failed: %w", err)
	}
	for _, f := range []struct {
		name string
		text string
		to   *groups
	}{{"active", t.old.Active, &t.active}, {"retrying", t.old.Retrying, &t.retrying}, {"interrupted", t.old.Interrupted, &t.interrupted}} {
		if *f.to, err = parseGroups(f.text); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return t.check()
}

// check says what is wrong with lists that could be read. A job whose counts never add
// up would never end.
func (t *task) check() error {
	issued := slices.Concat(t.active, t.retrying, t.interrupted)
	all, sum := ranges.UnionAll(append(issued.sets(), t.succeeded, t.failed)...), t.succeeded.Len()+t.failed.Len()+issued.len()
	switch {
	case all.Max() >= t.InstanceNum:
		return fmt.Errorf("index %d is beyond the last instance, %d", all.Max(), t.InstanceNum-1)
	case all.Len() != sum:
		return errors.New("an index is in two lists")
	}
	return nil
}

// look takes in what one Pod tells. It reports false when the Pod may be ahead of the
// job as observed, so that the job must be read again first.
func (c *computation) look(pod *corev1.Pod) bool {
	in, ok := c.identify(pod)
	if !ok {
		c.strangers = append(c.strangers, pod)
		//mutation:unlabelled-pod-judged-by-cache
		return c.obs.Live
	}
	t := &c.tasks[in.Task]
	where, h := c.place(t, in)
	switch where {
	case past:
		c.dismiss([]*corev1.Pod{pod})
		return true
	case held:
		c.guard(t, in, pod)
		return true
	case future:
		if !c.obs.Live {
			return false
		}
		// The stored status has lost this claim, as after a restore of the database.
		// The Pod is the better witness: its attempt counts as claimed.
		t.adopted = true
		t.retrying = t.retrying.minus(ranges.Of(in.Index))
		t.active = t.active.minus(ranges.Of(in.Index)).plus(h, ranges.Of(in.Index))
	}
	c.judge(t, in, h, pod)
	return true
}

// judge takes in what the Pod of a current claim tells; h is the instance's history.
func (c *computation) judge(t *task, in resolve.Instance, h history, pod *corev1.Pod) {
	end := c.outcomeOf(t, h, pod)
	if end == nil {
		t.seen = append(t.seen, in.Index)
		if pod.DeletionTimestamp == nil && c.isEdited(pod) {
			in.Machine = h.machines
			c.plan.Adopt = append(c.plan.Adopt, in)
		}
		c.follow(t, in, h, pod)
		return
	}
	switch next, after := c.next(t, in, h, end); {
	//mutation:stuck-pod-replaced
	case end.stuck && (next == retried || next == returned || next == replaced):
		t.seen = append(t.seen, in.Index)
		c.follow(t, in, h, pod)
	case end.refused && (next == retried || next == replaced) && c.waitOn(t, in, h, pod, end):
		t.seen = append(t.seen, in.Index)
	case next == replaced:
		// Nothing is spent and nothing to be stored: once this Pod is gone, the claim is
		// without one, and gets another of the same name.
		t.seen = append(t.seen, in.Index)
		if end.requeued {
			c.wait(t, in.Index, pod.Name, end.reason, end.message)
		}
		c.dismiss([]*corev1.Pod{pod})
		if pod.DeletionTimestamp == nil && HasFinished(pod) {
			c.plan.Delete = append(c.plan.Delete, pod)
		}
	default:
		c.count(t, in, h, end, next, after)
		//mutation:finalizer-of-interrupted-removed
		if next != interrupted {
			c.plan.Release = append(c.plan.Release, pod)
		}
	}
}

// waitOn says that an instance waits out the patience with a machine that was refused. It
// reports false when that is over. The Pod that was refused stays until then: its time of
// creation is what the wait is counted from, whoever counts.
func (c *computation) waitOn(t *task, in resolve.Instance, h history, pod *corev1.Pod, end *outcome) bool {
	left := pod.CreationTimestamp.Add(c.patience(t, h)).Sub(c.now)
	if left <= 0 {
		return false
	}
	c.lookAgain(left)
	c.wait(t, in.Index, pod.Name, end.reason, end.message)
	return true
}

// count stores how an attempt ended: where its instance goes, and why it failed.
func (c *computation) count(t *task, in resolve.Instance, h history, end *outcome, next verdict, after history) {
	c.moved++
	switch next {
	case succeeded:
		t.moves.succeeded = append(t.moves.succeeded, in.Index)
		return
	case returned:
		t.moves.retry(h, in.Index)
		return
	case retried:
		t.moves.retry(after, in.Index)
		c.spend(h, after, end.reason)
	case interrupted:
		h.run = in.Run
		t.moves.hold(h, in.Index)
	case failed:
		t.moves.failed = append(t.moves.failed, in.Index)
	}
	c.failures = append(c.failures, failure{v1alpha1.TaskInstanceFailure{
		TaskName: t.Name, TaskInstanceIndex: int64(in.Index), Attempt: int64(in.Attempt),
		Time: end.time, ExitCode: end.exitCode, Reason: end.reason, Message: end.message,
		PodName: end.podName, NodeName: end.nodeName,
	}, in.Task, next != retried})
}

// spend counts a retry for the metrics.
func (c *computation) spend(before, after history, reason string) {
	r := Retries{Budget: "machine", Reason: reason}
	if after.retries > before.retries {
		r.Budget = "command"
	}
	at, found := slices.BinarySearchFunc(c.plan.Retries, r, func(a, b Retries) int {
		return cmp.Or(cmp.Compare(a.Budget, b.Budget), cmp.Compare(a.Reason, b.Reason))
	})
	if !found {
		c.plan.Retries = slices.Insert(c.plan.Retries, at, r)
	}
	c.plan.Retries[at].Count++
}

// guard takes in what the Pod of a held instance tells: somebody who deletes it, or
// terminates the instance, gives it up.
func (c *computation) guard(t *task, in resolve.Instance, pod *corev1.Pod) {
	_, late := stopOf(pod, t.Timeout)
	doomed := c.isDoomed(t, in.Index)
	if doomed {
		t.terminatedNow++
	}
	if doomed || pod.DeletionTimestamp != nil && !late {
		t.moves.failed = append(t.moves.failed, in.Index)
		c.plan.Release = append(c.plan.Release, pod)
		c.plan.Urgent = true
		return
	}
	t.seen = append(t.seen, in.Index)
	if pod.DeletionTimestamp == nil && c.isEdited(pod) {
		c.plan.Verify = append(c.plan.Verify, in)
	}
}

// isEdited reports whether somebody took off a Pod what holds it, or what shows whose it is.
func (c *computation) isEdited(pod *corev1.Pod) bool {
	return !slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) || metav1.GetControllerOfNoCopy(pod) == nil ||
		pod.Labels[v1alpha1.LabelJobID] != c.obs.Spec.ID ||
		c.asksForProof() && pod.Annotations[v1alpha1.AnnotationProof] == ""
}

// asksForProof reports whether all Pods of the job have proved that the operator made them.
func (c *computation) asksForProof() bool {
	return c.obs.PodKey != "" && len(c.obs.Job.Status.PodKeys) > 0
}

// sortFailures orders the failures and gives each task its last ones.
func (c *computation) sortFailures() {
	slices.SortFunc(c.failures, func(a, b failure) int {
		return cmp.Or(a.Time.Compare(b.Time.Time), cmp.Compare(a.pos, b.pos),
			cmp.Compare(a.TaskInstanceIndex, b.TaskInstanceIndex), cmp.Compare(a.Attempt, b.Attempt))
	})
	for i := range c.failures {
		f := &c.failures[i]
		if t := &c.tasks[f.pos]; f.final {
			t.lastFinal = f
		} else {
			t.lastRetried = f
		}
	}
}

// awaitEnd looks again when the end of a Pod that was asked to stop is not confirmed in time.
func (c *computation) awaitEnd(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		c.lookAgain(max(pod.DeletionTimestamp.Add(confirmWait).Sub(c.now), time.Second))
	}
}

func (c *computation) lookAgain(after time.Duration) {
	if c.plan.RequeueAfter == 0 || after < c.plan.RequeueAfter {
		c.plan.RequeueAfter = after
	}
}

// dismiss lets go of Pods that have nothing to tell any more, and stops those that
// still run.
func (c *computation) dismiss(pods []*corev1.Pod) {
	for _, pod := range pods {
		if HoldsNode(pod, c.now) {
			c.awaitEnd(pod)
			if c.lingering == nil {
				c.lingering = map[string]int{}
			}
			c.lingering[pod.Labels[v1alpha1.LabelEnvID]]++
		} else {
			c.plan.Release = append(c.plan.Release, pod)
		}
		//mutation:unclaimed-pod-not-stopped
		if !HasFinished(pod) && pod.DeletionTimestamp == nil {
			c.plan.Delete = append(c.plan.Delete, pod)
		}
	}
}

// identify returns the instance that pod runs. It is false for a Pod that the operator
// would not have made: labels can be edited, but the name says what they must be.
func (c *computation) identify(pod *corev1.Pod) (resolve.Instance, bool) {
	in := resolve.Instance{Task: c.obs.Spec.TaskByLabel(pod.Labels[v1alpha1.LabelTaskName])}
	for _, l := range []struct {
		label string
		value *int
	}{{v1alpha1.LabelTaskInstanceIndex, &in.Index}, {v1alpha1.LabelAttempt, &in.Attempt}, {v1alpha1.LabelRun, &in.Run}} {
		n, err := strconv.Atoi(pod.Labels[l.label])
		if err != nil || n < 0 {
			return resolve.Instance{}, false
		}
		*l.value = n
	}
	if in.Task < 0 || in.Index >= c.obs.Spec.Tasks[in.Task].InstanceNum {
		return resolve.Instance{}, false
	}
	return in, c.obs.Spec.PodName(in) == pod.Name
}

// place is where a Pod's attempt stands beside what the status says of its instance.
type place int

const (
	current place = iota // the attempt that is claimed now
	held                 // the attempt whose Pod is held
	past                 // counted already, or stopped for a suspension
	future               // not claimed yet
)

// place returns where an attempt stands, and for current, held and future the history
// that the instance has then.
func (c *computation) place(t *task, in resolve.Instance) (place, history) {
	if h, ok := t.interrupted.find(in.Index); ok {
		if in.Run == h.run && in.Attempt == h.attempt() {
			return held, h
		}
		return past, h
	}
	switch {
	case in.Run < c.runNumber, t.succeeded.Contains(in.Index), t.failed.Contains(in.Index):
		return past, history{}
	case in.Run > c.runNumber && c.obs.Live:
		return past, history{} // the status has lost a whole run: the Pod must not be in the way
	case in.Run > c.runNumber:
		return future, history{}
	}
	if h, ok := t.active.find(in.Index); ok {
		switch {
		case in.Attempt == h.attempt():
			return current, h
		//mutation:outcome-counted-twice
		case in.Attempt < h.attempt():
			return past, h
		}
	} else if h, ok := t.retrying.find(in.Index); ok && in.Attempt < h.attempt() || c.draining && c.obs.Live {
		// While the job drains nothing is claimed. But one that was suspended before it began
		// goes on in the same run, and Job may not show that yet.
		return past, h
	}
	// Which budget paid for the attempts before is lost with the claim.
	machines := min(in.Attempt, c.machineLimit(t))
	return future, history{retries: in.Attempt - machines, machines: machines}
}

// settle moves the instances whose attempts have ended to the lists where they belong.
func (t *task) settle() {
	gone := ranges.Of(t.moves.all()...)
	t.succeeded = t.succeeded.Union(ranges.Of(t.moves.succeeded...))
	t.failed = t.failed.Union(ranges.Of(t.moves.failed...))
	t.active, t.interrupted = t.active.minus(gone), t.interrupted.minus(gone)
	for h, indexes := range t.moves.retrying {
		if h != (history{}) { // else it is as if it had never been issued
			t.retrying = t.retrying.plus(h, ranges.Of(indexes...))
		}
	}
	for h, indexes := range t.moves.held {
		t.interrupted = t.interrupted.plus(h, ranges.Of(indexes...))
	}
}

// findLost looks at the claims, and the held instances, that have no Pod, as far as can be
// seen. A claim gets its Pod again, unless nothing may be made for it any more: then the
// API server must have said that there is none before that is the end of it.
func (c *computation) findLost(t *task) {
	if t.active.len()+t.interrupted.len() == len(t.seen)+t.moves.len() {
		return
	}
	known := ranges.Of(slices.Concat(t.seen, t.moves.all())...)
	for _, g := range t.interrupted.minus(known) {
		for i := range g.set.All() {
			c.verify(t, resolve.Instance{Task: t.pos, Index: i, Attempt: g.attempt(), Run: g.run, Machine: g.machines}, g.history)
		}
	}
	for _, g := range t.active.minus(known) {
		for i := range g.set.All() {
			in := resolve.Instance{Task: t.pos, Index: i, Attempt: g.attempt(), Run: c.runNumber, Machine: g.machines}
			switch {
			case c.isPending(in):
			case c.isDoomed(t, i), c.draining, c.isGivenUp(t, g.history), c.isTakenTooLong(t, in, g.history):
				c.verify(t, in, g.history)
			default:
				t.adopting++
				c.plan.Adopt = append(c.plan.Adopt, in)
				c.explainTaken(t, in)
			}
		}
	}
}

// isPending reports whether the cache may not show the Pod of an instance yet.
func (c *computation) isPending(in resolve.Instance) bool {
	if len(c.obs.Pending) == 0 {
		return false
	}
	_, ok := c.obs.Pending[c.obs.Spec.PodName(in)]
	return ok
}

// verify ends the claim of an instance that has no Pod, or asks whether it has one.
func (c *computation) verify(t *task, in resolve.Instance, h history) {
	name := c.obs.Spec.PodName(in)
	taken, isTaken := c.obs.Taken[name]
	switch {
	case c.obs.Absent == nil, !isTaken && !c.obs.Absent[name]:
		c.plan.Verify = append(c.plan.Verify, in)
		return
	case c.obs.Absent[name]:
	//mutation:suspension-forgets-disowned-pod
	case !c.isDoomed(t, in.Index) && !isHeld(t, in.Index):
		// The Pod may have been the instance's and run it still: nothing may follow.
		c.explainTaken(t, in)
		c.lookAgain(takenRetry)
		return
	}
	if isHeld(t, in.Index) { // that its attempt failed is known already
		if c.isDoomed(t, in.Index) {
			t.terminatedNow++
		}
		t.moves.failed = append(t.moves.failed, in.Index)
		c.plan.Urgent = true
		return
	}
	end := &outcome{kind: byMachine, time: seconds(c.now), reason: v1alpha1.ReasonPodDeleted, message: "the Pod is gone"}
	if r, ok := c.obs.Refusals[t.pos]; ok {
		end.reason, end.message = r.reason(), refusalMessage(r)
	}
	if isTaken {
		end.reason, end.message = v1alpha1.ReasonPodNameTaken, cut(taken.Message)
	}
	next, after := c.next(t, in, h, end)
	c.count(t, in, h, end, next, after)
}

// isHeld reports whether an instance of t is held.
func isHeld(t *task, index int) bool {
	_, ok := t.interrupted.find(index)
	return ok
}

// takenRetry is when to look again whether a Pod of somebody else still has the name of one of the
// job's, of which no event tells.
const takenRetry = 10 * time.Second

// explainTaken says of an instance that somebody else's Pod has the name of its Pod, where that is so.
func (c *computation) explainTaken(t *task, in resolve.Instance) {
	if len(c.obs.Taken) == 0 {
		return
	}
	name := c.obs.Spec.PodName(in)
	if taken, ok := c.obs.Taken[name]; ok {
		c.wait(t, in.Index, name, v1alpha1.ReasonPodNameTaken, taken.Message)
	}
}

// isTakenTooLong reports whether a Pod of somebody else that has finished has had the name of the
// instance's Pod for longer than the patience lasts. While it may run, the instance waits.
func (c *computation) isTakenTooLong(t *task, in resolve.Instance, h history) bool {
	if len(c.obs.Taken) == 0 {
		return false
	}
	taken, ok := c.obs.Taken[c.obs.Spec.PodName(in)]
	if !ok || taken.MayRun || !c.movesOn(t, h) {
		return false
	}
	left := taken.Since.Add(c.patience(t, h)).Sub(c.now)
	if left > 0 {
		c.lookAgain(left)
	}
	return left <= 0
}

// isGivenUp reports whether the cluster has refused to make the Pods of t for so long
// that an instance with this history is not asked for any more. It may have been refused
// before, for each machine that it did not have.
func (c *computation) isGivenUp(t *task, h history) bool {
	r, ok := c.obs.Refusals[t.pos]
	if !ok || r.Quota || !c.movesOn(t, h) {
		return false
	}
	var wait time.Duration
	for n := range h.machines + 1 {
		wait += c.patience(t, history{machines: n})
	}
	left := r.Since.Add(wait).Sub(c.now)
	if left > 0 {
		c.lookAgain(left)
	}
	return left <= 0
}

// isDoomed reports whether an instance is terminated, alone or with its job.
func (c *computation) isDoomed(t *task, index int) bool {
	return c.terminating || t.doomed.Contains(index)
}

// dismissStrangers removes the finalizers of Pods that could not be identified, save those that have
// the name of a claim: somebody edited their labels, and adoption heals them. One that nobody claims and
// that the operator has made must not run on. Without a proof it may be a user's, and is left alone.
func (c *computation) dismissStrangers() {
	if len(c.strangers) == 0 {
		return
	}
	claimed := map[string]bool{}
	for _, in := range slices.Concat(c.plan.Create, c.plan.Adopt, c.plan.Verify) {
		claimed[c.obs.Spec.PodName(in)] = true
	}
	for _, pod := range c.strangers {
		switch {
		//mutation:finalizer-of-edited-pod-removed
		case claimed[pod.Name]:
		case c.asksForProof():
			c.dismiss([]*corev1.Pod{pod})
		case !HoldsNode(pod, c.now):
			c.plan.Release = append(c.plan.Release, pod)
		}
	}
}

func (m *moves) len() int {
	n := len(m.succeeded) + len(m.failed)
	for _, list := range m.retrying {
		n += len(list)
	}
	for _, list := range m.held {
		n += len(list)
	}
	return n
}

func (m *moves) all() []int {
	out := slices.Concat(m.succeeded, m.failed)
	for _, list := range m.retrying {
		out = append(out, list...)
	}
	for _, list := range m.held {
		out = append(out, list...)
	}
	return out
}

func isTerminal(s v1alpha1.JobState) bool {
	return s == v1alpha1.JobSucceed || s == v1alpha1.JobFailed
}

// seconds is t as the API server stores it.
func seconds(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
