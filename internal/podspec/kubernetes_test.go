// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// fill gives every field below v a value, each another one; lists get one item. Numbers are small
// ones, so that they fit wherever they stand.
func fill(v reflect.Value, count *int) {
	*count++
	if v.Type() == reflect.TypeFor[resource.Quantity]() {
		v.Set(reflect.ValueOf(*resource.NewQuantity(int64(*count), resource.DecimalSI)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), count)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), count)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), count)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, count)
		fill(value, count)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprintf("v%d", *count))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(int64(*count))
	default:
		panic(fmt.Sprintf("no value for %s", v.Type()))
	}
}

// eachLeaf calls visit for every field below v that has no fields: with its path, and with what gives
// it another value.
func eachLeaf(v reflect.Value, path string, visit func(path string, change func())) {
	if v.Type() == reflect.TypeFor[resource.Quantity]() {
		visit(path, func() { v.Set(reflect.ValueOf(resource.MustParse("123456"))) })
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			eachLeaf(v.Field(i), path+"."+name, visit)
		}
	case reflect.Pointer:
		eachLeaf(v.Elem(), path, visit)
	case reflect.Slice:
		eachLeaf(v.Index(0), path+"[]", visit)
	case reflect.Map:
		visit(path, func() {
			for i := v.MapRange(); i.Next(); {
				other := reflect.New(v.Type().Elem()).Elem()
				n := 9000
				fill(other, &n)
				v.SetMapIndex(i.Key(), other)
			}
		})
	case reflect.String:
		visit(path, func() { v.SetString(v.String() + "-other") })
	case reflect.Bool:
		visit(path, func() { v.SetBool(!v.Bool()) })
	case reflect.Int64:
		visit(path, func() { v.SetInt(v.Int() + 1) })
	}
}

