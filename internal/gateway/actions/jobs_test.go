// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/podspec"
)

// TestSubmitJob: the same request with a ClientToken is one job, however often and by how many it is sent.
func TestSubmitJob(t *testing.T) {
	w := newWorld(t)
	body := oneTask(`, "ClientToken": "t-1"`)
	ids := make([]string, 50)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			answer, err := w.as(w.identity(), "SubmitJob", body)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = answer.(jobID).JobID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || !strings.HasPrefix(id, "job-") {
			t.Fatalf("the JobIds are %q", ids)
		}
	}
	job := w.job(ids[0])
	if job.Spec.ClientToken != "t-1" || job.Spec.Suspend || len(job.Annotations) != 0 || naming.JobID(job.UID) != ids[0] {
		t.Errorf("the job is %+v", job)
	}
	message := w.refused("SubmitJob", strings.Replace(body, `"Command": "true"`, `"Command": "false"`, 1), errcode.InvalidParameterValue)
	if !strings.Contains(message, ids[0]) || !strings.Contains(message, "Job.Tasks.0.Application.Command") {
		t.Errorf("the message is %q", message)
	}
	if a, b := w.submit(oneTask("")), w.submit(oneTask("")); a == b {
		t.Error("two requests without a ClientToken are one job")
	}
	// A job that somebody created by another name, with the same token and request.
	other := job.DeepCopy()
	other.ObjectMeta = metav1.ObjectMeta{Namespace: w.ns, Name: "by-hand"}
	other.Spec.ClientToken = "t-2"
	w.must(w.Create(t.Context(), other))
	w.eventually(func() error {
		if known, err := w.backend.Objects.JobWithToken(w.ns, "t-2"); known == nil || err != nil {
			return fmt.Errorf("%v, %w", known, err)
		}
		return nil
	})
	if id := w.submit(oneTask(`, "ClientToken": "t-2"`)); id != naming.JobID(other.UID) {
		t.Errorf("the JobId is %s, want that of the job with the token", id)
	}
}

func TestSubmitJobRefused(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]errcode.Code{
		"{}":                            "", // the webhook's, which is not here
		`{"Placement": {"Zon": "z"}}`:   errcode.UnknownParameter,
		`{"Placement": {"Zone": 5.5}}`:  errcode.InvalidParameter,
		`{"Job": {"Priority": "1e3"}}`:  errcode.InvalidParameter,
		`{"Job": {"Tasks": [null]}}`:    errcode.InvalidParameter,
		`{"Job": {"Priority": 9.3e18}}`: errcode.InvalidParameter,
		`{"ClientToken": "x", "Job": {`: errcode.InvalidParameter,
	} {
		if want != "" {
			w.refused("SubmitJob", body, want)
		}
	}
	var list v1alpha1.BatchJobList
	w.must(w.List(t.Context(), &list, client.InNamespace(w.ns)))
	if len(list.Items) != 0 {
		t.Errorf("%d jobs were stored", len(list.Items))
	}
	// Who may not submit is told so; nothing else.
	_, err := w.as(tenant.Identity{Namespace: w.ns, ServiceAccount: "nobody"}, "SubmitJob", oneTask(""))
	if err == nil || !strings.HasPrefix(err.Error(), string(errcode.UnauthorizedOperation)) {
		t.Errorf("the error is %v", err)
	}
	_, err = w.as(tenant.Identity{Namespace: w.ns, ServiceAccount: "nobody"}, "DescribeJobs", "{}")
	if err == nil || !strings.HasPrefix(err.Error(), string(errcode.UnauthorizedOperation)) {
		t.Errorf("the error is %v", err)
	}
}

