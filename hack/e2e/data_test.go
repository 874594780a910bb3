//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
)

// bucket has the objects of the tests, each below the identifier of its job, and host is the host of its paths.
const (
	bucket = "demo-1250000000"
	host   = bucket + ".cos.ap-guangzhou.myqcloud.com"
)

// beginData begins a story with data: the Secret with the keys of the store is in its namespace.
func beginData(t *testing.T) *story {
	t.Helper()
	needsStore(t)
	t.Parallel()
	return beginWithStore(t)
}

// needsStore skips a story where there is no object store.
func needsStore(t *testing.T) {
	t.Helper()
	if cluster.Store == nil {
		t.Skip("left out: it needs the object store beside a local cluster with a real node")
	}
}

// beginWithStore begins a story that has the keys of the store, and the bucket.
func beginWithStore(t *testing.T) *story {
	t.Helper()
	s := begin(t)
	if err := kube.Create(s.ctx, cluster.Store.Secret(s.namespace)); err != nil {
		t.Fatal(err)
	}
	s.put("", "")
	return s
}

// put stores an object in the bucket; without a key there is only the bucket.
func (s *story) put(key, text string) {
	s.Helper()
	if err := cluster.Store.Put(s.ctx, bucket, key, []byte(text)); err != nil {
		s.Fatal(err)
	}
}

// objects returns the objects of a job, by their keys without the job's identifier, and fails the story if an upload in
// parts was left.
func (s *story) objects(id string) map[string]string {
	s.Helper()
	out := map[string]string{}
	for o := range cluster.Store.ListObjects(s.ctx, bucket, minio.ListObjectsOptions{Prefix: id + "/", Recursive: true}) {
		if o.Err != nil {
			s.Fatal(o.Err)
		}
		data, err := cluster.Store.Get(s.ctx, bucket, o.Key)
		if err != nil {
			s.Fatal(err)
		}
		out[strings.ReplaceAll(strings.TrimPrefix(o.Key, id+"/"), id, "ID")] = string(data)
	}
	for u := range cluster.Store.ListIncompleteUploads(s.ctx, bucket, id+"/", true) {
		s.Errorf("an upload in parts is left: %+v", u)
	}
	return out
}

// stored checks the objects of a job. A value that begins with ~ is a part of what is stored.
func (s *story) stored(id string, want map[string]string) {
	s.Helper()
	got := s.objects(id)
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		s.Errorf("the store has %q, want %q", a, b)
	}
	for key, text := range want {
		if part, ok := strings.CutPrefix(text, "~"); ok && strings.Contains(got[key], part) || got[key] == text {
			continue
		}
		s.Errorf("%s has %.300q, want %.300q", key, got[key], text)
	}
}

// container returns how a container of a Pod is.
func container(pod corev1.Pod, name string) corev1.ContainerState {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.Name == name {
			return c.State
		}
	}
	return corev1.ContainerState{}
}

// result returns what a container of the agent has reported.
func (s *story) result(pod corev1.Pod, name string) agentapi.Result {
	s.Helper()
	end := container(pod, name).Terminated
	if end == nil {
		s.Fatalf("container %s of pod %s has not ended", name, pod.Name)
	}
	return agentapi.ParseResult(end.Message)
}

// failures returns those of a task.
func failures(job *v1alpha1.BatchJob, task string) []v1alpha1.TaskInstanceFailure {
	var out []v1alpha1.TaskInstanceFailure
	for _, f := range job.Status.Failures {
		if f.TaskName == task {
			out = append(out, f)
		}
	}
	return out
}

// TestDataInThreeStages: files that one task stores are there for the instances of the next, each of which stores its
// own, and the logs are stored as well.
func TestDataInThreeStages(t *testing.T) {
	s := beginData(t)
	id := s.end(s.apply(s.sample("data")), v1alpha1.JobSucceed).Status.JobID
	want := map[string]string{"scenes/colour": "red\n", "scenes/more/rate": "24\n"}
	for i := range 3 {
		line := fmt.Sprintf("frame %d is red, 24 a second\n", i)
		want[fmt.Sprintf("frames/%d/frame", i)] = line
		want[fmt.Sprintf("logs/stdout.ID.render.%d.log", i)] = line
		want[fmt.Sprintf("logs/stderr.ID.render.%d.log", i)] = ""
		want["film"] += line
		if got := s.result(s.pods("render")[i], podspec.ContainerName).Tail; got != line {
			t.Errorf("the tail of instance %d is %q, want %q", i, got, line)
		}
	}
	s.stored(id, want)
	for _, pod := range s.pods("render") {
		if r := s.result(pod, podspec.StageContainer); r.Files != 2 || r.Bytes != 7 {
			t.Errorf("the stage reports %+v, want 2 files and 7 bytes", r)
		}
		if r := s.result(pod, podspec.OutputsContainer); r.Files != 3 || r.Code == nil || *r.Code != 0 || len(r.Digest) != 64 {
			t.Errorf("the outputs report %+v, want 3 files, exit code 0 and a digest", r)
		}
	}
	s.released()
}