// TestEveryFieldReachesThePod gives every field of kubernetes another value, one at a time: the Pod must
// become another one.
func TestEveryFieldReachesThePod(t *testing.T) {
	full := &v1alpha1.KubernetesOptions{}
	count := 0
	fill(reflect.ValueOf(full).Elem(), &count)
	text := func(k *v1alpha1.KubernetesOptions) string {
		job := testutil.Job("j").Task("a", func(t *v1alpha1.Task) {
			t.ComputeEnv.Kubernetes = k
			t.OutputMappings = []v1alpha1.OutputMapping{{SourcePath: "/out", DestinationPath: "cos://b-1.s3.example.com/"}}
		}).Obj()
		out, err := json.Marshal(build(t, job, resolve.Instance{}))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before, fields := text(full), 0
	if again := text(full.DeepCopy()); again != before {
		t.Fatalf("two Pods of the same job differ:\n%s\n%s", before, again)
	}
	var paths []string
	eachLeaf(reflect.ValueOf(full).Elem(), "kubernetes", func(path string, _ func()) { paths = append(paths, path) })
	for i, want := range paths {
		k := full.DeepCopy()
		n := 0
		eachLeaf(reflect.ValueOf(k).Elem(), "kubernetes", func(_ string, change func()) {
			if n == i {
				change()
			}
			n++
		})
		fields++
		if text(k) == before {
			t.Errorf("%s has no effect on the Pod", want)
		}
	}
	t.Logf("%d fields", fields)
	if fields < 120 {
		t.Errorf("only %d fields were found", fields)
	}
}

// TestOptionsAreNotShared: a Pod that is changed changes no other, and not the job.
func TestOptionsAreNotShared(t *testing.T) {
	k := &v1alpha1.KubernetesOptions{}
	count := 0
	fill(reflect.ValueOf(k).Elem(), &count)
	job := testutil.Job("j").Task("a", func(t *v1alpha1.Task) { t.ComputeEnv.Kubernetes = k }).Obj()
	before := job.DeepCopy()
	scribble(reflect.ValueOf(&build(t, job, resolve.Instance{}).Spec).Elem())
	if diff := cmp.Diff(before, job); diff != "" {
		t.Errorf("the job changed with its Pod:\n%s", diff)
	}
}

// scribble changes everything below v that other packages can change.
func scribble(v reflect.Value) {
	if !v.CanSet() {
		return
	}
	if v.Type() == reflect.TypeFor[resource.Quantity]() {
		q := v.Addr().Interface().(*resource.Quantity)
		q.Add(resource.MustParse("1"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			scribble(v.Field(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			scribble(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			scribble(v.Index(i))
		}
	case reflect.Map:
		v.Clear()
	case reflect.String:
		v.SetString("scribble")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	}
}

// TestVariablesOfTheSystemStay: whoever got them past validation, variables of the system are not
// replaced, and the user's win over those of the API.
func TestVariablesOfTheSystemStay(t *testing.T) {
	job := testutil.Job("j").Task("a", testutil.Instances(4), testutil.Env("A", "1"), func(t *v1alpha1.Task) {
		t.ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{Env: []v1alpha1.KubernetesEnvVar{{Name: "A", Value: "2"}, {Name: "BATCH_TASK_INSTANCE_INDEX", Value: "99"}}}
	}).Obj()
	got := map[string]string{} // the last one of a name counts
	for _, v := range build(t, job, resolve.Instance{Index: 3}).Spec.Containers[0].Env {
		got[v.Name] = v.Value
	}
	if got["BATCH_TASK_INSTANCE_INDEX"] != "3" || got["A"] != "2" {
		t.Errorf("variables are %v", got)
	}
}

// TestNodesMustMeetBoth: whatever the operator and the user require, a node meets the terms of the Pod if
// and only if it meets those of both.
func TestNodesMustMeetBoth(t *testing.T) {
	// meets says whether a node meets one of the terms, all of which have the operator In.
	meets := func(node map[string]string, terms []corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(terms, func(term corev1.NodeSelectorTerm) bool {
			return len(term.MatchExpressions) > 0 && !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
				return !slices.Contains(r.Values, node[r.Key])
			})
		})
	}
	required := func(job *v1alpha1.BatchJob) []corev1.NodeSelectorTerm {
		a := build(t, job, resolve.Instance{}).Spec.Affinity
		if a == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	rapid.Check(t, func(r *rapid.T) {
		terms := rapid.SliceOfN(rapid.MapOfN(rapid.SampledFrom([]string{corev1.LabelTopologyZone, "example.com/gpu", "rack"}),
			rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "big", "small", "z1", "z2"}), 1, 3, rapid.ID[string]), 1, 2), 1, 3).Draw(r, "terms")
		var theirs []v1alpha1.NodeSelectorTerm
		for _, term := range terms {
			var t v1alpha1.NodeSelectorTerm
			for key, values := range term {
				t.MatchExpressions = append(t.MatchExpressions, v1alpha1.SelectorRequirement{Key: key, Operator: "In", Values: values})
			}
			theirs = append(theirs, t)
		}
		plain := testutil.Job("j").Task("a", testutil.Zones(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"z1", "z2"}), 0, 2, rapid.ID[string]).Draw(r, "zones")...)).Obj()
		plain.Spec.Placement.Zone = ""
		data := plain.Spec.Job.Tasks[0].ComputeEnv.EnvData
		data.InstanceTypes = rapid.SampledFrom([][]string{nil, {"GPU.BIG"}, {"GPU.BIG", "GPU.SMALL"}, {"GPU.BIG", "S5.LARGE8"}}).Draw(r, "types")
		chosen := plain.DeepCopy()
		chosen.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{Affinity: &v1alpha1.Affinity{NodeAffinity: &v1alpha1.NodeAffinity{
			Required: &v1alpha1.NodeSelector{NodeSelectorTerms: theirs},
		}}}
		alone := testutil.Job("j").Task("a").Obj()
		alone.Spec.Placement.Zone = ""
		alone.Spec.Job.Tasks[0].ComputeEnv = &v1alpha1.AnonymousComputeEnv{Kubernetes: chosen.Spec.Job.Tasks[0].ComputeEnv.Kubernetes}
		for _, zone := range []string{"z1", "z2", "z3"} {
			for _, gpu := range []string{"", "big", "small"} {
				for _, rack := range []string{"a", "b"} {
					node := map[string]string{corev1.LabelTopologyZone: zone, "example.com/gpu": gpu, "rack": rack}
					ours := required(plain)
					want := (ours == nil || meets(node, ours)) && meets(node, required(alone))
					if got := meets(node, required(chosen)); got != want {
						r.Fatalf("node %v meets the terms: %t, want %t", node, got, want)
					}
				}
			}
		}
	})
}

// TestWithoutOptions: a job without kubernetes and one with empty options have the same Pod.
func TestWithoutOptions(t *testing.T) {
	job := testutil.Job("j").Task("a").Obj()
	want := build(t, job, resolve.Instance{})
	job.Spec.Job.Tasks[0].ComputeEnv.Kubernetes = &v1alpha1.KubernetesOptions{Affinity: &v1alpha1.Affinity{}}
	got := build(t, job, resolve.Instance{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.Spec.Containers) != 1 || got.Spec.Containers[0].Name != podspec.ContainerName {
		t.Errorf("containers are %+v", got.Spec.Containers)
	}
}
