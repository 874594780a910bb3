// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package objects

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/testutil"
)

func newFinder(t testing.TB, jobs ...*v1alpha1.BatchJob) *Finder {
	t.Helper()
	forJobs, forEnvs, forTemplates := Indexers()
	f := NewFinder(toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, forJobs), toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, forEnvs),
		toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, forTemplates))
	for _, job := range jobs {
		if err := f.jobs.Add(strip(job)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestFind(t *testing.T) {
	original := testutil.Job("original").Task("a").Token("t").Obj()
	again := testutil.Job("again").Task("a").Status(v1alpha1.BatchJobStatus{State: v1alpha1.JobSucceed, JobID: naming.JobID(original.UID)}).Obj()
	far := testutil.Job("original").Task("a").Token("t").Obj()
	far.Namespace = "elsewhere"
	f := newFinder(t, again, far)
	find := func(want string) {
		t.Helper()
		job, err := f.cachedJob("default", naming.JobID(original.UID))
		if err != nil || (job == nil) != (want == "") || job != nil && job.Name != want {
			t.Errorf("%v, %v, want %q", job, err, want)
		}
	}
	find("again") // which shows the result of one that was deleted
	if err := f.jobs.Add(strip(original)); err != nil {
		t.Fatal(err)
	}
	find("original")
	if job, err := f.JobWithToken("default", "t"); err != nil || job == nil || job.Namespace != "default" {
		t.Errorf("%v, %v", job, err)
	}
	if job, err := f.JobWithToken("default", ""); err != nil || job != nil {
		t.Errorf("%v, %v: a job without a token was found by it", job, err)
	}
	env := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pool", UID: "uid-of-pool"}}
	if err := f.envs.Add(env); err != nil {
		t.Fatal(err)
	}
	if got, err := f.cachedEnv("default", naming.EnvID(env.UID)); err != nil || got != env {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := f.cachedEnv("elsewhere", naming.EnvID(env.UID)); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestStrip(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Command(strings.Repeat("x", 10000)), testutil.Instances(3)).Task("b").Edges("a->b").Token("t").
		Status(v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue, Message: "long"}, {Type: "Other"}}}).Obj()
	job.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
	job.Annotations = map[string]string{v1alpha1.AnnotationCredentials: "part", "other": "x"}
	before := job.DeepCopy()
	got := strip(job).(*v1alpha1.BatchJob)
	text, err := json.Marshal(got)
	if err != nil || len(text) > 1200 {
		t.Errorf("%d bytes are left, %v: %s", len(text), err, text)
	}
	if got.Annotations[v1alpha1.AnnotationCredentials] != "part" || len(got.Annotations) != 1 || len(got.Status.Conditions) != 1 || *got.Spec.Job.Tasks[0].TaskInstanceNum != 3 ||
		got.Spec.Job.Dependences[0].EndTask != "b" || got.Spec.ClientToken != "t" || got.UID != job.UID || got.ResourceVersion != job.ResourceVersion {
		t.Errorf("%s", text)
	}
	if diff := cmp.Diff(before, job); diff != "" {
		t.Error("the object was changed", diff)
	}
	if diff := cmp.Diff(got, strip(got)); diff != "" {
		t.Error("what was stripped once changes when it is stripped again", diff)
	}
}

// maxJobMemory is what a finished job of one task may take in the cache. Unit: bytes.
const maxJobMemory = 3 << 10

// TestMemory: the history of a cluster takes little memory.
func TestMemory(t *testing.T) {
	now := metav1.NewTime(time.Now())
	status := v1alpha1.BatchJobStatus{
		ObservedGeneration: 1, JobID: "job-0a1b2c3d", State: v1alpha1.JobSucceed, StartTime: &now, EndTime: &now, TaskProgress: "1/1", TaskInstanceProgress: "3/3",
		PodKeys: []string{"0123abcd"}, TaskMetrics: v1alpha1.StateMetrics{SucceedCount: 1}, TaskInstanceMetrics: v1alpha1.StateMetrics{SucceedCount: 3},
		Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0-2"}},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", Message: "the request is valid", LastTransitionTime: now},
			{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: "Complete", Message: "all tasks succeeded", LastTransitionTime: now},
		},
	}
	text, err := json.Marshal(testutil.Job("j").Task("a", testutil.Instances(3), testutil.Command(strings.Repeat("x", 300))).Token("0123456789abcdef").Status(status).Obj())
	if err != nil {
		t.Fatal(err)
	}
	const count = 2000
	f := newFinder(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range count {
		job := &v1alpha1.BatchJob{}
		if err := json.Unmarshal(text, job); err != nil {
			t.Fatal(err)
		}
		job.Name, job.UID = fmt.Sprintf("job-%012d", i), types.UID(fmt.Sprintf("uid-%032d", i))
		if err := f.jobs.Add(strip(job)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / count
	t.Logf("a finished job takes %d bytes", each)
	if each > maxJobMemory {
		t.Errorf("a finished job takes %d bytes, want at most %d", each, maxJobMemory)
	}
	runtime.KeepAlive(f)
}
