// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// This file bounds the memory of large jobs, see plan.LargeJob. The cache has only an outline of a large job. A pass
// reads the job from the API server, and keeps the resolved spec, which does not change, while the job has active or
// interrupted instances. The spec of an idle job is not kept, and the job is not read again before it changes.

// DefaultLargeJobMemory is how much memory the large jobs that have started may take. Unit: bytes.
const DefaultLargeJobMemory = 128 << 20

// loadMemory is how much memory the large jobs that passes have read may take; reading a job takes twice its size for
// a moment. Unit: bytes.
const loadMemory = 16 << 20

// memoryRetry is when a job that waits for memory is requeued, in case no event enqueues it earlier.
const memoryRetry = time.Minute

// memoryLease is the memory that a pass has acquired to read whole jobs; the zero value has none.
type memoryLease struct{ release func() }

// acquireMemory acquires memory for a job of this size. A lease that has memory gets no more, since two passes with
// memory could wait for each other forever.
func (r *Reconciler) acquireMemory(ctx context.Context, l *memoryLease, namespace string, size int) error {
	if size == 0 || l.release != nil {
		return nil
	}
	release, err := r.loads.Acquire(ctx, namespace, size)
	if err != nil {
		return fmt.Errorf("reading a large job: %w", err)
	}
	l.release = release
	return nil
}

// unlimited returns a lease for reads that need no memory of the gate.
func unlimited() *memoryLease { return &memoryLease{release: func() {}} }

// end releases the memory.
func (l *memoryLease) end() {
	if l.release != nil {
		l.release()
		l.release = nil
	}
}

// settled says that a pass over a large, idle job left nothing to do.
type settled struct {
	// version is the resource version of the job, and wakeups the count of its state before that pass.
	version string
	wakeups int
	// until is when the next pass is due; zero means that none is.
	until time.Time
	// waits says that the job waits for memory.
	waits bool
}

// isSettled reports whether a pass over a large job without Pods has nothing to do, and how long to wait until the next
// pass; 0 means that none is due.
func (r *Reconciler) isSettled(m *jobState, job *v1alpha1.BatchJob) (time.Duration, bool) {
	if !plan.IsIdle(job) {
		return 0, false
	}
	if m == nil {
		return 0, plan.IsDormant(job)
	}
	s, idle := m.settled, m.spec == nil
	//mutation:changed-settled-job-skipped
	if s == nil || s.version != job.ResourceVersion || s.wakeups != r.states.wakeups(m) {
		return 0, idle && plan.IsDormant(job) // otherwise the pass frees the memory of the job: see finishLarge
	}
	if s.until.IsZero() {
		return 0, true
	}
	if left := s.until.Sub(r.options.Clock.Now()); left > 0 {
		return left, true
	}
	return memoryRetry, s.waits && !r.started.Fits(keyOf(&job.ObjectMeta))
}

// needsWhole reports whether a pass over a large job needs more than the outline in the cache.
func needsWhole(m *jobState, job *v1alpha1.BatchJob) bool {
	//mutation:outline-is-whole-job
	return m == nil || m.spec == nil || plan.IsIdle(job) || !isAccepted(job)
}

// resolveAgain restores the resolved spec of a large job in its state.
func resolveAgain(m *jobState, job *v1alpha1.BatchJob) *jobState {
	spec, err := resolve.Resolve(job)
	if err != nil {
		m.code, m.message = codeUnresolved, err.Error()
	}
	m.spec = spec
	return m
}

// codeUnresolved is the code of a job that was accepted and cannot be resolved.
const codeUnresolved = "InternalError"

// reserveMemory reserves memory for a large job before it starts. If too little is left, the job waits. A job that has
// started keeps its memory.
func (r *Reconciler) reserveMemory(obs *observation) {
	m, job := obs.state, obs.Job
	if !obs.large || m.spec == nil {
		return
	}
	key := keyOf(&job.ObjectMeta)
	switch {
	case !plan.IsIdle(job) || len(obs.Pods) > 0:
		r.started.Hold(key, m.startedSize)
	case obs.code == "" && obs.original == nil && obs.tombstone == nil && plan.MayBegin(job):
		if !r.started.Ask(membudget.Job{Name: key, Size: m.startedSize, Priority: m.priority, Created: job.CreationTimestamp.Time}) {
			obs.NoMemory, obs.wait = noMemory(m.startedSize, r.started.Limit()), memoryRetry
		}
	}
}

// noMemory returns the message of a job that waits for memory.
func noMemory(size, limit int) string {
	return fmt.Sprintf("the job needs %s of the operator's memory, and too little is left of the %s for large jobs that have started; "+
		"it starts when others have ended; to wait less, use fewer tasks, or raise --large-job-memory of the operator", mebibytes(size), mebibytes(limit))
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// finishLarge frees the memory of a large job that is idle, at the end of a pass that returned result and err. It
// remembers whether there is anything left to do.
func (r *Reconciler) finishLarge(obs *observation, result ctrl.Result, err error) {
	if !obs.large {
		return
	}
	m, key := obs.state, keyOf(&obs.Job.ObjectMeta)
	status := &obs.Job.Status
	if obs.stored != nil {
		status = obs.stored
	}
	if plan.HasClaims(status) || len(obs.Pods) > 0 {
		r.started.Hold(key, m.startedSize)
		return
	}
	if obs.NoMemory == "" {
		r.started.Release(key)
	}
	m.spec, m.terminations, m.settled = nil, nil, nil
	m.nodes.DropEnvs()
	// The stored status may allow the next step. Its event starts another pass, which finds out.
	if err != nil || obs.stored != nil {
		return
	}
	m.settled = &settled{version: obs.Job.ResourceVersion, wakeups: obs.wakeups, waits: obs.NoMemory != ""}
	if result.RequeueAfter > 0 {
		m.settled.until = r.options.Clock.Now().Add(result.RequeueAfter)
	}
}
