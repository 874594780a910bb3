//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
)

// set is a patch of a policy.
func set(path, value string) string {
	return fmt.Sprintf("JSONPatch{op: \"add\", path: %q, value: %q}", path, value)
}

// TestAgentOutOfMemory: a container of the agent that exceeds its memory limit, which a policy has lowered, costs a machine each
// time, and the message says what to do. What the command wrote is no success.
func TestAgentOutOfMemory(t *testing.T) {
	s := beginData(t)
	s.policyOf(map[string]string{
		"outputs": set("/spec/containers/1/resources/limits/memory", "8Mi") + ", " + set("/spec/containers/1/resources/requests/memory", "8Mi"),
		"stage":   set("/spec/initContainers/0/resources/limits/memory", "8Mi") + ", " + set("/spec/initContainers/0/resources/requests/memory", "8Mi"),
	})
	for i := range 1000 {
		s.put(fmt.Sprintf("memory/in/%d", i), "x")
	}
	s.apply(job("memory", strings.ReplaceAll(`
tasks:
- taskName: outputs
  maxRetryCount: 0
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started; awk 'BEGIN {for (i = 0; i < 3000; i++) {f = \"/out/\" i; print i >f; close(f)}}'"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
- taskName: stage
  maxRetryCount: 0
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/memory/in/", destinationPath: /in}]
`, "HOST", host)))
	failed := s.end("memory", v1alpha1.JobFailed)
	for name, want := range map[string][2]string{
		"outputs": {v1alpha1.ReasonOutputFailed, "batchcompute-outputs exceeded its memory limit"},
		"stage":   {v1alpha1.ReasonStageInFailed, "batchcompute-stage exceeded its memory limit"},
	} {
		f := failures(failed, name)
		for _, x := range f {
			t.Logf("%s: %s: %s", name, x.Reason, x.Message)
		}
		if len(f) != 2 || f[1].Reason != want[0] || !strings.Contains(f[1].Message, want[1]) {
			t.Errorf("%s: failures are %+v, want two with %s and %q", name, f, want[0], want[1])
		}
	}
	s.released()
}

// TestDisksThatAreTooSmall: inputs that do not fit, a disk that gets full while they are copied, and what exceeds a limit of
// the Pod are told apart, and each message says what to do.
func TestDisksThatAreTooSmall(t *testing.T) {
	s := beginData(t)
	limit := set("/spec/volumes/1/emptyDir/sizeLimit", "1Mi")
	memory := limit + ", " + set("/spec/volumes/1/emptyDir/medium", "Memory")
	s.policyOf(map[string]string{"larger": memory, "full": memory, "input": limit, "stored": limit})
	s.put("disks/large/file", strings.Repeat("x", 3<<20))
	for i := range 200 { // less than 1 MiB, but not in pages
		s.put(fmt.Sprintf("disks/many/%d", i), strings.Repeat("x", 4500))
	}
	g := gates["disks"]
	g.shut()
	defer g.open()
	s.apply(job("disks", strings.NewReplacer("GATE", bucket+".disks.gate.test", "HOST", host).Replace(`
tasks:
- taskName: larger
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/disks/large/", destinationPath: /in}]
- taskName: full
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/disks/many/", destinationPath: /in}]
- taskName: asked
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started"}
  computeEnv: {kubernetes: {resources: {limits: {ephemeral-storage: 2Mi}}}}
  inputMappings: [{sourcePath: "cos://HOST/disks/large/", destinationPath: /in}]
- taskName: input
  resourceMaxRetryCount: 1
  application: {deliveryForm: PACKAGE, packagePath: "cos://GATE/disks/package.tgz", command: "echo started"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/disks/large/", destinationPath: /in}]
- taskName: writes
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "head -c 20000000 /dev/zero >/out/file; sleep 600"}
  computeEnv: {kubernetes: {resources: {limits: {ephemeral-storage: 10Mi}}}}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
- taskName: stored
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "head -c 3000000 /dev/zero >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://GATE/${BATCH_JOB_ID}/"}]
`)))
	failed := s.end("disks", v1alpha1.JobFailed)
	for name, want := range map[string]struct {
		n            int
		reason, text string
	}{
		"larger": {1, v1alpha1.ReasonStageInFailed, "3.0 MiB are needed, and 1.0 MiB of 1.0 MiB are free on the disk"},
		"full":   {2, v1alpha1.ReasonStageInFailed, "the disk of the cluster node is full; ask for more disk by systemDisk.diskSize"},
		"asked":  {1, v1alpha1.ReasonStageInFailed, "the objects have more than 2.0 MiB, the limit of computeEnv.kubernetes.resources.limits.ephemeral-storage; raise it"},
		"input":  {1, v1alpha1.ReasonStageInFailed, "exceeds the limit"},
		"writes": {1, v1alpha1.ReasonStorageExceeded, "exceed"},
		"stored": {1, v1alpha1.ReasonStorageExceeded, "exceeds the limit"},
	} {
		f := failures(failed, name)
		for _, x := range f {
			t.Logf("%s: %s: %s", name, x.Reason, x.Message)
		}
		if len(f) != want.n || f[0].Reason != want.reason || !strings.Contains(f[0].Message, want.text) {
			t.Errorf("%s: failures are %+v, want %d with %s and %q", name, f, want.n, want.reason, want.text)
		}
	}
	s.released()
}

