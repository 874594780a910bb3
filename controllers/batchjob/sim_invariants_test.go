// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// The invariants of every state of every run, and the functions that check them:
//
//	I1 at most one live Pod for each instance            checkLive
//	I2 an attempt is counted once, as it really ended    checkMove
//	I3 budgets and limits are not exceeded               checkBudgets
//	I4 no task starts before its rule holds              checkRule
//	I5 the counts equal the lists                        checkSums
//	I6 a Pod is claimed when it is created, and its      checkClaimed,
//	   outcome is stored when its finalizer is removed   checkFinalizerRemoved
//	I7 a job is final when no Pod of it runs, and stays  checkFinal
//	I8 a job ends, or stops when it is suspended, and    round, checkIdle,
//	   then nothing is written                           checkStopping, checkSuspended
//	I9 no finalizer and nothing in memory is left        checkNothingLeft
//	I10 a running Pod is stopped only for a reason       checkStopped
//	I11 a process waits until it sees its own write      checkAwaited
//
// The functions after the checks call them.

// checkLive: an instance has at most one live Pod. A Pod is live from its creation until its containers have ended, or can
// never run. Unclaimed Pods do not count: see singleController.
func (s *simulation) checkLive() {
	live := map[string]string{}
	for _, b := range s.simPods {
		if !b.live || b.unclaimed {
			continue
		}
		key := fmt.Sprintf("instance %d of task %d of %s", b.in.Index, b.in.Task, b.job.UID)
		if other := live[key]; other != "" {
			s.fail("I1: %s has two live Pods, %s and %s", key, other, b.name)
		}
		live[key] = b.name
	}
}

// checkMove: the record of an instance in the stored status changes only as a Pod of its attempt really ended, one attempt at
// a time, and the right budget is charged.
func (s *simulation) checkMove(job, was *v1alpha1.BatchJob, task, index int, before, after simRecord) {
	if before == after {
		return
	}
	spec := &s.specs[job.Name].Tasks[task]
	run := int(was.Status.Run)
	if before.where == simInterrupted {
		run = before.run
	}
	end := s.endings(job, resolve.Instance{Task: task, Index: index, Attempt: before.attempt(), Run: run})
	terminated := job.Spec.Terminate
	restarted := job.Status.Run > was.Status.Run
	mayRetry := before.retries < spec.MaxRetryCount && spec.FailedAction != v1alpha1.FailedActionFastInterrupt
	machineUsedUp := before.machines == spec.ResourceMaxRetryCount
	step := simRecord{retries: after.retries - before.retries, machines: after.machines - before.machines}
	again := after.where == simActive || after.where == simRetrying || after == (simRecord{})
	ok := false
	switch {
	case restarted && before.where == simFailed && (after.where == "" || after == simRecord{where: simActive} || after.where == simFailed):
		ok = isFinal(was)
	case before.where == "":
		ok = after == simRecord{where: simActive} || after.where == simFailed // its predecessors failed, or it is terminated
	case before.where == simRetrying && after.where == simFailed:
		ok = terminated
	case before.where == simRetrying:
		ok = after.where == simActive && step == simRecord{}
	case before.where == simInterrupted:
		ok = after.where == simFailed && (terminated || end.any)
	case before.where != simActive:
	case after.where == simSucceeded:
		ok = end.success
	case after.where == simFailed && terminated:
		ok = end.any
	case after.where == simFailed:
		ok = end.command && !mayRetry && spec.FailedAction == v1alpha1.FailedActionTerminate || end.machine && machineUsedUp && !mayRetry ||
			end.permanent
	case after.where == simInterrupted:
		ok = end.command && !mayRetry && spec.FailedAction != v1alpha1.FailedActionTerminate && step == simRecord{}
	case again && step == simRecord{}: // stopped for a suspension
		ok = (end.machine || end.stopped || end.permanent) && (s.wasSuspended(was) || s.wasSuspended(job))
	case again && step == simRecord{machines: 1}:
		ok = end.machine && !machineUsedUp
	case again && step == simRecord{retries: 1}:
		ok = mayRetry && (end.command || end.machine && machineUsedUp)
	}
	if !ok {
		s.fail("I2: instance %d of task %d changes from %+v to %+v, and has ended %+v", index, task, before, after, end)
	}
}

