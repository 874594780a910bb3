//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestTasksRunInOrder(t *testing.T) {
	t.Parallel()
	s := begin(t)
	job := s.end(s.apply(s.sample("dag")), v1alpha1.JobSucceed)

	pre, post := s.pods("pre_task"), s.pods("post_task")
	if len(pre) != 1 || len(post) != 1 {
		t.Fatalf("there are %d and %d Pods, want 1 and 1", len(pre), len(post))
	}
	if _, ended := s.ran(pre[0]); post[0].CreationTimestamp.Time.Before(ended) {
		t.Errorf("post_task was created at %s, before pre_task had ended at %s", post[0].CreationTimestamp, ended)
	}
	for want, pod := range map[string]corev1.Pod{"pre_task\n": pre[0], "post_task\n": post[0]} {
		if got := s.log(pod); got != want {
			t.Errorf("log = %q, want %q", got, want)
		}
	}
	if job.Status.TaskProgress != "2/2" || job.Status.TaskInstanceProgress != "2/2" {
		t.Errorf("progress = %s tasks, %s instances, want 2/2 and 2/2", job.Status.TaskProgress, job.Status.TaskInstanceProgress)
	}
	s.released()
	for _, reason := range []string{v1alpha1.ReasonAccepted, v1alpha1.ReasonJobSucceed} {
		s.event("dag", reason)
	}
}

func TestImageOfTheCatalogue(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.end(s.apply(s.sample("fibonacci")), v1alpha1.JobSucceed)
	if got := s.log(s.pods("hello2")[0]); got != "6765\n" {
		t.Errorf("log = %q, want 6765", got)
	}
}

func TestInstancesOfAPipeline(t *testing.T) {
	t.Parallel()
	s := begin(t)
	job := s.end(s.apply(s.sample("pipeline")), v1alpha1.JobSucceed)
	if job.Status.TaskInstanceProgress != "26/26" || task(job, "render").Succeeded != "0-19" {
		t.Errorf("progress = %s, render.succeeded = %q", job.Status.TaskInstanceProgress, task(job, "render").Succeeded)
	}
	pods := s.pods("render")
	if len(pods) != 20 {
		t.Fatalf("render has %d Pods, want 20", len(pods))
	}
	for i, pod := range pods {
		want := fmt.Sprintf("rendered frame %d of 20 in high quality\n", i+1)
		if got := s.log(pod); got != want {
			t.Errorf("log of instance %d = %q, want %q", i, got, want)
		}
		from, _ := s.ran(pod)
		atOnce := 0
		for _, other := range pods {
			if a, b := s.ran(other); !a.After(from) && b.After(from) {
				atOnce++
			}
		}
		if atOnce > 8 {
			t.Errorf("%d instances ran at %s, more than maxConcurrentNum", atOnce, from)
		}
	}
	if got := s.log(s.pods("merge")[0]); got != "merged the film of "+job.Status.JobID+"\n" {
		t.Errorf("log of merge = %q, want the job's id %s in it", got, job.Status.JobID)
	}
	s.released()
}

