// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
)

// record stores the planned status, in one write, under optimistic lock, and then tells
// the news that it brings. It returns how long to wait when news for people alone are
// not worth a write yet.
func (r *Reconciler) record(ctx context.Context, obs *observation, p *plan.Plan) (time.Duration, error) {
	if !p.Changed(&obs.Job.Status) {
		return 0, nil
	}
	now := r.options.Clock.Now()
	if left := obs.memory.at.Add(newsInterval).Sub(now); !p.Urgent && left > 0 {
		return left, nil
	}
	body, err := statusPatch(obs.Job, &p.Status)
	if err != nil {
		return 0, err
	}
	stored := &v1alpha1.BatchJob{}
	stored.Namespace, stored.Name = obs.Job.Namespace, obs.Job.Name
	if err := r.client.Status().Patch(ctx, stored, client.RawPatch(types.MergePatchType, body)); err != nil {
		return 0, fmt.Errorf("storing the status: %w", err)
	}
	obs.memory.version, obs.memory.at = stored.ResourceVersion, now
	obs.Live = true // what we act on is what the API server has
	for _, t := range p.Transitions {
		kind := corev1.EventTypeNormal
		if t.Warning {
			kind = corev1.EventTypeWarning
		}
		r.recorder.Eventf(obs.Job, nil, kind, t.Reason, "Reconcile", "%s", t.Message)
	}
	return 0, nil
}

// statusPatch is a merge patch from the job's stored status to next. It carries the
// resource version, so that it fails with a conflict where the job is no longer the one
// that was looked at; and nothing of the spec, which may be a MiB.
func statusPatch(job *v1alpha1.BatchJob, next *v1alpha1.BatchJobStatus) ([]byte, error) {
	before, err := json.Marshal(&job.Status)
	if err != nil {
		return nil, fmt.Errorf("encoding the stored status: %w", err)
	}
	after, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding the next status: %w", err)
	}
	diff, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return nil, fmt.Errorf("comparing the statuses: %w", err)
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": job.ResourceVersion},
		"status":   json.RawMessage(diff),
	})
}
