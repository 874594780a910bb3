// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
)

// Tombstone is what is kept of a job that was deleted after its ttlSecondsAfterFinished:
// enough to know the same request again, and to say what became of it. It is kept as JSON.
type Tombstone struct {
	// Request is the Digest of the job.
	Request string `json:"request"`
	// JobID, State and EndTime are those of the job's status.
	JobID   string            `json:"jobId"`
	State   v1alpha1.JobState `json:"state"`
	EndTime metav1.Time       `json:"endTime"`
}

// TombstoneOf returns the tombstone of a job that has ended.
func TombstoneOf(job *v1alpha1.BatchJob) (Tombstone, error) {
	digest, err := Digest(job)
	t := Tombstone{Request: digest, JobID: job.Status.JobID, State: job.Status.State}
	if job.Status.EndTime != nil {
		t.EndTime = *job.Status.EndTime
	}
	return t, err
}

// maxTombstoneSize is more than any tombstone takes. Unit: bytes.
const maxTombstoneSize = 256

// tombstoneSkew is how far the clock of the process that wrote a tombstone may have been ahead.
const tombstoneSkew = 24 * time.Hour

// tombstoneForm is what the identifiers of a tombstone look like. A job that was never accepted has none.
var tombstoneForm = regexp.MustCompile(`^[0-9a-f]{32}/(job-[0-9a-z]{8})?$`)

// ParseTombstone reads a tombstone. Whoever may write the ConfigMap can put any text there, and what
// it says is shown: so it reports false for what the operator would not have written before now.
func ParseTombstone(text string, now time.Time) (Tombstone, bool) {
	var t Tombstone
	if len(text) > maxTombstoneSize || json.Unmarshal([]byte(text), &t) != nil {
		return Tombstone{}, false
	}
	ok := isTerminal(t.State) && tombstoneForm.MatchString(t.Request+"/"+t.JobID) && t.EndTime.Unix() > 0 && !t.EndTime.After(now.Add(tombstoneSkew))
	return t, ok
}

// AlreadyRan returns the plan for a job that asks for what ran before under its name: it
// shows the old result and runs nothing.
func AlreadyRan(obs Observation, t Tombstone, now time.Time) Plan {
	next := obs.Job.Status.DeepCopy()
	next.ObservedGeneration = obs.Job.Generation
	next.JobID, next.State, next.RetryToken = t.JobID, t.State, obs.Job.Spec.RetryToken
	next.EndTime = new(t.EndTime)
	next.Reason = v1alpha1.ReasonAlreadyRan
	next.Message = fmt.Sprintf("the same request ran under this name as %s, ended %s and was deleted after its ttlSecondsAfterFinished; "+
		"to run it again, remove the key %q from ConfigMap %s, delete this job and create it again", t.JobID, t.State, obs.Job.Name, v1alpha1.TombstonesName)
	kinds := []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionComplete}
	if t.State != v1alpha1.JobSucceed {
		kinds = []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionFailed, v1alpha1.ConditionStalled}
	}
	set := conditions.OfBatchJob(next, next.ObservedGeneration, now)
	for _, kind := range kinds {
		set.True(kind, next.Reason, next.Message)
	}
	var a actions
	a.cleanUpAll(obs.Pods, now)
	p := a.plan(*next)
	var e events
	e.note(next.Reason, next.Message)
	p.Write, p.Events = WriteImmediate, e
	return p
}