// TestCredentials: passwords become Secrets that the job owns, and a repeated request continues where it stopped.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	body := `{"Placement": {"Zone": "z"}, "ClientToken": "with-password", "Job": {"Tasks": [{"Application": {"DeliveryForm": "LOCAL", "Command": "true",
		"Docker": {"User": "u", "Password": "p4ss-word", "Image": "r.example/x:1"}}, "ComputeEnv": {},
		"Authentications": [{"Scene": "COS", "SecretId": "i", "SecretKey": "k3y"}]}]}}`
	id := w.submit(body)
	job := w.job(id)
	part := job.Annotations[v1alpha1.AnnotationCredentials]
	if job.Spec.Suspend || job.Annotations[v1alpha1.AnnotationAwaitsCredentials] != "" || len(part) != 8 {
		t.Errorf("the job is %+v", job)
	}
	text, err := json.Marshal(job)
	w.must(err)
	for _, secret := range []string{"p4ss-word", "k3y"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the job has the secret %s", secret)
		}
	}
	secrets := func() []corev1.Secret {
		var list corev1.SecretList
		w.must(w.List(t.Context(), &list, client.InNamespace(w.ns)))
		return list.Items
	}
	all := secrets()
	if len(all) != 2 {
		t.Fatalf("%d Secrets, want 2", len(all))
	}
	for _, s := range all {
		if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != job.UID || s.Labels[v1alpha1.LabelCredentialsOf] != job.Name {
			t.Errorf("Secret %s is %+v", s.Name, s.ObjectMeta)
		}
	}
	if again := w.submit(body); again != id || len(secrets()) != 2 {
		t.Errorf("the repeated request is %s, with %d Secrets", again, len(secrets()))
	}
	// As if the gateway had died after it created the job.
	w.must(w.Delete(t.Context(), &all[0]))
	w.must(w.Patch(t.Context(), job, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"suspend":true},"metadata":{"annotations":{"`+v1alpha1.AnnotationAwaitsCredentials+`":"true"}}}`))))
	var got struct{ StateReason string }
	w.eventually(func() error {
		w.do("DescribeJob", `{"JobId": "`+id+`"}`, &got)
		if !strings.Contains(got.StateReason, "ClientToken") {
			return fmt.Errorf("the reason is %q", got.StateReason)
		}
		return nil
	})
	if again := w.submit(body); again != id || len(secrets()) != 2 {
		t.Errorf("the repeated request is %s, with %d Secrets", again, len(secrets()))
	}
	if job := w.job(id); job.Spec.Suspend || job.Annotations[v1alpha1.AnnotationAwaitsCredentials] != "" {
		t.Errorf("the job is %+v", job)
	}
	// What was submitted is shown without them.
	var info struct {
		Tasks []struct {
			Application     struct{ Docker map[string]string }
			Authentications []map[string]string
		}
	}
	w.do("DescribeJobSubmitInfo", `{"JobId": "`+id+`"}`, &info)
	if d := info.Tasks[0].Application.Docker; d["User"] != "u" || d["Password"] != "" || info.Tasks[0].Authentications[0]["SecretId"] != "i" {
		t.Errorf("what was submitted is %+v", info)
	}
}

func TestDescribeJob(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	var got struct {
		JobID, JobState string
		TaskSet         []struct{ TaskName, TaskState string }
	}
	w.do("DescribeJob", `{"JobId": "`+id+`"}`, &got) // right after it was submitted
	if got.JobID != id || got.JobState != "SUBMITTED" || len(got.TaskSet) != 1 || got.TaskSet[0].TaskName != "a" {
		t.Errorf("the job is %+v", got)
	}
	for _, action := range []string{"DescribeJob", "DescribeJobSubmitInfo", "TerminateJob", "DeleteJob"} {
		w.refused(action, `{"JobId": "job-00000000"}`, errcode.JobNotFound)
		w.refused(action, `{"JobId": "job-0000000"}`, errcode.JobIDMalformed)
		w.refused(action, `{}`, errcode.MissingParameter)
		w.refused(action, `{"JobId": "`+id+`", "X": 1}`, errcode.UnknownParameter)
	}
	// The job of another namespace does not exist.
	other := newWorld(t)
	other.refused("DescribeJob", `{"JobId": "`+id+`"}`, errcode.JobNotFound)
}

// TestDescribeJobThatTheCacheLacks: another replica created it, and the cache is behind.
func TestDescribeJobThatTheCacheLacks(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	jobs, envs, templates := objects.Indexers()
	w.backend.Objects = objects.NewFinder(toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, jobs), toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, envs),
		toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, templates))
	answer, err := w.as(w.identity(), "DescribeJob", `{"JobId": "`+id+`"}`)
	if err != nil {
		t.Fatal(answer, err)
	}
}

