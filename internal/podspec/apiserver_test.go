// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
	"batchcompute.dev/operator/internal/validation"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// asRoot are the inputs whose Pods ask for what the level restricted forbids.
var asRoot = map[string]bool{"kubernetes": true, "docker": true}

// TestAPIServerAcceptsPods creates the Pods of testdata in a namespace that enforces the Pod Security
// level restricted, those of root in another one.
func TestAPIServerAcceptsPods(t *testing.T) {
	p := controlplane.Get(t)
	restricted, open := p.Namespace(t), p.Namespace(t)
	controlplane.Change(t, p, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: restricted}}, func(ns *corev1.Namespace) {
		ns.Labels[api.EnforceLevelLabel], ns.Labels[api.EnforceVersionLabel] = string(api.LevelRestricted), api.VersionLatest
	})
	for _, o := range []client.Object{
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "urgent"}}, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "batch-high"}},
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "pool"}},
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "gvisor"}, Handler: "runsc"},
	} {
		if err := p.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d inputs: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var in input
			if err := yaml.UnmarshalStrict(text, &in); err != nil {
				t.Fatal(err)
			}
			job := testutil.Job(in.Metadata.Name).Obj()
			job.UID, job.Spec = types.UID("00000000-0000-4000-8000-000000000001"), in.Spec
			pod := build(t, job, resolve.Instance{Task: in.Instance.Task, Index: in.Instance.Index}, in.ComputeEnv)
			isNFS := func(v corev1.Volume) bool { return v.NFS != nil } // which the level restricted refuses
			if pod.Namespace = restricted; asRoot[name] || slices.ContainsFunc(pod.Spec.Volumes, isNFS) {
				pod.Namespace = open
			}
			sent := pod.DeepCopy()
			if err := p.Create(t.Context(), pod, client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			wantKept(t, sent, pod)
		})
	}
}

// wantKept checks that the API server knows all fields of a Pod: it drops those that it does not know.
func wantKept(t *testing.T, sent, stored *corev1.Pod) {
	t.Helper()
	if n, m := len(sent.Spec.Volumes), len(stored.Spec.Volumes); n != m {
		t.Errorf("%d volumes were sent and %d are stored", n, m)
	}
	for i := range sent.Spec.Volumes {
		s, k := reflect.ValueOf(sent.Spec.Volumes[i].VolumeSource), reflect.ValueOf(stored.Spec.Volumes[i].VolumeSource)
		for f := range s.NumField() {
			if s.Field(f).IsNil() != k.Field(f).IsNil() {
				t.Errorf("volume %s is stored as %+v", sent.Spec.Volumes[i].Name, stored.Spec.Volumes[i])
			}
		}
	}
	if n, m := len(sent.Spec.ResourceClaims), len(stored.Spec.ResourceClaims); n != m {
		t.Errorf("%d claims were sent and %d are stored", n, m)
	}
	if n, m := len(sent.Spec.TopologySpreadConstraints), len(stored.Spec.TopologySpreadConstraints); n != m {
		t.Errorf("%d constraints were sent and %d are stored", n, m)
	}
}

// nasty are values that some field refuses.
var (
	nastyTexts = []string{
		"", "A", "a b", "..", ".", "/", "//", "/a/../b", "a/../b", "../a", "..a", "a:b", "-1", "-", "_", "$(A)", "${BATCH_TASK_NAME}", "a.b", "a_b", "é", "\n", "\x00", "Exists",
		"In", "10.0.0.1", "::1", "example.com/a", "EXAMPLE.com/a", strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 254),
	}
	nastyNumbers = []int64{-1 << 40, -1, 0, 1, 101, 511, 512, 600, 1 << 31, 1 << 33}
)

// TestAPIServerAcceptsWhatValidationAccepts changes every field of many options into values that some fields
// refuse. What validation lets in must make a Pod that the API server takes, and that is restricted.
func TestAPIServerAcceptsWhatValidationAccepts(t *testing.T) {
	p := controlplane.Get(t)
	namespace := p.Namespace(t)
	judge, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tried, accepted := 0, 0
	check := func(path string, k *v1alpha1.KubernetesOptions) {
		job := testutil.Job("j").Task("a", func(t *v1alpha1.Task) { t.ComputeEnv = &v1alpha1.AnonymousComputeEnv{Kubernetes: k} }).Obj()
		job.UID = "00000000-0000-4000-8000-000000000001"
		tried++
		if len(validation.Validator{}.ValidateCreate(job)) > 0 {
			return
		}
		accepted++
		pod := build(t, job, resolve.Instance{})
		pod.Namespace = namespace
		for _, r := range judge.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
			if !r.Allowed {
				t.Errorf("%s: not restricted: %s", path, r.ForbiddenDetail)
			}
		}
		if err := p.Create(t.Context(), pod, client.DryRunAll); err != nil {
			t.Errorf("%s: validation accepts what the API server does not: %v", path, err)
		}
	}
	for _, name := range []string{"volumes", "variables", "affinity", "affinity-alone", "hosts-devices", "devices-token"} {
		options := optionsOf(t, name)
		check(name, options)
		for i := 0; ; i++ {
			k, at, n := options.DeepCopy(), "", 0
			var field reflect.Value
			named := map[any]bool{&k.RuntimeClassName: true, &k.PriorityClassName: true} // must exist
			given(reflect.ValueOf(k).Elem(), name, func(path string, v reflect.Value) {
				if named[v.Addr().Interface()] {
					return
				}
				if n == i {
					at, field = path, v
				}
				n++
			})
			if at == "" {
				break
			}
			if field.Kind() == reflect.Int64 {
				for _, value := range nastyNumbers {
					field.SetInt(value)
					check(at, k)
				}
				continue
			}
			for _, value := range nastyTexts {
				field.SetString(value)
				check(at+" "+validation.Quote(value), k)
			}
		}
	}
	t.Logf("%d requests were tried, of which validation accepted %d", tried, accepted)
	if accepted < 500 {
		t.Errorf("validation accepted only %d of %d", accepted, tried)
	}
}

// optionsOf returns the kubernetes of the first task of an input.
func optionsOf(t *testing.T, name string) *v1alpha1.KubernetesOptions {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var in input
	if err := yaml.UnmarshalStrict(text, &in); err != nil {
		t.Fatal(err)
	}
	return in.Spec.Job.Tasks[0].ComputeEnv.Kubernetes
}

// given calls visit for each text and number below v that is in a struct or a list that is there.
func given(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	if !v.CanSet() || v.Type() == reflect.TypeFor[corev1.ResourceList]() {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			given(v.Field(i), path+"."+v.Type().Field(i).Name, visit)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			given(v.Elem(), path, visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			given(v.Index(i), path, visit)
		}
	case reflect.String, reflect.Int64:
		visit(path, v)
	}
}
