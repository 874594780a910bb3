// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// simBody is what a Pod really does, whatever the API server has been told of it.
type simPod struct {
	name string
	uid  types.UID
	// number orders bodies by when they were made.
	number int
	job    *v1alpha1.BatchJob // as it was when the Pod was made
	in     resolve.Instance
	// live: from the Pod's creation until its containers have ended or never can run.
	live bool
	// ran: its command has begun.
	ran bool
	// timedOut: it was asked to stop since its timeout was over. late: somebody asked when
	// it was, or nearly so, and its timeout may be blamed.
	timedOut, late bool
	// lost: its node does not answer.
	lost bool
	// hidden: a person took its label off, so no cache shows it until the job's next pass
	// misses it. A job that is gone by then has no pass.
	hidden bool
	// taken: a person gave it to another controller, or took its proof off. It may not be the job's
	// any more, and may still run the instance.
	taken bool
	// stray: no stored status claimed it when it was made.
	stray bool
	// ends are the ways in which it can be said to have ended; more than one where two
	// things happened in the same second.
	ends []simEnding
}

// simEnding is how a Pod really ended.
type simEnding struct {
	code int32
	// stopped: it had been asked to stop before.
	stopped bool
	// machine: it was taken away, or never had what it needed to run.
	machine bool
}

func (e simEnding) succeeded() bool { return e == simEnding{} }

func (s *simulation) body(pod *corev1.Pod) *simPod {
	for _, b := range s.simPods {
		if b.uid == pod.UID {
			return b
		}
	}
	panic("no body of " + pod.Name)
}

// ended reports whether the API server knows that nothing of the Pod runs.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// podNames are the Pods that the operator made.
func (s *simulation) podNames() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.pods)), func(name string) bool { return name == s.foreignPod })
}

// squat is a user who makes a Pod under a name that the operator will want.
func (s *simulation) createForeignPod(name string) {
	s.foreignPod = name
	_ = s.createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: simNamespace}})
}

