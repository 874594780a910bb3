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
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
)

// record stores the planned status, in one write, under optimistic lock, and then tells
// the news that it brings. It returns how long to wait when what is new is not worth a write
// yet; where it holds claims or outcomes, gathering says that nothing else may be done either.
func (r *Reconciler) record(ctx context.Context, obs *observation, p *plan.Plan) (wait time.Duration, gathering bool, err error) {
	stored := &obs.Job.Status
	if obs.memory.trimmed {
		p.Status, stored = *plan.Trim(&p.Status), plan.Trim(stored)
	}
	if !p.Changed(stored) {
		return 0, false, nil
	}
	now := r.options.Clock.Now()
	if left := r.writes.Delay(r.writeOf(p), &obs.memory.writes, now); left > 0 {
		return left, p.Urgent, nil
	}
	version, err := r.store(ctx, obs, &p.Status)
	if isTooLarge(err) {
		// Admission leaves room for what counts, but an object can grow otherwise: by
		// annotations, or by what earlier versions stored.
		p.Status, obs.memory.trimmed = *plan.Trim(&p.Status), true
		version, err = r.store(ctx, obs, &p.Status)
	}
	if err != nil {
		return 0, false, fmt.Errorf("storing the status: %w", err)
	}
	obs.memory.version, obs.wrote, obs.stored = version, true, &p.Status
	r.count(&obs.Job.Status, p)
	end := r.options.Clock.Now()
	obs.Live, obs.known = true, end // what we act on is what the API server has
	if logger := log.FromContext(ctx).V(1); logger.Enabled() {
		for _, t := range p.Transitions {
			logger.Info("Changed state", "jobId", p.Status.JobID, "reason", t.Reason, "message", t.Message)
		}
	}
	r.tell(obs, p.Transitions, now)
	obs.memory.writes.Done(now, end.Sub(now))
	if p.Urgent {
		r.writes.Wrote(end, end.Sub(now))
	}
	return 0, false, nil
}

// writeOf says how soon the status of a plan must be written.
func (r *Reconciler) writeOf(p *plan.Plan) flow.Write {
	w := flow.Write{Outcomes: len(p.Release)}
	switch {
	case p.Gather:
		w.Urgency = flow.Batched
	case p.Urgent:
		w.Urgency = flow.Immediate
	default:
		r.mu.Lock()
		w.Jobs = len(r.memories) // those that have not ended
		r.mu.Unlock()
	}
	return w
}

// count tells the metrics what a status that was stored brings.
func (r *Reconciler) count(old *v1alpha1.BatchJobStatus, p *plan.Plan) {
	m := r.options.Metrics
	for _, x := range p.Retries {
		m.Retried(x.Budget, x.Reason, x.Count)
	}
	if p.Status.EndTime == nil || old.EndTime != nil {
		return
	}
	m.Ended(string(p.Status.State), 1, 0)
	m.Ended(string(v1alpha1.JobSucceed), 0, int(p.Status.TaskInstanceMetrics.SucceedCount))
	m.Ended(string(v1alpha1.JobFailed), 0, int(p.Status.TaskInstanceMetrics.FailedCount))
}

// store writes the status and returns the job's new resource version.
func (r *Reconciler) store(ctx context.Context, obs *observation, next *v1alpha1.BatchJobStatus) (string, error) {
	job, m := obs.Job, obs.memory
	body, size, err := statusPatch(job, next)
	if err != nil {
		return "", err
	}
	m.writes.Start(size, r.options.Clock.Now())
	stored := justMetadata(v1alpha1.GroupVersion.WithKind("BatchJob"), job)
	err = r.client.Status().Patch(ctx, stored, client.RawPatch(types.MergePatchType, body))
	r.options.Metrics.Wrote("patch", "batchjobs/status", err)
	r.options.Metrics.StatusBytes(size)
	return stored.ResourceVersion, err
}

// isTooLarge reports whether a write was refused for the size of the object: by the API
// server, or by etcd or the line to it, whose refusals come as they are.
func isTooLarge(err error) bool {
	return err != nil && (apierrors.IsRequestEntityTooLargeError(err) || strings.Contains(err.Error(), "request is too large") ||
		strings.Contains(err.Error(), "trying to send message larger than max"))
}

// tell makes events of the news.
func (r *Reconciler) tell(obs *observation, news []plan.Transition, now time.Time) {
	budget, shedding := &obs.memory.events, r.writes.ShedsLoad(now)
	for _, t := range news {
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
			t.Message += fmt.Sprintf(" (%d events before this one were left out)", n)
		}
		r.recorder.Eventf(obs.Job, nil, kind, t.Reason, "Reconcile", "%s", t.Message)
	}
}

// statusPatch is a merge patch from the job's stored status to next. It carries the
// resource version, so that it fails with a conflict where the job is no longer the one
// that was looked at; and nothing of the spec, which may be a MiB.
// It returns the size of the whole next status as well.
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
