// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ledger keeps the books of a soak: what was seen of every Pod and every
// BatchJob, and what is wrong about it. It does no I/O and reads no clock.
//
// It is told of every event of two watches, and trusts nothing else. Since the events of
// one watch come in the order in which they happened, Pods that are live here at the same
// time were so in the cluster.
package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Ledger is the books. The zero value is empty and ready; it may be used from several
// goroutines.
type Ledger struct {
	mu       sync.Mutex
	jobs     map[types.UID]*job
	findings []Finding
	maxLive  int
	live     int
}

// job is what is known of one BatchJob.
type job struct {
	name string
	// last is the object as it was seen last; nil before that.
	last *v1alpha1.BatchJob
	gone bool
	// ended is the resource version by which the job was SUCCEED or FAILED; 0 while it is not.
	ended     uint64
	instances map[instance]*history
}

// instance names a task instance of a job.
type instance struct {
	task  string
	index int
}

func (i instance) String() string { return fmt.Sprintf("%s/%d", i.task, i.index) }

// history is the Pods of an instance, by UID.
type history struct {
	pods map[types.UID]*pod
}

// pod is what is known of one Pod, which is one attempt.
type pod struct {
	name         string
	run, attempt int
	live, gone   bool
	// held says that the Pod has our finalizer or label.
	held bool
	// settled is the resource version by which the Pod had finished.
	settled uint64
	outcome outcome
}

// outcome is how a Pod ended.
type outcome int

const (
	// none: it has not, or was gone before.
	none outcome = iota
	// success: the command ended with 0, and nobody had asked it to stop.
	success
	// failure: the command ended with another code, and nobody had asked it to stop.
	failure
	// disturbed: the command ended by itself, but somebody had asked for that. Whether the
	// command counts or the disturbance is a matter of a second, so either is right.
	disturbed
	// lost: the machine ended it.
	lost
)

// Kind is what a finding is about.
type Kind string

// The kinds of findings. A soak without any has passed.
const (
	// Lost: an outcome was seen on a Pod and is not in the status.
	Lost Kind = "outcomes lost"
	// Doubled: an outcome was counted twice, or work that had an outcome was done again.
	Doubled Kind = "outcomes doubled"
	// Invented: the status has an outcome that no Pod had.
	Invented Kind = "outcomes invented"
	// TwoLive: an instance had two live Pods at once.
	TwoLive Kind = "two live at once"
	// Differs: a job did not end as it does without faults.
	Differs Kind = "ends that differ"
	// Early: a job was final while a Pod of it still ran.
	Early Kind = "final too early"
	// Stuck: something that should have happened did not, in a generous time.
	Stuck Kind = "stuck"
	// Held: a Pod kept our finalizer.
	Held Kind = "finalizers left"
	// Left: a Pod was still there after all.
	Left Kind = "Pods left"
)

// Kinds are all kinds, in the order of the table.
var Kinds = []Kind{Lost, Doubled, Invented, TwoLive, Differs, Early, Stuck, Held, Left}

// Finding is one thing that is wrong.
type Finding struct {
	Kind Kind
	Job  string
	Text string
}

func (f Finding) String() string { return fmt.Sprintf("%s: job %s: %s", f.Kind, f.Job, f.Text) }

// Add puts a finding on record that the books themselves cannot see.
func (l *Ledger) Add(f Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.findings = append(l.findings, f)
}

// Findings are all that there were.
func (l *Ledger) Findings() []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.findings)
}

// Sums are the figures of a soak.
type Sums struct {
	Jobs, Instances, Attempts int
	// Live is how many Pods are live now, MaxLive how many were at most.
	Live, MaxLive int
	// The outcomes of Pods. Gone are those that vanished without any.
	Succeeded, Failed, Disturbed, MachineLost, Gone int
}

// Sums counts.
func (l *Ledger) Sums() Sums {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Sums{Jobs: len(l.jobs), Live: l.live, MaxLive: l.maxLive}
	for _, j := range l.jobs {
		s.Instances += len(j.instances)
		for _, h := range j.instances {
			for _, p := range h.pods {
				s.Attempts++
				s.count(p)
			}
		}
	}
	return s
}

func (s *Sums) count(p *pod) {
	switch p.outcome {
	case success:
		s.Succeeded++
	case failure:
		s.Failed++
	case disturbed:
		s.Disturbed++
	case lost:
		s.MachineLost++
	case none:
		if p.gone {
			s.Gone++
		}
	}
}

// Job enters an event of a BatchJob.
func (l *Ledger) Job(kind watch.EventType, obj *v1alpha1.BatchJob) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.job(obj.UID)
	j.name, j.last, j.gone = obj.Name, obj, kind == watch.Deleted
	switch ended := isFinal(obj); {
	case !ended:
		j.ended = 0
	case j.ended == 0 && kind != watch.Deleted:
		j.ended = version(obj)
	}
}