// wasSuspended reports whether a stored status says that the job is suspended.
func (s *simulation) wasSuspended(job *v1alpha1.BatchJob) bool {
	return meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionSuspended)
}

// simEndings summarizes how the Pods of an attempt have really ended.
type simEndings struct{ any, success, command, machine, stopped, permanent bool }

// endings returns how the Pods of an attempt have really ended. There is more than one Pod if one was deleted in spite of its
// finalizer. An attempt without a Pod has not acquired its machine.
func (s *simulation) endings(job *v1alpha1.BatchJob, in resolve.Instance) (out simEndings) {
	found := false
	for _, b := range s.simPods {
		if b.job.UID != job.UID || b.in != in || b.unclaimed && b.live {
			continue
		}
		found = true
		for _, e := range b.ends {
			out.any = true
			out.success = out.success || e.succeeded()
			out.stopped = out.stopped || e.stopped
			out.machine = out.machine || e.machine || e.stopped && !b.timedOut || e.dataFailed() && e.data != agentapi.Permanent
			out.permanent = out.permanent || e.dataFailed() && e.data == agentapi.Permanent
			out.command = out.command || !e.machine && (e.code != 0 && !e.stopped || e.stopped && (b.timedOut || b.late))
		}
		// If the node does not confirm the end of a terminating Pod, the end may be counted when no attempt follows.
		silent := len(b.ends) == 0 || b.disowned && len(b.ends) == 1 // the one for the change of ownership
		if pod := s.pods[b.name]; silent && pod != nil && pod.UID == b.uid && pod.DeletionTimestamp != nil && !s.now.Before(pod.DeletionTimestamp.Add(time.Minute)) {
			out.any, out.machine, out.command = true, out.machine || !b.timedOut, out.command || b.timedOut || b.late
		}
	}
	if !found {
		out.any, out.machine = true, true
	}
	return out
}

// checkBudgets: no budget and no maxConcurrentNum is exceeded.
func (s *simulation) checkBudgets(job *v1alpha1.BatchJob) {
	spec := s.specs[job.Name]
	for i := range spec.Tasks {
		t, active := &spec.Tasks[i], 0
		for index, at := range s.records(job, i) {
			if at.retries > t.MaxRetryCount || at.machines > t.ResourceMaxRetryCount {
				s.fail("I3: instance %d of task %d has spent %+v of %d and %d", index, i, at, t.MaxRetryCount, t.ResourceMaxRetryCount)
			}
			if at.where == simActive || at.where == simInterrupted {
				active++
			}
		}
		if active > t.MaxConcurrentNum {
			s.fail("I3: task %d has %d active instances, and may have %d", i, active, t.MaxConcurrentNum)
		}
	}
	live := map[int]int{}
	for _, b := range s.simPods {
		// A Pod on an unreachable node whose outcome was counted does not count towards the limit.
		if b.live && !b.unclaimed && b.job.UID == job.UID && s.claims(job, b) {
			if live[b.in.Task]++; live[b.in.Task] > spec.Tasks[b.in.Task].MaxConcurrentNum {
				s.fail("I3: task %d has %d live Pods, and may have %d", b.in.Task, live[b.in.Task], spec.Tasks[b.in.Task].MaxConcurrentNum)
			}
		}
	}
}

