//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
	"batchcompute.dev/operator/internal/podspec"
)

// outage is how long the store is away in TestStoreDown. Such a test is longer than all others.
var outage = flag.Duration("outage", 0, "how long the store is away, at least; 0 means a few requests")

// TestStoreDown: a store that is away for a while when the inputs are copied, and again when the outputs are stored, costs
// time and nothing else: the command runs once.
func TestStoreDown(t *testing.T) {
	s := beginData(t)
	g := gates["down"]
	s.put("down/in/file", "text\n")
	g.shut()
	defer g.open()
	s.apply(job("down", strings.ReplaceAll(`
tasks:
- taskName: copy
  application: {deliveryForm: LOCAL, command: "echo ran; cat /in/file >/out/copy; until [ -e /tmp/end ]; do sleep 0.1; done"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/down/in/", destinationPath: /in}]
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
`, "HOST", bucket+".down.gate.test")))
	s.eventually(3*time.Minute, "the inputs to be asked for", g.knocked)
	says := func(reason string) {
		s.eventually(30*time.Second, "the status to say so", func() error {
			if st := task(s.get("down"), "copy"); st.Reason != reason {
				return fmt.Errorf("it says %s: %s", st.Reason, st.Message)
			}
			return nil
		})
		s.Logf("%s: %s", reason, task(s.get("down"), "copy").Message)
	}
	says(v1alpha1.ReasonStagingData)
	time.Sleep(*outage)
	g.open()
	s.eventually(3*time.Minute, "the command to start", func() error {
		if container(s.pods("copy")[0], podspec.ContainerName).Running == nil {
			return errors.New("it has not")
		}
		return nil
	})
	g.shut()
	s.must("exec", s.pods("copy")[0].Name, "-c", podspec.ContainerName, "--", "touch", "/tmp/end")
	s.eventually(time.Minute, "the outputs to be stored", g.knocked)
	if *outage > 0 {
		says(v1alpha1.ReasonStoringOutputs)
		time.Sleep(*outage)
	}
	g.open()
	done := s.end("down", v1alpha1.JobSucceed)
	s.stored(done.Status.JobID, map[string]string{"copy": "text\n"})
	pods := s.pods("copy")
	t.Logf("log of the command: %q; what the agent tried: %s", s.log(pods[0]), s.must("logs", pods[0].Name, "-c", podspec.OutputsContainer))
	if got := s.log(pods[0]); got != "ran\n" {
		t.Errorf("log = %q, want that the command ran once", got)
	}
	if len(pods) != 1 || len(done.Status.Failures) != 0 {
		t.Errorf("there are %d Pods and the failures %+v, want one Pod and no failure", len(pods), done.Status.Failures)
	}
	for _, c := range pods[0].Status.ContainerStatuses {
		if c.RestartCount != 0 {
			t.Errorf("container %s was restarted %d times", c.Name, c.RestartCount)
		}
	}
	s.released()
}

