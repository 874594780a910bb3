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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// Compute returns what is to be done for the observed job at the time now. The error
// says that the stored status cannot be read. Cost: O(tasks + dependences + Pods +
// ranges in the status).
func Compute(obs Observation, now time.Time) (Plan, error) {
	c := &computation{obs: obs, now: now}
	switch {
	case obs.Job.DeletionTimestamp != nil:
		// The garbage collector, or nobody with --cascade=orphan, deletes the Pods: all
		// that is ours to do is to let go of them.
		c.plan.Status = *obs.Job.Status.DeepCopy()
		c.plan.Release = slices.Clone(obs.Pods)
	case isTerminal(obs.Job.Status.State):
		c.plan.Status = *obs.Job.Status.DeepCopy()
		c.dismiss(obs.Pods)
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
	c.plan.Status = *obs.Job.Status.DeepCopy()
	if !isTerminal(obs.Job.Status.State) && obs.Job.DeletionTimestamp == nil {
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
	// strangers are Pods that could not be identified.
	strangers []*corev1.Pod
	// failures are the attempts that were found failed now, in order of time.
	failures []failure
}

// failure is a failed attempt of the task at pos; final, when it was the last one.
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

	succeeded, failed ranges.Set
	active, retrying  groups

	// What the Pods tell, by index.
	nowSucceeded, nowFailed []int
	nowRetrying             map[int][]int // by the number of failed attempts
	seen                    []int         // active, with a Pod that has not finished
	starting, running       int
	waits                   waits

	state           v1alpha1.TaskState
	reason, message string
	lastFinal       *failure // found now
	lastRetried     *failure // found now
}

func (c *computation) run() error {
	if err := c.load(); err != nil {
		return err
	}
	for _, pod := range c.obs.Pods {
		if !c.look(pod) {
			c.plan = Plan{NeedLive: true}
			return nil
		}
	}
	c.sortFailures()
	for i := range c.tasks {
		c.tasks[i].settle()
		c.findLost(&c.tasks[i])
	}
	if len(c.plan.Adopt) == 0 {
		c.obs.Refusal = nil // the Pod that was refused is there, or is not wanted any more
	}
	order, _ := c.obs.Spec.Graph.Order()
	for _, i := range order {
		c.advance(&c.tasks[i])
	}
	c.dismissStrangers()
	inOrder := func(a, b resolve.Instance) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Index, b.Index))
	}
	slices.SortFunc(c.plan.Create, inOrder)
	slices.SortFunc(c.plan.Adopt, inOrder)
	c.summarize()
	return nil
}

// load reads the tasks' lists from the stored status.
func (c *computation) load() error {
	spec, stored := c.obs.Spec, c.obs.Job.Status.Tasks
	c.tasks = make([]task, len(spec.Tasks))
	for i := range spec.Tasks {
		t := &c.tasks[i]
		t.Task, t.pos = &spec.Tasks[i], i
		if len(stored) == 0 || stored[0].Name != t.Name {
			continue // PENDING tasks are not in the status
		}
		t.old, stored = &stored[0], stored[1:]
		if err := t.load(); err != nil {
			return fmt.Errorf("status of task %q: %w", t.Name, err)
		}
	}
	if len(stored) > 0 {
		return fmt.Errorf("status has a task %q that the spec does not have there", stored[0].Name)
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
	if t.active, err = parseGroups(t.old.Active); err != nil {
		return fmt.Errorf("active: %w", err)
	}
	if t.retrying, err = parseGroups(t.old.Retrying); err != nil {
		return fmt.Errorf("retrying: %w", err)
	}
	return t.check()
}

// check says what is wrong with lists that could be read. A job whose counts never add
// up would never end.
func (t *task) check() error {
	all, sum := t.succeeded.Union(t.failed), t.succeeded.Len()+t.failed.Len()
	for _, g := range slices.Concat(t.active, t.retrying) {
		all, sum = all.Union(g.set), sum+g.set.Len()
	}
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
		return c.obs.Live
	}
	t := &c.tasks[in.Task]
	switch t.place(in) {
	case past:
		c.dismiss([]*corev1.Pod{pod})
		return true
	case future:
		if !c.obs.Live {
			return false
		}
		// The stored status has lost this claim, as after a restore of the database.
		// The Pod is the better witness: its attempt counts as claimed.
		t.adopted = true
		t.retrying = t.retrying.minus(ranges.Of(in.Index))
		t.active = t.active.minus(ranges.Of(in.Index)).plus(in.Attempt, ranges.Of(in.Index))
	}
	c.judge(t, in, pod)
	return true
}

// judge takes in what the Pod of a current claim tells.
func (c *computation) judge(t *task, in resolve.Instance, pod *corev1.Pod) {
	switch end := outcomeOf(pod, t.Timeout); {
	case end == nil:
		t.seen = append(t.seen, in.Index)
		if pod.DeletionTimestamp == nil && !slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
			c.plan.Adopt = append(c.plan.Adopt, in) // somebody took it off
		}
		c.follow(t, in, pod)
		return
	case end.succeeded:
		t.nowSucceeded = append(t.nowSucceeded, in.Index)
	default:
		final := in.Attempt >= t.MaxRetryCount
		if final {
			t.nowFailed = append(t.nowFailed, in.Index)
		} else {
			if t.nowRetrying == nil {
				t.nowRetrying = map[int][]int{}
			}
			t.nowRetrying[in.Attempt+1] = append(t.nowRetrying[in.Attempt+1], in.Index)
		}
		c.failures = append(c.failures, failure{v1alpha1.TaskInstanceFailure{
			TaskName: t.Name, TaskInstanceIndex: int64(in.Index), Attempt: int64(in.Attempt),
			Time: end.time, ExitCode: end.exitCode, Reason: end.reason, Message: end.message,
			PodName: pod.Name, NodeName: pod.Spec.NodeName,
		}, in.Task, final})
	}
	c.plan.Urgent = true
	c.plan.Release = append(c.plan.Release, pod)
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