func TestDescribeJobs(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i, tags := range []string{`[]`, `[{"Key": "team", "Value": "a"}]`, `[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": "a"}]`} {
		body := strings.Replace(oneTask(""), `"JobName": "one"`, fmt.Sprintf(`"JobName": "n%d", "Tags": %s`, i, tags), 1)
		ids = append(ids, w.submit(strings.Replace(body, "ap-guangzhou-2", fmt.Sprint("z", i/2), 1)))
	}
	w.setStatus(ids[1], v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning})
	w.eventually(func() error {
		var got struct{ TotalCount int }
		if w.do("DescribeJobs", "", &got); got.TotalCount != 3 {
			return fmt.Errorf("%d jobs", got.TotalCount)
		}
		return nil
	})
	for _, tc := range []struct {
		body  string
		total int
		want  string // job names, in any order
	}{
		{`{}`, 3, "n0 n1 n2"},
		{`{"JobIds": [` + quoted(ids[0], ids[2], "job-00000000") + `]}`, 2, "n0 n2"},
		{`{"Filters": [{"Name": "job-name", "Values": ["n0", "n1"]}, {"Name": "zone", "Values": ["z0"]}]}`, 2, "n0 n1"},
		{`{"Filters": [{"Name": "job-state", "Values": ["RUNNING", "FAILED"]}]}`, 1, "n1"},
		{`{"Filters": {"Name": "job-id", "Values": ["` + ids[2] + `"]}}`, 1, "n2"},
		{`{"Filters": [{"Name": "tag:team", "Values": ["a"]}]}`, 1, "n1"},
		{`{"Filters": [{"Name": "tag-value", "Values": ["a"]}]}`, 2, "n1 n2"},
		{`{"Filters": [{"Name": "tag-key", "Values": ["x"]}]}`, 1, "n2"},
		{`{"Offset": 3}`, 3, ""},
		{`{"Limit": 0, "Offset": 0}`, 3, "n0 n1 n2"},
		{`{"Filters": []}`, 3, "n0 n1 n2"},
	} {
		var got struct {
			TotalCount int
			JobSet     []struct{ JobName, JobState string }
		}
		w.do("DescribeJobs", tc.body, &got)
		names := map[string]bool{}
		for _, j := range got.JobSet {
			names[j.JobName] = true
		}
		want := strings.Fields(tc.want)
		for _, name := range want {
			if !names[name] {
				t.Errorf("%s lacks %s", tc.body, name)
			}
		}
		if got.TotalCount != tc.total || len(got.JobSet) != len(want) {
			t.Errorf("%s: %+v, want %d", tc.body, got, tc.total)
		}
	}
	seen := map[string]bool{}
	for offset := range 3 { // pages are disjoint
		var got struct{ JobSet []struct{ JobName string } }
		w.do("DescribeJobs", fmt.Sprintf(`{"Offset": %d, "Limit": 1}`, offset), &got)
		seen[got.JobSet[0].JobName] = true
	}
	if len(seen) != 3 {
		t.Errorf("the pages have %v", seen)
	}
	for body, want := range map[string]errcode.Code{
		`{"JobIds": ["` + ids[0] + `"], "Filters": [{"Name": "zone", "Values": ["z"]}]}`: errcode.InvalidParameterCombination,
		`{"JobIds": ["job-1"]}`: errcode.JobIDMalformed,
		`{"JobIds": [` + strings.Repeat(`"job-00000000",`, 100) + `"job-00000000"]}`: errcode.InvalidParameterValue,
		`{"Filters": [{"Name": "zones", "Values": ["z"]}]}`:                          errcode.InvalidFilter,
		`{"Filters": [{"Name": "tag:", "Values": ["z"]}]}`:                           errcode.InvalidFilter,
		`{"Filters": [{"Name": "zone", "Values": []}]}`:                              errcode.InvalidFilterValue,
		`{"Filters": [{"Name": "job-state", "Values": ["SUCCEEDED"]}]}`:              errcode.InvalidFilterValue,
		`{"Filters": [{"Name": "zone"}]}`:                                            errcode.MissingParameter,
		`{"Limit": 101}`:                                                             errcode.LimitExceeded,
		`{"Limit": -1}`:                                                              errcode.InvalidParameterValue,
		`{"Offset": -1}`:                                                             errcode.InvalidParameterValue,
		`{"Limit": 1.5}`:                                                             errcode.InvalidParameter,
	} {
		w.refused("DescribeJobs", body, want)
	}
}

