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
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// jobState is what this process remembers of one job in addition to the stored status. It only saves work and waiting:
// a new process starts without it. While the process runs, the pool of nodes depends on the field nodes.
//
// Only the worker that reconciles the job uses a jobState, so it needs no lock, except for wakeups and podEvent.
type jobState struct {
	uid   types.UID
	token tokenKey
	// version is the resource version of our last write to the job.
	version string
	// spec is the resolved spec. code and message say why the job must not run. An idle large job has no spec between
	// two passes: see finishLarge.
	spec          *resolve.Job
	code, message string
	// priority is the priority of the spec, and startedSize the plan.StartedSize of the job.
	priority, startedSize int
	// lastIdle is the last pass over a large job, if it left nothing to do; nil otherwise.
	lastIdle *idlePass
	// usesNodes says that a task names a ComputeEnv, and nodes is the job's account with the pool.
	usesNodes bool
	nodes     nodepool.Account
	// seeksHosts says that the job may name nodes by their addresses.
	seeksHosts bool
	// created and finalizersRemoved are what the Job controller of Kubernetes calls expectations: writes of ours that the
	// cache may not show yet. created has the names of created Pods that the cache does not have yet, with the time of the
	// creation.
	created map[string]time.Time
	// finalizersRemoved has the UIDs of Pods whose finalizer was removed and that the cache may still have with it, with
	// their resource versions after the removal.
	finalizersRemoved map[types.UID]string
	// ready are the tasks that may start and have had no Pod yet, by position, with the end of the last task
	// before them; see noteReady.
	ready map[int]time.Time
	// slowStart bounds the creations in flight, and batch the instances that a pass claims.
	slowStart flow.SlowStart
	batch     flow.Batch
	// writes throttles the writes of the status.
	writes flow.JobWrites
	// events bounds the Events of the job.
	events flow.EventBudget
	// refusals has the tasks whose Pods the cluster refuses to create, by position.
	refusals map[int]*refusal
	// terminations is the parsed annotation that terminates instances.
	terminations *plan.Terminations
	// conflicts has the names of the job's Pods that other Pods have.
	conflicts map[string]*nameConflict
	// proven has the UIDs of the Pods whose proof was checked.
	proven map[types.UID]bool
	// trimmed says that the status was too large, and is stored without explanations.
	trimmed bool

	// wakeups counts how often the job was enqueued without an event of its objects. podEvent is the time of the first
	// event of a Pod that no pass has recorded; zero if there is none. Both need the lock of jobStates.
	wakeups  int
	podEvent time.Time
}

// jobStates has the states of unfinished jobs, and of finished jobs whose Pods still have the finalizer. Its methods may
// be called concurrently.
type jobStates struct {
	mu     sync.Mutex
	byName map[types.NamespacedName]*jobState
}

// get returns the state of a job; nil if there is none.
func (s *jobStates) get(name types.NamespacedName, uid types.UID) *jobState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.byName[name]; state != nil && state.uid == uid {
		return state
	}
	return nil
}

// put stores the state of a job, and reports whether it replaced a state of the same name.
func (s *jobStates) put(name types.NamespacedName, state *jobState) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, replaced = s.byName[name]
	s.byName[name] = state
	return replaced
}

// remove removes the state of the job of a name, and returns it; nil if there was none.
func (s *jobStates) remove(name types.NamespacedName) *jobState {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.byName[name]
	//mutation:departed-job-not-forgotten
	delete(s.byName, name)
	return state
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
	if state := s.byName[name]; state != nil {
		return state.priority
	}
	return v1alpha1.DefaultPriority
}

// previousUser returns the UID of the job of a name if it used nodes of ComputeEnvs in its last pass; "" otherwise.
func (s *jobStates) previousUser(name types.NamespacedName) types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.byName[name]; state != nil && state.usesNodes {
		return state.uid
	}
	return ""
}

// wake counts that the job of a name is enqueued without an event of its objects.
func (s *jobStates) wake(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.byName[name]; state != nil {
		state.wakeups++
	}
}

// wakeups returns the count of wake for a job; state may be nil.
func (s *jobStates) wakeups(state *jobState) int {
	if state == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return state.wakeups
}

// hostSeekers returns the jobs that may name nodes by their addresses, with their priorities.
func (s *jobStates) hostSeekers() map[types.NamespacedName]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[types.NamespacedName]int{}
	for name, state := range s.byName {
		if state.seeksHosts {
			out[name] = state.priority
		}
	}
	return out
}

