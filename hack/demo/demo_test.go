// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/receiver"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/resolve"
)

// TestJobsOfSamples: the demo waits for the jobs of the manifests, which have other kinds and several documents.
func TestJobsOfSamples(t *testing.T) {
	text := ""
	for _, name := range []string{"pvc", "data", "computeenv", "notifications"} {
		sample, err := os.ReadFile(filepath.Join("../..", samples, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		text += "---\n" + string(sample)
	}
	got, err := jobsIn(text)
	if diff := cmp.Diff([]string{"data", "notifications", "pvc", "shared"}, got); diff != "" || err != nil {
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

// TestEventLine: a line has what tells events apart, and the variables.
func TestEventLine(t *testing.T) {
	e := event.Event{
		Name: event.JobSucceed, Time: time.Unix(0, 0), Vars: []v1alpha1.EventVar{{Name: "owner", Value: "lee"}},
		Subject: event.Subject{Namespace: "default", Object: "notifications", JobID: "job-1a2b3c4d"},
	}
	ce, err := e.CloudEvent(event.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	want := "1970-01-01T00:00:00Z  JOB_SUCCEED            job-1a2b3c4d          job-1a2b3c4d/0/JOB_SUCCEED  owner=lee"
	if got := eventLine(&ce); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestSampleOfNotifications: the sample has the topic and the tasks that the receiver's list of its events is for.
func TestSampleOfNotifications(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../..", samplePath(notificationSample)))
	if err != nil {
		t.Fatal(err)
	}
	var job v1alpha1.BatchJob
	if err := yaml.UnmarshalStrict(text, &job); err != nil {
		t.Fatal(err)
	}
	announced := map[string]bool{}
	for _, n := range job.Spec.Job.Notifications {
		for _, c := range n.EventConfigs {
			announced[c.EventName] = n.TopicName == demoTopic
		}
	}
	for _, line := range receiver.Sample {
		if name, _, _ := strings.Cut(line, " "); !announced[name] {
			t.Errorf("the sample does not announce %s to %s", name, demoTopic)
		}
	}
	instances := 0
	for i := range job.Spec.Job.Tasks {
		instances += resolve.TaskInstanceNum(&job.Spec.Job.Tasks[i])
	}
	if got := 2 + 2*len(job.Spec.Job.Tasks) + instances; got != len(receiver.Sample) {
		t.Errorf("the sample has %d events if it succeeds, and the list %d", got, len(receiver.Sample))
	}
}