// archive returns a .tgz archive with one program.
func archive(t *testing.T, name, text string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	a := tar.NewWriter(z)
	if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPackage: a program comes from the store, or by HTTP, and runs in its directory.
func TestPackage(t *testing.T) {
	s := beginData(t)
	hello := archive(t, "hello.sh", "#!/bin/sh\necho \"hello $1 from $(ls)\"\n")
	s.put("packages/hello.tgz", hello)
	l, err := net.Listen("tcp", net.JoinHostPort(cluster.HostIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(hello)) })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	s.apply(s.sample("package"))
	s.apply(job("http", fmt.Sprintf(`
tasks:
- application: {deliveryForm: PACKAGE, packagePath: "http://%s/hello.tar.gz", command: "./hello.sh web"}
  computeEnv: {}
`, l.Addr())))
	s.prints("package", map[string]string{"task": "hello world from hello.sh\n"})
	s.prints("http", map[string]string{"task": "hello web from hello.sh\n"})
	s.released()
}

// TestDataThatCannotBeMoved: a wrong key, bucket or object ends the instance without a retry, and the message says which it is;
// nothing of it is a success; and the key is nowhere.
func TestDataThatCannotBeMoved(t *testing.T) {
	s := beginData(t)
	const wrong = "a-wrong-key-that-nobody-may-see"
	s.must("create", "secret", "generic", "wrong", "--from-literal=secretKey="+wrong)
	s.put("refused/in/file", "text")
	tasks := map[string]struct{ spec, reason, field, text string }{
		"wrong_key": {`inputMappings: [{sourcePath: "cos://HOST/refused/in/", destinationPath: /in}]
  authentications: [{scene: COS, secretId: demo, secretKeySecretRef: {name: wrong}}]`,
			v1alpha1.ReasonStageInFailed, "inputMappings[0]", "the store does not accept the key"},
		"no_bucket": {`inputMappings: [{sourcePath: "cos://none-1250000000.cos.ap-guangzhou.myqcloud.com/in/", destinationPath: /in}]`,
			v1alpha1.ReasonStageInFailed, "inputMappings[0]", `the bucket "none-1250000000" does not exist`},
		"no_object": {`inputMappings: [{sourcePath: "cos://HOST/refused/none/", destinationPath: /in}]`,
			v1alpha1.ReasonStageInFailed, "inputMappings[0]", "refused/none/"},
		"no_package": {`application: {deliveryForm: PACKAGE, packagePath: "cos://HOST/refused/none.tgz", command: "true"}`,
			v1alpha1.ReasonStageInFailed, "application.packagePath", `the object does not exist`},
		"no_output": {`outputMappings: [{sourcePath: /out/, destinationPath: "cos://none-1250000000.cos.ap-guangzhou.myqcloud.com/out/"}]`,
			v1alpha1.ReasonOutputFailed, "outputMappings[0]", `the bucket "none-1250000000" does not exist`},
		"no_log": {`redirectInfo: {stdoutRedirectPath: "cos://HOST/refused/"}
  authentications: [{scene: COS, secretId: demo, secretKeySecretRef: {name: wrong}}]`,
			v1alpha1.ReasonOutputFailed, "redirectInfo.stdoutRedirectPath", "the store does not accept the key"},
	}
	var spec strings.Builder
	spec.WriteString("tasks:\n")
	for name, tc := range tasks {
		application := "application: {deliveryForm: LOCAL, command: \"echo ran; mkdir -p /out 2>/dev/null && echo x >/out/x; true\"}\n  "
		if strings.HasPrefix(tc.spec, "application") {
			application = ""
		}
		fmt.Fprintf(&spec, "- taskName: %s\n  maxRetryCount: 2\n  resourceMaxRetryCount: 2\n  computeEnv: {}\n  %s%s\n", name, application, strings.ReplaceAll(tc.spec, "HOST", host))
	}
	failed := s.end(s.apply(job("refused", spec.String())), v1alpha1.JobFailed)
	for name, tc := range tasks {
		f := failures(failed, name)
		if len(f) != 1 || f[0].Reason != tc.reason || !strings.Contains(f[0].Message, tc.field) || !strings.Contains(f[0].Message, tc.text) {
			t.Errorf("%s: failures are %+v, want one with %s, %s and %q", name, f, tc.reason, tc.field, tc.text)
			continue
		}
		t.Logf("%s: %s: %s", name, f[0].Reason, f[0].Message)
		if st := task(failed, name).State; st != v1alpha1.TaskFailed {
			t.Errorf("%s is %s, want FAILED", name, st)
		}
		for _, pod := range s.pods(name) {
			for _, c := range []string{podspec.StageContainer, podspec.OutputsContainer} {
				if end := container(pod, c).Terminated; end != nil && end.FinishedAt.Sub(end.StartedAt.Time) > 30*time.Second {
					t.Errorf("%s: container %s took from %s to %s, more than 30 s", name, c, end.StartedAt, end.FinishedAt)
				}
			}
		}
	}
	s.nowhere(wrong)
	s.released()
}

