// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"encoding/json"
	"slices"
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

// memory is what this process knows of one job beyond what is stored. All of it may be
// lost at any moment together with the process: it saves work and waiting. While the process
// lives, the pool of nodes depends on its account.
//
// Only the worker that has the job uses it, so it needs no lock, but for podEvent.
type memory struct {
	uid   types.UID
	token tokenKey
	// version is the resource version of our last write to the job.
	version string
	// spec is what the job resolves to; code and message say why it must not run. A large job that is
	// idle has none between two passes: see endLarge. It is set under the reconciler's lock.
	spec          *resolve.Job
	code, message string
	// priority is that of the spec, and startedSize the plan.StartedSize of the job.
	priority, startedSize int
	// settled is what the last pass over a large job came to; nil if there is something to do. looks
	// counts what happened since that no object in the cache tells of. Both need the reconciler's lock.
	settled *settled
	looks   int
	// usesNodes says that a task names a ComputeEnv, and nodes is what the pool knows of the job.
	usesNodes bool
	nodes     nodepool.Account
	// seeksHosts says that hosts may be named by their addresses.
	seeksHosts bool
	// created are the Pods that were created and have not been seen since, with the time.
	created map[string]time.Time
	// released are the Pods that were let go of and that the cache may still show as they were
	// before, with the resource version that they have had since.
	released map[types.UID]string
	// slowStart bounds the Pods that are created at the same time, and batch those that a pass claims.
	slowStart flow.SlowStart
	batch     flow.Batch
	// writes throttles the writes of the status.
	writes flow.JobWrites
	// refusals are the tasks whose Pods the cluster refuses to make, by position.
	refusals map[int]*refusal
	// terminations is what the annotation said that terminates instances, when it was last read.
	terminations *plan.Terminations
	// taken are the names of the job's Pods that Pods of others have.
	taken map[string]*taken
	// proven are the Pods, by UID, that have proved that the operator made them.
	proven map[types.UID]bool
	// trimmed says that the job's status has no room for what only explains.
	trimmed bool
	// events bounds the Events of the job.
	events flow.EventBudget
	// podEvent is when the first event of a Pod came that no pass has recorded; zero if none has since.
	// It needs the reconciler's lock.
	podEvent time.Time
}

// recall returns the memory of the job; nil if there is none.
func (r *Reconciler) recall(key types.NamespacedName, job *v1alpha1.BatchJob) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[key]; m != nil && m.uid == job.UID {
		return m
	}
	return nil
}

// previousUser returns the UID of the job of a name that used nodes in its last pass; "" for none.
func (r *Reconciler) previousUser(key types.NamespacedName) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memories[key]; m != nil && m.usesNodes {
		return m.uid
	}
	return ""
}

// remember makes a memory of the job, which must be whole.
func (r *Reconciler) remember(key types.NamespacedName, job *v1alpha1.BatchJob) *memory {
	m := &memory{
		uid: job.UID, token: tokenKey{job.Namespace, job.Spec.ClientToken}, created: map[string]time.Time{}, released: map[types.UID]string{},
		priority: v1alpha1.DefaultPriority, startedSize: plan.StartedSize(job),
	}
	if !isAccepted(job) { // what an earlier version accepted goes on
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
	r.mu.Lock()
	before := r.memories[key]
	r.memories[key] = m
	r.mu.Unlock()
	if before != nil {
		r.started.Release(key) // another job of this name, which is gone
	}
	return m
}

// jsonSize is the size of a value as JSON.
func jsonSize(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		return 0 // and it cannot be written either
	}
	return len(text)
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	m := r.memories[key]
	//mutation:departed-job-not-forgotten
	delete(r.memories, key)
	r.mu.Unlock()
	r.debounce.Forget(key)
	r.options.Metrics.Forget(key)
	if m != nil {
		r.tokens.forget(m.token, m.uid)
		r.quotas.leave(key.Namespace, m.uid)
		r.started.Release(key)
	}
}

// unseen returns when to look for the Pods that were created and have not been seen
// since; 0 when there is none. One that is taken away at once may never be seen, and
// then no event tells of it.
func (m *memory) unseen(now time.Time) time.Duration {
	var first time.Duration
	for _, at := range m.created {
		first = soonest(first, max(at.Add(cacheLag).Sub(now), 1))
	}
	return first
}

// forgetSeen drops what the cache has caught up with, and what it should have.
func (m *memory) forgetSeen(pods []*corev1.Pod, now time.Time) {
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

// held returns the Pods of the job that were not let go of. Those that were, and that a cache
// which is behind still shows, have nothing to tell, and are not to be let go of once more.
func (m *memory) held(pods []*corev1.Pod) []*corev1.Pod {
	if len(m.released) == 0 {
		return pods
	}
	behind := make(map[types.UID]string, len(m.released))
	out := slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		version, ok := m.released[pod.UID]
		if ok = ok && lookup.IsOlder(pod.ResourceVersion, version); ok {
			behind[pod.UID] = version
		}
		return ok
	})
	m.released = behind
	return out
}
