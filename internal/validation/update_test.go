// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// TestSteering: how a job may be steered, in which state.
func TestSteering(t *testing.T) {
	for name, tc := range map[string]struct {
		old  v1alpha1.BatchJobSpec
		edit func(*v1alpha1.BatchJobSpec)
		in   v1alpha1.JobState
		want []string
	}{
		"suspend":       {edit: func(s *v1alpha1.BatchJobSpec) { s.Suspend = true }, in: v1alpha1.JobRunning},
		"resume":        {old: v1alpha1.BatchJobSpec{Suspend: true}, edit: func(s *v1alpha1.BatchJobSpec) { s.Suspend = false }},
		"terminate":     {edit: func(s *v1alpha1.BatchJobSpec) { s.Terminate = true }},
		"time to live":  {edit: func(s *v1alpha1.BatchJobSpec) { s.TTLSecondsAfterFinished = ptr(int64(0)) }, in: v1alpha1.JobSucceed},
		"kept for ever": {old: v1alpha1.BatchJobSpec{TTLSecondsAfterFinished: ptr(int64(5))}, edit: func(s *v1alpha1.BatchJobSpec) { s.TTLSecondsAfterFinished = nil }},
		"lived before":  {edit: func(s *v1alpha1.BatchJobSpec) { s.TTLSecondsAfterFinished = ptr(int64(-1)) }, want: []string{"InvalidParameterValue.Negative spec.ttlSecondsAfterFinished: must not be negative, got -1"}},
		"lives too long": {edit: func(s *v1alpha1.BatchJobSpec) { s.TTLSecondsAfterFinished = ptr(int64(1) << 31) },
			want: []string{"InvalidParameterValue spec.ttlSecondsAfterFinished: must be from 0 to 2147483647, got 2147483648"}},
		"taken up again": {old: v1alpha1.BatchJobSpec{Terminate: true}, edit: func(s *v1alpha1.BatchJobSpec) { s.Terminate = false },
			want: []string{"UnsupportedOperation spec.terminate: must stay true: a terminated job cannot be started again; submit another BatchJob"}},
		"retry":       {edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "2" }, old: v1alpha1.BatchJobSpec{RetryToken: "1"}, in: v1alpha1.JobFailed},
		"retry token": {edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = strings.Repeat("x", 65) }, in: v1alpha1.JobFailed, want: []string{"InvalidParameterValue spec.retryToken: must be at most 64 ASCII characters, got 65 bytes"}},
		"retry taken back": {
			old: v1alpha1.BatchJobSpec{RetryToken: "1"}, edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "" }, in: v1alpha1.JobRunning,
		},
		"retry of a job that runs": {edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "1" }, in: v1alpha1.JobRunning,
			want: []string{"UnsupportedOperation spec.retryToken: must change only while the job is FAILED; it is RUNNING"}},
		"retry of a job that nobody has seen": {edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "1" },
			want: []string{"UnsupportedOperation spec.retryToken: must change only while the job is FAILED; it is SUBMITTED"}},
		"retry of a job that was terminated": {
			old: v1alpha1.BatchJobSpec{Terminate: true}, edit: func(s *v1alpha1.BatchJobSpec) { s.RetryToken = "1" }, in: v1alpha1.JobFailed,
			want: []string{"UnsupportedOperation spec.retryToken: must not change on a job that was terminated; submit another BatchJob"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			old := request("a")
			old.Status.State = tc.in
			old.Spec.Suspend, old.Spec.Terminate = tc.old.Suspend, tc.old.Terminate
			old.Spec.RetryToken, old.Spec.TTLSecondsAfterFinished = tc.old.RetryToken, tc.old.TTLSecondsAfterFinished
			job := old.DeepCopy()
			tc.edit(&job.Spec)
			var got []string
			for _, p := range (Validator{}).ValidateUpdate(old, job) {
				got = append(got, string(p.Code)+" "+p.Field.String()+": "+p.Detail)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSteeringOnCreation: the rules hold for a job that is created so, as well.
func TestSteeringOnCreation(t *testing.T) {
	job := request("a")
	job.Spec.Suspend, job.Spec.Terminate = true, true
	job.Spec.RetryToken, job.Spec.TTLSecondsAfterFinished = "é", ptr(int64(-3))
	got := Validator{}.ValidateCreate(job)
	if len(got) != 2 || got[0].Code != errcode.InvalidParameterValue || got[0].Field.String() != "spec.retryToken" ||
		got[1].Code != errcode.Negative || got[1].Field.String() != "spec.ttlSecondsAfterFinished" {
		t.Errorf("problems are %v", got)
	}
}

func TestUpdateWarnings(t *testing.T) {
	old := request("a")
	old.Annotations = map[string]string{v1alpha1.AnnotationTerminate: "a/0"}
	job := old.DeepCopy()
	if got := (Validator{}).UpdateWarnings(old, job); got != nil {
		t.Errorf("nothing changed, and it warns: %q", got)
	}
	job.Spec.RetryToken = "1"
	if got := (Validator{}).UpdateWarnings(old, job); len(got) != 1 || !strings.Contains(got[0], v1alpha1.AnnotationTerminate) {
		t.Errorf("warnings are %q", got)
	}
}
