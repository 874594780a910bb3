// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
)

// submitTTL submits a job of one task with a TTL of ten seconds.
func (e *testEnv) submitTTL(name string) *v1alpha1.BatchJob {
	e.t.Helper()
	job := testutil.Job(name).Task("a").New(e.ns)
	job.Spec.TTLSecondsAfterFinished = new(int64(10))
	if err := e.Create(context.Background(), job); err != nil {
		e.t.Fatal(err)
	}
	e.sync()
	return job
}

// exists reports whether a job of that name exists.
func (e *testEnv) exists(name string) bool {
	e.t.Helper()
	err := e.Get(context.Background(), client.ObjectKey{Namespace: e.ns, Name: name}, &v1alpha1.BatchJob{})
	if client.IgnoreNotFound(err) != nil {
		e.t.Fatal(err)
	}
	return err == nil
}

// stones returns the ConfigMap of tombstones; nil if there is none.
func (e *testEnv) stones() *corev1.ConfigMap {
	e.t.Helper()
	out := &corev1.ConfigMap{}
	err := e.Get(context.Background(), client.ObjectKey{Namespace: e.ns, Name: v1alpha1.TombstonesName}, out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// TestHostileTombstones: the ConfigMap cannot be written. The job's status and an Event say so, and the job is deleted after
// deletionDelay anyway, also if another process has become the leader.
func TestHostileTombstones(t *testing.T) {
	for name, blockWrites := range map[string]func(*testEnv, *process){
		"a quota of no ConfigMaps": func(e *testEnv, _ *process) {
			quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none", Namespace: e.ns}}
			quota.Spec.Hard = corev1.ResourceList{corev1.ResourceConfigMaps: resource.MustParse("0")}
			if err := e.Create(context.Background(), quota); err != nil {
				e.t.Fatal(err)
			}
			quota.Status.Hard, quota.Status.Used = quota.Spec.Hard, corev1.ResourceList{corev1.ResourceConfigMaps: resource.MustParse("0")}
			if err := e.Status().Update(context.Background(), quota); err != nil {
				e.t.Fatal(err)
			}
			e.eventually("the quota is enforced", func() bool {
				probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: e.ns}}
				return apierrors.IsForbidden(e.Create(context.Background(), probe, client.DryRunAll))
			})
		},
		"an immutable ConfigMap": func(e *testEnv, _ *process) {
			mine := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.TombstonesName, Namespace: e.ns}, Immutable: new(true)}
			if err := e.Create(context.Background(), mine); err != nil {
				e.t.Fatal(err)
			}
		},
		"a policy": func(_ *testEnv, p *process) {
			p.refusal = func(_ int, call, name string) error {
				if strings.HasSuffix(call, "tombstones") {
					return apierrors.NewForbidden(corev1.Resource("configmaps"), name, fmt.Errorf("denied by\x1b[31m a policy"))
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			blockWrites(e, p)
			e.submitTTL("j")
			p.play("j")
			e.clock.SetTime(e.clock.Now().Add(time.Minute))
			p.must("j")
			c := meta.FindStatusCondition(e.job("j").Status.Conditions, v1alpha1.ConditionDeletionDelayed)
			if c == nil || c.Reason != v1alpha1.ReasonTombstoneRefused || !strings.Contains(c.Message, v1alpha1.TombstonesName) || strings.Contains(c.Message, "\x1b") {
				t.Fatalf("the condition is %+v", c)
			}
			wait := p.must("j").RequeueAfter
			if wait <= 0 || wait > tombstoneRetry {
				t.Errorf("RequeueAfter is %s", wait)
			}
			p = e.start(&faultClient{refusal: p.refusal}) // another process continues
			e.clock.SetTime(e.clock.Now().Add(deletionDelay - time.Minute))
			p.must("j")
			if !e.exists("j") {
				t.Error("the job was deleted too soon")
			}
			e.clock.SetTime(e.clock.Now().Add(2 * time.Minute))
			p.must("j")
			if e.exists("j") {
				t.Error("the job was not deleted")
			}
			events := strings.Join(p.status.recorder.(*eventRecorder).events, "\n")
			if !strings.Contains(events, "Warning TombstoneRefused: deleted after its ttlSecondsAfterFinished; applying its manifest again starts the job again") {
				t.Errorf("the Events are %q", events)
			}
			t.Logf("hostile: %s: %s; deleted after %s", name, c.Message, deletionDelay)
		})
	}
}

