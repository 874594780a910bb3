// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	diff "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/gateway"
	"batchcompute.dev/operator/internal/gateway/ratelimit"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/testutil/signer"
)

var update = flag.Bool("update", false, "write testdata/wire")

// recorder sends signed requests to a handler, and compares them and their answers with files.
type recorder struct {
	*world
	handler *gateway.Handler
	names   map[string]string // of identifiers, in the files
	done    map[string]bool   // actions
}

// oneKey is a key for a world.
type oneKey struct{ w *world }

func (k oneKey) Lookup(context.Context, string) (gateway.Key, bool, error) {
	return gateway.Key{SecretKey: "key", Tenant: gateway.Tenant(k.w.identity())}, true, nil
}

func newRecorder(w *world) *recorder {
	w.t.Helper()
	h, err := gateway.New(gateway.Options{
		Keys: oneKey{w}, Actions: w.backend.Table(), Log: logr.Discard(), Registerer: prometheus.NewRegistry(), Now: time.Now, Limits: map[string]ratelimit.Limit{},
	})
	w.must(err)
	return &recorder{world: w, handler: h, names: map[string]string{}, done: map[string]bool{}}
}

// forms are what differs from run to run.
var (
	identifierForm = regexp.MustCompile(`\b(job|env|node|act|task-tmpl)-[0-9a-z]{8}\b`)
	uuidForm       = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	nodeForm       = regexp.MustCompile(`\{"ComputeNodeId":[^{}]*"TaskInstanceNumAvailable"[^{}]*\}`)
	timeForm       = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)
)

// normal replaces what differs from run to run: identifiers by numbers in the order in which they are seen first.
func (r *recorder) normal(text string) string {
	text = uuidForm.ReplaceAllString(text, "00000000-0000-0000-0000-000000000000")
	text = timeForm.ReplaceAllString(text, `"2027-01-02T03:04:05Z"`)
	// The nodes of an environment are in the order of their identifiers: here, those that are free come first.
	nodes := nodeForm.FindAllString(text, -1)
	slices.SortStableFunc(nodes, func(a, b string) int {
		return cmp.Compare(identifierForm.ReplaceAllString(a, ""), identifierForm.ReplaceAllString(b, ""))
	})
	text = nodeForm.ReplaceAllStringFunc(text, func(string) string {
		first := nodes[0]
		nodes = nodes[1:]
		return first
	})
	return identifierForm.ReplaceAllStringFunc(text, func(id string) string {
		if r.names[id] == "" {
			prefix := id[:strings.LastIndex(id, "-")]
			n := 1
			for known := range r.names {
				if strings.HasPrefix(known, prefix+"-") {
					n++
				}
			}
			r.names[id] = fmt.Sprintf("%s-%08d", prefix, n)
		}
		return r.names[id]
	})
}

// send sends a request and returns the answer as it was written, and what is in its envelope.
func (r *recorder) send(action, body string) (written string, answer map[string]any) {
	r.t.Helper()
	s := signer.Signer{SecretID: "AKIDexample0123456789", SecretKey: "key", Region: "ap-guangzhou", Action: action, At: time.Now()}
	req := s.POST("http://batch.example.com", body)
	req.RequestURI, req.RemoteAddr = "/", "192.0.2.1:1024"
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	var envelope struct{ Response map[string]any }
	r.must(json.Unmarshal(w.Body.Bytes(), &envelope))
	written = fmt.Sprintf("HTTP/1.1 %d\nContent-Type: %s\n\n%s\n", w.Code, w.Header().Get("Content-Type"), w.Body)
	return written, envelope.Response
}

// record sends a request, until its answer is as it should be, if there is a condition, and compares both with the file
// of the action.
func (r *recorder) record(action, body string, until func(answer map[string]any) bool) map[string]any {
	r.t.Helper()
	var written string
	var answer map[string]any
	r.eventually(func() error {
		if written, answer = r.send(action, body); until != nil && !until(answer) {
			return errors.New(written)
		}
		return nil
	})
	r.done[action] = true
	got := []byte(r.normal(fmt.Sprintf("POST / HTTP/1.1\nContent-Type: application/json\nX-TC-Action: %s\nX-TC-Region: ap-guangzhou\nX-TC-Version: 2017-03-12\n\n%s\n\n%s",
		action, body, written)))
	file := filepath.Join("testdata", "wire", action+".http")
	if *update {
		r.must(os.MkdirAll(filepath.Dir(file), 0o755))
		r.must(os.WriteFile(file, got, 0o600))
		return answer
	}
	want, err := os.ReadFile(file)
	r.must(err)
	if !bytes.Equal(want, got) {
		r.t.Errorf("%s (-file +request and answer); if that is meant, run the test with -update:\n%s", file, diff.Diff(string(want), string(got)))
	}
	return answer
}