// forge is a user who makes the Pod of an attempt that is not claimed yet, as the operator would
// make it but for the proof, and has it end with 0.
func (s *simulation) createForgedPod(job *v1alpha1.BatchJob, in resolve.Instance) {
	meta := podspec.Meta(job, s.specs[job.Name], in, nil)
	s.foreignPod = meta.Name
	_ = s.createPod(&corev1.Pod{ObjectMeta: meta})
	s.changePod(meta.Name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1"); testutil.Finish(pod, 0, s.now) })
}

// leave takes the user's Pod away.
func (s *simulation) leave() {
	if s.foreignPod != "" {
		delete(s.pods, s.foreignPod)
		s.foreignPod = ""
		s.remember()
	}
}

// advance is what the cluster does when all goes well: every Pod makes its next step, and
// the garbage collector does what is due. It is false when there was nothing to do.
func (s *simulation) advance() bool {
	moved := s.collectGarbage()
	for _, name := range s.podNames() {
		moved = s.advancePod(name, 0) || moved
	}
	if moved {
		s.passes = 0
		s.now = s.now.Add(time.Second)
		s.note("the cluster moves; it is " + s.now.Format(time.TimeOnly))
	}
	return moved
}

// advancePod is what scheduler and kubelet do next with a Pod.
func (s *simulation) advancePod(name string, code int32) bool {
	pod := s.pods[name]
	if pod == nil || s.body(pod).lost {
		return false
	}
	if ended(pod) {
		if pod.DeletionTimestamp == nil || *pod.DeletionGracePeriodSeconds == 0 {
			return false
		}
		s.clear(name)
		return true
	}
	switch {
	case pod.DeletionTimestamp != nil:
		s.finish(name, 143)
	case pod.Spec.NodeName == "":
		s.changePod(name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
	case pod.Status.Phase == corev1.PodPending:
		s.body(pod).ran = true
		s.changePod(name, func(pod *corev1.Pod) { testutil.Start(pod, s.now) })
	default:
		s.finish(name, code)
	}
	return true
}

// finish ends the command of a Pod that has a node.
func (s *simulation) finish(name string, code int32) {
	pod := s.pods[name]
	b, deleting := s.body(pod), pod.DeletionTimestamp != nil
	// When its node has confirmed the end, the API server has forgotten when the Pod was asked to stop.
	b.late = b.late || deleting && s.isLate(b, pod, 0)
	before := deleting && askedToStop(pod).Before(s.now.Truncate(time.Second))
	b.live = false
	b.ends = append(b.ends, simEnding{code: code, stopped: before || deleting && code > 128})
	if deleting && !before {
		b.ends = append(b.ends, simEnding{stopped: true}) // both in one second: either may be told
	}
	s.changePod(name, func(pod *corev1.Pod) { testutil.Finish(pod, code, s.now) })
}

// clear is the kubelet that takes away a Pod which it has stopped. From then on the API
// server does not know any more when that was asked for, so who sees the Pod only now may
// take its exit code at its word.
func (s *simulation) clear(name string) {
	b := s.body(s.pods[name])
	for _, e := range b.ends {
		if e.stopped && !e.machine {
			b.ends = append(b.ends, simEnding{code: e.code})
		}
	}
	s.confirmPod(name)
}

// askedToStop is when the deletion of a Pod was asked for.
func askedToStop(pod *corev1.Pod) time.Time {
	return pod.DeletionTimestamp.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
}

// takenAway notes that a Pod ends by its machine. One that was asked to stop before has
// ended as what stopped it.
func (s *simulation) takenAway(b *simPod, pod *corev1.Pod) {
	b.live = false
	if pod.DeletionTimestamp == nil {
		b.ends = append(b.ends, simEnding{machine: true})
		return
	}
	// The API server forgets when it was asked to stop, and so whether that was for its timeout.
	b.ends = append(b.ends, simEnding{stopped: true}, simEnding{stopped: true, machine: true})
}

// failPod is a node that puts a Pod out, or does not take it.
func (s *simulation) failPod(name, reason string) {
	pod := s.pods[name]
	b := s.body(pod)
	s.takenAway(b, pod)
	s.changePod(name, func(pod *corev1.Pod) {
		if pod.Status.Phase == corev1.PodRunning {
			disrupt("TerminationByKubelet")(pod)
			testutil.Finish(pod, 137, s.now)
			pod.Status.Reason, pod.Status.Message = reason, "the node says so"
			return
		}
		testutil.Fail(pod, reason, "the node says so")
	})
	if pod.DeletionTimestamp != nil {
		s.confirmPod(name)
	}
}

// askToStop asks for the deletion of a Pod. One without a node never runs then.
func (s *simulation) askToStop(name string, uid *types.UID) error {
	pod := s.pods[name]
	if pod == nil || pod.DeletionTimestamp != nil || uid != nil && pod.UID != *uid {
		return s.deletePod(name, uid)
	}
	b := s.body(pod)
	b.late = s.isLate(b, pod, 5*time.Second)
	switch {
	case !ended(pod) && pod.Spec.NodeName == "":
		b.live = false
		b.ends = append(b.ends, simEnding{stopped: true})
	case ended(pod) && (finishedNow(pod, s.now) || slices.ContainsFunc(b.ends, func(e simEnding) bool { return e.code > 128 })):
		// In one second either may be told. Of a Pod that is taken away the API server does not
		// know when it was asked to stop, so one that a signal ended may have been before.
		b.ends = append(b.ends, simEnding{stopped: true})
	}
	return s.deletePod(name, uid)
}

// isLate reports whether the timeout of a Pod that runs is over, or will be soon; or was,
// when its command ended.
func (s *simulation) isLate(b *simPod, pod *corev1.Pod, soon time.Duration) bool {
	timeout := s.specs[b.job.Name].Tasks[b.in.Task].Timeout
	for _, c := range pod.Status.ContainerStatuses {
		if r := c.State.Running; r != nil && !s.now.Before(r.StartedAt.Add(timeout-soon)) {
			return true
		}
		if e := c.State.Terminated; e != nil && !e.FinishedAt.Before(new(metav1.NewTime(e.StartedAt.Add(timeout-soon)))) {
			return true
		}
	}
	return false
}

func finishedNow(pod *corev1.Pod, now time.Time) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.FinishedAt.Time.Equal(now.Truncate(time.Second)) {
			return true
		}
	}
	return false
}

// disrupt sets the condition with which a Pod is taken away.
func disrupt(reason string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(slices.Clone(pod.Status.Conditions), corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason})
	}
}

