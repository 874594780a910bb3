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

// Of a large job, see plan.LargeJob, the cache has no spec. A pass reads the job from the API server, and
// keeps what it resolves to for as long as instances are issued or held: the spec does not change. Of
// an idle job nothing is kept, and no pass reads it as long as nothing has changed since the last one.

// DefaultLargeJobMemory is how much memory large jobs may take that have started. Unit: bytes.
const DefaultLargeJobMemory = 128 << 20

// loadMemory is how much memory large jobs may take that passes have read; to read one takes twice as
// much for a moment. Unit: bytes.
const loadMemory = 16 << 20

// memoryRetry is when a job that waits for memory looks for it by itself. It is woken earlier.
const memoryRetry = time.Minute

// lease is the memory that a pass has taken to read whole jobs; the zero value has none.
type memoryLease struct{ release func() }

// take has the lease take memory for a job of this size. One that has some takes no more, since
// it must not wait for others while they wait for it.
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

// unlimited returns a lease that waits for nobody.
func unlimited() *memoryLease { return &memoryLease{release: func() {}} }

// end gives back what was taken.
func (l *memoryLease) end() {
	if l.release != nil {
		l.release()
		l.release = nil
	}
}

// settled says that a pass over a large, idle job left nothing to do.
type settled struct {
	// version is the resource version that the job had, and wakeups that of the state as it was before.
	version string
	wakeups int
	// until is when to look again; zero means at no time.
	until time.Time
	// waits says that the job waits for memory.
	waits bool
}

// isSettled reports whether there is nothing to do for a job, of which the cache has an outline and no
// Pods, and when to look again; 0 means at no time.
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
		return 0, idle && plan.IsDormant(job) // else the pass frees what is kept for the job: see finishLarge
	}
	if s.until.IsZero() {
		return 0, true
	}
	if left := s.until.Sub(r.options.Clock.Now()); left > 0 {
		return left, true
	}
	return memoryRetry, s.waits && !r.started.Fits(keyOf(&job.ObjectMeta))
}

// needsWhole reports whether a pass over a job, of which the cache has an outline, needs more of it.
func needsWhole(m *jobState, job *v1alpha1.BatchJob) bool {
	//mutation:outline-is-whole-job
	return m == nil || m.spec == nil || plan.IsIdle(job) || !isAccepted(job)
}

// resolveAgain puts what a job resolves to back into its state.
func resolveAgain(m *jobState, job *v1alpha1.BatchJob) *jobState {
	spec, err := resolve.Resolve(job)
	if err != nil {
		m.code, m.message = codeUnresolved, err.Error()
	}
	m.spec = spec
	return m
}

// codeUnresolved is the reason of a job that was accepted and cannot be resolved.
const codeUnresolved = "InternalError"

// reserveMemory asks, for a large job that is idle and may begin, whether there is memory for it. One of
// which instances are issued has it already.
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

// noMemory says why a job waits.
func noMemory(size, limit int) string {
	return fmt.Sprintf("the job takes %s of the operator's memory, and too little is left of the %s for large jobs that have started; "+
		"it starts when others have ended; one with fewer tasks takes less, and --large-job-memory of the operator sets the limit", mebibytes(size), mebibytes(limit))
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// finishLarge is the end of a pass over a large job, which returned result and err: of one that is idle only
// what there is to do is remembered.
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
	// A status that was stored now may be the reason to go on: the next pass, which its event brings, tells.
	if err != nil || obs.stored != nil {
		return
	}
	m.settled = &settled{version: obs.Job.ResourceVersion, wakeups: obs.wakeups, waits: obs.NoMemory != ""}
	if result.RequeueAfter > 0 {
		m.settled.until = r.options.Clock.Now().Add(result.RequeueAfter)
	}
}
