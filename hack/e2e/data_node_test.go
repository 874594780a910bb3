//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
)

// TestNodeStoppedWhileOutputsAreStored: a node that is switched off while outputs are being stored, and comes back, costs a machine; the
// second attempt leaves one whole object, and no part of the first. It is not parallel to others, whose Pods run there.
func TestNodeStoppedWhileOutputsAreStored(t *testing.T) {
	if cluster.Store == nil {
		t.Skip("left out: it needs the object store beside a local cluster with a real node")
	}
	s := begin(t)
	if err := kube.Create(s.ctx, cluster.Store.Secret(s.namespace)); err != nil {
		t.Fatal(err)
	}
	s.put("", "")
	g := gates["node"]
	g.delay.Store(int64(100 * time.Millisecond))
	defer g.delay.Store(0)
	s.apply(job("node", strings.NewReplacer("HOST", bucket+".node.gate.test").Replace(`
tasks:
- taskName: store
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "yes | head -c 12000000 >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
  outputMappingConfigs: [{scene: COS, workerNum: 1, workerPartSize: 5}]
`)))
	id := ""
	s.eventually(3*time.Minute, "the upload to start", func() error {
		id = s.get("node").Status.JobID
		for u := range cluster.Store.ListIncompleteUploads(s.ctx, bucket, id+"/", true) {
			if u.Err != nil || id != "" {
				return u.Err
			}
		}
		return fmt.Errorf("there is none")
	})
	s.eventually(time.Minute, "the kubelet to report that the command has succeeded", func() error {
		for _, pod := range s.pods("store") {
			if end := container(pod, podspec.ContainerName).Terminated; end != nil && end.ExitCode == 0 {
				return nil
			}
		}
		return errors.New("it has not")
	})
	if err := cluster.Stop(s.ctx, cluster.NodePart()); err != nil {
		t.Fatal(err)
	}
	t.Log("the node is off; uploads in parts that are left:", s.uploads(id))
	g.delay.Store(0)
	if err := cluster.Start(context.WithoutCancel(s.ctx), cluster.NodePart()); err != nil {
		t.Fatal(err)
	}
	done := s.end("node", v1alpha1.JobSucceed)
	s.stored(id, map[string]string{"file": strings.Repeat("y\n", 6000000)})
	f := done.Status.Failures
	if len(f) != 1 || !strings.HasPrefix(f[0].Message, "the command succeeded, but ") || f[0].Reason != v1alpha1.ReasonPodFailed {
		t.Errorf("failures are %+v, want one with PodFailed", f)
	} else {
		t.Logf("%s: %s; then attempt %d of instance 0 is SUCCEED; uploads in parts that are left: %d", f[0].Reason, f[0].Message, f[0].Attempt+1, s.uploads(id))
	}
	s.released()
	s.eventually(time.Minute, "the webhook to be reached as before", func() error {
		out, err := s.kubectl(job("reached", "tasks:\n- {taskName: a, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}\n"), "create", "--dry-run=server", "-f", "-")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// uploads counts the uploads in parts that a job has left.
func (s *story) uploads(id string) int {
	s.Helper()
	n := 0
	for u := range cluster.Store.ListIncompleteUploads(s.ctx, bucket, id+"/", true) {
		if u.Err != nil {
			s.Fatal(u.Err)
		}
		n++
	}
	return n
}

// TestImagesThatCannotRun: an instance ends whose image is for another architecture or has no shell, with and without data, and one
// whose image is not there says so.
func TestImagesThatCannotRun(t *testing.T) {
	s := beginData(t)
	foreignImage(t, "foreign:1")
	var spec strings.Builder
	spec.WriteString("tasks:\n")
	for name, image := range map[string]string{"foreign": "foreign:1", "shell": "batchcompute-agent:dev"} {
		task := "- taskName: %s\n  maxRetryCount: 1\n  application: {deliveryForm: LOCAL, command: \"true\", docker: {image: %q}}\n  computeEnv: {}\n"
		fmt.Fprintf(&spec, task, name, image)
		fmt.Fprintf(&spec, task, name+"_data", image)
		fmt.Fprintf(&spec, "  redirectInfo: {stderrRedirectPath: \"cos://%s/${BATCH_JOB_ID}/\", stderrRedirectFileName: %q}\n", host, name)
	}
	failed := s.end(s.apply(job("images", spec.String())), v1alpha1.JobFailed)
	for name, want := range map[string][2]string{
		"foreign":      {v1alpha1.ReasonCommandFailed, "the image is for another architecture"},
		"foreign_data": {v1alpha1.ReasonCommandFailed, "exit code 126: /bin/sh is a program for"},
		"shell":        {v1alpha1.ReasonStartError, `"/bin/sh": stat /bin/sh: no such file or directory`},
		"shell_data":   {v1alpha1.ReasonCommandFailed, "exit code 127: the image has no /bin/sh"},
	} {
		f := failures(failed, name)
		for _, x := range f {
			t.Logf("%s: %s: %s", name, x.Reason, x.Message)
		}
		if len(f) != 2 || f[1].Reason != want[0] || !strings.Contains(f[1].Message, want[1]) {
			t.Errorf("%s: failures are %+v, want two with %s and %q", name, f, want[0], want[1])
		}
	}
	s.stored(failed.Status.JobID, map[string]string{"foreign": "~/bin/sh is a program for", "shell": "~the image has no /bin/sh"})
	if got := s.log(s.pods("foreign")[0]); !strings.Contains(got, "exec format error") {
		t.Errorf("log = %q", got)
	}
	for key, text := range s.objects(failed.Status.JobID) {
		t.Logf("stderr of %s: %s", key, text)
	}
	s.released()
}

// foreignImage makes an image whose shell is a program for another architecture, and gives it to the cluster's node.
func foreignImage(t *testing.T, name string) {
	t.Helper()
	machine := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_X86_64
	}
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
	}
	dir := t.TempDir()
	program, archive := filepath.Join(dir, "sh"), filepath.Join(dir, "image.tar")
	file, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Write(file, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"image", "-o", archive, "--name", name, "/bin/sh=" + program}, {"load-image", "--name", target.Name, archive}} {
		if out, err := exec.CommandContext(t.Context(), "bin/cluster", args...).CombinedOutput(); err != nil {
			t.Fatalf("cluster %v: %v\n%s", args, err, out)
		}
	}
}

