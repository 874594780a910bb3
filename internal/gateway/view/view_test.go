// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/testutil"
)

var (
	begin = metav1.NewTime(time.Date(2026, 5, 1, 10, 0, 0, 0, time.FixedZone("cst", 8*3600)))
	later = metav1.NewTime(begin.Add(90 * time.Second))
)

// podOf returns a Pod of task a.
func podOf(index, attempt, run int, change ...func(*corev1.Pod)) corev1.Pod {
	pod := corev1.Pod{}
	pod.Name = fmt.Sprintf("a-%d-%d-%d", index, attempt, run)
	pod.CreationTimestamp = begin
	pod.Labels = map[string]string{v1alpha1.LabelTaskInstanceIndex: fmt.Sprint(index), v1alpha1.LabelAttempt: fmt.Sprint(attempt)}
	if run > 0 {
		pod.Labels[v1alpha1.LabelRun] = fmt.Sprint(run)
	}
	for _, f := range change {
		f(&pod)
	}
	return pod
}

func bound(pod *corev1.Pod)   { testutil.Bind(pod, "node-1") }
func running(pod *corev1.Pod) { bound(pod); testutil.Start(pod, begin.Time) }
func ended(code int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { running(pod); testutil.Finish(pod, code, later.Time) }
}

func jobOf(status v1alpha1.BatchJobStatus, options ...testutil.TaskOption) *v1alpha1.BatchJob {
	job := testutil.Job("j").Task("a", options...).Task("b").Edges("a->b").Status(status).Obj()
	job.CreationTimestamp = begin
	return job
}

func TestJobs(t *testing.T) {
	fresh := jobOf(v1alpha1.BatchJobStatus{}, testutil.Instances(3))
	got := JobDetails(fresh)
	if got.JobState != "SUBMITTED" || got.TaskMetrics != (Metrics{SubmittedCount: 2}) || got.TaskInstanceMetrics != (Metrics{SubmittedCount: 4}) {
		t.Errorf("a job that was not looked at is %+v", got)
	}
	if got.CreateTime != "2026-05-01T02:00:00Z" || got.EndTime != nil || got.NextAction != nil || got.Priority != 1 || got.Zone != "zone-a" {
		t.Errorf("a job that was not looked at is %+v", got)
	}
	if diff := cmp.Diff([]Dependence{{"a", "b"}}, got.DependenceSet); diff != "" {
		t.Error(diff)
	}
	active := jobOf(v1alpha1.BatchJobStatus{
		State: v1alpha1.JobRunning, TaskMetrics: v1alpha1.StateMetrics{RunningCount: 1, PendingCount: 1},
		TaskInstanceMetrics: v1alpha1.StateMetrics{RunningCount: 2, PendingCount: 1, RunnableCount: 1},
		Tasks:               []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning}}, Reason: "R", Message: "m",
	})
	active.Spec.Terminate = true
	got = JobDetails(active)
	if *got.NextAction != NextActionTerminating || got.StateReason != "R: m" || got.TaskSet[0].TaskState != "RUNNING" || got.TaskSet[1].TaskState != "PENDING" || got.TaskInstanceMetrics.RunningCount != 2 {
		t.Errorf("a job that is terminated is %+v", got)
	}
	refused := jobOf(v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed, EndTime: &later})
	refused.Spec.Terminate = true
	got = JobDetails(refused)
	if got.TaskSet[1].TaskState != "FAILED" || got.TaskMetrics != (Metrics{FailedCount: 2}) || *got.EndTime != "2026-05-01T02:01:30Z" || got.NextAction != nil {
		t.Errorf("a job that was refused is %+v", got)
	}
	retried := jobOf(v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed, EndTime: &later, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue}}})
	retried.Spec.RetryToken = "again"
	if got := JobDetails(retried); got.JobState != "RUNNABLE" || got.EndTime != nil || got.TaskSet[1].TaskState != "PENDING" {
		t.Errorf("a job whose retry the operator has not seen is %+v", got)
	}
	if got := OfJob(retried); got.JobState != "RUNNABLE" || got.EndTime != nil {
		t.Errorf("in a list it is %+v", got)
	}
	waits := jobOf(v1alpha1.BatchJobStatus{})
	waits.Spec.Suspend, waits.Annotations = true, map[string]string{v1alpha1.AnnotationAwaitsCredentials: "true"}
	if got := JobDetails(waits); !strings.Contains(got.StateReason, "repeat SubmitJob") {
		t.Errorf("the reason is %q", got.StateReason)
	}
	// The API's names, and null for what there is not.
	text, err := json.Marshal(OfJob(fresh))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"JobId":"job-`, `"EndTime":null`, `"Tags":[]`, `"Placement":{"Zone":"zone-a","ProjectId":0}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
}

