// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
)

func TestHolder(t *testing.T) {
	job := func(name, namespace, token string, age time.Duration, conditions ...metav1.Condition) *v1alpha1.BatchJob {
		j := &v1alpha1.BatchJob{}
		j.Name, j.Namespace, j.Spec.ClientToken = name, namespace, token
		j.CreationTimestamp = metav1.NewTime(time.Unix(1_800_000_000, 0).Add(-age))
		j.Status.Conditions = conditions
		return j
	}
	is := func(condition string, status metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: condition, Status: status}
	}
	accepted, refused := is(v1alpha1.ConditionAccepted, metav1.ConditionTrue), is(v1alpha1.ConditionAccepted, metav1.ConditionFalse)
	duplicate := is(v1alpha1.ConditionDuplicate, metav1.ConditionTrue)
	for name, tc := range map[string]struct {
		jobs  []*v1alpha1.BatchJob
		token string
		want  string
	}{
		"no token":             {[]*v1alpha1.BatchJob{job("a", "ns", "", 1)}, "", ""},
		"nobody":               {[]*v1alpha1.BatchJob{job("a", "ns", "u", 1)}, "t", ""},
		"another namespace":    {[]*v1alpha1.BatchJob{job("a", "other", "t", 1)}, "t", ""},
		"the job itself":       {[]*v1alpha1.BatchJob{job("new", "ns", "t", 1)}, "t", ""},
		"one":                  {[]*v1alpha1.BatchJob{job("a", "ns", "t", 1)}, "t", "a"},
		"the oldest":           {[]*v1alpha1.BatchJob{job("a", "ns", "t", time.Second), job("b", "ns", "t", time.Hour)}, "t", "b"},
		"the accepted":         {[]*v1alpha1.BatchJob{job("a", "ns", "t", time.Hour), job("b", "ns", "t", time.Second, accepted)}, "t", "b"},
		"none that never runs": {[]*v1alpha1.BatchJob{job("a", "ns", "t", 1, refused), job("b", "ns", "t", 1, duplicate)}, "t", ""},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			// The cache has outlines, and what an outline lacks is read.
			cache := fake.NewClientBuilder().WithScheme(scheme)
			for _, x := range lookup.Indexes() {
				cache = cache.WithIndex(x.Object, x.Field, x.Values)
			}
			live := fake.NewClientBuilder().WithScheme(scheme)
			var others []client.Object
			for _, j := range tc.jobs {
				cache = cache.WithObjects(j)
				whole := j.DeepCopy()
				whole.Spec.Job.Tasks = []v1alpha1.Task{{TaskName: "a"}}
				live = live.WithObjects(whole)
				other := whole.DeepCopy()
				other.UID = "another"
				others = append(others, other)
			}
			known := cache.Build()
			got, err := tokens{known, live.Build()}.holder(t.Context(), job("new", "ns", tc.token, 0))
			if err != nil {
				t.Fatal(err)
			}
			if (got == nil) != (tc.want == "") || got != nil && (got.Name != tc.want || len(got.Spec.Job.Tasks) == 0) {
				t.Errorf("holder %v, want %q and its task", got, tc.want)
			}
			// A job that has gone since holds nothing, nor does another of its name.
			for what, live := range map[string]client.Reader{
				"has gone":     fake.NewClientBuilder().WithScheme(scheme).Build(),
				"was replaced": fake.NewClientBuilder().WithScheme(scheme).WithObjects(others...).Build(),
			} {
				if got, err = (tokens{known, live}).holder(t.Context(), job("new", "ns", tc.token, 0)); got != nil || err != nil {
					t.Errorf("a job that %s is the holder: %v, %v", what, got, err)
				}
			}
		})
	}
}
