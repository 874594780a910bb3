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

// TestEditedPodsHeal: labels and finalizer come back, in a few writes, and the job ends as
// if nothing had happened.
func TestEditedPodsHeal(t *testing.T) {
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
			p.must("j") // sees them
			pod := e.pod("a/0")
			controlplane.Change(t, e.ControlPlane, pod, edit)
			before := p.sum()
			for range 5 {
				p.must("j")
			}
			healed := &corev1.Pod{}
			if err := e.Get(context.Background(), client.ObjectKeyFromObject(pod), healed); err != nil {
				t.Fatal(err)
			}
			if healed.Labels[v1alpha1.LabelTracked] != "true" || healed.Labels[v1alpha1.LabelAttempt] != "0" || healed.Labels[v1alpha1.LabelTaskName] != "a" ||
				!slices.Contains(healed.Finalizers, v1alpha1.FinalizerTracking) {
				t.Errorf("the Pod is not healed: labels %v, finalizers %q", healed.Labels, healed.Finalizers)
			}
			if did := p.log[before:]; len(did) > 2 {
				t.Errorf("that took %q, want one creation and one patch", did)
			}
			p.play("j")
			e.want("j", "SUCCEED 1/1 2/2", "a SUCCEED succeeded=0-1")
		})
	}
}