// nowhere looks for a secret in all objects of the cluster but Secrets, in the logs of the manager and of all containers of the
// story, and in the logs of the cluster's own programs, the audit log among them.
func (s *story) nowhere(secret string) {
	s.Helper()
	places, bytes := 0, 0
	look := func(where, text string) {
		places, bytes = places+1, bytes+len(text)
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(text, form) {
				s.Errorf("the secret is in %s", where)
			}
		}
	}
	var kinds []string
	for _, kind := range strings.Fields(s.must("api-resources", "--verbs=list", "-o", "name")) {
		if kind != "secrets" {
			kinds = append(kinds, kind)
		}
	}
	look("the objects", s.must("get", strings.Join(kinds, ","), "-A", "-o", "yaml", "--show-managed-fields"))
	log, err := cluster.Kubectl(s.ctx, "-n", "batchcompute-system", "logs", "deployment/batchcompute-controller-manager").CombinedOutput()
	if err != nil {
		s.Errorf("reading the manager's log: %v", err)
	}
	look("the manager's log", string(log))
	for _, pod := range s.pods("") {
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if state := container(pod, c.Name); state.Running != nil || state.Terminated != nil {
				look("the log of "+pod.Name+" "+c.Name, s.must("logs", pod.Name, "-c", c.Name))
			}
		}
	}
	files, err := filepath.Glob(cluster.LogDir + "/*.log")
	if err != nil || len(files) == 0 {
		s.Errorf("there are no logs of the cluster: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.Error(err)
		}
		look(file, string(text))
	}
	s.Logf("the secret is in none of %d places with %d bytes: the objects of %d kinds of all namespaces, and logs", places, bytes, len(kinds))
}

