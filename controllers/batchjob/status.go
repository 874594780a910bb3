// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// statusWriter writes the status of jobs, throttles these writes, and emits the Events that a write proves. Its methods
// may be called concurrently for different jobs.
type statusWriter struct {
	client   client.Client
	recorder events.EventRecorder
	states   *jobStates
	metrics  *jobMetrics
	clock    clock.PassiveClock
	throttle flow.StatusWrites
}

// statusDelay says whether the status of a plan is written now, and if not, what that means.
type statusDelay struct {
	// write says that the status has changed and is written now.
	write bool
	// wait is how long the write of a changed status is delayed; 0 if it is not.
	wait time.Duration
	// blocks says that the plan must not be applied before the delayed write, since the status has new claims or
	// outcomes.
	blocks bool
}

// delay decides whether the planned status is written now.
func (w *statusWriter) delay(obs *observation, p *plan.Plan) statusDelay {
	stored := &obs.Job.Status
	if obs.state.trimmed {
		p.Status, stored = *plan.Trim(&p.Status), plan.Trim(stored)
	}
	if !p.Changed(stored) {
		return statusDelay{}
	}
	if wait := w.waitOf(obs, p); wait > 0 {
		return statusDelay{wait: wait, blocks: p.Write != plan.WriteInformational}
	}
	return statusDelay{write: true}
}

// waitOf returns how long the write of a changed status is delayed; 0 or less: it is written now.
func (w *statusWriter) waitOf(obs *observation, p *plan.Plan) time.Duration {
	writes, now := &obs.state.writes, w.clock.Now()
	switch p.Write {
	case plan.WriteImmediate:
		return w.throttle.DelayImmediate(writes, now)
	case plan.WriteBatched:
		return w.throttle.DelayBatched(len(p.RemoveFinalizers), writes, now)
	}
	return w.throttle.DelayInformational(w.states.len(), writes, now) // of unfinished jobs
}

// write stores the planned status, unless it is delayed, and then emits its Events. The claims and
// outcomes in it are stored when it returns nil.
func (w *statusWriter) write(ctx context.Context, obs *observation, p *plan.Plan, delay statusDelay) error {
	if !delay.write {
		return nil
	}
	start := w.clock.Now()
	err := w.storePlanned(ctx, obs, p)
	switch {
	//mutation:conflict-is-success
	case apierrors.IsConflict(err):
		// The cache is stale, or another controller is active. Nothing was changed.
		return retry.After(staleRetry, err)
	case err != nil:
		return ifDeleted(err)
	}
	end := w.clock.Now()
	obs.wrote, obs.stored = true, &p.Status
	obs.Live, obs.known = true, end // the API server has confirmed the job
	w.metrics.countStatus(&obs.Job.Status, p)
	w.metrics.noteReady(obs, &p.Status)
	logChanges(ctx, &obs.Job.Status, p)
	w.emit(obs, p.Events, start)
	obs.state.writes.Done(start, end.Sub(start))
	if p.Write != plan.WriteInformational {
		w.throttle.Wrote(end, end.Sub(start))
	}
	return nil
}

// storePlanned stores the planned status in one write, and a shorter one if that is too large.
func (w *statusWriter) storePlanned(ctx context.Context, obs *observation, p *plan.Plan) error {
	version, err := w.store(ctx, obs, &p.Status)
	if isTooLarge(err) {
		// Admission reserves space for the counts, but an object can grow in other ways: by annotations, or by the
		// status of an earlier version.
		log.FromContext(ctx).Info("The status is too large, so it is stored without the lists of failures and waiting instances",
			"jobId", p.Status.JobID, "error", err.Error())
		p.Status, obs.state.trimmed = *plan.Trim(&p.Status), true
		version, err = w.store(ctx, obs, &p.Status)
	}
	if err != nil {
		return fmt.Errorf("storing the status: %w", err)
	}
	obs.state.version = version
	return nil
}

// store writes the status and returns the job's new resource version.
func (w *statusWriter) store(ctx context.Context, obs *observation, next *v1alpha1.BatchJobStatus) (string, error) {
	job := obs.Job
	body, size, err := statusPatch(job, next)
	if err != nil {
		return "", err
	}
	obs.state.writes.Start(size, w.clock.Now())
	stored := justMetadata(v1alpha1.GroupVersion.WithKind("BatchJob"), job)
	err = w.client.Status().Patch(ctx, stored, client.RawPatch(types.MergePatchType, body))
	w.metrics.Wrote("patch", "batchjobs/status", err)
	w.metrics.StatusBytes(size)
	return stored.ResourceVersion, err
}

// isTooLarge reports whether a write was refused because the object is too large: by the API server, or by etcd or
// the connection to it, whose errors have no reason of their own.
func isTooLarge(err error) bool {
	return err != nil && (apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max"))
}

// statusPatch returns a merge patch from the job's stored status to next, and the size of next as JSON. The patch has
// an optimistic lock, so that it fails with a conflict if the job has changed. It has nothing of the spec, which may
// be 1 MiB.
func statusPatch(job *v1alpha1.BatchJob, next *v1alpha1.BatchJobStatus) (body []byte, size int, err error) {
	before, err := json.Marshal(&job.Status)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding the stored status: %w", err)
	}
	after, err := json.Marshal(next)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding the next status: %w", err)
	}
	diff, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return nil, 0, fmt.Errorf("comparing the statuses: %w", err)
	}
	//mutation:optimistic-lock-dropped
	lock := map[string]any{"resourceVersion": job.ResourceVersion}
	body, err = json.Marshal(map[string]any{"metadata": lock, "status": json.RawMessage(diff)})
	return body, len(after), err
}

// emit emits Events, up to the budget of the job. During load shedding it drops those that only repeat what the
// status says.
func (w *statusWriter) emit(obs *observation, planned []plan.Event, now time.Time) {
	budget, shedding := &obs.state.events, w.throttle.ShedsLoad(now)
	for _, t := range planned {
		if t.Progress && shedding {
			budget.Drop()
			continue
		}
		if !budget.Take(now) {
			continue
		}
		kind := corev1.EventTypeNormal
		if t.Warning {
			kind = corev1.EventTypeWarning
		}
		if n := budget.TakeDropped(); n > 0 {
			t.Message += fmt.Sprintf(" (%d events before this one were dropped)", n)
		}
		w.recorder.Eventf(obs.Job, nil, kind, t.Reason, "Reconcile", "%s", t.Message)
	}
}