// Last returns a job as it was seen last, nil before it was, and whether it is gone.
func (l *Ledger) Last(uid types.UID) (obj *v1alpha1.BatchJob, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.job(uid)
	return j.last, j.gone
}

func (l *Ledger) job(uid types.UID) *job {
	if l.jobs == nil {
		l.jobs = map[types.UID]*job{}
	}
	j := l.jobs[uid]
	if j == nil {
		j = &job{name: string(uid), instances: map[instance]*history{}}
		l.jobs[uid] = j
	}
	return j
}

// Pod enters an event of a Pod. One that is not ours is ignored.
func (l *Ledger) Pod(kind watch.EventType, obj *corev1.Pod) {
	owner := metav1.GetControllerOf(obj)
	if owner == nil || obj.Labels[v1alpha1.LabelJobID] == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.job(owner.UID)
	in := instance{obj.Labels[v1alpha1.LabelTaskName], number(obj, v1alpha1.LabelTaskInstanceIndex)}
	h := j.instances[in]
	if h == nil {
		h = &history{pods: map[types.UID]*pod{}}
		j.instances[in] = h
	}
	p := h.pods[obj.UID]
	if p == nil {
		p = &pod{name: obj.Name, run: number(obj, v1alpha1.LabelRun), attempt: number(obj, v1alpha1.LabelAttempt)}
		h.pods[obj.UID] = p
	}
	l.see(p, kind, obj)
	if kind == watch.Added {
		l.checkNew(j, in, h, p)
	}
}

// see brings a Pod's entry up to date.
func (l *Ledger) see(p *pod, kind watch.EventType, obj *corev1.Pod) {
	finished := obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed
	p.gone = kind == watch.Deleted
	live := !finished && !p.gone
	if live != p.live {
		l.live += map[bool]int{true: 1, false: -1}[live]
		l.maxLive = max(l.maxLive, l.live)
	}
	p.live, p.held = live, !p.gone && isHeld(obj)
	if p.settled == 0 && !p.live {
		p.settled = version(obj)
	}
	if p.outcome == none && finished {
		p.outcome = outcomeOf(obj)
	}
}

// checkNew looks at what a new Pod must not be: the second live one of its instance, or
// one that was there already.
func (l *Ledger) checkNew(j *job, in instance, h *history, p *pod) {
	for _, other := range h.sorted() {
		if other == p {
			continue
		}
		if other.live && p.live {
			l.findings = append(l.findings, Finding{TwoLive, j.name, fmt.Sprintf("%s: Pod %s was made while Pod %s was live", in, p.name, other.name)})
		}
		if other.run == p.run && other.attempt == p.attempt {
			l.findings = append(l.findings, Finding{Doubled, j.name, fmt.Sprintf("%s: run %d, attempt %d was made twice: Pods %s and %s", in, p.run, p.attempt, other.name, p.name)})
		}
	}
}

// sorted returns the Pods by run and attempt.
func (h *history) sorted() []*pod {
	return slices.SortedFunc(maps.Values(h.pods), func(a, b *pod) int {
		return slices.Compare([]int{a.run, a.attempt}, []int{b.run, b.attempt})
	})
}

// isFinal reports whether the job is at an end from which only a retryToken leads on.
func isFinal(obj *v1alpha1.BatchJob) bool {
	return obj.Status.EndTime != nil && (obj.Status.State == v1alpha1.JobSucceed || obj.Status.State == v1alpha1.JobFailed)
}

func isHeld(obj *corev1.Pod) bool {
	return slices.Contains(obj.Finalizers, v1alpha1.FinalizerTracking) || obj.Labels[v1alpha1.LabelTracked] != ""
}

// outcomeOf returns how a finished Pod ended.
func outcomeOf(obj *corev1.Pod) outcome {
	stopped := obj.DeletionTimestamp != nil || slices.ContainsFunc(obj.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
	switch {
	case !endedByItself(obj):
		return lost
	case stopped:
		return disturbed
	case obj.Status.Phase == corev1.PodSucceeded:
		return success
	}
	return failure
}

// endedByItself reports whether the Pod's container says that the command ended. A
// runtime that comes back after a crash, and a kubelet that has lost sight of a container,
// say "Unknown" and "ContainerStatusUnknown".
func endedByItself(obj *corev1.Pod) bool {
	if obj.Status.Reason != "" || len(obj.Status.ContainerStatuses) == 0 {
		return false
	}
	t := obj.Status.ContainerStatuses[0].State.Terminated
	return t != nil && (t.Reason == "Completed" || t.Reason == "Error")
}

func number(obj *corev1.Pod, label string) int {
	n, _ := strconv.Atoi(obj.Labels[label])
	return n
}

// version is the object's resource version. All of one cluster's can be compared: they
// come from one counter.
func version(obj metav1.Object) uint64 {
	n, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return n
}