// TestKeysAreOutOfReach: the command finds the keys of the store neither in its environment nor in its files, nor in
// those of the processes that it sees; and they are in no object, log or message.
func TestKeysAreOutOfReach(t *testing.T) {
	s := beginData(t)
	s.put("secret/in/file", "text")
	s.must("create", "secret", "generic", "own", "--from-literal=secretKey="+cluster.Store.Key)
	s.apply(job("nosy", strings.ReplaceAll(`
tasks:
- taskName: look
  application:
    deliveryForm: LOCAL
    command: |
      env; cat /proc/*/environ | tr '\0' '\n'; cat /proc/*/cmdline | tr '\0' ' '; cat /proc/*/mounts
      find / -name 'secret[K]ey' 2>/dev/null
      ls -R /.batchcompute; cat /.batchcompute/state/* 2>/dev/null; id
      touch /out/looked; while [ -e /out/looked ]; do sleep 0.1; done
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/secret/in/", destinationPath: /in}]
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/out/"}]
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stderrRedirectPath: "cos://HOST/${BATCH_JOB_ID}/"}
- taskName: own
  application: {deliveryForm: LOCAL, command: "env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/*/mounts"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/secret/in/", destinationPath: /in}]
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/"}
  authentications: [{scene: COS, secretId: demo, secretKeySecretRef: {name: own}}]
`, "HOST", host)))
	seen := s.seenByCommand("look")
	s.must("exec", s.pods("look")[0].Name, "-c", podspec.ContainerName, "--", "rm", "/out/looked")
	id := s.end("nosy", v1alpha1.JobSucceed).Status.JobID
	s.nowhere(cluster.Store.Key)
	texts := s.objects(id)
	if len(texts) != 3 {
		t.Errorf("the store has %d objects of the job, want 3 logs", len(texts))
	}
	maps.Copy(texts, seen)
	for key, text := range texts {
		for _, word := range []string{cluster.Store.Key, "secretKey", agentapi.CredentialsDir, agentapi.ConfigVariable + "="} {
			// The machine sees the configuration that the wrapper was started with, and the command does not.
			if strings.Contains(text, word) && (word != agentapi.ConfigVariable+"=" || seen[key] == "") {
				t.Errorf("%s has %q:\n%s", key, word, text)
			}
		}
	}
	s.released()
}

// seenByCommand returns the environment and the mounts of each process in the container of a task's command, once that has made the file
// /out/looked, as the node's machine sees them.
func (s *story) seenByCommand(task string) map[string]string {
	s.Helper()
	var pid int
	s.eventually(3*time.Minute, "the command to have looked", func() error {
		var err error
		if pid, err = install.PodPID(s.pods(task), podspec.AgentProgram, "exec"); pid == 0 {
			return cmp.Or(err, errors.New("there is no process of it"))
		}
		// Not by kubectl exec, whose process the command would see.
		_, err = os.Stat(fmt.Sprintf("/proc/%d/root/out/looked", pid))
		return err
	})
	out := map[string]string{}
	processes := []string{fmt.Sprint(pid)}
	for i := 0; i < len(processes); i++ { // and what they have started
		p := processes[i]
		threads, _ := filepath.Glob("/proc/" + p + "/task/*/children")
		for _, file := range threads {
			if children, err := os.ReadFile(file); err == nil {
				processes = append(processes, strings.Fields(string(children))...)
			}
		}
		for _, name := range []string{"environ", "mountinfo", "cmdline"} {
			if text, err := os.ReadFile("/proc/" + p + "/" + name); err == nil {
				out["/proc/"+p+"/"+name] = string(text)
			}
		}
	}
	if len(processes) < 2 {
		s.Errorf("the container has the processes %v, want the agent and the command", processes)
	}
	s.Logf("searched %d files of the processes %v", len(out), processes)
	return out
}

// TestCommandsThatFail: a failed command keeps its exit code, and its log and its files are stored; and so they are of one
// that uses too much memory, that is stopped for its timeout and ignores it, and whose image has no shell.
func TestCommandsThatFail(t *testing.T) {
	s := beginData(t)
	s.apply(job("fails", strings.ReplaceAll(`
tasks:
- taskName: code
  application: {deliveryForm: LOCAL, command: "echo started; echo oops >&2; echo half >/out/half; exit 7"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/code/"}]
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.${BATCH_TASK_INSTANCE_INDEX}.out", stderrRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stderrRedirectFileName: "${BATCH_TASK_NAME}.err"}
- taskName: memory
  application: {deliveryForm: LOCAL, command: "echo started; echo half >/out/half; exec awk 'BEGIN {for (s = \"x\"; ; ) s = s s}'"}
  computeEnv: {kubernetes: {resources: {limits: {memory: 64Mi}}}}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/memory/"}]
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.out"}
- taskName: time
  timeout: 15
  application: {deliveryForm: LOCAL, command: "trap '' TERM; echo started; sleep 100"}
  computeEnv: {kubernetes: {resources: {requests: {cpu: 500m}}}}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.out"}
- taskName: shell
  application: {deliveryForm: LOCAL, command: "true", docker: {image: "batchcompute-agent:dev"}}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.out"}
`, "HOST", host)))
	failed := s.end("fails", v1alpha1.JobFailed)
	for name, want := range map[string]struct {
		reason string
		code   int32
	}{
		"code": {v1alpha1.ReasonCommandFailed, 7}, "memory": {v1alpha1.ReasonOOMKilled, 137},
		"time": {v1alpha1.ReasonTimeout, 137}, "shell": {v1alpha1.ReasonCommandFailed, 127},
	} {
		f := failures(failed, name)
		if len(f) != 1 || f[0].Reason != want.reason || f[0].ExitCode == nil || *f[0].ExitCode != want.code {
			t.Errorf("%s: failures are %+v, want one with %s and exit code %d", name, f, want.reason, want.code)
			continue
		}
		t.Logf("%s: %s: %s", name, f[0].Reason, f[0].Message)
	}
	s.stored(failed.Status.JobID, map[string]string{
		"code/half": "half\n", "memory/half": "half\n", "code.0.out": "started\n", "code.err": "oops\n", "memory.out": "started\n", "time.out": "started\n", "shell.out": "",
	})
	s.released()
}