// checkRule: a task starts only if its rule allows it, and fails without a start only if the rule can never allow it.
func (s *simulation) checkRule(job *v1alpha1.BatchJob, task int) {
	spec := s.specs[job.Name]
	start := true
	for _, p := range spec.Graph.Predecessors(task) {
		count := map[string]int{}
		for _, at := range s.records(job, int(p)) {
			count[at.where]++
		}
		start = start && count[simSucceeded]+count[simFailed] == spec.Tasks[p].InstanceNum
		switch spec.DependOn {
		case v1alpha1.PreTaskSucceed:
			start = start && count[simFailed] == 0
		case v1alpha1.PreTaskAtLeastPartlySucceed:
			start = start && count[simSucceeded] > 0
		}
	}
	for index, at := range s.records(job, task) {
		switch {
		case at.where == simSucceeded, at.where == simFailed && (job.Spec.Terminate || !start):
		case at.where == simFailed || !start:
			s.fail("I4: task %d: instance %d is %+v; the task may start: %t", task, index, at, start)
		}
	}
}

// checkSums: the counts of a status equal its lists, and include all instances.
func (s *simulation) checkSums(job *v1alpha1.BatchJob) {
	spec, status := s.specs[job.Name], &job.Status
	count := map[string]int64{}
	for i := range spec.Tasks {
		for _, at := range s.records(job, i) {
			count[at.where]++
		}
	}
	sum := func(m v1alpha1.StateMetrics) int64 {
		return m.SubmittedCount + m.PendingCount + m.RunnableCount + m.StartingCount + m.RunningCount + m.SucceedCount + m.FailedCount + m.FailedInterruptedCount
	}
	m := status.TaskInstanceMetrics
	if m.FailedInterruptedCount != count[simInterrupted] {
		s.fail("I5: %d instances are interrupted, and counted %d", count[simInterrupted], m.FailedInterruptedCount)
	}
	if m.SucceedCount != count[simSucceeded] || m.FailedCount != count[simFailed] || m.StartingCount+m.RunningCount > count[simActive] ||
		sum(m) != int64(spec.InstanceNum) || sum(status.TaskMetrics) != int64(len(spec.Tasks)) ||
		status.TaskInstanceProgress != fmt.Sprintf("%d/%d", count[simSucceeded], spec.InstanceNum) {
		s.fail("I5: the counts do not add up: %v, %+v", count, status)
	}
}

// checkClaimed: a Pod is created for an attempt that the stored status claims. A job that is deleted is not checked: the
// garbage collector deletes its Pods.
func (s *simulation) checkClaimed(b *simPod) {
	job := s.jobs[b.job.Name]
	if s.isDeleted(b.job) || s.claims(job, b) {
		return
	}
	if b.unclaimed = true; s.singleController() {
		s.fail("I6: %s was created, and is not claimed", b.name)
	}
}

// checkFinalizerRemoved: when the finalizer or label of a Pod is removed, no stored status waits for its outcome, and a running
// Pod is terminating. If its job is deleted, --cascade decides what happens to the Pod.
func (s *simulation) checkFinalizerRemoved(pod *corev1.Pod) {
	b := s.simPodOf(pod)
	job := s.jobs[b.job.Name]
	if s.isDeleted(b.job) || b.disowned {
		return
	}
	if b.live && pod.DeletionTimestamp == nil {
		s.fail("I6: the finalizer of %s was removed, and it keeps running", pod.Name)
	}
	if b.storing && s.now.Before(pod.DeletionTimestamp.Add(time.Minute)) {
		s.fail("I6: the finalizer of %s was removed, and its outputs are being stored", pod.Name)
	}
	if isFinal(job) || b.unclaimed {
		return
	}
	if s.specs[job.Name].WaitsForMachine && !b.live && !b.ran {
		return // it is replaced: it has not run, and has no outcome
	}
	if s.claims(job, b) {
		s.fail("I6: the finalizer of %s was removed, and its outcome is not stored", pod.Name)
	}
}

