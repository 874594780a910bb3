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
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// simPod is what a Pod really does, whatever its object in the API server says.
type simPod struct {
	name string
	uid  types.UID
	// number orders the Pods by their creation.
	number int
	job    *v1alpha1.BatchJob // at the creation of the Pod
	in     resolve.Instance
	// live: from the Pod's creation until its containers have ended or never can run.
	live bool
	// ran: its command has started.
	ran bool
	// timedOut: it was deleted because of its timeout. late: it was deleted at about its timeout, so the timeout may be
	// reported as the reason.
	timedOut, late bool
	// lost: its node is unreachable.
	lost bool
	// stranded: its node restarted when not all of its containers had been started. It ends only once it is deleted.
	stranded bool
	// hidden: a user removed its tracking label, so no cache has it until a pass over its job asks the API server for it. There
	// is no such pass if the job is deleted.
	hidden bool
	// disowned: a user gave it to another controller, or removed its proof. It may not be the job's anymore, and may still run
	// the instance.
	disowned bool
	// unclaimed: no stored status claimed it when it was created.
	unclaimed bool
	// ends has the possible ends that a status may report; more than one if two things happened in the same second. As long as
	// the outputs are being stored (storing), they are those of the command, and live is true.
	ends    []simEnding
	storing bool
}

// simEnding is how a Pod really ended.
type simEnding struct {
	code int32
	// stopped: it was deleted before.
	stopped bool
	// machine: its machine was lost or not acquired.
	machine bool
	// data is the class of the failure of a container that moves data: of one that copies the inputs, or, if the command ended
	// with 0, of the one that stores the outputs. It is empty if none failed. unstored is that of one that was killed.
	data agentapi.Class
}

// unstored is the class of outputs whose storing was killed.
const unstored agentapi.Class = "killed"

func (e simEnding) succeeded() bool { return e == simEnding{} }

// dataFailed reports whether the end is due to data: the command has not run, or has ended with 0 by itself.
func (e simEnding) dataFailed() bool { return e.data != "" && e == simEnding{data: e.data} }

// hasStage and hasOutputs report whether a Pod copies inputs and stores outputs.
func hasStage(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == podspec.StageContainer })
}

func hasOutputs(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == podspec.OutputsContainer })
}

// isStaging reports whether the inputs of a Pod are being copied, and isStaged whether they are there.
func isStaging(pod *corev1.Pod) bool {
	return len(pod.Status.InitContainerStatuses) > 0 && pod.Status.InitContainerStatuses[0].State.Running != nil
}

func isStaged(pod *corev1.Pod) bool {
	return !hasStage(pod) || len(pod.Status.InitContainerStatuses) > 0 && pod.Status.InitContainerStatuses[0].State.Terminated != nil
}

func (s *simulation) simPodOf(pod *corev1.Pod) *simPod {
	for _, b := range s.simPods {
		if b.uid == pod.UID {
			return b
		}
	}
	panic("no simPod of " + pod.Name)
}

// ended reports whether the Pod has ended according to the API server.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// podNames returns the names of the Pods that the operator created.
func (s *simulation) podNames() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.pods)), func(name string) bool { return name == s.foreignPod })
}

// createForeignPod is a user who creates a Pod with the name of an instance's Pod.
func (s *simulation) createForeignPod(name string) {
	s.foreignPod = name
	_ = s.createPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: simNamespace}})
}