// TestAgentOnOldNodes: while a node of the cluster cannot mount images as volumes, Pods get the agent from an init container;
// otherwise they mount its image. It is not parallel to others, which would be slower meanwhile.
func TestAgentOnOldNodes(t *testing.T) {
	needsStore(t)
	s := beginWithStore(t)
	old := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.NodeSpec{Unschedulable: true},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.34.1", ContainerRuntimeVersion: "containerd://2.4.2"}},
	}
	if err := kube.Create(s.ctx, old); err != nil {
		t.Fatal(err)
	}
	gone := func() error { return client.IgnoreNotFound(kube.Delete(s.ctx, old)) }
	defer func() {
		if err := gone(); err != nil {
			t.Error(err)
		}
	}()
	for i, step := range []struct {
		before func() error
		want   string
	}{
		{func() error { return nil }, "an init container"}, {gone, "a volume"},
	} {
		if err := step.before(); err != nil {
			t.Fatal(err)
		}
		// The manager learns of nodes by a watch, so the first Pod may be of the kind before.
		s.eventually(3*time.Minute, "a Pod with the agent in "+step.want, func() error {
			name := fmt.Sprintf("old-%d-%d", i, time.Now().UnixNano())
			s.apply(job(name, strings.ReplaceAll(`
tasks:
- taskName: log
  application: {deliveryForm: LOCAL, command: "echo text"}
  computeEnv: {}
  redirectInfo: {stdoutRedirectPath: "cos://HOST/${BATCH_JOB_ID}/", stdoutRedirectFileName: out}
`, "HOST", host)))
			done := s.end(name, v1alpha1.JobSucceed)
			s.stored(done.Status.JobID, map[string]string{"out": "text\n"})
			got := "a volume"
			for _, pod := range s.pods("log") {
				if pod.Labels[v1alpha1.LabelJobID] == done.Status.JobID && len(pod.Spec.InitContainers) > 0 {
					got = "an init container"
				}
			}
			if got != step.want {
				return fmt.Errorf("it has it in %s", got)
			}
			return nil
		})
	}
}
