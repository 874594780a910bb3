// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// TestEditedPodsAreRepaired: labels and finalizer that somebody removed are restored, with few writes, and the job ends as
// without the edit.
func TestEditedPodsAreRepaired(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Pod){
		"tracking label":    func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTracked) },
		"attempt label":     func(pod *corev1.Pod) { pod.Labels[v1alpha1.LabelAttempt] = "7" },
		"task label":        func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelTaskName) },
		"all of our labels": func(pod *corev1.Pod) { pod.Labels = map[string]string{"mine": "stays"} },
		"finalizer":         func(pod *corev1.Pod) { pod.Finalizers = nil },
		"label and finalizer": func(pod *corev1.Pod) {
			delete(pod.Labels, v1alpha1.LabelTracked)
			pod.Finalizers = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			p := e.start(nil)
			e.submit(testutil.Job("j").Task("a", testutil.Instances(2)))
			p.must("j")
			e.sync()
			p.must("j") // observes them
			pod := e.pod("a/0")
			controlplane.Change(t, e.ControlPlane, pod, edit)
			before := p.sum()
			for range 5 {
				p.must("j")
			}
			repaired := &corev1.Pod{}
			if err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), repaired); err != nil {
				t.Fatal(err)
			}
			if repaired.Labels[v1alpha1.LabelTracked] != "true" || repaired.Labels[v1alpha1.LabelAttempt] != "0" || repaired.Labels[v1alpha1.LabelTaskName] != "a" ||
				!slices.Contains(repaired.Finalizers, v1alpha1.FinalizerTracking) {
				t.Errorf("the Pod is not repaired: labels %v, finalizers %q", repaired.Labels, repaired.Finalizers)
			}
			if did := p.log[before:]; len(did) > 2 {
				t.Errorf("that took %q, want one creation and one patch", did)
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 2/2", "a SUCCEED succeeded=0-1")
		})
	}
}
