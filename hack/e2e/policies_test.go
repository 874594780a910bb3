//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// policy has every Pod that is made in the story's namespace changed, as a service mesh or a policy
// engine would: path is where, and value a container as CEL.
func (s *story) policy(path, value string) {
	s.Helper()
	s.mutate(fmt.Sprintf("[JSONPatch{op: \"add\", path: %q, value: %s}]", path, value))
}

// policyOf has the Pods of tasks changed likewise: of each task its patches as CEL, separated by commas.
func (s *story) policyOf(patches map[string]string) {
	s.Helper()
	all := `[JSONPatch{op: "add", path: "/metadata/labels/added", value: "yes"}]`
	for task, list := range patches {
		all += fmt.Sprintf("\n        + (%[1]q in object.metadata.labels && object.metadata.labels[%[1]q] == %[2]q ? [%[3]s] : [])", v1alpha1.LabelTaskName, naming.TaskLabel(task), list)
	}
	s.mutate(all)
}

// mutate makes a policy for the story's namespace. What it changes has the word "added" in it.
func (s *story) mutate(patches string) {
	s.Helper()
	name := s.namespace
	manifest := fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: |
        %[2]s
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec:
  policyName: %[1]s
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}}
`, name, patches)
	if out, err := s.kubectl(manifest, "apply", "-f", "-"); err != nil {
		s.Fatalf("making the policy: %v\n%s", err, out)
	}
	s.Cleanup(func() {
		out, err := cluster.Kubectl(context.Background(), "delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", name).CombinedOutput()
		if err != nil {
			s.Errorf("deleting the policy: %v\n%s", err, out)
		}
	})
	// The API server takes a while to follow it.
	s.eventually(time.Minute, "the policy to have effect", func() error {
		out, err := s.kubectl("", "run", "probe", "--dry-run=server", "-o", "yaml", "--image=busybox:1.37", "--overrides", `{"spec":{"securityContext":{"runAsNonRoot":true,"runAsUser":1,"seccompProfile":{"type":"RuntimeDefault"}},"containers":[{"name":"probe","image":"busybox:1.37","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}}`)
		if err != nil || !strings.Contains(out, "added") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// added is a container that runs a command, in the words of a policy.
func added(kind, command, more string) string {
	return fmt.Sprintf(`Object.spec.%[1]s{name: "added", image: "busybox:1.37", command: ["/bin/sh", "-c", %[2]q]%[3]s,
          securityContext: Object.spec.%[1]s.securityContext{allowPrivilegeEscalation: false,
            capabilities: Object.spec.%[1]s.securityContext.capabilities{drop: ["ALL"]}}}`, kind, command, more)
}

const oneTask = `
tasks:
- taskName: task
  application: {deliveryForm: LOCAL, command: %q}
  computeEnv: {}
`

// TestSidecarThatNeverEnds: an attempt ends as its command does, though a container that a policy added
// to the Pod never ends.
func TestSidecarThatNeverEnds(t *testing.T) {
	needsContainers(t)
	t.Parallel()
	s := begin(t)
	s.policy("/spec/containers/-", added("containers", "trap 'exit 9' TERM; while :; do sleep 1; done", ""))
	s.apply(job("succeeds", fmt.Sprintf(oneTask, "echo done")))
	s.apply(job("fails", fmt.Sprintf(oneTask, "exit 3")))
	s.end("succeeds", v1alpha1.JobSucceed)
	failed := s.end("fails", v1alpha1.JobFailed)
	if f := failed.Status.Failures; len(f) != 1 || f[0].Reason != v1alpha1.ReasonCommandFailed || f[0].ExitCode == nil || *f[0].ExitCode != 3 ||
		!strings.Contains(f[0].Message, `container "added"`) {
		t.Errorf("failures are %+v", f)
	}
	s.event("succeeds", v1alpha1.ReasonSidecarsStopped)
	s.released()
}

// TestNativeSidecar: the kubelet stops one itself.
func TestNativeSidecar(t *testing.T) {
	needsContainers(t)
	t.Parallel()
	s := begin(t)
	s.policy("/spec/initContainers", "["+added("initContainers", "while :; do sleep 1; done", `, restartPolicy: "Always"`)+"]")
	s.apply(job("succeeds", fmt.Sprintf(oneTask, "echo done")))
	s.apply(job("fails", fmt.Sprintf(oneTask, "exit 3")))
	s.end("succeeds", v1alpha1.JobSucceed)
	if f := s.end("fails", v1alpha1.JobFailed).Status.Failures; len(f) != 1 || f[0].ExitCode == nil || *f[0].ExitCode != 3 {
		t.Errorf("failures are %+v", f)
	}
	s.released()
}

// TestInitContainerThatFails: the status says which one, and how it ended.
func TestInitContainerThatFails(t *testing.T) {
	needsContainers(t)
	t.Parallel()
	s := begin(t)
	s.policy("/spec/initContainers", "["+added("initContainers", "exit 7", "")+"]")
	s.apply(job("init", fmt.Sprintf(oneTask, "echo done")))
	f := s.end("init", v1alpha1.JobFailed).Status.Failures // after the acquisition timeout, which is short in tests
	if len(f) != 1 || f[0].Reason != v1alpha1.ReasonInitContainerFailed || !strings.Contains(f[0].Message, `init container "added" ended with exit code 7`) {
		t.Errorf("failures are %+v", f)
	}
	s.released()
}

// TestRefusalsSayWhatToDo: beside the API server's sentence there is the field that mends it.
func TestRefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	s := begin(t)
	if out, err := s.kubectl(`{apiVersion: v1, kind: LimitRange, metadata: {name: small}, spec: {limits: [{type: Container, default: {cpu: 200m}}]}}`, "apply", "-f", "-"); err != nil {
		t.Fatalf("making the LimitRange: %v\n%s", err, out)
	}
	s.apply(strings.Replace(job("limited", fmt.Sprintf(oneTask, "echo done")), "computeEnv: {}", "computeEnv: {kubernetes: {resources: {requests: {cpu: 1}}}}", 1))
	s.eventually(2*time.Minute, "the reason", func() error {
		got := task(s.get("limited"), "task")
		if got.Reason != v1alpha1.ReasonCreateRefused || !strings.Contains(got.Message, "set computeEnv.kubernetes.resources.limits to at least the request") {
			return fmt.Errorf("it is %s: %s", got.Reason, got.Message)
		}
		return nil
	})
}