func TestInstances(t *testing.T) {
	status := v1alpha1.BatchJobStatus{
		State: v1alpha1.JobRunning, Run: 1,
		Tasks: []v1alpha1.TaskStatus{{
			Name: "a", State: v1alpha1.TaskRunning, Succeeded: "0-1", Failed: "2-3", Active: "4;r1:5-6;r1m1:7", Retrying: "m1:8", Interrupted: "x1:9",
			Starting: 1, Running: 1,
		}},
		Failures: []v1alpha1.TaskInstanceFailure{
			{TaskName: "a", TaskInstanceIndex: 3, Time: later, ExitCode: new(int32(9)), Reason: "TaskInstanceFailed", Message: "exit code 9", NodeName: "node-7"},
			{TaskName: "b", TaskInstanceIndex: 2, Time: later, Reason: "Other"},
			{TaskName: "a", TaskInstanceIndex: 0, Time: later, Reason: "before it succeeded"},
		},
		Waiting: []v1alpha1.TaskInstanceWait{{TaskName: "a", TaskInstanceIndex: 4, Reason: "Unschedulable", Message: "no node fits"}},
	}
	job := jobOf(status, testutil.Instances(12))
	task, _ := FindTask(job, "a")
	pods := NewPods([]corev1.Pod{
		podOf(0, 0, 0, ended(1)), podOf(0, 1, 1, ended(0)), // the later attempt counts
		podOf(2, 0, 0, ended(3)),                                                // of the run before the retry: it says nothing about the failure
		podOf(5, 1, 1, bound), podOf(6, 1, 1, running), podOf(7, 1, 1, running), // of an attempt before
		podOf(9, 0, 1, ended(5)), podOf(11, 0, 0, ended(1)),
	})
	got, err := task.Instances([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, pods)
	if err != nil {
		t.Fatal(err)
	}
	text := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	want := []string{
		"0 SUCCEED 0 successful node-1 2026-05-01T02:00:00Z 2026-05-01T02:01:30Z",
		"1 SUCCEED - - - - -",
		"2 FAILED - - - - -",
		"3 FAILED 9 TaskInstanceFailed node-7 - 2026-05-01T02:01:30Z",
		"4 RUNNABLE - Unschedulable - - -",
		"5 STARTING - - node-1 - -",
		"6 RUNNING - - node-1 2026-05-01T02:00:00Z -",
		"7 RUNNABLE - - - - -",
		"8 RUNNABLE - - - - -",
		"9 FAILED_INTERRUPTED 5 exit code 5 node-1 2026-05-01T02:00:00Z 2026-05-01T02:01:30Z",
		"10 RUNNABLE - - - - -",
		"11 RUNNABLE - - - - -",
	}
	for i, v := range got {
		code := "-"
		if v.ExitCode != nil {
			code = fmt.Sprint(*v.ExitCode)
		}
		line := fmt.Sprint(v.TaskInstanceIndex, " ", v.TaskInstanceState, " ", code, " ", text(v.StateReason), " ", text(v.ComputeNodeInstanceID), " ", text(v.RunningTime), " ", text(v.EndTime))
		if line != want[i] {
			t.Errorf("instance %d is\n%s, want\n%s", i, line, want[i])
		}
	}
	m, err := task.Metrics()
	if want := (Metrics{SucceedCount: 2, FailedCount: 2, FailedInterruptedCount: 1, StartingCount: 1, RunningCount: 1, RunnableCount: 5}); err != nil || m != want {
		t.Errorf("the metrics are %+v, %v, want %+v", m, err, want)
	}
	for _, tc := range []struct {
		states []string
		want   string
	}{
		{nil, "0-11"},
		{[]string{"SUCCEED", "FAILED_INTERRUPTED"}, "0-1,9"},
		{[]string{"RUNNING"}, "6"},
		{[]string{"RUNNABLE"}, "4,7-8,10-11"},
		{[]string{"RUNNABLE", "STARTING", "RUNNING", "PENDING"}, "4-8,10-11"},
		{[]string{"PENDING"}, ""},
		{[]string{}, ""},
	} {
		set, err := task.Select(tc.states, pods)
		if err != nil || set.String() != tc.want {
			t.Errorf("%q selects %s, %v, want %s", tc.states, set, err, tc.want)
		}
	}
	if final, _ := task.IsFinal(2); !final {
		t.Error("a failed instance is not final")
	}
	if final, _ := task.IsFinal(9); final {
		t.Error("an interrupted instance is final")
	}
	if task.MayHavePods([]int{8, 10}) || !task.MayHavePods([]int{8, 1}) {
		t.Error("MayHavePods is wrong")
	}
}

func TestInstancesOfATaskThatHasNotStarted(t *testing.T) {
	for state, want := range map[v1alpha1.JobState]string{"": "SUBMITTED", v1alpha1.JobRunning: "PENDING", v1alpha1.JobFailed: "FAILED"} {
		task, _ := FindTask(jobOf(v1alpha1.BatchJobStatus{State: state}), "b")
		got, err := task.Instances([]int{0}, nil)
		if err != nil || got[0].TaskInstanceState != want {
			t.Errorf("in a job that is %q: %+v, %v", state, got, err)
		}
	}
	if _, ok := FindTask(jobOf(v1alpha1.BatchJobStatus{}), "c"); ok {
		t.Error("a task was found that there is not")
	}
}

func TestManyInstances(t *testing.T) {
	task, _ := FindTask(jobOf(v1alpha1.BatchJobStatus{
		State: v1alpha1.JobSucceed, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0-99999"}},
	}, testutil.Instances(100000)), "a")
	all, err := task.Select(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := task.Instances(Page(all, 99500, 1000), nil)
	if err != nil || len(got) != 500 || got[0].TaskInstanceIndex != 99500 || got[499].TaskInstanceState != "SUCCEED" {
		t.Errorf("%d instances, %v", len(got), err)
	}
	if page := Page(all, 100000, 10); len(page) != 0 {
		t.Errorf("the page after the last has %v", page)
	}
}

func TestGroups(t *testing.T) {
	for _, text := range []string{"r:1", "q1:2", "1-", "r1", ":"} {
		if _, err := parseGroups(text); err == nil && text != ":" {
			t.Errorf("%q was read", text)
		}
	}
	task, _ := FindTask(jobOf(v1alpha1.BatchJobStatus{Tasks: []v1alpha1.TaskStatus{{Name: "a", Active: "z"}}}), "a")
	if _, err := task.Metrics(); err == nil || !strings.Contains(err.Error(), "active of task a") {
		t.Errorf("the error is %v", err)
	}
}

func TestRedirect(t *testing.T) {
	job := jobOf(v1alpha1.BatchJobStatus{}, func(t *v1alpha1.Task) {
		t.RedirectInfo = &v1alpha1.RedirectInfo{StdoutRedirectPath: "cos://b.cos.r.myqcloud.com/${BATCH_JOB_ID}/", StderrRedirectPath: "cos://b.cos.r.myqcloud.com/e/", StderrRedirectFileName: "e.${BATCH_TASK_NAME}.${BATCH_TASK_INSTANCE_INDEX}"}
	})
	task, _ := FindTask(job, "a")
	id := naming.JobID(job.UID)
	want := &Redirect{"cos://b.cos.r.myqcloud.com/" + id + "/", "cos://b.cos.r.myqcloud.com/e/", "stdout." + id + ".a.7.log", "e.a.7"}
	if diff := cmp.Diff(want, task.Redirect(7)); diff != "" {
		t.Error(diff)
	}
	other, _ := FindTask(job, "b")
	if r := other.Redirect(0); r != nil {
		t.Errorf("a task without redirects has %+v", r)
	}
}

func TestLogs(t *testing.T) {
	agent := func(pod *corev1.Pod) {
		pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Command: []string{podspec.AgentProgram, "exec"}}}
		pod.Status.ContainerStatuses[0].State.Terminated.Message = string(agentapi.EncodeResult(agentapi.Result{Tail: "out\n"}, 0))
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: podspec.OutputsContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(agentapi.EncodeResult(agentapi.Result{Tail: "err"}, 0))}},
		})
	}
	pod := podOf(0, 0, 0, ended(0), agent)
	s, ok := Tails(&pod)
	if !ok || string(s.Stdout) != "out\n" || string(s.Stderr) != "err" {
		t.Errorf("the streams are %q, %q, %t", s.Stdout, s.Stderr, ok)
	}
	plain, pending := podOf(0, 0, 0, ended(0)), podOf(0, 0, 0, bound)
	if _, ok := Tails(&plain); ok || !HasLog(&plain) || HasLog(&pending) {
		t.Error("a Pod without an agent has a log once its container was started, and no tails")
	}
	task, _ := FindTask(jobOf(v1alpha1.BatchJobStatus{}), "a")
	long := strings.Repeat("x", 3000) + "end"
	got := task.Log(1, Streams{Stdout: []byte(long)})
	decoded, err := base64.StdEncoding.DecodeString(*got.StdoutLog)
	if err != nil || len(decoded) != 2048 || !strings.HasSuffix(string(decoded), "end") || got.StderrLog != nil || got.StdoutRedirectPath != nil {
		t.Errorf("the log is %+v, %d bytes, %v", got, len(decoded), err)
	}
}