// collectPod is what the collector of Pods does to one whose node is gone: it is FAILED,
// and is deleted without asking anybody.
func (s *simulation) collectPod(name string) {
	b := s.body(s.pods[name])
	s.takenAway(b, s.pods[name])
	s.changePod(name, func(pod *corev1.Pod) {
		disrupt("DeletionByPodGC")(pod)
		pod.Status.Phase = corev1.PodFailed
	})
	if s.pods[name].DeletionTimestamp == nil {
		_ = s.deletePod(name, nil)
	} else {
		s.confirmPod(name)
	}
}

// vanish removes a Pod though a finalizer holds it.
func (s *simulation) vanish(name string) {
	b := s.body(s.pods[name])
	b.live = false
	b.ends = append(b.ends, simEnding{stopped: true, machine: true})
	delete(s.pods, name)
	s.remember()
	s.simAPI.floor = s.last()
}

// worldOptions are what users and the cluster can do. Within a pass (calling) they are
// those on which the outcome of a race depends.
func (s *simulation) worldOptions(calling bool) []simOption {
	var out []simOption
	add := func(label, name string, do func()) {
		if name != "" {
			label = label + " " + name
		}
		out = append(out, simOption{label, do})
	}
	for _, name := range s.acted() {
		pod := s.pods[name]
		b := s.body(pod)
		deleting := pod.DeletionTimestamp != nil
		running := pod.Status.Phase == corev1.PodRunning
		held := slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
		if !deleting && (held || !s.passing()) {
			add("a person deletes", name, func() { _ = s.askToStop(name, nil) })
		}
		if held && !calling && s.mayVanish() {
			add("somehow vanishes", name, func() { s.vanish(name) })
		}
		if held && !ended(pod) && !calling {
			add("label off", name, func() {
				b.hidden = true
				s.changePod(name, func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTracked) })
			})
			add("owner off", name, func() { s.changePod(name, func(pod *corev1.Pod) { pod.OwnerReferences = nil }) })
			if s.mayVanish() {
				add("proof off", name, func() {
					s.take(name, func(pod *corev1.Pod) { delete(pod.Annotations, v1alpha1.AnnotationProof) })
				})
				add("given away", name, func() {
					s.take(name, func(pod *corev1.Pod) {
						pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "rs-1", Controller: new(true)}}
					})
				})
			}
			add("attempt off", name, func() { s.changePod(name, func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelAttempt) }) })
			if s.mayVanish() {
				add("finalizer off", name, func() { s.changePod(name, func(pod *corev1.Pod) { pod.Finalizers = nil }) })
			}
		}
		if ended(pod) {
			continue
		}
		if b.lost {
			add("its node is deleted", name, func() { s.collectPod(name) })
			add("its node comes back", name, func() { b.lost = false })
			continue
		}
		if running {
			codes := []int32{1, 0, 143}
			if calling && s.setup.representatives {
				codes = codes[:2]
			}
			for _, code := range codes {
				add(fmt.Sprintf("exit %d of", code), name, func() { s.finish(name, code) })
			}
			if !calling {
				add("evicted", name, func() { s.failPod(name, "Evicted") })
				add("node lost under", name, func() { b.lost = true })
			}
		}
		if calling {
			continue
		}
		if !running && !deleting {
			add("a step of", name, func() { s.advancePod(name, 0) })
		}
		if !deleting {
			add("preempted", name, func() { s.changePod(name, disrupt("PreemptionByScheduler")); _ = s.askToStop(name, nil) })
			if pod.Spec.NodeName == "" {
				add("unschedulable", name, func() {
					s.changePod(name, func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available") })
				})
			} else if !running {
				add("OutOfcpu", name, func() { s.failPod(name, "OutOfcpu") })
			}
		}
	}
	return append(out, s.userOptions()...)
}

