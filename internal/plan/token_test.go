// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
)

func TestTokenHolder(t *testing.T) {
	job := func(uid types.UID, second int64, conditions ...metav1.Condition) v1alpha1.BatchJob {
		return v1alpha1.BatchJob{
			ObjectMeta: metav1.ObjectMeta{UID: uid, CreationTimestamp: metav1.NewTime(time.Unix(second, 0))},
			Status:     v1alpha1.BatchJobStatus{Conditions: conditions},
		}
	}
	accepted := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue}
	rejected := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse}
	duplicate := metav1.Condition{Type: v1alpha1.ConditionDuplicate, Status: metav1.ConditionTrue}
	for name, tc := range map[string]struct {
		jobs    []v1alpha1.BatchJob
		want    types.UID
		certain bool
	}{
		"none":                       {nil, "", false},
		"only jobs that never run":   {[]v1alpha1.BatchJob{job("a", 1, rejected), job("b", 2, duplicate)}, "", false},
		"the accepted one":           {[]v1alpha1.BatchJob{job("a", 1), job("b", 2, accepted), job("c", 0)}, "b", true},
		"the oldest":                 {[]v1alpha1.BatchJob{job("a", 3), job("b", 2), job("c", 4), job("d", 1, rejected)}, "b", false},
		"the smaller UID":            {[]v1alpha1.BatchJob{job("b", 1), job("a", 1), job("c", 1)}, "a", false},
		"the oldest of two accepted": {[]v1alpha1.BatchJob{job("b", 2, accepted), job("a", 1, accepted), job("c", 0)}, "a", true},
	} {
		for range 2 { // the order of the list makes no difference
			var uid types.UID
			got, certain := TokenHolder(tc.jobs, IsAccepted)
			if got != nil {
				uid = got.UID
			}
			if uid != tc.want || certain != tc.certain {
				t.Errorf("%s: got %q, %t, want %q, %t", name, uid, certain, tc.want, tc.certain)
			}
			slices.Reverse(tc.jobs)
		}
	}
}