// checkFinal: a job becomes final when none of its Pods runs, and does not change afterwards. A second controller may create a
// Pod at any moment: see singleController.
func (s *simulation) checkFinal(before, after *v1alpha1.BatchJob) {
	if isFinal(before) && after.Status.Run == before.Status.Run && (before.Status.State != after.Status.State || before.Status.TaskInstanceProgress != after.Status.TaskInstanceProgress || !before.Status.EndTime.Equal(after.Status.EndTime)) {
		s.fail("I7: the final status %s is written again", before.Status.State)
	}
	if !isFinal(after) || !s.singleController() {
		return
	}
	for _, name := range s.podNames() {
		pod := s.pods[name]
		if isTracked(pod) && !plan.HasFinished(pod) && metav1.IsControlledBy(pod, after) && !s.isForgotten(s.simPodOf(pod), after) {
			s.fail("I7: the job is %s, and %s has not finished", after.Status.State, name)
		}
	}
}

// checkIdle: if nothing has changed, a pass writes nothing.
func (s *simulation) checkIdle() {
	before := s.writes
	for _, c := range s.controllers {
		for _, job := range s.setup.jobs {
			if c.used {
				s.startPass(c, job.Name)
				s.current = c.id
				s.runPasses()
			}
		}
	}
	if s.writes != before {
		s.fail("I8: %d writes though nothing has changed", s.writes-before)
	}
}

// checkStopping: when no pass is due, and none is repeated soon after a conflict, all Pods that a suspension or a termination
// stops are terminating.
func (s *simulation) checkStopping() {
	for _, c := range s.controllers {
		for _, d := range c.due {
			if !d.at.IsZero() && !d.at.After(s.now.Add(staleRetry)) {
				return
			}
		}
	}
	for _, b := range s.simPods {
		pod, job := s.pods[b.name], s.jobs[b.job.Name]
		if !b.live || b.unclaimed || b.disowned || b.hidden || pod == nil || pod.UID != b.uid || s.isDeleted(b.job) || pod.DeletionTimestamp != nil {
			continue
		}
		if (job.Spec.Suspend || job.Spec.Terminate) && pod.Labels[v1alpha1.LabelAttempt] != "" {
			s.fail("I8: the job is suspended or terminated, and %s was not deleted", b.name)
		}
	}
}

// checkSuspended: when a suspended job is idle, no Pod of it runs, no instance is claimed, and only Pods of interrupted instances
// have the finalizer.
func (s *simulation) checkSuspended(job *v1alpha1.BatchJob) {
	for _, b := range s.simPods {
		if b.live && !b.unclaimed && b.job.UID == job.UID {
			s.fail("I8: the job is suspended, and %s keeps running", b.name)
		}
	}
	for _, name := range s.podNames() {
		pod := s.pods[name]
		b := s.simPodOf(pod)
		if b.job.UID != job.UID || b.unclaimed || b.hidden || b.disowned || s.records(job, b.in.Task)[b.in.Index].where == simInterrupted {
			continue
		}
		if slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
			s.fail("I9: the job is suspended, and %s still has the finalizer", name)
		}
	}
	for i := range s.specs[job.Name].Tasks {
		for index, at := range s.records(job, i) {
			if at.where == simActive {
				s.fail("I8: the job is suspended, and instance %d of task %d is claimed", index, i)
			}
		}
	}
}

// isForgotten reports whether a user removed the tracking label of a Pod whose instance has ended: no cache has the Pod, and no
// pass asks the API server for it. The user who edited it must delete it.
func (s *simulation) isForgotten(b *simPod, job *v1alpha1.BatchJob) bool {
	pod := s.pods[b.name]
	if !b.hidden || pod == nil || pod.Labels[v1alpha1.LabelTracked] != "" {
		return false
	}
	where := s.records(job, b.in.Task)[b.in.Index].where
	return where == simSucceeded || where == simFailed
}