// TestPodsStoppedWhileOutputsAreStored: a Pod that is deleted, and one that is evicted as by a drain, while their
// outputs are being stored cost a machine; the second attempt leaves one whole object, and no part of the first.
func TestPodsStoppedWhileOutputsAreStored(t *testing.T) {
	s := beginData(t)
	g := gates["slow"]
	g.delay.Store(int64(100 * time.Millisecond))
	defer g.delay.Store(0)
	s.apply(job("stopped", strings.ReplaceAll(`
tasks:
- taskName: store
  taskInstanceNum: 2
  resourceMaxRetryCount: 2
  application: {deliveryForm: LOCAL, command: "yes $BATCH_TASK_INSTANCE_INDEX | head -c 12000000 >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/${BATCH_TASK_INSTANCE_INDEX}/"}]
  outputMappingConfigs: [{scene: COS, workerNum: 1, workerPartSize: 5}]
`, "HOST", bucket+".slow.gate.test")))
	id := ""
	s.eventually(3*time.Minute, "both uploads to start", func() error {
		id = s.get("stopped").Status.JobID
		n := 0
		for u := range cluster.Store.ListIncompleteUploads(s.ctx, bucket, id+"/", true) {
			if u.Err != nil {
				return u.Err
			}
			n++
		}
		if n < 2 || id == "" {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	pods := s.pods("store")
	s.must("delete", "pod", pods[0].Name, "--grace-period=1", "--wait=false")
	eviction := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": %q}, "deleteOptions": {"gracePeriodSeconds": 1}}`, pods[1].Name)
	if out, err := s.kubectl(eviction, "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", s.namespace, pods[1].Name), "-f", "-"); err != nil {
		t.Fatalf("evicting: %v\n%s", err, out)
	}
	s.eventually(2*time.Minute, "both to be counted", func() error {
		if n := len(s.get("stopped").Status.Failures); n != 2 {
			return fmt.Errorf("there are %d failures", n)
		}
		return nil
	})
	g.delay.Store(0)
	done := s.end("stopped", v1alpha1.JobSucceed)
	want := map[string]string{}
	for i := range 2 {
		want[fmt.Sprintf("%d/file", i)] = strings.Repeat(fmt.Sprintf("%d\n", i), 6000000)
	}
	s.stored(id, want)
	for _, f := range done.Status.Failures {
		if reason := map[int64]string{0: v1alpha1.ReasonPodDeleted, 1: v1alpha1.ReasonEvicted}[f.TaskInstanceIndex]; f.Reason != reason {
			t.Errorf("instance %d failed for %s, want %s: %s", f.TaskInstanceIndex, f.Reason, reason, f.Message)
		}
	}
	s.released()
}

// TestJobsStoppedWhileOutputsAreStored: a job that is terminated, suspended or deleted while it stores leaves no upload in
// the store, and says what became of its outputs. The suspended one stores all once it is resumed.
func TestJobsStoppedWhileOutputsAreStored(t *testing.T) {
	s := beginData(t)
	g := gates["ended"]
	g.delay.Store(int64(200 * time.Millisecond)) // 12 MB take longer than the grace period
	defer g.delay.Store(0)
	ids := map[string]string{}
	for _, name := range []string{"terminated", "suspended", "deleted"} {
		s.apply(job(name, strings.ReplaceAll(`
tasks:
- taskName: store
  application: {deliveryForm: LOCAL, command: "yes | head -c 12000000 >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
  outputMappingConfigs: [{scene: COS, workerNum: 1, workerPartSize: 5}]
`, "HOST", bucket+".ended.gate.test")))
	}
	s.eventually(3*time.Minute, "the uploads to start", func() error {
		for _, name := range []string{"terminated", "suspended", "deleted"} {
			if ids[name] = s.get(name).Status.JobID; ids[name] == "" || s.uploads(ids[name]) != 1 {
				return fmt.Errorf("that of the job %s has not", name)
			}
		}
		return nil
	})
	s.must("patch", "batchjob", "terminated", "--type=merge", "-p", `{"spec":{"terminate":true}}`)
	s.must("patch", "batchjob", "suspended", "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	s.must("delete", "batchjob", "deleted")
	s.event("terminated", v1alpha1.ReasonOutputsStopped)
	done := s.end("terminated", v1alpha1.JobFailed)
	if f := done.Status.Failures; len(f) != 1 || !strings.Contains(f[0].Message, "after its command had succeeded, and before its outputs were stored") {
		t.Errorf("failures %+v", f)
	}
	s.Log(task(done, "store").Message)
	s.eventually(2*time.Minute, "the Pods to end", func() error {
		if pods := s.pods("store"); len(pods) > 1 || len(pods) == 1 && pods[0].Status.Phase == corev1.PodRunning {
			return fmt.Errorf("there are %d", len(pods))
		}
		return nil
	})
	for name, id := range ids {
		if n := s.uploads(id); n != 0 {
			t.Errorf("the %s job left %d uploads in parts", name, n)
		}
	}
	if strings.Contains(s.must("get", "events"), v1alpha1.ReasonSidecarsStopped) {
		t.Error("an event says that containers which the cluster added were stopped")
	}
	g.delay.Store(0)
	s.must("patch", "batchjob", "suspended", "--type=merge", "-p", `{"spec":{"suspend":false}}`)
	s.end("suspended", v1alpha1.JobSucceed)
	s.stored(ids["suspended"], map[string]string{"file": strings.Repeat("y\n", 6000000)})
	s.released()
}

// TestAgentKilled kills each of the agent's processes as kill -9 does. Without exec the command is killed and its log stored;
// without the others the instance runs again.
func TestAgentKilled(t *testing.T) {
	s := beginData(t)
	g := gates["staged"]
	s.put("killed/in/file", "text\n")
	g.shut()
	defer g.open()
	s.apply(job("killed", strings.NewReplacer("STAGED", bucket+".staged.gate.test", "HOST", host).Replace(`
tasks:
- taskName: exec
  application: {deliveryForm: LOCAL, command: "echo started; echo half >/out/half; sleep 600"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/exec/"}]
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: exec.out}
- taskName: outputs
  resourceMaxRetryCount: 2
  application: {deliveryForm: LOCAL, command: "sleep 30; echo whole >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/outputs/"}]
- taskName: stage
  resourceMaxRetryCount: 2
  application: {deliveryForm: LOCAL, command: "cat /in/file >/out/copy"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://STAGED/killed/in/", destinationPath: /in}]
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/stage/"}]
`)))
	s.eventually(3*time.Minute, "the inputs to be asked for", g.knocked)
	s.kill("stage", "/agent", "stage")
	g.open()
	s.eventually(3*time.Minute, "the log of exec", func() error {
		pods := s.pods("exec")
		if len(pods) == 0 || container(pods[0], podspec.OutputsContainer).Running == nil {
			return errors.New("its containers do not run")
		}
		if out, err := s.kubectl("", "logs", pods[0].Name, "-c", podspec.ContainerName); err != nil || out != "started\n" {
			return fmt.Errorf("%w: %s", cmp.Or(err, errors.New("it has")), out)
		}
		return nil
	})
	s.kill("exec", podspec.AgentProgram, "exec")
	s.kill("outputs", "/agent", "outputs")
	failed := s.end("killed", v1alpha1.JobFailed)
	s.stored(failed.Status.JobID, map[string]string{"exec/half": "half\n", "exec.out": "started\n", "outputs/file": "whole\n", "stage/copy": "text\n"})
	if f := failures(failed, "exec"); len(f) != 1 || f[0].Reason != v1alpha1.ReasonCommandFailed || *f[0].ExitCode != 137 {
		t.Errorf("exec: failures are %+v, want one of the command with exit code 137", f)
	}
	for name, reason := range map[string]string{"outputs": v1alpha1.ReasonOutputFailed, "stage": v1alpha1.ReasonStageInFailed} {
		if f := failures(failed, name); len(f) != 1 || f[0].Reason != reason || task(failed, name).State != v1alpha1.TaskSucceed {
			t.Errorf("%s is %s with the failures %+v, want SUCCEED after one for %s", name, task(failed, name).State, f, reason)
		}
	}
	s.released()
}

// kill ends a process of the first Pod of a task at once.
func (s *story) kill(task string, words ...string) {
	s.Helper()
	s.eventually(3*time.Minute, "a process to kill", func() error {
		var pods []corev1.Pod
		for _, pod := range s.pods(task) {
			if label(pod, v1alpha1.LabelAttempt) == 0 {
				pods = append(pods, pod)
			}
		}
		pid, err := install.PodPID(pods, words...)
		if pid == 0 && err == nil {
			err = errors.New("it is not there")
		}
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	})
}

// TestInterruptedInstanceWithData: the container of an instance that failed for the last time can be entered, though its log is stored
// already, until the instance is terminated; and so can one whose command used too much memory.
func TestInterruptedInstanceWithData(t *testing.T) {
	s := beginData(t)
	s.apply(job("held", strings.ReplaceAll(`
tasks:
- taskName: fails
  failedAction: INTERRUPT
  application: {deliveryForm: LOCAL, command: "echo started; echo evidence >/tmp/left; exit 7"}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.out"}
- taskName: memory
  failedAction: INTERRUPT
  application: {deliveryForm: LOCAL, command: "echo started; echo evidence >/tmp/left; awk 'BEGIN {for (s = \"x\"; ; ) s = s s}'"}
  computeEnv: {kubernetes: {resources: {limits: {memory: 64Mi}}}}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: "${BATCH_TASK_NAME}.out"}
`, "HOST", host)))
	id := ""
	for _, name := range []string{"fails", "memory"} {
		s.eventually(3*time.Minute, name+" to be kept", func() error {
			held := s.get("held")
			id = held.Status.JobID
			if st := task(held, name); st.State != v1alpha1.TaskFailedInterrupted {
				return fmt.Errorf("it is %s: %s", st.State, st.Message)
			}
			return nil
		})
		if name == "memory" && container(s.pods(name)[0], podspec.ContainerName).Running == nil {
			t.Log("with this node's control groups (v2) the kernel ends the whole container, so that nothing of it can be entered")
			continue
		}
		if out, err := s.kubectl("", "exec", s.pods(name)[0].Name, "-c", podspec.ContainerName, "--", "cat", "/tmp/left"); err != nil || out != "evidence\n" {
			t.Errorf("kubectl exec into %s: %v\n%s", name, err, out)
		}
	}
	s.stored(id, map[string]string{"fails.out": "started\n", "memory.out": "started\n"})
	s.must("annotate", "batchjob", "held", v1alpha1.AnnotationTerminate+"=fails/0 memory/0")
	s.end("held", v1alpha1.JobFailed)
	s.released()
}