func TestJobLifecycle(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	ofJob := `{"JobId": "` + id + `"}`
	w.refused("TerminateJob", ofJob, errcode.JobInUse) // SUBMITTED
	w.refused("DeleteJob", ofJob, errcode.JobInUse)
	w.refused("RetryJobs", `{"JobIds": ["`+id+`"]}`, errcode.UnsupportedOperation)

	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Succeeded: "2", Active: "0-1"}}})
	w.refused("DeleteJob", ofJob, errcode.JobInUse)
	instance := func(index string) string {
		return `{"JobId": "` + id + `", "TaskName": "a", "TaskInstanceIndex": ` + index + `}`
	}
	w.do("TerminateTaskInstance", instance("2"), nil) // has ended: nothing changes
	if text := w.job(id).Annotations[v1alpha1.AnnotationTerminate]; text != "" {
		t.Errorf("the annotation is %q", text)
	}
	w.do("TerminateTaskInstance", instance("1"), nil)
	w.do("TerminateTaskInstance", instance("0"), nil)
	w.do("TerminateTaskInstance", instance("0"), nil)
	if text := w.job(id).Annotations[v1alpha1.AnnotationTerminate]; text != "a/0-1" {
		t.Errorf("the annotation is %q", text)
	}
	for _, body := range []string{instance("3"), instance("-1"), strings.Replace(instance("0"), `"a"`, `"b"`, 1), strings.Replace(instance("0"), id, "job-00000000", 1)} {
		w.refused("TerminateTaskInstance", body, errcode.TaskInstanceNotFound)
	}
	w.refused("TerminateTaskInstance", instance("null"), errcode.MissingParameter)

	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed})
	w.do("TerminateJob", ofJob, nil) // has ended: nothing changes
	if w.job(id).Spec.Terminate {
		t.Error("a job that has ended is terminated")
	}
	w.do("RetryJobs", `{"JobIds": [`+quoted(id, id)+`]}`, nil)
	if job := w.job(id); job.Spec.RetryToken == "" || job.Annotations[v1alpha1.AnnotationTerminate] != "" {
		t.Errorf("the job to be retried is %+v", job)
	}
	w.refused("RetryJobs", `{"JobIds": [`+quoted(id, "job-00000000")+`]}`, errcode.JobNotFound)
	w.refused("RetryJobs", `{"JobIds": []}`, errcode.MissingParameter)
	w.refused("RetryJobs", `{"JobIds": ["x"]}`, errcode.JobIDMalformed)

	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning})
	w.do("TerminateJob", ofJob, nil)
	w.do("TerminateJob", ofJob, nil)
	if !w.job(id).Spec.Terminate {
		t.Error("the job is not terminated")
	}
	var got struct{ NextAction *string }
	w.eventually(func() error {
		if w.do("DescribeJob", ofJob, &got); got.NextAction == nil || *got.NextAction != "TERMINATING" {
			return fmt.Errorf("NextAction is %v", got.NextAction)
		}
		return nil
	})
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed})
	w.refused("RetryJobs", `{"JobIds": ["`+id+`"]}`, errcode.UnsupportedOperation) // was terminated
	w.do("DeleteJob", ofJob, nil)
	w.refused("DescribeJob", ofJob, errcode.JobNotFound)
	w.refused("DeleteJob", ofJob, errcode.JobNotFound)
}

// TestTerminateTaskInstancesAtOnce: nobody's change of the annotation is lost.
func TestTerminateTaskInstancesAtOnce(t *testing.T) {
	w := newWorld(t)
	const count = 16
	id := w.submit(strings.Replace(oneTask(""), `"TaskInstanceNum": 3`, fmt.Sprintf(`"TaskInstanceNum": %d`, count), 1))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Active: fmt.Sprintf("0-%d", count-1)}}})
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			if _, err := w.as(w.identity(), "TerminateTaskInstance", fmt.Sprintf(`{"JobId": "%s", "TaskName": "a", "TaskInstanceIndex": %d}`, id, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if text := w.job(id).Annotations[v1alpha1.AnnotationTerminate]; text != fmt.Sprintf("a/0-%d", count-1) {
		t.Errorf("the annotation is %q", text)
	}
}

// podFor creates a Pod of an instance of task a, as the operator does, with a status.
func (w *world) podFor(id string, index int, labels map[string]string, change func(*corev1.Pod)) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{}
	pod.Namespace, pod.GenerateName = w.ns, "pod-"
	pod.Labels = map[string]string{
		v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: fmt.Sprint(index), v1alpha1.LabelAttempt: "0", v1alpha1.LabelTracked: "true",
	}
	for name, value := range labels {
		pod.Labels[name] = value
	}
	pod.Spec.Containers = []corev1.Container{{Name: "task", Image: "busybox"}}
	pod.Spec.NodeName = "node-1"
	w.must(w.Create(w.t.Context(), pod))
	change(pod)
	w.must(w.Status().Update(w.t.Context(), pod))
	return pod
}