// checkNothingLeft: at the end the job is final or deleted, no Pod has our finalizer or label, unclaimed Pods were deleted, and
// no process remembers anything.
func (s *simulation) checkNothingLeft() {
	hidden := false
	for _, name := range s.podNames() {
		pod := s.pods[name]
		b := s.simPodOf(pod)
		if b.hidden && pod.Labels[v1alpha1.LabelTracked] == "" && s.isDeleted(b.job) || !s.isDeleted(b.job) && s.isForgotten(b, s.jobs[b.job.Name]) {
			hidden = true
			continue
		}
		if isTracked(pod) {
			s.fail("I9: %s still has the finalizer or label", name)
		}
	}
	for _, submitted := range s.setup.jobs {
		if job := s.jobs[submitted.Name]; job != nil && !isFinal(job) && !hidden {
			s.fail("I8: the job has not ended: %q", s.brief())
		}
	}
	if hidden {
		return
	}
	for _, c := range s.controllers {
		if len(c.r.states.byName) > 0 || len(c.r.tokens.holders) > 0 || len(c.r.creator.quotas.byNamespace) > 0 {
			s.fail("I9: controller %d remembers %d jobs and %d tokens, and has %d quota queues", c.id, len(c.r.states.byName), len(c.r.tokens.holders), len(c.r.creator.quotas.byNamespace))
		}
	}
}

// checkAwaited: a process writes no status while its cache does not have its last status write. The API server would refuse the
// write, again and again.
func (s *simulation) checkAwaited(c *simController) {
	for _, job := range c.cachedJobs() {
		// The process does not remember its writes of final jobs, which are rare.
		if job.Name == c.passing && !isFinal(job) && lookup.IsOlder(job.ResourceVersion, c.written) {
			s.fail("I11: controller %d writes a status before its cache has its last write", c.id)
		}
	}
}

// isDeleted reports whether a job is deleted or being deleted.
func (s *simulation) isDeleted(was *v1alpha1.BatchJob) bool {
	job := s.jobs[was.Name]
	return job == nil || job.UID != was.UID || job.DeletionTimestamp != nil
}

// checkStopped: a controller deletes a Pod only after its timeout, or when its attempt or its job is over.
func (s *simulation) checkStopped(pod *corev1.Pod) {
	b := s.simPodOf(pod)
	job := s.jobs[b.job.Name]
	if !b.live || s.isDeleted(b.job) || isFinal(job) {
		return
	}
	if !s.claims(job, b) {
		return
	}
	if job.Spec.Terminate || s.wasSuspended(job) {
		return
	}
	if s.isLate(b, pod, 0) {
		b.timedOut = true
		return
	}
	if pod.Status.Phase == corev1.PodPending && !s.now.Before(pod.CreationTimestamp.Add(plan.DefaultResourceWait)) {
		return // past the acquisition timeout
	}
	s.fail("I10: %s is stopped without a reason", pod.Name)
}

// check is called after every change.
func (s *simulation) check() {
	if s.simAPI.floor > s.floor {
		s.floor = s.simAPI.floor
		for _, c := range s.controllers {
			c.catchUp(c.jobAt, max(c.podsAt, s.floor))
		}
	}
	s.checkLive()
	s.checkGone()
}

// afterWrite is called after a controller's write.
func (s *simulation) afterWrite() { s.check() }

// checkEnd is called when nothing can happen anymore.
func (s *simulation) checkEnd() {
	s.checkNothingLeft()
	s.checkAllReceived()
	s.checkIdle()
}

// makePod is the creation of a Pod by a controller.
func (s *simulation) makePod(pod *corev1.Pod) error {
	if err := s.createPod(pod); err != nil {
		return err
	}
	owner := metav1.GetControllerOf(pod)
	b := &simPod{name: pod.Name, uid: s.pods[pod.Name].UID, number: s.uids, live: true, job: s.owner(owner)}
	spec := s.specs[owner.Name]
	b.in.Task = spec.TaskByLabel(pod.Labels[v1alpha1.LabelTaskName])
	b.in.Index, _ = strconv.Atoi(pod.Labels[v1alpha1.LabelTaskInstanceIndex])
	b.in.Attempt, _ = strconv.Atoi(pod.Labels[v1alpha1.LabelAttempt])
	b.in.Run, _ = strconv.Atoi(pod.Labels[v1alpha1.LabelRun])
	s.simPods = append(s.simPods, b)
	s.checkClaimed(b)
	if !b.unclaimed && s.jobs[owner.Name] != nil {
		s.checkBudgets(s.jobs[owner.Name])
	}
	return nil
}

