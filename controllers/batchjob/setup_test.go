// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/internal/testutil"
)

// TestStripPod: the cache has of a Pod's spec what plan reads, and no more.
func TestStripPod(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "task"}}}}
	testutil.Gate(pod, "kueue.x-k8s.io/admission")
	got, err := stripPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.PodSpec{NodeName: "node-1", SchedulingGates: pod.Spec.SchedulingGates}
	if diff := cmp.Diff(want, got.(*corev1.Pod).Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}