func statusOf(state corev1.ContainerState) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "task", State: state}}
	}
}

func TestDescribeTask(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	w.podFor(id, 0, nil, statusOf(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 0, StartedAt: now, FinishedAt: now}}))
	w.podFor(id, 1, nil, statusOf(corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}))
	w.podFor(id, 2, map[string]string{v1alpha1.LabelTaskName: "b"}, statusOf(corev1.ContainerState{}))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{
		{Name: "a", State: v1alpha1.TaskRunning, Succeeded: "0", Active: "1-2", Running: 1},
	}})
	type answer struct {
		TaskState              string
		TaskInstanceTotalCount int
		TaskInstanceSet        []struct {
			TaskInstanceIndex     int
			TaskInstanceState     string
			ExitCode              *int
			ComputeNodeInstanceID *string
		}
		TaskInstanceMetrics map[string]int
	}
	body := func(more string) string { return `{"JobId": "` + id + `", "TaskName": "a"` + more + `}` }
	var got answer
	w.eventually(func() error { // the API server's cache follows its store
		got = answer{}
		if w.do("DescribeTask", body(""), &got); got.TaskInstanceSet[1].TaskInstanceState != "RUNNING" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if s := got.TaskInstanceSet; got.TaskInstanceTotalCount != 3 || len(s) != 3 || *s[0].ExitCode != 0 || *s[0].ComputeNodeInstanceID != "node-1" ||
		s[1].ExitCode != nil || s[2].TaskInstanceState != "RUNNABLE" || got.TaskInstanceMetrics["RunnableCount"] != 1 {
		t.Errorf("the task is %+v", got)
	}
	for filter, want := range map[string]string{
		`, "Filters": [{"Name": "task-instance-state", "Values": ["RUNNING"]}]`:            "[1]",
		`, "Filters": [{"Name": "task-instance-type", "Values": ["RUNNABLE", "SUCCEED"]}]`: "[0 2]",
		`, "Filters": [{"Name": "task-instance-state", "Values": ["FAILED"]}]`:             "[]",
		`, "Offset": 1, "Limit": 1`: "[1]",
		`, "Offset": 5`:             "[]",
	} {
		var got answer
		w.do("DescribeTask", body(filter), &got)
		indexes := []int{}
		for _, i := range got.TaskInstanceSet {
			indexes = append(indexes, i.TaskInstanceIndex)
		}
		if fmt.Sprint(indexes) != want {
			t.Errorf("%s: %v, want %s", filter, indexes, want)
		}
	}
	for more, want := range map[string]errcode.Code{
		`, "Limit": 1001`: errcode.InvalidParameterValue,
		`, "Filters": [{"Name": "state", "Values": ["RUNNING"]}]`:            errcode.InvalidFilter,
		`, "Filters": [{"Name": "task-instance-state", "Values": ["DONE"]}]`: errcode.InvalidFilterValue,
		`, "JobId": "x"`: errcode.InvalidParameter, // given twice
	} {
		w.refused("DescribeTask", body(more), want)
	}
	w.refused("DescribeTask", `{"JobId": "`+id+`", "TaskName": "zz"}`, errcode.TaskNotFound)
	w.refused("DescribeTask", `{"JobId": "job-00000000", "TaskName": "a"}`, errcode.TaskNotFound)
	w.refused("DescribeTask", `{"JobId": "x", "TaskName": "a"}`, errcode.JobIDMalformed)
	w.refused("DescribeTask", `{"JobId": "`+id+`"}`, errcode.MissingParameter)
}

func TestDescribeTaskLogs(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	w.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Active: "0-2"}}})
	body := func(more string) string { return `{"JobId": "` + id + `", "TaskName": "a"` + more + `}` }
	var got struct {
		TotalCount         int
		TaskInstanceLogSet []map[string]any
	}
	w.do("DescribeTaskLogs", body(""), &got)
	if got.TotalCount != 3 || got.TaskInstanceLogSet == nil || len(got.TaskInstanceLogSet) != 0 {
		t.Errorf("the logs are %+v", got)
	}
	w.do("DescribeTaskLogs", body(`, "TaskInstanceIndexes": [2, 2, 0]`), &got)
	if got.TotalCount != 0 {
		t.Errorf("the logs are %+v", got)
	}
	// An instance whose Pod has an agent, and which has ended.
	message := func(tail string) string { return string(agentapi.EncodeResult(agentapi.Result{Tail: tail}, 0)) }
	pod := &corev1.Pod{}
	pod.Namespace, pod.GenerateName = w.ns, "agent-"
	pod.Labels = map[string]string{v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "1", v1alpha1.LabelAttempt: "0"}
	pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "busybox", Command: []string{podspec.AgentProgram, "exec"}}, {Name: podspec.OutputsContainer, Image: "agent"}}
	w.must(w.Create(t.Context(), pod))
	pod.Status.Phase = corev1.PodSucceeded
	for i, tail := range []string{"out\n", strings.Repeat("e", 1999) + "\n"} {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: pod.Spec.Containers[i].Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message(tail)}},
		})
	}
	w.must(w.Status().Update(t.Context(), pod))
	w.eventually(func() error { // the API server's cache follows its store
		if w.do("DescribeTaskLogs", body(`, "Offset": 1`), &got); len(got.TaskInstanceLogSet) != 1 {
			return fmt.Errorf("%d logs", len(got.TaskInstanceLogSet))
		}
		return nil
	})
	l := got.TaskInstanceLogSet[0]
	if l["TaskInstanceIndex"] != 1.0 || l["StdoutLog"] != base64.StdEncoding.EncodeToString([]byte("out\n")) || len(fmt.Sprint(l["StderrLog"])) != 2668 || l["StdoutRedirectPath"] != nil {
		t.Errorf("the log is %v", l)
	}
	for more, want := range map[string]errcode.Code{
		`, "TaskInstanceIndexes": [0], "Offset": 0`:        errcode.InvalidParameterValue,
		`, "TaskInstanceIndexes": [3]`:                     errcode.TaskInstanceNotFound,
		`, "TaskInstanceIndexes": [-1]`:                    errcode.Negative,
		`, "TaskInstanceIndexes": [0,0,0,0,0,0,0,0,0,0,0]`: errcode.InvalidParameterValue,
		`, "Limit": 11`: errcode.InvalidParameterValue,
	} {
		w.refused("DescribeTaskLogs", body(more), want)
	}
	w.refused("DescribeTaskLogs", `{"JobId": "`+id+`", "TaskName": "`+strings.Repeat("x", 61)+`"}`, errcode.TaskNameTooLong)
	w.refused("DescribeTaskLogs", `{"JobId": "`+id+`", "TaskName": ""}`, errcode.TaskName)
	w.refused("DescribeTaskLogs", `{"JobId": "`+id+`", "TaskName": "b"}`, errcode.TaskNotFound)
	w.refused("DescribeTaskLogs", `{"JobId": "job-00000000", "TaskName": "b"}`, errcode.JobNotFound)
}

