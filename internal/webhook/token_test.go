// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"batchcompute.dev/operator/api/v1alpha1"
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
			b := fake.NewClientBuilder().WithScheme(scheme).WithIndex(&v1alpha1.BatchJob{}, jobsByToken, indexToken)
			for _, j := range tc.jobs {
				b = b.WithObjects(j)
			}
			got, err := tokens{b.Build()}.holder(t.Context(), job("new", "ns", tc.token, 0))
			if err != nil {
				t.Fatal(err)
			}
			if (got == nil) != (tc.want == "") || got != nil && got.Name != tc.want {
				t.Errorf("holder %v, want %q", got, tc.want)
			}
		})
	}
}