// userOptions are what users do to jobs.
func (s *simulation) userOptions() []simOption {
	var out []simOption
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		if s.jobs[name].DeletionTimestamp != nil {
			continue
		}
		if taken := s.specs[name].PodName(resolve.Instance{}); s.foreignPod == "" && s.pods[taken] == nil && len(s.simPods) == 0 {
			out = append(out, simOption{"a stranger takes the name " + taken, func() { s.createForeignPod(taken) }})
		}
		retry := resolve.Instance{Attempt: 1}
		if ahead := s.specs[name].PodName(retry); s.foreignPod == "" && s.pods[ahead] == nil && !slices.ContainsFunc(s.simPods, func(b *simPod) bool { return b.name == ahead }) {
			out = append(out, simOption{"a forger makes " + ahead, func() { s.createForgedPod(s.jobs[name], retry) }})
		}
		spec := &s.jobs[name].Spec
		change := func(label string, change func(*v1alpha1.BatchJobSpec)) {
			out = append(out, simOption{label, func() {
				s.changeJob(name, func(job *v1alpha1.BatchJob) { change(&job.Spec); job.Generation++ })
			}})
		}
		change("suspend or resume", func(spec *v1alpha1.BatchJobSpec) { spec.Suspend = !spec.Suspend })
		if !spec.Terminate {
			change("terminate", func(spec *v1alpha1.BatchJobSpec) { spec.Terminate = true })
		}
		if s.jobs[name].Status.State == v1alpha1.JobFailed && len(spec.RetryToken) < 2 {
			change("retryToken", func(spec *v1alpha1.BatchJobSpec) { spec.RetryToken += "x" })
		}
		if spec.TTLSecondsAfterFinished == nil {
			change("ttl", func(spec *v1alpha1.BatchJobSpec) { spec.TTLSecondsAfterFinished = new(int64(10)) })
		}
		for _, finalizer := range []string{"", metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents} {
			out = append(out, simOption{"deletion of the job " + finalizer, func() { s.deleteJob(name, finalizer) }})
		}
	}
	return out
}

// take takes a Pod from its job. Whatever comes of it, for the job its machine may be lost.
func (s *simulation) take(name string, change func(*corev1.Pod)) {
	b := s.body(s.pods[name])
	b.taken = true
	b.ends = append(b.ends, simEnding{machine: true})
	s.changePod(name, change)
}

// passing says that a pass is under way.
func (s *simulation) passing() bool {
	return slices.ContainsFunc(s.controllers, func(c *simController) bool { return c.passing != "" })
}

// alone says that one controller has been at work only. Between a controller's look at the
// job and its creation of a Pod there is no lock, only the Pod's name: where one is
// overtaken there by another, and the Pod is gone by then, it makes a stray, which is
// stopped once seen.
func (s *simulation) alone() bool { return !s.controllers[1].used }

// mayVanish: where there are two controllers nothing takes Pods away in spite of their
// finalizers.
func (s *simulation) mayVanish() bool { return s.alone() }

// acted are the Pods that something can happen to, by name. With representatives it is
// one of those that differ only in their index.
func (s *simulation) acted() []string {
	names := s.podNames()
	if !s.setup.representatives {
		return names
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(name string) bool {
		pod := s.pods[name]
		key := fmt.Sprint(s.body(pod).in.Task, s.body(pod).in.Attempt, pod.Status.Phase, pod.Spec.NodeName, pod.DeletionTimestamp != nil, pod.Finalizers, len(pod.Labels), len(pod.OwnerReferences), len(pod.Annotations), s.body(pod).lost, s.body(pod).taken)
		was := seen[key]
		seen[key] = true
		return was
	})
}

// collectGarbage is one round of the garbage collector: Pods of jobs that are gone, or are
// being deleted in the foreground, are deleted, and then these jobs go.
func (s *simulation) collectGarbage() bool {
	moved := false
	owned := map[string]int{}
	for _, name := range s.podNames() {
		pod := s.pods[name]
		ref := metav1.GetControllerOf(pod)
		if ref == nil || ref.Kind != "BatchJob" {
			continue
		}
		job := s.jobs[ref.Name]
		switch {
		case job != nil && job.UID == ref.UID && slices.Contains(job.Finalizers, metav1.FinalizerOrphanDependents):
			s.changePod(name, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
			moved = true
			continue
		case job == nil || job.UID != ref.UID || slices.Contains(job.Finalizers, metav1.FinalizerDeleteDependents):
			if pod.DeletionTimestamp == nil {
				_ = s.askToStop(name, nil)
				moved = true
			}
		}
		if s.pods[name] != nil {
			owned[ref.Name]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		if s.jobs[name].DeletionTimestamp != nil && owned[name] == 0 {
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Finalizers = nil })
			moved = true
		}
	}
	return moved
}