func TestRetriesAndFailure(t *testing.T) {
	t.Parallel()
	s := begin(t)
	job := s.end(s.apply(s.sample("retries")), v1alpha1.JobFailed)
	if got := len(s.pods("flaky")); got != 3 {
		t.Errorf("flaky has %d Pods, want 3 attempts", got)
	}
	if got := len(job.Status.Failures); got != 3 {
		t.Errorf("status has %d failures, want 3", got)
	}
	for i, f := range job.Status.Failures {
		if f.ExitCode == nil || *f.ExitCode != 3 || f.Attempt != int64(i) || f.Reason != v1alpha1.ReasonCommandFailed {
			t.Errorf("failure %d = %+v, want attempt %d with exit code 3", i, f, i)
		}
	}
	after := task(job, "after_flaky")
	if after.State != v1alpha1.TaskFailed || after.Reason != v1alpha1.ReasonPredecessorFailed || len(s.pods("after_flaky")) != 0 {
		t.Errorf("after_flaky = %+v with %d Pods, want FAILED for its predecessor and none", after, len(s.pods("after_flaky")))
	}
	if got := task(job, "independent").State; got != v1alpha1.TaskSucceed {
		t.Errorf("independent = %s, want SUCCEED", got)
	}
	for _, reason := range []string{v1alpha1.ReasonTaskInstanceRetry, v1alpha1.ReasonJobFailed} {
		s.event("retries", reason)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := begin(t)
	job := s.end(s.apply(job("slow", `
tasks:
- taskName: slow
  timeout: 2
  application: {deliveryForm: LOCAL, command: "trap 'exit 0' TERM; sleep 60 & wait"}
  computeEnv: {}
`)), v1alpha1.JobFailed)
	if f := job.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonTimeout {
		t.Fatalf("failures = %+v, want one for the timeout, though the command ended with 0", f)
	}
	if took := job.Status.EndTime.Sub(job.Status.StartTime.Time); took < 2*time.Second {
		t.Errorf("the job took %s, want at least the timeout of 2 s", took)
	}
	s.released()
}

func TestShellTextIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.end(s.apply(job("text", `
tasks:
- application: {deliveryForm: LOCAL, command: 'echo "$(echo sub) $BATCH_TASK_NAME $PRICE $((1+1))"'}
  computeEnv: {}
  envVars: [{name: PRICE, value: "$(BATCH_JOB_ID) $$5"}]
`)), v1alpha1.JobSucceed)
	if got, want := s.log(s.pods("task")[0]), "sub task $(BATCH_JOB_ID) $$5 2\n"; got != want {
		t.Errorf("log = %q, want %q", got, want)
	}
}

func TestBadManifestsAreRefused(t *testing.T) {
	t.Parallel()
	s := begin(t)
	const one = "{taskName: a, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}"
	const two = "{taskName: b, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}"
	for name, tc := range map[string]struct{ spec, code, path string }{
		"both": {"tasks: [{taskName: a, envId: env-0a1b2c3d, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}]",
			"AllowedOneAttributeInEnvIdAndComputeEnv", "spec.job.tasks[0]"},
		"neither":  {"tasks: [{taskName: a, application: {deliveryForm: LOCAL, command: 'true'}}]", "AllowedOneAttributeInEnvIdAndComputeEnv", "spec.job.tasks[0]"},
		"unknown":  {"tasks: [" + one + ", " + two + "]\ndependences: [{startTask: a, endTask: bb}]", "InvalidParameterValue.DependenceNotFoundTaskName", "spec.job.dependences[0].endTask"},
		"cycle":    {"tasks: [" + one + ", " + two + "]\ndependences: [{startTask: a, endTask: b}, {startTask: b, endTask: a}]", "InvalidParameterValue.DependenceUnfeasible", "spec.job.dependences"},
		"name":     {"tasks: [{taskName: 'bad name!', application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}]", "InvalidParameter.TaskName", "spec.job.tasks[0].taskName"},
		"long":     {"tasks: [{taskName: " + strings.Repeat("t", 61) + ", application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}]", "InvalidParameter.TaskNameTooLong", "spec.job.tasks[0].taskName"},
		"negative": {"tasks: [{taskName: a, timeout: -1, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}]", "InvalidParameterValue.Negative", "spec.job.tasks[0].timeout"},
		"job name": {"jobName: " + strings.Repeat("j", 61) + "\ntasks: [" + one + "]", "InvalidParameter.JobNameTooLong", "spec.job.jobName"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := s.kubectl(job("bad", tc.spec), "apply", "-f", "-")
			if err == nil || !strings.Contains(out, tc.code) || !strings.Contains(out, tc.path) {
				t.Errorf("kubectl apply: %v\n%s\nwant a refusal with %s at %s", err, out, tc.code, tc.path)
			}
			t.Log(out)
		})
	}
	if out := s.must("get", "batchjobs", "-o", "name"); out != "" {
		t.Errorf("stored all the same: %s", out)
	}
}