// follow looks at a Pod that has not finished: what it is doing, what it waits for, and
// whether its time is up.
func (c *computation) follow(t *task, in resolve.Instance, pod *corev1.Pod) {
	started := startedAt(pod)
	switch {
	case started != nil, terminated(pod) != nil: // ended, and the kubelet is clearing up
		t.running++
	case pod.Spec.NodeName != "":
		t.starting++
	}
	reason, detail := waitsFor(pod, t.Task)
	if since := preparedSince(pod); reason == "" && !since.IsZero() {
		if left := since.Add(slowStart).Sub(c.now); left > 0 {
			c.lookAgain(left)
		} else {
			reason, detail = v1alpha1.ReasonContainerCreating, slowStartDetail(pod)
		}
	}
	if reason != "" {
		t.waits.add(reason, detail, in.Index)
	}
	if started == nil || pod.DeletionTimestamp != nil {
		return
	}
	// The kubelet cuts the time of the start to whole seconds: up to one is not over.
	left := started.Add(t.Timeout + time.Second).Sub(c.now)
	if left <= 0 {
		c.plan.Delete = append(c.plan.Delete, pod)
		return
	}
	c.lookAgain(left)
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
		c.plan.Release = append(c.plan.Release, pod)
		if !hasFinished(pod) && pod.DeletionTimestamp == nil {
			c.plan.Delete = append(c.plan.Delete, pod)
		}
	}
}

// identify returns the instance that pod runs. It is false for a Pod that the operator
// would not have made: labels can be edited, but the name says what they must be.
func (c *computation) identify(pod *corev1.Pod) (resolve.Instance, bool) {
	t := c.obs.Spec.TaskByLabel(pod.Labels[v1alpha1.LabelTaskName])
	index, errIndex := strconv.Atoi(pod.Labels[v1alpha1.LabelTaskInstanceIndex])
	attempt, errAttempt := strconv.Atoi(pod.Labels[v1alpha1.LabelAttempt])
	if t < 0 || errIndex != nil || errAttempt != nil || index < 0 || index >= c.obs.Spec.Tasks[t].InstanceNum || attempt < 0 {
		return resolve.Instance{}, false
	}
	in := resolve.Instance{Task: t, Index: index, Attempt: attempt}
	return in, c.obs.Spec.PodName(in) == pod.Name
}

// place is where a Pod's attempt stands beside what the status says of its instance.
type place int

const (
	current place = iota // the attempt that is claimed now
	past                 // counted already
	future               // not claimed yet
)

func (t *task) place(in resolve.Instance) place {
	if t.succeeded.Contains(in.Index) || t.failed.Contains(in.Index) {
		return past
	}
	if claimed, ok := t.active.find(in.Index); ok {
		switch {
		case in.Attempt == claimed:
			return current
		case in.Attempt < claimed:
			return past
		}
		return future
	}
	if next, ok := t.retrying.find(in.Index); ok && in.Attempt < next {
		return past
	}
	return future
}

// settle moves the instances whose attempts have ended to the lists where they belong.
func (t *task) settle() {
	succeeded, failed := ranges.Of(t.nowSucceeded...), ranges.Of(t.nowFailed...)
	t.succeeded = t.succeeded.Union(succeeded)
	t.failed = t.failed.Union(failed)
	gone := succeeded.Union(failed)
	for retries, indexes := range t.nowRetrying {
		set := ranges.Of(indexes...)
		t.retrying = t.retrying.plus(retries, set)
		gone = gone.Union(set)
	}
	t.active = t.active.minus(gone)
}

// findLost lists the claims that have no Pod, as far as can be seen.
func (c *computation) findLost(t *task) {
	if t.active.len() == len(t.seen) {
		return
	}
	for _, g := range t.active.minus(ranges.Of(t.seen...)) {
		for i := range g.set.All() {
			in := resolve.Instance{Task: t.pos, Index: i, Attempt: g.retries}
			if c.obs.Pending == nil || !c.obs.Pending(c.obs.Spec.PodName(in)) {
				c.plan.Adopt = append(c.plan.Adopt, in)
			}
		}
	}
}

// dismissStrangers lets go of the Pods that could not be identified, save those that
// have the name of a claim: somebody edited their labels, and adoption heals them.
func (c *computation) dismissStrangers() {
	if len(c.strangers) == 0 {
		return
	}
	claimed := map[string]bool{}
	for _, in := range slices.Concat(c.plan.Create, c.plan.Adopt) {
		claimed[c.obs.Spec.PodName(in)] = true
	}
	for _, pod := range c.strangers {
		if !claimed[pod.Name] {
			c.plan.Release = append(c.plan.Release, pod)
		}
	}
}

func isTerminal(s v1alpha1.JobState) bool {
	return s == v1alpha1.JobSucceed || s == v1alpha1.JobFailed
}

// seconds is t as the API server stores it.
func seconds(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
