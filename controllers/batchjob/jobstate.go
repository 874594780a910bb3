// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// jobState is what this process remembers of one job beyond what is stored. All of it may be lost at any
// moment together with the process: it saves work and waiting. While the process lives, the pool of nodes
// depends on the account.
//
// Only the worker that has the job uses it, so it needs no lock, but for wakeups and podEvent.
type jobState struct {
	uid   types.UID
	token tokenKey
	// version is the resource version of our last write to the job.
	version string
	// spec is what the job resolves to; code and message say why it must not run. A large job that is
	// idle has none between two passes: see finishLarge.
	spec          *resolve.Job
	code, message string
	// priority is that of the spec, and startedSize the plan.StartedSize of the job.
	priority, startedSize int
	// settled is what the last pass over a large job came to; nil if there is something to do.
	settled *settled
	// usesNodes says that a task names a ComputeEnv, and nodes is what the pool knows of the job.
	usesNodes bool
	nodes     nodepool.Account
	// seeksHosts says that hosts may be named by their addresses.
	seeksHosts bool
	// created are the Pods that were created and have not been seen since, with the time.
	created map[string]time.Time
	// finalizersRemoved are the Pods whose finalizer was removed and that the cache may still show as they
	// were before, with the resource version that they have had since.
	finalizersRemoved map[types.UID]string
	// ready are the tasks that may start and have had no Pod yet, by position, with the end of the last task
	// before them; see noteReady.
	ready map[int]time.Time
	// slowStart bounds the Pods that are created at the same time, and batch those that a pass claims.
	slowStart flow.SlowStart
	batch     flow.Batch
	// writes throttles the writes of the status.
	writes flow.JobWrites
	// events bounds the Events of the job.
	events flow.EventBudget
	// refusals are the tasks whose Pods the cluster refuses to create, by position.
	refusals map[int]*refusal
	// terminations is what the annotation said that terminates instances, when it was last read.
	terminations *plan.Terminations
	// conflicts are the names of the job's Pods that Pods of others have.
	conflicts map[string]*nameConflict
	// proven are the Pods, by UID, that have proved that the operator created them.
	proven map[types.UID]bool
	// trimmed says that the job's status has no capacity left for what only explains.
	trimmed bool

	// wakeups counts how often the job was woken by what no object in the cache tells of, and podEvent is
	// when the first event of a Pod came that no pass has recorded; zero if none has since. Both need the
	// lock of jobStates.
	wakeups  int
	podEvent time.Time
}

// jobStates are the states of the jobs that have not ended, or of which Pods are left, by name. Its methods
// may be called concurrently.
type jobStates struct {
	mu     sync.Mutex
	byName map[types.NamespacedName]*jobState
}

// get returns the state of a job; nil if there is none.
func (s *jobStates) get(name types.NamespacedName, uid types.UID) *jobState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byName[name]; m != nil && m.uid == uid {
		return m
	}
	return nil
}

// put stores the state of a job, and reports whether there was one of this name.
func (s *jobStates) put(name types.NamespacedName, m *jobState) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, replaced = s.byName[name]
	s.byName[name] = m
	return replaced
}

// remove removes the state of the job of a name, and returns it; nil if there was none.
func (s *jobStates) remove(name types.NamespacedName) *jobState {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byName[name]
	//mutation:departed-job-not-forgotten
	delete(s.byName, name)
	return m
}

func (s *jobStates) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byName)
}

// priority returns the priority of the job of a name.
func (s *jobStates) priority(name types.NamespacedName) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byName[name]; m != nil {
		return m.priority
	}
	return v1alpha1.DefaultPriority
}

// previousUser returns the UID of the job of a name that used nodes in its last pass; "" for none.
func (s *jobStates) previousUser(name types.NamespacedName) types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byName[name]; m != nil && m.usesNodes {
		return m.uid
	}
	return ""
}

// wake notes that the job of a name is woken by what no object in the cache tells of.
func (s *jobStates) wake(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byName[name]; m != nil {
		m.wakeups++
	}
}

// wakeups returns how often a job was woken; m may be nil.
func (s *jobStates) wakeups(m *jobState) int {
	if m == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.wakeups
}