// owner returns the job of an owner reference, or a job with only its name and UID if it does not exist.
func (s *simulation) owner(ref *metav1.OwnerReference) *v1alpha1.BatchJob {
	if job := s.jobs[ref.Name]; job != nil && job.UID == ref.UID {
		return job
	}
	return &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Name: ref.Name, UID: ref.UID}}
}

// stopPod is the deletion of a Pod by a controller.
func (s *simulation) stopPod(name string, uid *types.UID) error {
	if pod := s.pods[name]; pod != nil && pod.DeletionTimestamp == nil && (uid == nil || *uid == pod.UID) {
		if name == s.foreignPod {
			s.fail("I6: %s is a foreign Pod, and is deleted", name)
		}
		s.checkStopped(pod)
	}
	return s.askToStop(name, uid)
}

// editMetadata is a patch of a Pod by a controller. It returns the new resource version of the Pod, or its last one.
func (s *simulation) editMetadata(name string, body []byte) (string, error) {
	before := s.pods[name]
	if err := s.patchPod(name, body); err != nil {
		return "", err
	}
	after, version := s.pods[name], before.ResourceVersion
	if name == s.foreignPod {
		// Our metadata, such as the finalizer, may be removed from it, and nothing may be added.
		if len(after.Labels) > len(before.Labels) || len(after.Finalizers) > len(before.Finalizers) || len(after.Annotations) > len(before.Annotations) || len(after.OwnerReferences) > len(before.OwnerReferences) {
			s.fail("I6: %s is a foreign Pod, and is changed", name)
		}
		return after.ResourceVersion, nil
	}
	if after != nil {
		version = after.ResourceVersion
	}
	lost := after == nil || before.Labels[v1alpha1.LabelTracked] != "" && after.Labels[v1alpha1.LabelTracked] == "" ||
		len(after.Finalizers) < len(before.Finalizers)
	if lost {
		s.checkFinalizerRemoved(before)
	}
	return version, nil
}

// recordStatus is a status write by a controller.
func (s *simulation) recordStatus(c *simController, name string, body []byte) (*v1alpha1.BatchJob, error) {
	before := s.jobs[name]
	after, err := s.storeStatus(name, body)
	if err != nil || after == before {
		return after, err
	}
	s.markUnclaimed(c, after)
	s.noteDue(before, after)
	s.checkFinal(before, after)
	if plan.IsDuplicate(after) || isFinal(before) && after.Status.Run == before.Status.Run {
		return after, nil
	}
	s.checkSums(after)
	s.checkBudgets(after)
	for i := range s.specs[name].Tasks {
		old, next := s.records(before, i), s.records(after, i)
		if startsTask(old, next) {
			s.checkRule(after, i)
		}
		for index := range s.specs[name].Tasks[i].InstanceNum {
			s.checkMove(after, before, i, index, old[index], next[index])
		}
	}
	return after, nil
}

// markUnclaimed marks the Pods that another controller has created during the pass which stores this status, if the status does
// not claim their attempts, because the pass found no Pod. See singleController.
func (s *simulation) markUnclaimed(c *simController, job *v1alpha1.BatchJob) {
	for i, b := range s.simPods {
		if b.live && b.job.UID == job.UID && b.number > c.lastUID && !s.claims(job, b) && !s.singleController() {
			s.simPods[i].unclaimed = true
		}
	}
}

// startsTask reports whether a status starts a task of which no instance was active, failed or waited for a retry.
func startsTask(old, next map[int]simRecord) bool {
	started := func(m map[int]simRecord) bool {
		for _, at := range m {
			if at.where != simSucceeded {
				return true
			}
		}
		return false
	}
	return !started(old) && started(next)
}

func isFinal(job *v1alpha1.BatchJob) bool {
	return job.Status.State == v1alpha1.JobSucceed || job.Status.State == v1alpha1.JobFailed
}