// TestWire: what each action is asked and answers, byte for byte, through the gateway's own handler.
// To write the files: go test ./internal/gateway/actions -run TestWire -update
func TestWire(t *testing.T) {
	r := newRecorder(newWorld(t))
	r.jobs()
	r.envs()
	r.templates()
	r.machines()
	for _, action := range Names() {
		if !r.done[action] {
			t.Errorf("%s has no file of its request and answer", action)
		}
	}
	files, err := os.ReadDir("testdata/wire")
	r.must(err)
	for _, f := range files {
		if !slices.Contains(Names(), strings.TrimSuffix(f.Name(), ".http")) {
			t.Errorf("testdata/wire/%s is of no action", f.Name())
		}
	}
}

// count is a condition: a list of the answer has as many items.
func count(list string, n int) func(map[string]any) bool {
	return func(answer map[string]any) bool {
		items, _ := answer[list].([]any)
		return len(items) == n
	}
}

func (r *recorder) jobs() {
	submitted := r.record("SubmitJob", `{"Placement": {"Zone": "ap-guangzhou-2"}, "ClientToken": "wire", "Job": {"JobName": "wire", "JobDescription": "a < b && c", "Priority": 7,
 "Tags": [{"Key": "team", "Value": "render"}],
 "Tasks": [{"TaskName": "a", "TaskInstanceNum": 3, "MaxRetryCount": 1, "EnvVars": [{"Name": "EMPTY", "Value": ""}],
   "Application": {"DeliveryForm": "LOCAL", "Command": "echo a"}, "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}},
   "RedirectInfo": {"StdoutRedirectPath": "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/wire/", "StderrRedirectPath": "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/wire/", "StdoutRedirectFileName": "out.${BATCH_TASK_INSTANCE_INDEX}"}},
  {"TaskName": "b", "Application": {"DeliveryForm": "LOCAL", "Command": "echo b"}, "ComputeEnv": {}}],
 "Dependences": [{"StartTask": "a", "EndTask": "b"}]}}`, nil)
	id := fmt.Sprint(submitted["JobId"])
	of := `{"JobId": "` + id + `"`
	ofTask := of + `, "TaskName": "a"`
	r.instances(id)
	r.record("DescribeJob", of+"}", nil)
	r.record("DescribeJobs", `{"Filters": [{"Name": "job-state", "Values": ["RUNNING"]}, {"Name": "tag:team", "Values": ["render"]}], "Limit": 5}`, nil)
	r.record("DescribeJobSubmitInfo", of+"}", nil)
	r.record("DescribeTask", ofTask+`, "Limit": 3}`, func(answer map[string]any) bool {
		text, err := json.Marshal(answer)
		return err == nil && strings.Contains(string(text), `"LaunchTime":"`) && strings.Contains(string(text), `"TaskInstanceState":"RUNNING"`)
	})
	r.record("DescribeTaskLogs", ofTask+`, "TaskInstanceIndexes": [0]}`, func(answer map[string]any) bool {
		text, err := json.Marshal(answer)
		return err == nil && strings.Contains(string(text), `"StdoutLog":"`)
	})
	tenants := r.backend.Tenants
	r.metricsOf().Store(&metricsAPI{200, fmt.Sprintf(`{"kind": "PodMetrics", "timestamp": "2027-01-02T03:04:05Z", "window": "30s",
		"containers": [{"name": %q, "usage": {"cpu": "500m", "memory": "1Gi"}}]}`, podspec.ContainerName)})
	r.record("DescribeJobMonitorData", ofTask+`, "TaskInstanceIndex": 1, "MetricName": "CpuUsage"}`, nil)
	r.backend.Tenants = tenants
	r.record("TerminateTaskInstance", ofTask+`, "TaskInstanceIndex": 1}`, nil)
	r.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed})
	r.record("RetryJobs", `{"JobIds": ["`+id+`"]}`, nil)
	r.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning})
	r.record("TerminateJob", of+"}", nil)
	r.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobFailed})
	r.record("DeleteJob", of+"}", nil)
}

// instances has a job with an instance that has succeeded, one that runs and one that waits.
func (r *recorder) instances(id string) {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	pod := &corev1.Pod{}
	pod.Namespace, pod.GenerateName = r.ns, "ended-"
	pod.Labels = map[string]string{v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "0", v1alpha1.LabelAttempt: "0"}
	pod.Spec.NodeName = "node-1"
	pod.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "busybox", Command: []string{podspec.AgentProgram, "exec"}}, {Name: podspec.OutputsContainer, Image: "agent"}}
	r.must(r.Create(r.t.Context(), pod))
	pod.Status.Phase, pod.Status.StartTime = corev1.PodSucceeded, &now
	for i, tail := range []string{"out\n", "<error>\n"} {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: pod.Spec.Containers[i].Name, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{StartedAt: now, FinishedAt: now, Message: string(agentapi.EncodeResult(agentapi.Result{Tail: tail}, 0))},
		}})
	}
	r.must(r.Status().Update(r.t.Context(), pod))
	running := &corev1.Pod{}
	running.Namespace, running.GenerateName = r.ns, "running-"
	running.Labels = map[string]string{v1alpha1.LabelJobID: id, v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "1", v1alpha1.LabelAttempt: "0", v1alpha1.LabelTracked: "true"}
	running.Spec.NodeName = "node-2"
	running.Spec.Containers = []corev1.Container{{Name: podspec.ContainerName, Image: "busybox", Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
	}}}
	r.must(r.Create(r.t.Context(), running))
	running.Status.Phase, running.Status.StartTime = corev1.PodRunning, &now
	running.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.ContainerName, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}
	r.must(r.Status().Update(r.t.Context(), running))
	r.setStatus(id, v1alpha1.BatchJobStatus{State: v1alpha1.JobRunning, TaskMetrics: v1alpha1.StateMetrics{PendingCount: 1, RunningCount: 1},
		TaskInstanceMetrics: v1alpha1.StateMetrics{PendingCount: 1, RunnableCount: 1, RunningCount: 1, SucceedCount: 1}, Tasks: []v1alpha1.TaskStatus{
			{Name: "a", State: v1alpha1.TaskRunning, Succeeded: "0", Active: "1-2", Running: 1}, {Name: "b", State: v1alpha1.TaskPending},
		}})
}