// createForgedPod is a user who creates the Pod of an attempt that is not claimed yet, as the operator would, but without the
// proof. It has exited with 0.
func (s *simulation) createForgedPod(job *v1alpha1.BatchJob, in resolve.Instance) {
	meta := podspec.Meta(job, s.specs[job.Name], in, nil)
	s.foreignPod = meta.Name
	_ = s.createPod(&corev1.Pod{ObjectMeta: meta})
	s.changePod(meta.Name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1"); testutil.Finish(pod, 0, s.now) })
}

// deleteForeignPod deletes the user's Pod.
func (s *simulation) deleteForeignPod() {
	if s.foreignPod != "" {
		delete(s.pods, s.foreignPod)
		s.foreignPod = ""
		s.remember()
	}
}

// advanceCluster does the next step of every Pod and of the garbage collector. It returns false if there was none.
func (s *simulation) advanceCluster() bool {
	moved := s.collectGarbage()
	for _, name := range s.podNames() {
		moved = s.advancePod(name, 0) || moved
	}
	if moved {
		s.passes = 0
		s.now = s.now.Add(time.Second)
		s.note("the cluster does its next step; it is " + s.now.Format(time.TimeOnly))
	}
	return moved
}

// advancePod does the next step of scheduler or kubelet for a Pod.
func (s *simulation) advancePod(name string, code int32) bool {
	pod := s.pods[name]
	if pod == nil || s.simPodOf(pod).lost {
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
	case s.simPodOf(pod).stranded && pod.DeletionTimestamp == nil:
		return false
	case s.simPodOf(pod).stranded:
		s.changePod(name, func(pod *corev1.Pod) { testutil.EndOutputs(pod, 137, agentapi.Result{}, s.now) })
	case s.simPodOf(pod).storing:
		s.endOutputs(name, "")
	case pod.DeletionTimestamp != nil:
		s.finish(name, 143)
	case pod.Spec.NodeName == "":
		s.changePod(name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
	case isStaging(pod):
		s.changePod(name, func(pod *corev1.Pod) { testutil.EndStage(pod, 0, agentapi.Result{}, s.now) })
	case !isStaged(pod):
		s.changePod(name, func(pod *corev1.Pod) { testutil.Stage(pod, s.now) })
	case pod.Status.Phase == corev1.PodPending:
		s.simPodOf(pod).ran = true
		s.changePod(name, func(pod *corev1.Pod) {
			if hasOutputs(pod) {
				testutil.StartWithOutputs(pod, s.now)
			} else {
				testutil.Start(pod, s.now)
			}
		})
	default:
		s.finish(name, code)
	}
	return true
}

// failStage ends the copying of the inputs of a Pod with an error.
func (s *simulation) failStage(name string, class agentapi.Class) {
	b := s.simPodOf(s.pods[name])
	b.live = false
	b.ends = append(b.ends, simEnding{data: class})
	s.changePod(name, func(pod *corev1.Pod) {
		testutil.EndStage(pod, exitOf(class), agentapi.Result{Class: class, Message: "a message of the agent"}, s.now)
	})
}

// strand is the restart of a node that had started the command of a Pod, and not the container that stores its outputs.
func (s *simulation) strand(name string) {
	b := s.simPodOf(s.pods[name])
	b.stranded = true
	s.machineLost(b, s.pods[name])
	s.changePod(name, func(pod *corev1.Pod) { testutil.Strand(pod, s.now) })
}

// endOutputs ends the storing of the outputs: class is empty if all are stored.
func (s *simulation) endOutputs(name string, class agentapi.Class) {
	b := s.simPodOf(s.pods[name])
	b.live, b.storing = false, false
	for i := range b.ends {
		b.ends[i].data = class
	}
	s.changePod(name, func(pod *corev1.Pod) {
		testutil.EndOutputs(pod, exitOf(class), agentapi.Result{Class: class, Message: "a message of the agent"}, s.now)
	})
}

// exitOf is the exit code of an agent.
func exitOf(class agentapi.Class) int32 {
	switch class {
	case "":
		return 0
	case agentapi.Permanent:
		return agentapi.ExitPermanent
	case unstored:
		return 137
	}
	return agentapi.ExitTransient
}

// finish ends the command of a Pod that has a node. If the Pod has outputs, they are stored from now on.
func (s *simulation) finish(name string, code int32) {
	pod := s.pods[name]
	b, deleting := s.simPodOf(pod), pod.DeletionTimestamp != nil
	// Once its node has confirmed the end, the API server does not have the time of the deletion anymore.
	b.late = b.late || deleting && s.isLate(b, pod, 0)
	before := deleting && askedToStop(pod).Before(s.now.Truncate(time.Second))
	b.storing = hasOutputs(pod) && pod.Status.Phase == corev1.PodRunning
	b.live = b.storing
	b.ends = append(b.ends, simEnding{code: code, stopped: before || deleting && code > 128})
	if deleting && !before {
		b.ends = append(b.ends, simEnding{stopped: true}) // both in the same second: a status may report either
	}
	s.changePod(name, func(pod *corev1.Pod) {
		if b.storing {
			testutil.EndCommand(pod, code, s.now)
		} else {
			testutil.Finish(pod, code, s.now)
		}
	})
}

// clear is the kubelet that confirms the end of a Pod which it has stopped. From then on the API server does not have the time
// of the deletion anymore, so a status may report the exit code.
func (s *simulation) clear(name string) {
	b := s.simPodOf(s.pods[name])
	for _, e := range b.ends {
		if e.stopped && !e.machine {
			b.ends = append(b.ends, simEnding{code: e.code, data: e.data})
		}
	}
	s.confirmPod(name)
}

// askedToStop returns the time of the deletion request of a Pod.
func askedToStop(pod *corev1.Pod) time.Time {
	return pod.DeletionTimestamp.Add(-time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
}

// machineLost records that a Pod ends because its machine is lost. A Pod that was deleted before has ended because of the
// deletion.
func (s *simulation) machineLost(b *simPod, pod *corev1.Pod) {
	b.live = false
	if b.storing {
		// The command has ended. If it failed, a status may report its exit code or who stopped the Pod.
		b.storing = false
		for i := range b.ends {
			b.ends[i].data = unstored
		}
	}
	if pod.DeletionTimestamp == nil {
		b.ends = append(b.ends, simEnding{machine: true})
		return
	}
	// The API server does not keep the time of the deletion, and so not whether it was for the timeout.
	b.late = b.late || s.isLate(b, pod, 0)
	b.ends = append(b.ends, simEnding{stopped: true}, simEnding{stopped: true, machine: true})
}

// failPod is a node that evicts or rejects a Pod.
func (s *simulation) failPod(name, reason string) {
	pod := s.pods[name]
	b := s.simPodOf(pod)
	storing := b.storing
	s.machineLost(b, pod)
	s.changePod(name, func(pod *corev1.Pod) {
		if pod.Status.Phase == corev1.PodRunning {
			s.disrupt("TerminationByKubelet")(pod)
			switch {
			case storing:
				testutil.EndOutputs(pod, 137, agentapi.Result{}, s.now)
			case hasOutputs(pod):
				testutil.EndCommand(pod, 137, s.now)
				testutil.EndOutputs(pod, 137, agentapi.Result{}, s.now)
			default:
				testutil.Finish(pod, 137, s.now)
			}
			pod.Status.Reason, pod.Status.Message = reason, "a message of the node"
			return
		}
		testutil.Fail(pod, reason, "a message of the node")
	})
	if pod.DeletionTimestamp != nil {
		s.confirmPod(name)
	}
}

// askToStop requests the deletion of a Pod. A Pod without a node never runs then.
func (s *simulation) askToStop(name string, uid *types.UID) error {
	pod := s.pods[name]
	if pod == nil || pod.DeletionTimestamp != nil || uid != nil && pod.UID != *uid {
		return s.deletePod(name, uid)
	}
	b := s.simPodOf(pod)
	b.late = s.isLate(b, pod, 5*time.Second)
	switch {
	case !ended(pod) && pod.Spec.NodeName == "":
		b.live = false
		b.ends = append(b.ends, simEnding{stopped: true})
	case ended(pod) && pod.Spec.NodeName != "" && !b.ran:
		b.ends = append(b.ends, simEnding{stopped: true}) // of a Pod that never ran, the deletion counts
	case (ended(pod) || b.storing) && (finishedNow(pod, s.now) || slices.ContainsFunc(b.ends, func(e simEnding) bool { return e.code > 128 })):
		// In the same second a status may report either. The API server does not keep the time of the deletion request of a
		// deleted Pod, so a command that a signal ended may have been stopped by the request.
		b.ends = append(b.ends, simEnding{stopped: true})
	}
	return s.deletePod(name, uid)
}

// isLate reports whether a running Pod is past its timeout, or will be soon, or whether it was when its command ended.
func (s *simulation) isLate(b *simPod, pod *corev1.Pod, soon time.Duration) bool {
	timeout := s.specs[b.job.Name].Tasks[b.in.Task].Timeout
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name != podspec.ContainerName {
			continue
		}
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
		if t := c.State.Terminated; c.Name == podspec.ContainerName && t != nil && t.FinishedAt.Time.Equal(now.Truncate(time.Second)) {
			return true
		}
	}
	return false
}

// disrupt sets the condition DisruptionTarget.
func (s *simulation) disrupt(reason string) func(*corev1.Pod) {
	at := metav1.NewTime(s.now.Truncate(time.Second))
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(slices.Clone(pod.Status.Conditions), corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: at,
		})
	}
}