// TestManyPods: the Pods of a large task are read in pages, and little of each is kept.
func TestManyPods(t *testing.T) {
	w := newWorld(t)
	id := w.submit(oneTask(""))
	const count = podPage + 5
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < count; i += 8 {
				pod := &corev1.Pod{}
				pod.Namespace, pod.Name, pod.Annotations = w.ns, fmt.Sprint("pod-", i), map[string]string{"large": strings.Repeat("x", 1000)}
				pod.Labels = map[string]string{v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: fmt.Sprint(i), v1alpha1.LabelTracked: "true"}
				pod.Spec.Containers = []corev1.Container{{Name: "task", Image: "busybox"}}
				if err := w.Create(t.Context(), pod); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	job := w.job(id)
	task, _ := view.FindTask(job, "a")
	pods, err := (&call{Backend: w.backend, client: w.client()}).activePods(t.Context(), job, &task)
	if err != nil || len(pods) != count {
		t.Fatalf("%d Pods, %v, want %d", len(pods), err, count)
	}
	if pod := pods[count-1]; len(pod.Annotations) != 0 || pod.Spec.Containers[0].Image != "" || pod.UID == "" {
		t.Errorf("a Pod is %+v", pod)
	}
	if len(manyPods) != 0 {
		t.Error("a list of Pods was not ended")
	}
}