// TestHostileTombstonesFull: a user has filled the ConfigMap. Entries that are no tombstones are removed, and the job's
// tombstone is stored.
func TestHostileTombstonesFull(t *testing.T) {
	e := newTestEnv(t)
	junk := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.TombstonesName, Namespace: e.ns}}
	junk.Data = map[string]string{"junk": strings.Repeat("x", 500<<10)}
	junk.BinaryData = map[string][]byte{"more": make([]byte, 523<<10)}
	if err := e.Create(context.Background(), junk); err != nil {
		t.Fatal(err)
	}
	p := e.start(nil)
	e.submitTTL("j")
	p.play("j")
	e.clock.SetTime(e.clock.Now().Add(time.Minute))
	p.must("j")
	stones := e.stones()
	if _, ok := plan.ParseTombstone(stones.Data["j"], e.clock.Now()); !ok || len(stones.Data) != 1 || len(stones.BinaryData) > 0 || e.exists("j") {
		t.Errorf("the ConfigMap has %d and %d entries, the job exists: %t", len(stones.Data), len(stones.BinaryData), e.exists("j"))
	}
	t.Logf("hostile: a full ConfigMap: cleaned, 1 tombstone stored, job deleted")
}

// TestHostileTombstonesForged: a tombstone that the operator cannot have written is ignored, and the job runs. A well-formed
// one counts.
func TestHostileTombstonesForged(t *testing.T) {
	for name, tc := range map[string]struct {
		createForgedPod map[string]any
		want            v1alpha1.JobState
	}{
		"as the operator writes it":      {nil, v1alpha1.JobSucceed},
		"an escape in the state":         {map[string]any{"state": "RUNNING\x1b[31m"}, v1alpha1.JobRunnable},
		"a state that is not final":      {map[string]any{"state": "RUNNING"}, v1alpha1.JobRunnable},
		"an escape in the identifier":    {map[string]any{"jobId": "job-\x1b[31mab"}, v1alpha1.JobRunnable},
		"a long identifier":              {map[string]any{"jobId": "job-0a1b2c3d" + strings.Repeat("0", 100)}, v1alpha1.JobRunnable},
		"a time in the future":           {map[string]any{"endTime": "2999-01-02T03:04:05Z"}, v1alpha1.JobRunnable},
		"no time":                        {map[string]any{"endTime": nil}, v1alpha1.JobRunnable},
		"more than a tombstone can have": {map[string]any{"more": strings.Repeat("x", 300)}, v1alpha1.JobRunnable},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			e.submitTTL("j")
			digest, err := plan.Digest(e.job("j"))
			if err != nil {
				t.Fatal(err)
			}
			entry := map[string]any{"request": digest, "jobId": "job-0a1b2c3d", "state": "SUCCEED", "endTime": "2026-01-02T03:04:05Z"}
			maps.Copy(entry, tc.createForgedPod)
			text, err := json.Marshal(entry)
			if err != nil {
				t.Fatal(err)
			}
			stones := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.TombstonesName, Namespace: e.ns}, Data: map[string]string{"j": string(text)}}
			if err := e.Create(context.Background(), stones); err != nil {
				t.Fatal(err)
			}
			p.must("j")
			s := e.job("j").Status
			if s.State != tc.want || (s.Reason == v1alpha1.ReasonAlreadyRan) != (tc.createForgedPod == nil) {
				t.Errorf("the job is %q, %s", s.State, s.Reason)
			}
			t.Logf("hostile: a tombstone, %s: job %s", name, s.State)
		})
	}
}
