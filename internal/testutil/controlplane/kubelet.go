// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// node is where Bind puts Pods. There is no such Node, and nobody asks.
const node = "node-1"

// Bind gives the Pod a node.
func (p *ControlPlane) Bind(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	if err := p.bind(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
}

func (p *ControlPlane) bind(ctx context.Context, pod *corev1.Pod) error {
	binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	err := p.SubResource("binding").Create(ctx, pod.DeepCopy(), binding)
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("binding pod %s: %w", pod.Name, err)
	}
	return p.report(ctx, pod, func(pod *corev1.Pod) { testutil.Bind(pod, node) })
}

// Start says that the Pod's command runs since at. The Pod must be bound.
func (p *ControlPlane) Start(t testing.TB, pod *corev1.Pod, at time.Time) {
	t.Helper()
	p.Report(t, pod, func(pod *corev1.Pod) { testutil.Start(pod, at) })
}

// Finish ends the Pod's command; a Pod that has no node yet gets one first. A Pod that is
// being deleted is cleared away then, as a kubelet does, save for its finalizers.
func (p *ControlPlane) Finish(t testing.TB, pod *corev1.Pod, code int32, at time.Time) {
	t.Helper()
	if pod.Spec.NodeName == "" {
		p.Bind(t, pod)
	}
	p.Report(t, pod, func(pod *corev1.Pod) {
		if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Running == nil {
			testutil.Start(pod, at)
		}
		testutil.Finish(pod, code, at)
	})
	if pod.DeletionTimestamp != nil {
		if err := p.clear(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
	}
}

// Fail ends the Pod as a whole, as an eviction does.
func (p *ControlPlane) Fail(t testing.TB, pod *corev1.Pod, reason, message string) {
	t.Helper()
	p.Report(t, pod, func(pod *corev1.Pod) { testutil.Fail(pod, reason, message) })
}

// Report changes the status of a Pod that is there.
func (p *ControlPlane) Report(t testing.TB, pod *corev1.Pod, change func(*corev1.Pod)) {
	t.Helper()
	if err := p.report(context.Background(), pod, change); err != nil {
		t.Fatal(err)
	}
}

func (p *ControlPlane) report(ctx context.Context, pod *corev1.Pod, change func(*corev1.Pod)) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now := &corev1.Pod{}
		if err := p.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return err
		}
		change(now)
		return p.Status().Update(ctx, now)
	})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reporting the status of pod %s: %w", pod.Name, err)
	}
	return nil
}

// Change changes whatever else of an object that is there.
func Change[T client.Object](t testing.TB, p *ControlPlane, obj T, change func(T)) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if err := p.Get(context.Background(), client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		change(obj)
		return p.Update(context.Background(), obj)
	})
	if err != nil {
		t.Fatalf("changing %s: %v", obj.GetName(), err)
	}
}

// Pods are the Pods of a namespace, by name.
func (p *ControlPlane) Pods(t testing.TB, namespace string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := p.List(context.Background(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// CollectGarbage does one round of what the garbage collector does to jobs that are being
// deleted and to Pods whose owner is gone, in one namespace. It reports whether it found
// anything to do.
func (p *ControlPlane) CollectGarbage(t testing.TB, namespace string) bool {
	t.Helper()
	var jobs v1alpha1.BatchJobList
	if err := p.List(context.Background(), &jobs, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	found := false
	owners := map[string]*v1alpha1.BatchJob{}
	for i := range jobs.Items {
		owners[string(jobs.Items[i].UID)] = &jobs.Items[i]
	}
	dependents := map[string]int{}
	for _, pod := range p.Pods(t, namespace) {
		ref := metav1.GetControllerOf(&pod)
		if ref == nil {
			continue
		}
		dependents[string(ref.UID)]++
		owner := owners[string(ref.UID)]
		switch {
		case owner != nil && slices.Contains(owner.Finalizers, metav1.FinalizerOrphanDependents):
			Change(t, p, &pod, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
			dependents[string(ref.UID)]--
		case owner == nil || slices.Contains(owner.Finalizers, metav1.FinalizerDeleteDependents):
			if pod.DeletionTimestamp != nil {
				continue
			}
			if err := p.Delete(context.Background(), &pod); client.IgnoreNotFound(err) != nil {
				t.Fatal(fmt.Errorf("deleting pod %s: %w", pod.Name, err))
			}
		default:
			continue
		}
		found = true
	}
	for uid, job := range owners {
		if job.DeletionTimestamp != nil && dependents[uid] == 0 {
			Change(t, p, job, func(job *v1alpha1.BatchJob) { job.Finalizers = nil })
			found = true
		}
	}
	return found
}
