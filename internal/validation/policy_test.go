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
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/testutil"
)

// withPolicy is a validator in a cluster with this policy.
func withPolicy(t *testing.T, policy string) Validator {
	t.Helper()
	c, err := catalog.Parse([]byte("apiVersion: config.batchcompute.dev/v1alpha1\nkind: Catalog\npolicy: " + policy + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return Validator{Catalog: func() *catalog.Catalog { return c }}
}

// everything asks for all that a policy speaks of.
func everything() *v1alpha1.KubernetesOptions {
	return &v1alpha1.KubernetesOptions{
		NodeSelector:       map[string]string{"b": "1", "a.example/pool": "x"},
		Tolerations:        []corev1.Toleration{{Key: "spot", Operator: corev1.TolerationOpExists}, {Operator: corev1.TolerationOpExists}},
		ServiceAccountName: "admin", RuntimeClassName: "runc", SchedulerName: "mine", PriorityClassName: "high",
		SecurityContext: &v1alpha1.SecurityContext{RunAsUser: new(int64(0))},
	}
}

func TestPolicy(t *testing.T) {
	const k = "spec.job.tasks[0].computeEnv.kubernetes."
	said := func(path, must, got, entry string) string {
		return fmt.Sprintf("UnauthorizedOperation: %s: %s under this cluster's policy%s; a cluster administrator can change policy.%s in its catalogue",
			path, must, got, entry)
	}
	root := func(path string) string { return said(path, "must not let the command run as root", "", "allowRoot") }
	system := everything()
	system.PriorityClassName = "system-cluster-critical"
	for name, tc := range map[string]struct {
		policy  string
		options *v1alpha1.KubernetesOptions
		edit    func(*v1alpha1.BatchJob)
		want    []string
	}{
		"none":          {"{}", everything(), nil, nil},
		"none, nothing": {"{}", nil, nil, nil},
		"none, system": {"{}", system, nil, []string{said(k+"priorityClassName",
			"must not begin with system-, as those of the cluster itself do,", `, got "system-cluster-critical"`, "priorityClassNames")}},
		"system is allowed": {"{priorityClassNames: [system-cluster-critical]}", system, nil, nil},
		"all is allowed": {
			"{priorityClassNames: [high], serviceAccountNames: [admin], runtimeClassNames: [runc], schedulerNames: [mine], nodeSelectorKeys: [b, a.example/pool], allowRoot: true, allowHosts: true}",
			everything(), nil, nil,
		},
		"nothing is allowed": {
			"{priorityClassNames: [], serviceAccountNames: [], runtimeClassNames: [], schedulerNames: [], tolerationKeys: [], nodeSelectorKeys: [], allowRoot: false}",
			everything(), nil, []string{
				said(k+"nodeSelector[a.example/pool]", "must be absent", `, got "a.example/pool"`, "nodeSelectorKeys"),
				said(k+"nodeSelector[b]", "must be absent", `, got "b"`, "nodeSelectorKeys"),
				said(k+"tolerations[0].key", "must be absent", `, got "spot"`, "tolerationKeys"),
				said(k+"tolerations[1]", "must be absent", "", "tolerationKeys"),
				said(k+"serviceAccountName", "must be absent", `, got "admin"`, "serviceAccountNames"),
				said(k+"runtimeClassName", "must be absent", `, got "runc"`, "runtimeClassNames"),
				said(k+"schedulerName", "must be absent", `, got "mine"`, "schedulerNames"),
				said(k+"priorityClassName", "must be absent", `, got "high"`, "priorityClassNames"),
				root(k + "securityContext.runAsUser"),
			},
		},
		"nothing is allowed, and asked for": {
			"{priorityClassNames: [], serviceAccountNames: [], runtimeClassNames: [], schedulerNames: [], tolerationKeys: [], nodeSelectorKeys: [], allowRoot: false, allowHosts: false}",
			&v1alpha1.KubernetesOptions{SecurityContext: &v1alpha1.SecurityContext{RunAsUser: new(int64(1000)), RunAsNonRoot: new(true)}}, nil, nil,
		},
		"some are allowed": {
			"{priorityClassNames: [low, middle], tolerationKeys: [example.com/spot]}", everything(), nil, []string{
				said(k+"tolerations[0].key", "must be example.com/spot", `, got "spot"`, "tolerationKeys"),
				said(k+"tolerations[1].key", "must be given, as example.com/spot,", "", "tolerationKeys"),
				said(k+"priorityClassName", "must be low or middle", `, got "high"`, "priorityClassNames"),
			},
		},
		"root by another way": {
			"{allowRoot: false}", &v1alpha1.KubernetesOptions{SecurityContext: &v1alpha1.SecurityContext{RunAsNonRoot: new(false)}},
			func(j *v1alpha1.BatchJob) {
				j.Spec.Job.Tasks[0].Application.Docker = &v1alpha1.Docker{Image: "busybox", DockerRunOption: "-u root"}
			},
			[]string{root("spec.job.tasks[0].application.docker.dockerRunOption"), root(k + "securityContext.runAsNonRoot")},
		},
		"hosts": {
			"{allowHosts: false}", nil, func(j *v1alpha1.BatchJob) {
				j.Spec.Placement.HostIDs, j.Spec.Placement.HostIPs = []string{"a"}, []string{"10.0.0.1"}
			},
			[]string{
				said("spec.placement.hostIds", "must not be given", "", "allowHosts"), said("spec.placement.hostIps", "must not be given", "", "allowHosts"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			job := testutil.Job("j").Task("a").Obj()
			job.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{Kubernetes: tc.options}
			if tc.edit != nil {
				tc.edit(job)
			}
			var got []string
			for _, p := range withPolicy(t, tc.policy).ValidateCreate(job) {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if more := (Validator{}).ValidateCreate(job); len(more) > 0 {
				t.Errorf("without a catalogue: %v", more)
			}
		})
	}
}

// TestPolicySentences: however long the lists are, a sentence says who can change them.
func TestPolicySentences(t *testing.T) {
	var names []string
	for i := range 256 {
		names = append(names, fmt.Sprintf("%s-%d", strings.Repeat("n", 200), i))
	}
	job := testutil.Job("j").Task("a").Obj()
	k := &v1alpha1.KubernetesOptions{ServiceAccountName: strings.Repeat("s", 253)}
	job.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{Kubernetes: k}
	problems := withPolicy(t, "{serviceAccountNames: ["+strings.Join(names, ", ")+"]}").ValidateCreate(job)
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Detail, "; a cluster administrator can change policy.serviceAccountNames in its catalogue") {
		t.Errorf("problems %v", problems)
	}
}

// TestPolicyOfComputeEnvs: a new environment is under the policy; what an old one has may stay, and not
// grow.
func TestPolicyOfComputeEnvs(t *testing.T) {
	v := withPolicy(t, "{serviceAccountNames: [default], allowRoot: false, allowHosts: false}")
	env := func(edit func(*v1alpha1.ComputeEnvSpec)) *v1alpha1.ComputeEnv {
		e := &v1alpha1.ComputeEnv{Spec: v1alpha1.ComputeEnvSpec{
			Placement: v1alpha1.Placement{Zone: "z"}, EnvName: "p", DesiredComputeNodeCount: new(int64(1)), Kubernetes: everything(),
		}}
		e.Spec.Placement.HostIDs = []string{"a"}
		if edit != nil {
			edit(&e.Spec)
		}
		return e
	}
	fields := func(problems []Problem) (out []string) {
		for _, p := range problems {
			out = append(out, string(p.Code)+" "+p.Field.String())
		}
		return out
	}
	all := []string{
		"UnauthorizedOperation spec.placement.hostIds", "UnauthorizedOperation spec.kubernetes.serviceAccountName",
		"UnauthorizedOperation spec.kubernetes.securityContext.runAsUser",
	}
	if diff := cmp.Diff(all, fields(v.ValidateComputeEnvCreate(env(nil)))); diff != "" {
		t.Errorf("a create (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct {
		old, edit func(*v1alpha1.ComputeEnvSpec)
		want      []string
	}{
		"another number": {nil, func(s *v1alpha1.ComputeEnvSpec) { *s.DesiredComputeNodeCount = 2 }, nil},
		"another account": {nil, func(s *v1alpha1.ComputeEnvSpec) { s.Kubernetes.ServiceAccountName = "root" },
			[]string{"UnauthorizedOperation spec.kubernetes.serviceAccountName"}},
		"all of it changed": {func(s *v1alpha1.ComputeEnvSpec) { s.Kubernetes, s.Placement.HostIDs = nil, nil }, nil, all},
		"a mistake":         {nil, func(s *v1alpha1.ComputeEnvSpec) { s.EnvName = "" }, []string{"MissingParameter spec.envName"}},
	} {
		if diff := cmp.Diff(tc.want, fields(v.ValidateComputeEnvUpdate(env(tc.old), env(tc.edit)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