func envOf(nodes int64) *v1alpha1.ComputeEnv {
	env := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Name: "pool", UID: "uid-of-pool", CreationTimestamp: begin}}
	env.Spec = v1alpha1.ComputeEnvSpec{EnvName: "pool", DesiredComputeNodeCount: &nodes, EnvData: &v1alpha1.EnvData{InstanceType: "S5.MEDIUM4"}}
	env.Spec.Placement.Zone = "zone-a"
	return env
}

const catalogText = `apiVersion: config.batchcompute.dev/v1alpha1
kind: Catalog
instanceTypes:
  S5.MEDIUM4: {cpu: 2, memory: 4Gi, category: GENERAL_3}
  S5.LARGE8: {cpu: 4, memory: 8Gi, category: GENERAL_3}
  C3.LARGE8: {cpu: 3500m, memory: 7000Mi, category: COMPUTE_3}
chargeTypes:
  SPOTPAID: {nodeLabels: {spot: "true"}}
`

func offers(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Parse([]byte(catalogText))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnv(t *testing.T) {
	env := envOf(4)
	withUID := func(uid string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.UID = types.UID(uid) } }
	stopping := func(p *corev1.Pod) { p.DeletionTimestamp = &later }
	pods := []corev1.Pod{podOf(0, 0, 0, withUID("p0"), running), podOf(1, 0, 0, withUID("p1")), podOf(2, 0, 0, withUID("p2"), bound, stopping)}
	got := EnvDetails(env, pods, offers(t))
	if want := (NodeMetrics{RunningCount: 2, CreatingCount: 1, DeletingCount: 1}); got.ComputeNodeMetrics != want || len(got.ComputeNodeSet) != 4 {
		t.Errorf("the nodes are %+v", got)
	}
	free := 0
	for _, n := range got.ComputeNodeSet {
		free += int(n.TaskInstanceNumAvailable)
		if n.CPU != 2 || n.Mem != 4 || !strings.HasPrefix(n.ComputeNodeID, "node-") {
			t.Errorf("a node is %+v", n)
		}
	}
	if free != 1 {
		t.Errorf("%d nodes are free, want 1", free)
	}
	// A free node that was terminated does not come back.
	gone := IdleNodes(env, 0)[1]
	env.Annotations = map[string]string{v1alpha1.AnnotationTerminatedNodes: "1"}
	env.Spec.DesiredComputeNodeCount = new(int64(3))
	for _, n := range IdleNodes(env, 0) {
		if n == gone {
			t.Errorf("node %+v is still there", n)
		}
	}
	env.Annotations[v1alpha1.AnnotationTerminatedNodes] = "forged"
	if n := len(IdleNodes(env, 1)); n != 2 {
		t.Errorf("%d nodes are free, want 2", n)
	}
	if v := OfEnv(env); v.DesiredComputeNodeCount != 3 || v.EnvType != "MANAGED" || v.ResourceType != "CVM" || v.NextAction != "" {
		t.Errorf("the environment is %+v", v)
	}
	env.DeletionTimestamp = &later
	if v := OfEnv(env); v.NextAction != "DELETING" {
		t.Errorf("NextAction is %q", v.NextAction)
	}
	acts := Activities(env, pods)
	if len(acts) != 3 || acts[0].ActivityState != "SUCCEED" || acts[1].ActivityState != "PROCESSING" || acts[1].EndTime != nil || *acts[0].InstanceID != "node-1" {
		t.Errorf("the activities are %+v", acts)
	}
}