// collectPod is the Pod garbage collector for a Pod whose node was deleted: the Pod is Failed and is deleted without the
// kubelet.
func (s *simulation) collectPod(name string) {
	b := s.simPodOf(s.pods[name])
	s.machineLost(b, s.pods[name])
	s.changePod(name, func(pod *corev1.Pod) {
		s.disrupt("DeletionByPodGC")(pod)
		pod.Status.Phase = corev1.PodFailed
	})
	if s.pods[name].DeletionTimestamp == nil {
		_ = s.deletePod(name, nil)
	} else {
		s.confirmPod(name)
	}
}

// vanish deletes a Pod in spite of its finalizer.
func (s *simulation) vanish(name string) {
	b := s.simPodOf(s.pods[name])
	b.live = false
	b.ends = append(b.ends, simEnding{stopped: true, machine: true})
	delete(s.pods, name)
	s.remember()
	s.simAPI.floor = s.last()
}

// clusterOptions returns what users and the cluster can do. During a call of a pass (calling) these are the actions with which
// the pass may race.
func (s *simulation) clusterOptions(calling bool) []simOption {
	var out []simOption
	add := func(label, name string, do func()) {
		if name != "" {
			label = label + " " + name
		}
		out = append(out, simOption{label, do})
	}
	for _, name := range s.targets() {
		pod := s.pods[name]
		b := s.simPodOf(pod)
		deleting := pod.DeletionTimestamp != nil
		running := pod.Status.Phase == corev1.PodRunning
		hasFinalizer := slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking)
		if !deleting && (hasFinalizer || !s.passing()) {
			add("a user deletes", name, func() { _ = s.askToStop(name, nil) })
		}
		if hasFinalizer && !calling && s.mayVanish() {
			add("vanishes", name, func() { s.vanish(name) })
		}
		if hasFinalizer && !ended(pod) && !calling {
			add("label removed", name, func() {
				b.hidden = true
				s.changePod(name, func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTracked) })
			})
			add("owner removed", name, func() { s.changePod(name, func(pod *corev1.Pod) { pod.OwnerReferences = nil }) })
			if s.mayVanish() {
				add("proof removed", name, func() {
					s.disown(name, func(pod *corev1.Pod) { delete(pod.Annotations, v1alpha1.AnnotationProof) })
				})
				add("given to another controller", name, func() {
					s.disown(name, func(pod *corev1.Pod) {
						pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "rs-1", Controller: new(true)}}
					})
				})
			}
			add("attempt label removed", name, func() { s.changePod(name, func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelAttempt) }) })
			if s.mayVanish() {
				add("finalizer removed", name, func() { s.changePod(name, func(pod *corev1.Pod) { pod.Finalizers = nil }) })
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
		if b.stranded {
			continue
		}
		if b.storing {
			for _, class := range []agentapi.Class{agentapi.Transient, agentapi.Permanent, unstored} {
				add(fmt.Sprintf("outputs fail (%s) of", class), name, func() { s.endOutputs(name, class) })
			}
			add("outputs stored of", name, func() { s.endOutputs(name, "") })
		}
		if isStaging(pod) && !running && !deleting {
			for _, class := range []agentapi.Class{agentapi.Transient, agentapi.Permanent} {
				add(fmt.Sprintf("inputs fail (%s) of", class), name, func() { s.failStage(name, class) })
			}
		}
		if running && !b.storing {
			codes := []int32{1, 0, 143}
			if calling && s.setup.representatives {
				codes = codes[:2]
			}
			for _, code := range codes {
				add(fmt.Sprintf("exit %d of", code), name, func() { s.finish(name, code) })
			}
		}
		if running && !calling {
			add("evicted", name, func() { s.failPod(name, "Evicted") })
			add("node lost of", name, func() { b.lost = true })
			if hasOutputs(pod) && !b.storing {
				add("its node restarts, which had not started the outputs of", name, func() { s.strand(name) })
			}
		}
		if calling {
			continue
		}
		if !running && !deleting {
			add("next step of", name, func() { s.advancePod(name, 0) })
		}
		if !deleting {
			add("preempted", name, func() { s.changePod(name, s.disrupt("PreemptionByScheduler")); _ = s.askToStop(name, nil) })
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

// userOptions returns what users can do to jobs.
func (s *simulation) userOptions() []simOption {
	var out []simOption
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		if s.jobs[name].DeletionTimestamp != nil {
			continue
		}
		if first := s.specs[name].PodName(resolve.Instance{}); s.foreignPod == "" && s.pods[first] == nil && len(s.simPods) == 0 {
			out = append(out, simOption{"a user creates Pod " + first, func() { s.createForeignPod(first) }})
		}
		retry := resolve.Instance{Attempt: 1}
		if ahead := s.specs[name].PodName(retry); s.foreignPod == "" && s.pods[ahead] == nil && !slices.ContainsFunc(s.simPods, func(b *simPod) bool { return b.name == ahead }) {
			out = append(out, simOption{"a user forges Pod " + ahead, func() { s.createForgedPod(s.jobs[name], retry) }})
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

// disown changes a Pod so that it may not be the job's anymore. Whatever its end is, for the job its machine may be lost.
func (s *simulation) disown(name string, change func(*corev1.Pod)) {
	b := s.simPodOf(s.pods[name])
	b.disowned = true
	b.ends = append(b.ends, simEnding{machine: true})
	s.changePod(name, change)
}

// passing reports whether a pass is running.
func (s *simulation) passing() bool {
	return slices.ContainsFunc(s.controllers, func(c *simController) bool { return c.passing != "" })
}

// singleController reports whether only one controller has run. Between the read of the job and the creation of a Pod there is
// no lock, only the name of the Pod. If another controller creates that Pod in between, and the Pod is deleted again, the first
// controller creates an unclaimed Pod, which is deleted when the next pass observes it.
func (s *simulation) singleController() bool { return !s.controllers[1].used }

// mayVanish reports whether Pods may be deleted in spite of their finalizers: not if there are two controllers.
func (s *simulation) mayVanish() bool { return s.singleController() }

// targets returns the names of the Pods to which something can happen. With representatives it returns only one of the Pods that
// differ only in their index.
func (s *simulation) targets() []string {
	names := s.podNames()
	if !s.setup.representatives {
		return names
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(name string) bool {
		pod := s.pods[name]
		key := fmt.Sprint(s.simPodOf(pod).in.Task, s.simPodOf(pod).in.Attempt, pod.Status.Phase, pod.Spec.NodeName, pod.DeletionTimestamp != nil, pod.Finalizers, len(pod.Labels), len(pod.OwnerReferences), len(pod.Annotations), isStaging(pod), isStaged(pod), s.simPodOf(pod).storing, s.simPodOf(pod).lost, s.simPodOf(pod).disowned)
		was := seen[key]
		seen[key] = true
		return was
	})
}

// collectGarbage does one round of the garbage collector: it deletes the Pods of jobs that are deleted, or being deleted in the
// foreground, and then those jobs.
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
			ours := slices.DeleteFunc(slices.Clone(s.jobs[name].Finalizers), func(f string) bool { return f != v1alpha1.FinalizerNotifications })
			if len(ours) == len(s.jobs[name].Finalizers) && len(ours) > 0 {
				continue
			}
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Finalizers = ours })
			moved = true
		}
	}
	return moved
}