// TestTails: the ends of both streams are exactly in the messages of the Pod, and in whole in the store, whatever bytes they
// have.
func TestTails(t *testing.T) {
	s := beginData(t)
	s.apply(job("tails", strings.ReplaceAll(`
tasks:
- taskName: long
  application:
    deliveryForm: LOCAL
    command: |
      awk 'BEGIN {for (i = 1; i <= 100; i++) printf "line %04d of a command that has a lot to say about itself\n", i; printf "no newline"}'
      { awk 'BEGIN {for (i = 1; i <= 100; i++) printf "message %04d of a long log with nothing of interest to anyone\n", i}'; printf '\303\050<&>"\\'; } >&2
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: out, stderrRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stderrRedirectFileName: err}
`, "HOST", host)))
	id := s.end("tails", v1alpha1.JobSucceed).Status.JobID
	var stdout, stderr strings.Builder
	for i := 1; i <= 100; i++ {
		fmt.Fprintf(&stdout, "line %04d of a command that has a lot to say about itself\n", i)
		fmt.Fprintf(&stderr, "message %04d of a long log with nothing of interest to anyone\n", i)
	}
	stdout.WriteString("no newline")
	stderr.WriteString("\xc3\x28<&>\"\\")
	s.stored(id, map[string]string{"out": stdout.String(), "err": stderr.String()})
	pod := s.pods("long")[0]
	for name, text := range map[string]string{podspec.ContainerName: stdout.String(), podspec.OutputsContainer: stderr.String()} {
		if got, want := s.result(pod, name).Tail, agentapi.CutTail([]byte(text)); got != want {
			t.Errorf("the tail of %s has %d bytes and is %q, want %q", name, len(got), got, want)
		}
	}
	s.released()
}

// TestRedirectNames: names of logs have the placeholders. Where several logs get one name, kubectl says so when the job is
// submitted, and the object is the whole of one of them; a local file gets both streams.
func TestRedirectNames(t *testing.T) {
	s := beginData(t)
	out, err := s.kubectl(job("names", strings.ReplaceAll(`
tasks:
- taskName: apart
  taskInstanceNum: 2
  application: {deliveryForm: LOCAL, command: "echo out; echo err >&2"}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/${BATCH_TASK_NAME}/", stdoutRedirectFileName: "${BATCH_TASK_INSTANCE_INDEX}.${BATCH_JOB_ID}.${BATCH_TASK_NAME}.out", stderrRedirectPath: "cos://HOST/${BATCH_JOB_ID}/"}
- taskName: streams
  application: {deliveryForm: LOCAL, command: "echo out; echo err >&2"}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: streams, stderrRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stderrRedirectFileName: streams}
- taskName: instances
  taskInstanceNum: 2
  application: {deliveryForm: LOCAL, command: "echo a line of an instance"}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: instances}
- taskName: files
  application: {deliveryForm: LOCAL, command: "echo out; echo err >&2"}
  computeEnv: {}
  redirectLocalInfo: {stdoutLocalPath: /out, stdoutLocalFileName: both, stderrLocalPath: /out, stderrLocalFileName: both}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/files/"}]
`, "HOST", host)), "apply", "-f", "-")
	if err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
	t.Log(out)
	if warning := "spec.job.tasks[1].redirectInfo (and in 1 more task) gives the logs of several instances, or stdout and stderr, the name of one object"; !strings.Contains(out, warning) {
		t.Errorf("kubectl apply does not say %q", warning)
	}
	id := s.end("names", v1alpha1.JobSucceed).Status.JobID
	want := map[string]string{"streams": "err\n", "instances": "a line of an instance\n", "files/both": "~err\n"}
	for i := range 2 {
		want[fmt.Sprintf("apart/%d.ID.apart.out", i)] = "out\n"
		want[fmt.Sprintf("stderr.ID.apart.%d.log", i)] = "err\n"
	}
	s.stored(id, want)
	if text := s.objects(id)["files/both"]; len(text) != len("out\nerr\n") || !strings.Contains(text, "out\n") {
		t.Errorf("the local file has %q, want both lines", text)
	}
	if got := s.log(s.pods("streams")[0]); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
		t.Errorf("log = %q, want both lines", got)
	}
	s.released()
}

