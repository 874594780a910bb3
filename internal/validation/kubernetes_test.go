// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestKubernetes(t *testing.T) {
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("label-%03d", i)] = "x"
		}
		return m
	}
	const label = "must be at most 63 letters, digits, -, _ and ., beginning and ending with a letter or a digit"
	const reserved = "must not begin with batchcompute.dev/ or tag.batchcompute.dev/, which are reserved for the operator"
	for name, tc := range map[string]struct {
		options v1alpha1.KubernetesOptions
		want    []string // "path: detail", the code is InvalidParameterValue
	}{
		"nothing": {v1alpha1.KubernetesOptions{}, nil},
		"labels": {
			v1alpha1.KubernetesOptions{
				NodeSelector: map[string]string{"batchcompute.dev/pool": "a", "b": "-", "a/b/c": "x"},
				Labels: map[string]string{
					"batchcompute.dev/run": "1", "tag.batchcompute.dev/team": "a", "b": strings.Repeat("x", 64), "": "x", "\x1b[31m": "x", strings.Repeat("k", 100): "x", "ok": "",
				},
			},
			[]string{
				"nodeSelector[a/b/c]: " + sayQualifiedName,
				"nodeSelector[b]: " + label + `, got "-"`,
				"labels[]: " + sayQualifiedName,
				`labels[\x1b[31m]: ` + sayQualifiedName,
				"labels[b]: " + label + `, got "` + strings.Repeat("x", 64) + `"`,
				"labels[batchcompute.dev/run]: " + reserved,
				"labels[" + strings.Repeat("k", 79) + "…]: " + sayQualifiedName,
				"labels[tag.batchcompute.dev/team]: " + reserved,
			},
		},
		"annotations": {
			v1alpha1.KubernetesOptions{Annotations: map[string]string{"Upper.Example/Case": "\x00", "batchcompute.dev/job-name": "x", "a b": ""}},
			[]string{"annotations[a b]: " + sayQualifiedName, "annotations[batchcompute.dev/job-name]: " + reserved},
		},
		"too many": {
			v1alpha1.KubernetesOptions{
				NodeSelector: many(65), Tolerations: make([]corev1.Toleration, 1), ImagePullSecrets: make([]v1alpha1.SecretRef, 1), Labels: many(64),
				Annotations: map[string]string{"a": strings.Repeat("x", 64<<10)},
			},
			[]string{
				"nodeSelector: must have at most 64 entries, got 65",
				"tolerations[0].operator: must be Exists without a key, which stands for every taint",
				"imagePullSecrets[0].name: must be given",
				"annotations: must be at most 65536 bytes together, got 65537",
			},
		},
		"tolerations": {
			v1alpha1.KubernetesOptions{Tolerations: []corev1.Toleration{
				{Operator: "Exists"}, {Key: "a b", Operator: "Exists"}, {Key: "a", Operator: "Lt", Value: "1"}, {Key: "a", Operator: "Exists", Value: "x"},
				{Key: "a", Value: "!"}, {Key: "a", Effect: "Never"}, {Key: "a", TolerationSeconds: ptr(int64(1))}, {Key: "a", Effect: "NoExecute", TolerationSeconds: ptr(int64(-1))},
				{Key: "a", Operator: "Equal", Value: "", Effect: "PreferNoSchedule"}, {Operator: "Equal"},
			}},
			[]string{
				`tolerations[1].key: must be a taint's key such as example.com/dedicated, got "a b"`,
				`tolerations[2].operator: must be Exists or Equal, got "Lt"`,
				`tolerations[3].value: must be empty when operator is Exists, got "x"`,
				`tolerations[4].value: must be a taint's value: at most 63 letters, digits, -, _ and ., got "!"`,
				`tolerations[5].effect: must be NoSchedule, PreferNoSchedule or NoExecute, got "Never"`,
				"tolerations[6].tolerationSeconds: must not be given unless effect is NoExecute",
				"tolerations[9].operator: must be Exists without a key, which stands for every taint",
			},
		},
		"resources": {
			v1alpha1.KubernetesOptions{Resources: &v1alpha1.ResourceRequirements{
				Requests: resources("cpu=2 memory=-1 example.com/a=1 example.com/b=1 example.com/c=1500m hugepages-2Mi=2Mi ephemeral-storage=1Gi requests.x/y=1 pods=1"),
				Limits:   resources("cpu=1500m example.com/b=2 example.com/d=0.5 hugepages-2Mi=2Mi hugepages-x=1 storage.kubernetes.io/x=1 memory=0"),
			}},
			[]string{
				`resources.requests[cpu]: must not be over the limit of "1500m", got "2"`,
				"resources.requests[example.com/a]: must have an equal limit: the request and the limit of this resource cannot differ",
				"resources.requests[example.com/b]: must have an equal limit: the request and the limit of this resource cannot differ",
				`resources.requests[example.com/c]: must be a whole number, got "1500m"`,
				`resources.requests[memory]: must not be negative, got "-1"`,
				"resources.requests[pods]: must be cpu, memory, ephemeral-storage, hugepages-SIZE or an extended resource such as nvidia.com/gpu",
				"resources.requests[requests.x/y]: must be cpu, memory, ephemeral-storage, hugepages-SIZE or an extended resource such as nvidia.com/gpu",
				`resources.limits[example.com/d]: must be a whole number, got "500m"`,
				"resources.limits[hugepages-x]: must be cpu, memory, ephemeral-storage, hugepages-SIZE or an extended resource such as nvidia.com/gpu",
				"resources.limits[storage.kubernetes.io/x]: must be cpu, memory, ephemeral-storage, hugepages-SIZE or an extended resource such as nvidia.com/gpu",
			},
		},
		"names": {
			v1alpha1.KubernetesOptions{ServiceAccountName: "A", ImagePullSecrets: []v1alpha1.SecretRef{{Name: "ok"}, {Name: "a/b"}}, RuntimeClassName: "-", SchedulerName: "a_b", PriorityClassName: strings.Repeat("x", 254)},
			[]string{
				`serviceAccountName: must be lower-case letters, digits, - and ., at most 253, got "A"`,
				`imagePullSecrets[1].name: must be lower-case letters, digits, - and ., at most 253, got "a/b"`,
				`runtimeClassName: must be lower-case letters, digits, - and ., at most 253, got "-"`,
				`schedulerName: must be lower-case letters, digits, - and ., at most 253, got "a_b"`,
				`priorityClassName: must be lower-case letters, digits, - and ., at most 253, got "` + strings.Repeat("x", 79) + `…"`,
			},
		},
		"security context": {
			v1alpha1.KubernetesOptions{SecurityContext: &v1alpha1.SecurityContext{
				RunAsUser: ptr(int64(0)), RunAsGroup: ptr(int64(-1)), RunAsNonRoot: ptr(true), FSGroup: ptr(int64(1 << 31)), SupplementalGroups: []int64{0, -1, 1 << 31},
			}},
			[]string{
				"securityContext.runAsGroup: must not be negative, got -1",
				"securityContext.runAsNonRoot: must not be true when runAsUser is 0, which is root",
				"securityContext.fsGroup: must be from 0 to 2147483647, got 2147483648",
				"securityContext.supplementalGroups[1]: must be from 0 to 2147483647, got -1",
				"securityContext.supplementalGroups[2]: must be from 0 to 2147483647, got 2147483648",
			},
		},
		"root says so": {v1alpha1.KubernetesOptions{SecurityContext: &v1alpha1.SecurityContext{RunAsUser: ptr(int64(0)), RunAsNonRoot: ptr(false)}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			job := request("a")
			job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = &tc.options
			problems := Validator{}.ValidateCreate(job)
			checkProblems(t, problems)
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.Field.String(), "spec.job.tasks[0].computeEnv.kubernetes.")+": "+p.Detail)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The lists of a job's kubernetes are compared item by item on update, like all others.
func TestUpdateOfKubernetes(t *testing.T) {
	job := request("a")
	job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{
		Labels: map[string]string{"a": "b"}, SecurityContext: &v1alpha1.SecurityContext{SupplementalGroups: []int64{1, 2}},
	}
	other := job.DeepCopy()
	other.Spec.Job.Tasks[0].ComputeEnv.Kubernetes.Labels["a"] = "c"
	other.Spec.Job.Tasks[0].ComputeEnv.Kubernetes.SecurityContext.SupplementalGroups[1] = 3
	want := []string{
		"UnsupportedOperation spec.job.tasks[0].computeEnv.kubernetes.securityContext.supplementalGroups[1]",
		"UnsupportedOperation spec.job.tasks[0].computeEnv.kubernetes.labels",
	}
	if diff := cmp.Diff(want, summary(Validator{}.ValidateUpdate(job, other))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