// TestStoreDownForTooLong: when the store does not come back before the agent gives up, which a policy has it do after 10 s, the
// instance spends a machine each time, and the end of its log is in its Pod.
func TestStoreDownForTooLong(t *testing.T) {
	s := beginData(t)
	soon := func(container string) string {
		at := "object.spec." + container + ".env[0].value"
		return fmt.Sprintf(`JSONPatch{op: "replace", path: "/spec/%s/env/0/value", value: %s.replace("\"messageBytes\"", "\"limits\":{\"noProgressSeconds\":10},\"messageBytes\"")}`,
			strings.NewReplacer("[", "/", "]", "").Replace(container), at)
	}
	s.policyOf(map[string]string{"stage": soon("initContainers[0]"), "outputs": soon("containers[1]")})
	g := gates["long"]
	g.shut()
	defer g.open()
	s.apply(job("long", strings.ReplaceAll(`
tasks:
- taskName: stage
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo started"}
  computeEnv: {}
  inputMappings: [{sourcePath: "cos://HOST/long/in/", destinationPath: /in}]
- taskName: outputs
  resourceMaxRetryCount: 1
  application: {deliveryForm: LOCAL, command: "echo first words; echo last words >&2; echo half >/out/file"}
  computeEnv: {}
  outputMappings: [{sourcePath: /out/, destinationPath: "cos://HOST/${BATCH_JOB_ID}/"}]
`, "HOST", bucket+".long.gate.test")))
	failed := s.end("long", v1alpha1.JobFailed)
	for name, want := range map[string][2]string{
		"stage":   {v1alpha1.ReasonStageInFailed, "inputMappings[0]"},
		"outputs": {v1alpha1.ReasonOutputFailed, "outputMappings[0]"},
	} {
		f := failures(failed, name)
		for _, x := range f {
			t.Logf("%s: %s: %s", name, x.Reason, x.Message)
		}
		if len(f) != 2 || f[1].Reason != want[0] || !strings.Contains(f[1].Message, want[1]) || !strings.Contains(f[1].Message, "tried without progress for 10s") {
			t.Errorf("%s: failures are %+v, want two with %s and %q", name, f, want[0], want[1])
		}
	}
	for _, pod := range s.pods("outputs") {
		out, err := s.result(pod, podspec.ContainerName).Tail, s.result(pod, podspec.OutputsContainer).Tail
		t.Logf("%s: the tails are %q and %q", pod.Name, out, err)
		if out != "first words\n" || err != "last words\n" {
			t.Errorf("%s: the tails are %q and %q", pod.Name, out, err)
		}
	}
	s.released()
}