// TestDataOfRestrictedUsers: a command that runs as any user with a read-only file system reads and writes data.
func TestDataOfRestrictedUsers(t *testing.T) {
	s := beginData(t)
	s.put("restricted/in/dir/file", "text\n")
	s.apply(job("restricted", strings.ReplaceAll(`
tasks:
- taskName: user
  application: {deliveryForm: LOCAL, command: "echo x >/x && exit 1; id -u && cat /in/dir/file | tee /out/copy && touch /in/own"}
  computeEnv: {kubernetes: {securityContext: {runAsUser: 12345, runAsGroup: 54321, readOnlyRootFilesystem: true}}}
  inputMappings: [{sourcePath: "cos://HOST/restricted/in/", destinationPath: /in}]
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
`, "HOST", host)))
	job := s.end("restricted", v1alpha1.JobSucceed)
	// Its standard error, of the write that is refused, may be between the two lines.
	if got := s.log(s.pods("user")[0]); !strings.Contains(got, "12345\n") || !strings.Contains(got, "text\n") {
		t.Errorf("log = %q", got)
	}
	s.stored(job.Status.JobID, map[string]string{"copy": "text\n"})
	s.released()
}

// TestDataBesideSidecars: containers that a policy adds change nothing of it.
func TestDataBesideSidecars(t *testing.T) {
	s := beginData(t)
	s.policy("/spec/containers/-", added("containers", "trap 'exit 9' TERM; while :; do sleep 1; done", ""))
	job := s.end(s.apply(s.sample("data")), v1alpha1.JobSucceed)
	if got := len(s.objects(job.Status.JobID)); got != 12 {
		t.Errorf("the store has %d objects, want 12", got)
	}
	s.released()
}

// TestNFSWithoutHelper: an instance says what its node lacks to mount a file system.
func TestNFSWithoutHelper(t *testing.T) {
	s := beginData(t)
	s.apply(job("nfs", `
tasks:
- taskName: mount
  application: {deliveryForm: LOCAL, command: "true"}
  computeEnv: {}
  inputMappings: [{sourcePath: "nfs://10.0.0.9:/data/", destinationPath: /in}]
- taskName: image
  application: {deliveryForm: LOCAL, command: "true", docker: {image: "no-such-image:1"}}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://demo-1250000000.cos.ap-guangzhou.myqcloud.com/never/"}
`))
	s.eventually(time.Minute, "mount to say why there is no Pod", func() error {
		if st := task(s.get("nfs"), "mount"); st.Reason != v1alpha1.ReasonCreateRefused || !strings.Contains(st.Message, "name a csiDriver for nfs://") {
			return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
		}
		return nil
	})
	s.must("label", "namespace", s.namespace, "--overwrite", "pod-security.kubernetes.io/enforce=baseline")
	for name, want := range map[string][2]string{"mount": {v1alpha1.ReasonContainerCreating, `kubectl describe pod says what fails of: file system "nfs://10.0.0.9:/data/"`}, "image": {v1alpha1.ReasonImagePull, "no-such-image:1"}} {
		s.eventually(2*time.Minute, name+" to say what it waits for", func() error {
			if st := task(s.get("nfs"), name); st.Reason != want[0] || !strings.Contains(st.Message, want[1]) {
				return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
			}
			return nil
		})
		t.Logf("%s: %s", name, task(s.get("nfs"), name).Message)
	}
	s.must("patch", "batchjob", "nfs", "--type=merge", "-p", `{"spec":{"terminate":true}}`)
	s.end("nfs", v1alpha1.JobFailed)
	s.released()
}