// podEvent records the time of an event of a Pod, unless an earlier one is still unrecorded by a pass.
func (s *jobStates) podEvent(name types.NamespacedName, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.byName[name]; state != nil && state.podEvent.IsZero() {
		state.podEvent = now
	}
}

// takePodEvent returns and resets the time of the first event of a Pod that no pass has recorded. It returns now if
// there is none.
func (s *jobStates) takePodEvent(state *jobState, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := state.podEvent
	if state.podEvent = (time.Time{}); first.IsZero() {
		return now
	}
	return first
}

// putPodEvent restores the result of takePodEvent after a pass that recorded nothing.
func (s *jobStates) putPodEvent(state *jobState, first time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state.podEvent = first
}

// remember creates and stores the state of a job, which must be whole.
func (r *Reconciler) remember(key types.NamespacedName, job *v1alpha1.BatchJob) *jobState {
	state := &jobState{
		uid: job.UID, token: tokenKey{job.Namespace, job.Spec.ClientToken}, created: map[string]time.Time{}, finalizersRemoved: map[types.UID]string{},
		priority: v1alpha1.DefaultPriority, startedSize: plan.StartedSize(job),
	}
	if !plan.IsAccepted(job) { // a job that an earlier version accepted continues
		state.code, state.message = r.options.Validate(job)
	}
	if state.code == "" {
		resolveSpec(state, job)
	}
	if state.spec != nil {
		state.priority, state.usesNodes = state.spec.Priority, nodepool.UsesNodes(state.spec)
		for i := range state.spec.Tasks {
			t := &state.spec.Tasks[i]
			// A ComputeEnv may have addresses as well.
			state.seeksHosts = state.seeksHosts || t.Env == nil || len(t.Env.HostIPs) > 0
		}
	}
	state.writes.SpecSize, state.writes.StatusSize = jsonSize(&job.Spec), jsonSize(&job.Status)
	if r.states.put(key, state) {
		r.large.started.Release(key) // of a deleted job of this name
	}
	return state
}

// resolveSpec sets the resolved spec of a job in its state, or says there why the job cannot be resolved.
func resolveSpec(state *jobState, job *v1alpha1.BatchJob) {
	spec, err := resolve.Resolve(job)
	if err != nil {
		state.code, state.message = codeUnresolved, err.Error()
	}
	state.spec = spec
}

// codeUnresolved is the code of a job that was accepted and cannot be resolved.
const codeUnresolved = string(errcode.InternalError)

// forget removes everything that the process remembers of the job of a name.
func (r *Reconciler) forget(key types.NamespacedName) {
	state := r.states.remove(key)
	r.queue.debounce.Forget(key)
	r.metrics.Forget(key)
	if r.notifier.dispatcher != nil {
		r.notifier.dispatcher.Forget(key)
	}
	if state != nil {
		r.tokens.forget(state.token, state.uid)
		r.creator.quotas.leave(key.Namespace, state.uid)
		r.large.started.Release(key)
	}
}

// jsonSize returns the size of a value as JSON.
func jsonSize(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		return 0 // the write fails as well
	}
	return len(text)
}

// lookForCreated returns the time after which to ask the API server for created Pods that the cache does not have; 0 if
// there are none. A Pod that is deleted immediately may never be in the cache, and then it causes no event.
func (s *jobState) lookForCreated(now time.Time) time.Duration {
	var first time.Duration
	for _, at := range s.created {
		first = soonest(first, max(at.Add(cacheLag).Sub(now), 1))
	}
	return first
}

// forgetSeen removes the created Pods that the cache has, and those that it should have after cacheLag.
func (s *jobState) forgetSeen(pods []*corev1.Pod, now time.Time) {
	if len(s.created) == 0 {
		return
	}
	for _, pod := range pods {
		delete(s.created, pod.Name)
	}
	for name, at := range s.created {
		if now.Sub(at) >= cacheLag {
			delete(s.created, name)
		}
	}
}

// withFinalizer returns the Pods of the job that have the finalizer. A stale cache may still have Pods whose finalizer
// was removed: their outcome is stored, and a second patch would be wasted. s may be nil.
func (s *jobState) withFinalizer(pods []*corev1.Pod) []*corev1.Pod {
	if s == nil || len(s.finalizersRemoved) == 0 {
		return pods
	}
	behind := make(map[types.UID]string, len(s.finalizersRemoved))
	out := slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		version, ok := s.finalizersRemoved[pod.UID]
		if ok = ok && lookup.IsOlder(pod.ResourceVersion, version); ok {
			behind[pod.UID] = version
		}
		return ok
	})
	s.finalizersRemoved = behind
	return out
}