func TestMachines(t *testing.T) {
	c := offers(t)
	got := InstanceTypes(c, []string{"z1"})
	want := []InstanceType{{7, 4, "C3.LARGE8", "z1", "C3"}, {8, 4, "S5.LARGE8", "z1", "S5"}, {4, 2, "S5.MEDIUM4", "z1", "S5"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(Quotas(got, ChargeTypes(c))); n != 6 {
		t.Errorf("%d quotas, want 6", n)
	}
	if n := len(ChargeTypes(catalog.Default())); n != 1 {
		t.Errorf("%d charge types without spot machines, want 1", n)
	}
	categories := []InstanceCategory{{"COMPUTE_3", []string{"C3"}}, {"GENERAL_3", []string{"S5"}}}
	if diff := cmp.Diff(categories, InstanceCategories(c)); diff != "" {
		t.Error(diff)
	}
}

func TestSubmitted(t *testing.T) {
	job := jobOf(v1alpha1.BatchJobStatus{}, testutil.Command("echo <a>"))
	job.Spec.Job.JobDescription = "d"
	got, err := Submitted(job)
	if err != nil {
		t.Fatal(err)
	}
	var tasks []struct{ Application struct{ Command string } }
	if err := json.Unmarshal(got["Tasks"], &tasks); err != nil || len(tasks) != 2 || tasks[0].Application.Command != "echo <a>" {
		t.Errorf("the tasks are %s, %v", got["Tasks"], err)
	}
	if string(got["JobDescription"]) != `"d"` || string(got["JobName"]) != `""` || string(got["Tags"]) != "[]" || string(got["Priority"]) != "1" {
		t.Errorf("the answer is %s", got)
	}
	env := envOf(3)
	created, _ := json.Marshal(env.Spec)
	env.Spec.DesiredComputeNodeCount = new(int64(7))
	for _, tc := range []struct{ annotation, want string }{{"", "7"}, {string(created), "3"}} {
		env.Annotations = map[string]string{v1alpha1.AnnotationCreatedAs: tc.annotation}
		info, err := CreateInfo(env)
		if err != nil || string(info["DesiredComputeNodeCount"]) != tc.want || string(info["EnvName"]) != `"pool"` {
			t.Errorf("the answer is %s, %v", info, err)
		}
	}
	env.Annotations[v1alpha1.AnnotationCreatedAs] = "{"
	if _, err := CreateInfo(env); err == nil {
		t.Error("an annotation that is no JSON was read")
	}
}