// isTracked reports whether a Pod has our finalizer or tracking label.
func isTracked(pod *corev1.Pod) bool {
	return pod.Labels[v1alpha1.LabelTracked] != "" || slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
}

// brief returns the short form of all jobs.
func (s *simulation) brief() []string {
	var out []string
	for _, submitted := range s.setup.jobs {
		if job := s.jobs[submitted.Name]; job != nil {
			out = append(out, brief(job)...)
		}
	}
	return out
}

// fingerprint identifies a state between two rounds: the objects, what the processes remember, and what really happened. Two
// runs with the same fingerprint continue in the same way. With ahead it includes the old views that a stale cache may have.
func (s *simulation) fingerprint(ahead bool) string {
	var out strings.Builder
	v := s.history[s.last()]
	fmt.Fprint(&out, v.digest, s.now.Unix(), s.now.Nanosecond(), s.deviationsEnded, s.singleController())
	if ahead {
		fmt.Fprint(&out, v.chain, s.floor)
	}
	for _, c := range s.controllers {
		if c.id > 0 && !c.used {
			continue // it starts with empty or new caches
		}
		if ahead || c.jobAt != s.last() {
			fmt.Fprint(&out, " job ", s.history[c.jobAt].chain)
		}
		if ahead || c.podsAt != s.last() {
			fmt.Fprint(&out, " pods ", s.history[c.podsAt].chain)
		}
		for _, submitted := range s.setup.jobs {
			if d := c.due[submitted.Name]; d != nil {
				fmt.Fprint(&out, " due ", d.now, d.at.UnixNano())
			}
			for key, m := range c.r.states.byName {
				if key.Name == submitted.Name {
					out.WriteString(s.digestState(m, ahead))
				}
			}
		}
	}
	for _, b := range s.simPods {
		fmt.Fprint(&out, b.uid, b.live, b.ran, b.timedOut, b.late, b.lost, b.unclaimed, b.hidden, b.disowned, b.storing, b.ends)
	}
	return out.String()
}

// digestState returns the part of a job's state that influences what follows.
func (s *simulation) digestState(m *jobState, ahead bool) string {
	var out strings.Builder
	fmt.Fprint(&out, " state ", m.uid, m.code)
	if ahead || lookup.IsOlder(strconv.Itoa(s.version), m.version) {
		fmt.Fprint(&out, m.version)
	}
	if s.now.Sub(m.writes.Last()) < time.Minute {
		fmt.Fprint(&out, m.writes.Last().UnixNano())
	}
	var created []string
	for name, at := range m.created {
		created = append(created, fmt.Sprint(name, at.UnixNano()))
	}
	slices.SortFunc(created, cmp.Compare[string])
	fmt.Fprint(&out, created)
	for _, uid := range slices.Sorted(maps.Keys(m.finalizersRemoved)) {
		fmt.Fprint(&out, uid, m.finalizersRemoved[uid])
	}
	fmt.Fprint(&out, m.spec != nil)
	if st := m.lastIdle; st != nil {
		fmt.Fprint(&out, st.version, st.wakeups == m.wakeups, st.until.UnixNano(), st.waits)
	}
	for _, name := range slices.Sorted(maps.Keys(m.conflicts)) {
		t := m.conflicts[name]
		fmt.Fprint(&out, name, t.MayRun, t.Since.UnixNano(), t.tries, t.until.UnixNano())
	}
	for _, name := range s.podNames() { // the other Pods have their proof
		if pod := s.pods[name]; pod.Annotations[v1alpha1.AnnotationProof] == "" && m.proven[pod.UID] {
			fmt.Fprint(&out, " proven ", name)
		}
	}
	for task := range 10 {
		if r := m.refusals[task]; r != nil {
			fmt.Fprint(&out, task, r.NoTimeout, r.Since.UnixNano(), r.tries, r.until.UnixNano())
		}
	}
	return out.String()
}