// TestTroubleIsExplained holds that what is wrong is said in the status and in an event
// within 30 s.
func TestTroubleIsExplained(t *testing.T) {
	t.Parallel()
	s := begin(t)
	waits := func(name, reason, text, manifest string) {
		s.apply(manifest)
		s.eventually(30*time.Second, "an explanation", func() error {
			job := s.get(name)
			if job.Status.Reason != reason || !strings.Contains(job.Status.Message, text) {
				return fmt.Errorf("reason = %q, message = %q, want %s with %q", job.Status.Reason, job.Status.Message, reason, text)
			}
			t.Logf("%s: %s", job.Status.Reason, job.Status.Message)
			return nil
		})
		s.event(name, reason)
	}
	waits("no-image", v1alpha1.ReasonImagePull, "no-such-image:1", job("no-image", `
tasks:
- application: {deliveryForm: LOCAL, command: "true", docker: {image: "no-such-image:1"}}
  computeEnv: {}
`))
	waits("no-zone", v1alpha1.ReasonZoneNotFound, "ap-nowhere-9", strings.ReplaceAll(job("no-zone", `
tasks:
- application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {}
`), "ap-guangzhou-2", "ap-nowhere-9"))
	s.apply(job("no-command", `
tasks:
- application: {deliveryForm: LOCAL, command: "no-such-command --now"}
  computeEnv: {}
`))
	failed := s.end("no-command", v1alpha1.JobFailed)
	if !strings.Contains(failed.Status.Message, "exit code 127: the command was not found") {
		t.Errorf("message = %q", failed.Status.Message)
	}
	s.event("no-command", v1alpha1.ReasonJobFailed)
}

// TestKubectlReadsWell is not parallel to others: a manager that is busy leaves out events such as TaskSucceed.
func TestKubectlReadsWell(t *testing.T) {
	s := begin(t)
	s.end(s.apply(s.sample("dag")), v1alpha1.JobSucceed)
	for args, wants := range map[string][]string{
		"get batchjobs":         {"NAME", "STATE", "TASKS", "INSTANCES", "AGE", "SUCCEED", "2/2"},
		"get bj -o wide":        {"JOBID", "ZONE", "PRIORITY", "REASON", "job-", "ap-guangzhou-2", "JobSucceed"},
		"get all":               {"batchjob.batchcompute.dev/dag"},
		"describe batchjob dag": {"TaskSucceed", "Job Id:", "pre_task"},
		"explain batchjob.spec.job.tasks.application":                          {"command", "/bin/sh -c", "deliveryForm"},
		"wait --for=condition=Complete --timeout=5s batchjob/dag":              {"condition met"},
		"wait --for=jsonpath={.status.state}=SUCCEED --timeout=5s bj/dag":      {"condition met"},
		"get pods -l batchcompute.dev/task-name=pre_task -o name --no-headers": {"pod/dag-pre-task-0-"},
	} {
		out := s.must(strings.Fields(args)...)
		t.Logf("kubectl %s\n%s", args, out)
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("kubectl %s does not print %q", args, want)
			}
		}
	}
}

// TestReadme holds that the job of README.md runs, and that the mistake shown there is
// answered as is shown there.
func TestReadme(t *testing.T) {
	t.Parallel()
	s := begin(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok1 := strings.Cut(string(readme), "```yaml\n")
	manifest, rest, ok2 := strings.Cut(rest, "```")
	_, rest, ok3 := strings.Cut(rest, "kubectl apply -f film.yaml\n")
	refusal, _, ok4 := strings.Cut(rest, " [RequestId: …]")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		t.Fatal("README.md has no job, or no refusal, where this test looks for it")
	}
	out, err := s.kubectl(strings.ReplaceAll(manifest, "endTask: merge", "endTask: merg"), "apply", "-f", "-")
	if err == nil || !strings.HasPrefix(out, refusal) {
		t.Errorf("kubectl apply: %v\n%s\nREADME.md says\n%s", err, out, refusal)
	}
	s.end(s.apply(manifest), v1alpha1.JobSucceed)
}

// TestConvertedRequest runs a SubmitJob body, the way README.md shows.
func TestConvertedRequest(t *testing.T) {
	t.Parallel()
	s := begin(t)
	manifest, err := exec.CommandContext(s.ctx, "go", "run", "./cmd/kubectl-batchjob", "convert", "-f", "config/samples/submitjob.json").Output()
	if err != nil {
		t.Fatalf("converting: %v", err)
	}
	name := s.apply(string(manifest))
	if out := s.must("diff", "-f", write(t, manifest)); out != "" {
		t.Errorf("kubectl diff after apply:\n%s", out)
	}
	s.end(name, v1alpha1.JobSucceed)
	if out, err := s.kubectl(string(manifest), "apply", "-f", "-"); err != nil || !strings.Contains(out, "unchanged") {
		t.Errorf("kubectl apply again: %v\n%s", err, out)
	}
}

// write puts data into a file that goes with the test.
func write(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