func (r *recorder) envs() {
	created := r.record("CreateComputeEnv", `{"Placement": {"Zone": "ap-guangzhou-2"}, "ClientToken": "wire", "ComputeEnv": {"EnvName": "pool", "EnvDescription": "d", "DesiredComputeNodeCount": 4,
 "EnvData": {"InstanceType": "S5.MEDIUM4"}, "Tags": [{"Key": "team", "Value": "render"}]}}`, nil)
	id := fmt.Sprint(created["EnvId"])
	of := `{"EnvId": "` + id + `"`
	r.podFor("job-0a1b2c3d", 0, map[string]string{v1alpha1.LabelEnvID: id}, func(pod *corev1.Pod) {
		now := metav1.NewTime(time.Now().Truncate(time.Second))
		pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &now
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.ContainerName, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}
	})
	r.record("ModifyComputeEnv", of+`, "DesiredComputeNodeCount": 5, "EnvName": "larger"}`, nil)
	details := r.record("DescribeComputeEnv", of+"}", func(answer map[string]any) bool {
		return answer["EnvName"] == "larger" && count("ComputeNodeSet", 5)(answer)
	})
	r.record("DescribeComputeEnvs", `{"EnvIds": ["`+id+`"]}`, nil)
	r.record("DescribeComputeEnvCreateInfo", of+"}", nil)
	r.record("DescribeComputeEnvCreateInfos", `{"Filters": [{"Name": "env-id", "Values": ["`+id+`"]}]}`, nil)
	r.record("DescribeComputeEnvActivities", of+"}", count("ActivitySet", 1))
	var free []string
	nodes, _ := details["ComputeNodeSet"].([]any)
	for _, node := range nodes {
		if n, _ := node.(map[string]any); n["TaskInstanceNumAvailable"] == 1.0 {
			free = append(free, fmt.Sprint(n["ComputeNodeId"]))
		}
	}
	r.record("TerminateComputeNode", of+`, "ComputeNodeId": "`+free[0]+`"}`, nil)
	r.record("TerminateComputeNodes", of+`, "ComputeNodeIds": [`+quoted(free[1], free[2])+`]}`, nil)
	r.record("AttachInstances", of+`, "Instances": [{"InstanceId": "ins-0a1b2c3d"}]}`, nil)
	r.record("DetachInstances", of+`, "InstanceIds": ["ins-0a1b2c3d"]}`, nil)
	r.record("CreateCpmComputeEnv", `{"Placement": {"Zone": "ap-guangzhou-2"}, "ComputeEnv": {}}`, nil)
	r.record("DescribeCpmOsInfo", `{"DeviceClassCode": "x"}`, nil)
	r.record("DeleteComputeEnv", of+"}", nil)
}

func (r *recorder) templates() {
	created := r.record("CreateTaskTemplate", `{"TaskTemplateName": "frames", "TaskTemplateDescription": "d", "Tags": [{"Key": "team", "Value": "render"}],
 "TaskTemplateInfo": {"TaskName": "a", "TaskInstanceNum": 2, "Application": {"DeliveryForm": "LOCAL", "Command": "echo a"}, "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}}}}`, nil)
	id := fmt.Sprint(created["TaskTemplateId"])
	r.record("ModifyTaskTemplate", `{"TaskTemplateId": "`+id+`", "TaskTemplateDescription": "new"}`, nil)
	r.record("DescribeTaskTemplates", `{"TaskTemplateIds": ["`+id+`"]}`, nil)
	r.record("DeleteTaskTemplates", `{"TaskTemplateIds": ["`+id+`"]}`, nil)
}

func (r *recorder) machines() {
	r.record("DescribeAvailableCvmInstanceTypes", `{"Filters": [{"Name": "zone", "Values": ["ap-guangzhou-2"]}]}`, nil)
	r.record("DescribeCvmZoneInstanceConfigInfos", `{"Filters": [{"Name": "instance-family", "Values": ["S5"]}]}`, nil)
	r.record("DescribeInstanceCategories", `{}`, nil)
}