// hostSeekers returns the jobs that may name hosts by their addresses, with their priorities.
func (s *jobStates) hostSeekers() map[types.NamespacedName]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[types.NamespacedName]int{}
	for name, m := range s.byName {
		if m.seeksHosts {
			out[name] = m.priority
		}
	}
	return out
}

// podEvent notes that a Pod of the job of a name has an event.
func (s *jobStates) podEvent(name types.NamespacedName, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byName[name]; m != nil && m.podEvent.IsZero() {
		m.podEvent = now
	}
}

// takePodEvent returns when the first event of a Pod came that no pass has recorded, and forgets it; now
// if there was none.
func (s *jobStates) takePodEvent(m *jobState, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := m.podEvent
	if m.podEvent = (time.Time{}); first.IsZero() {
		return now
	}
	return first
}

// putPodEvent puts back what takePodEvent has returned, since the pass recorded nothing.
func (s *jobStates) putPodEvent(m *jobState, first time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.podEvent = first
}

// remember makes a state of the job, which must be whole.
func (r *Reconciler) remember(key types.NamespacedName, job *v1alpha1.BatchJob) *jobState {
	m := &jobState{
		uid: job.UID, token: tokenKey{job.Namespace, job.Spec.ClientToken}, created: map[string]time.Time{}, finalizersRemoved: map[types.UID]string{},
		priority: v1alpha1.DefaultPriority, startedSize: plan.StartedSize(job),
	}
	if !isAccepted(job) { // what an earlier version accepted continues
		m.code, m.message = r.options.Validate(job)
	}
	if m.code == "" {
		var err error
		if m.spec, err = resolve.Resolve(job); err != nil {
			m.code, m.message = codeUnresolved, err.Error()
		}
	}
	if m.spec != nil {
		m.priority, m.usesNodes = m.spec.Priority, nodepool.UsesNodes(m.spec)
		for i := range m.spec.Tasks {
			t := &m.spec.Tasks[i]
			// A ComputeEnv may have addresses as well.
			m.seeksHosts = m.seeksHosts || t.Env == nil || len(t.Env.HostIPs) > 0
		}
	}
	m.writes.SpecSize, m.writes.StatusSize = jsonSize(&job.Spec), jsonSize(&job.Status)
	if r.states.put(key, m) {
		r.started.Release(key) // another job of this name, which was deleted
	}
	return m
}

// forget removes all that the process remembers of the job of a name.
func (r *Reconciler) forget(key types.NamespacedName) {
	m := r.states.remove(key)
	r.debounce.Forget(key)
	r.options.Metrics.Forget(key)
	if m != nil {
		r.tokens.forget(m.token, m.uid)
		r.quotas.leave(key.Namespace, m.uid)
		r.started.Release(key)
	}
}

// jsonSize is the size of a value as JSON.
func jsonSize(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		return 0 // and it cannot be written either
	}
	return len(text)
}

// lookForCreated returns when to look for the Pods that were created and have not been seen since; 0 when
// there is none. A Pod that is deleted at once may never be seen, and then no event tells of it.
func (m *jobState) lookForCreated(now time.Time) time.Duration {
	var first time.Duration
	for _, at := range m.created {
		first = soonest(first, max(at.Add(cacheLag).Sub(now), 1))
	}
	return first
}

// forgetSeen drops the created Pods that the cache shows, and those that it should show.
func (m *jobState) forgetSeen(pods []*corev1.Pod, now time.Time) {
	if len(m.created) == 0 {
		return
	}
	for _, pod := range pods {
		delete(m.created, pod.Name)
	}
	for name, at := range m.created {
		if now.Sub(at) >= cacheLag {
			delete(m.created, name)
		}
	}
}

// withFinalizer returns the Pods of the job that have the finalizer. A cache that is behind still shows those
// whose finalizer was removed; they have nothing to tell, and it must not be removed once more.
func (m *jobState) withFinalizer(pods []*corev1.Pod) []*corev1.Pod {
	if len(m.finalizersRemoved) == 0 {
		return pods
	}
	behind := make(map[types.UID]string, len(m.finalizersRemoved))
	out := slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		version, ok := m.finalizersRemoved[pod.UID]
		if ok = ok && lookup.IsOlder(pod.ResourceVersion, version); ok {
			behind[pod.UID] = version
		}
		return ok
	})
	m.finalizersRemoved = behind
	return out
}
