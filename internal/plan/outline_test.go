// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// ended is a job of two tasks in a state in which jobs end, with all that such a job has.
func ended(state v1alpha1.JobState, change func(*v1alpha1.BatchJob)) *v1alpha1.BatchJob {
	job := testutil.Job("j").Task("a").Task("b").Edges("a -> b").Token("t").Obj()
	job.Namespace, job.UID, job.ResourceVersion, job.Generation = "ns", "u", "7", 2
	end := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	job.CreationTimestamp = end
	job.Annotations = map[string]string{v1alpha1.AnnotationTerminate: "a/0", v1alpha1.AnnotationStoredSize: "1234"}
	job.Status = v1alpha1.BatchJobStatus{
		JobID: "job-1", State: state, Message: "a sentence", EndTime: &end, ObservedGeneration: 1,
		Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0"}, {Name: "b", State: v1alpha1.TaskFailed}},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "a sentence", LastTransitionTime: end},
			{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: "Done", LastTransitionTime: end},
		},
	}
	if change != nil {
		change(job)
	}
	return job
}

func TestOutline(t *testing.T) {
	for name, tc := range map[string]struct {
		job  *v1alpha1.BatchJob
		want bool // an outline
	}{
		"SUCCEED":              {ended(v1alpha1.JobSucceed, nil), true},
		"FAILED":               {ended(v1alpha1.JobFailed, nil), true},
		"RUNNING":              {ended(v1alpha1.JobRunning, func(j *v1alpha1.BatchJob) { j.Status.EndTime = nil }), false},
		"new":                  {ended("", func(j *v1alpha1.BatchJob) { j.Status = v1alpha1.BatchJobStatus{} }), false},
		"to be run again":      {ended(v1alpha1.JobFailed, func(j *v1alpha1.BatchJob) { j.Spec.RetryToken = "r" }), false},
		"was run again":        {ended(v1alpha1.JobFailed, func(j *v1alpha1.BatchJob) { j.Spec.RetryToken, j.Status.RetryToken = "r", "r" }), true},
		"with a claim":         {ended(v1alpha1.JobFailed, func(j *v1alpha1.BatchJob) { j.Status.Tasks[1].Active = "0" }), false},
		"with a Pod held back": {ended(v1alpha1.JobFailed, func(j *v1alpha1.BatchJob) { j.Status.Tasks[1].Interrupted = "0" }), false},
		"another's duplicate": {ended(v1alpha1.JobSubmitted, func(j *v1alpha1.BatchJob) {
			j.Status.EndTime = nil
			j.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue}}
		}), true},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.job.DeepCopy()
			got := Outline(tc.job)
			if !cmp.Equal(before, tc.job) {
				t.Error("the job was changed")
			}
			if IsOutline(got) != tc.want || !tc.want && got != tc.job {
				t.Errorf("outline: %t, want %t", IsOutline(got), tc.want)
			}
			if size := got.Annotations[v1alpha1.AnnotationStoredSize]; size != "1234" || tc.want && len(got.Annotations) != 1 {
				t.Errorf("annotations %v", got.Annotations)
			}
			if text, err := json.Marshal(got); err != nil || tc.want && len(text) > 1024 {
				t.Errorf("%d bytes, %v", len(text), err)
			}
		})
	}
}

// TestOutlineIsEnough: by an outline the same is done as by the whole job: nothing, the note
// that the last change was seen, or the deletion when its time has come.
func TestOutlineIsEnough(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.BatchJob){
		"seen":          func(j *v1alpha1.BatchJob) { j.Status.ObservedGeneration = 2 },
		"changed":       nil,
		"kept an hour":  func(j *v1alpha1.BatchJob) { j.Spec.TTLSecondsAfterFinished = new(int64(3600)) },
		"time is over":  func(j *v1alpha1.BatchJob) { j.Spec.TTLSecondsAfterFinished = new(int64(5)) },
		"being deleted": func(j *v1alpha1.BatchJob) { j.DeletionTimestamp = j.Status.EndTime },
		"ran before": func(j *v1alpha1.BatchJob) {
			j.Spec.TTLSecondsAfterFinished, j.Status.Reason = new(int64(5)), v1alpha1.ReasonAlreadyRan
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := ended(v1alpha1.JobFailed, change)
			now := job.Status.EndTime.Add(time.Minute)
			want, err := Compute(Observation{Job: job}, now)
			if err != nil {
				t.Fatal(err)
			}
			outline := Outline(job)
			got, err := Compute(Observation{Job: outline}, now)
			if err != nil {
				t.Fatal(err)
			}
			if was, is := want.Changed(&job.Status), got.Changed(&outline.Status); was != is {
				t.Errorf("status changes: %t, want %t", is, was)
			}
			if got.Status.ObservedGeneration != want.Status.ObservedGeneration {
				t.Errorf("observedGeneration %d, want %d", got.Status.ObservedGeneration, want.Status.ObservedGeneration)
			}
			got.Status, want.Status = v1alpha1.BatchJobStatus{}, v1alpha1.BatchJobStatus{}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Plan{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
