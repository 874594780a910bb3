// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// TestJobsOfSamples: the demo waits for the jobs of the manifests, which have other kinds and several documents.
func TestJobsOfSamples(t *testing.T) {
	text := ""
	for _, name := range []string{"pvc", "data", "computeenv"} {
		sample, err := os.ReadFile(filepath.Join("../..", samples, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		text += "---\n" + string(sample)
	}
	got, err := jobsIn(text)
	if diff := cmp.Diff([]string{"data", "pvc", "shared"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := jobsIn("a: [b"); err == nil {
		t.Error("a manifest that is no YAML was read")
	}
}

// TestFollowed: jobs of somebody else are not waited for, and each that has not ended is named.
func TestFollowed(t *testing.T) {
	job := func(name string, state v1alpha1.JobState, message string, ended bool) *v1alpha1.BatchJob {
		out := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Name: name}}
		out.Status.State, out.Status.Message = state, message
		if ended {
			out.Status.EndTime = &metav1.Time{Time: time.Unix(1, 0)}
		}
		return out
	}
	f := followed{names: []string{"a", "b", "c", "d"}, jobs: map[string]*v1alpha1.BatchJob{}}
	f.see(job("a", v1alpha1.JobSucceed, "", true), false)
	f.see(job("b", v1alpha1.JobRunning, "1 instance waits", false), false)
	f.see(job("c", "", "", false), false)
	f.see(job("other", v1alpha1.JobRunning, "", false), false)
	f.see(job("d", v1alpha1.JobRunning, "", false), true)
	if diff := cmp.Diff([]string{"b is RUNNING: 1 instance waits", "c is not looked at by the operator", "d (deleted)"}, f.unfinished()); diff != "" {
		t.Errorf("unfinished (-want +got):\n%s", diff)
	}
	if jobs := f.sorted(); len(jobs) != 3 || jobs[0].Name != "a" || jobs[2].Name != "c" {
		t.Errorf("%d jobs: %v", len(jobs), jobs)
	}
	for _, name := range []string{"b", "c", "d"} {
		f.see(job(name, v1alpha1.JobSucceed, "", true), false)
	}
	if left := f.unfinished(); left != nil {
		t.Errorf("waits for %q", left)
	}
	err := check([]*v1alpha1.BatchJob{job("a", v1alpha1.JobFailed, "x", true), job("b", v1alpha1.JobFailed, "y", true), job("retries", v1alpha1.JobFailed, "", true)})
	if want := "job a is FAILED, not SUCCEED: x\njob b is FAILED, not SUCCEED: y"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestParseKey: the demo reads the key that the plugin prints.
func TestParseKey(t *testing.T) {
	if id, key, err := parseKey("secretId: AKID1\nsecretKey: k: 2\n"); id != "AKID1" || key != "k: 2" || err != nil {
		t.Errorf("read %q, %q, %v", id, key, err)
	}
	if _, _, err := parseKey("secretId: AKID1\n"); err == nil {
		t.Error("a key without its secret part was read")
	}
}
