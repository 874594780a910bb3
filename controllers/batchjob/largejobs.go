// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/plan"
)

// This file bounds the memory of large jobs, see plan.LargeJob. The cache has only an outline of a large job. A pass
// reads the job from the API server, and keeps the resolved spec, which does not change, while the job has active or
// interrupted instances. The spec of an idle job is not kept, and the job is not read again before it changes.

// DefaultLargeJobMemory is how much memory the large jobs that have started may take. Unit: bytes.
const DefaultLargeJobMemory = 128 << 20

// memoryRetry is when a job that waits for memory is requeued, in case no event enqueues it earlier.
const memoryRetry = time.Minute

// largeJobs bounds the memory of the large jobs that have started, and remembers which idle ones need no pass. Its
// methods may be called concurrently for different jobs.
type largeJobs struct {
	started *membudget.Shares
	states  *jobStates
	clock   clock.PassiveClock
}

// idlePass is a pass over a large, idle job that left nothing to do.
type idlePass struct {
	// version is the resource version of the job, and wakeups the count of its state before that pass.
	version string
	wakeups int
	// until is when the next pass is due; zero means that none is.
	until time.Time
	// waits says that the job waits for memory.
	waits bool
}

// needsNoPass reports whether a pass over a large job without Pods has nothing to do, and how long to wait until the next
// pass; 0 means that none is due.
func (l *largeJobs) needsNoPass(state *jobState, job *v1alpha1.BatchJob) (time.Duration, bool) {
	if !plan.IsIdle(job) {
		return 0, false
	}
	if state == nil {
		return 0, plan.IsDormant(job)
	}
	last, freed := state.lastIdle, state.spec == nil
	//mutation:changed-idle-job-skipped
	if last == nil || last.version != job.ResourceVersion || last.wakeups != l.states.wakeups(state) {
		return 0, freed && plan.IsDormant(job) // otherwise the pass frees the memory of the job: see finish
	}
	if last.until.IsZero() {
		return 0, true
	}
	if left := last.until.Sub(l.clock.Now()); left > 0 {
		return left, true
	}
	return memoryRetry, last.waits && !l.started.Fits(keyOf(&job.ObjectMeta))
}

// needsWhole reports whether a pass over a large job needs more than the outline in the cache.
func needsWhole(state *jobState, job *v1alpha1.BatchJob) bool {
	//mutation:outline-is-whole-job
	return state == nil || state.spec == nil || plan.IsIdle(job) || !plan.IsAccepted(job)
}

// reserve reserves memory for a large job before it starts. If too little is left, the job waits. A job that has
// started keeps its memory.
func (l *largeJobs) reserve(obs *observation) {
	state, job := obs.state, obs.Job
	if !obs.large || state.spec == nil {
		return
	}
	key := keyOf(&job.ObjectMeta)
	switch {
	case !plan.IsIdle(job) || len(obs.Pods) > 0:
		l.started.Hold(key, state.startedSize)
	case obs.code == "" && obs.original == nil && obs.tombstone == nil && plan.MayBegin(job):
		if !l.started.Ask(membudget.Job{Name: key, Size: state.startedSize, Priority: state.priority, Created: job.CreationTimestamp.Time}) {
			obs.NoMemory, obs.wait = noMemory(state.startedSize, l.started.Limit()), memoryRetry
		}
	}
}

// noMemory returns the message of a job that waits for memory.
func noMemory(size, limit int) string {
	return fmt.Sprintf("the job needs %s of the operator's memory, and too little is left of the %s for large jobs that have started; "+
		"it starts when others have ended; to wait less, use fewer tasks, or raise --large-job-memory of the operator", mebibytes(size), mebibytes(limit))
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// finish frees the memory of a large job that is idle, at the end of a pass that returned result and err. It
// remembers whether there is anything left to do.
func (l *largeJobs) finish(obs *observation, result ctrl.Result, err error) {
	if !obs.large {
		return
	}
	state, key := obs.state, keyOf(&obs.Job.ObjectMeta)
	status := &obs.Job.Status
	if obs.stored != nil {
		status = obs.stored
	}
	if plan.HasClaims(status) || len(obs.Pods) > 0 {
		l.started.Hold(key, state.startedSize)
		return
	}
	if obs.NoMemory == "" {
		l.started.Release(key)
	}
	state.spec, state.terminations, state.lastIdle = nil, nil, nil
	state.nodes.DropEnvs()
	// The stored status may allow the next step. Its event starts another pass, which finds out.
	if err != nil || obs.stored != nil {
		return
	}
	state.lastIdle = &idlePass{version: obs.Job.ResourceVersion, wakeups: obs.wakeups, waits: obs.NoMemory != ""}
	if result.RequeueAfter > 0 {
		state.lastIdle.until = l.clock.Now().Add(result.RequeueAfter)
	}
}
