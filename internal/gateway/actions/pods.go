// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
)

// Bounds of lists of Pods whose number only the cluster knows: a job can have 100,000.
const (
	// podPage is how many Pods are read at once, some 10 KiB each.
	podPage = 500
	// maxManyPods is how many such lists are read at the same time.
	maxManyPods = 4
)

// manyPods has an item for each such list that is being read.
var manyPods = make(chan struct{}, maxManyPods)

// fewPods lists Pods of the namespace, as the caller, from the API server's cache. The selector must name the
// instances, so that they are few.
func (c *call) fewPods(ctx context.Context, selector labels.Selector) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.client.List(ctx, &list, client.InNamespace(c.client.Namespace), client.MatchingLabelsSelector{Selector: selector},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}); err != nil {
		return nil, fmt.Errorf("listing the Pods: %w", err)
	}
	return list.Items, nil
}

// manyPods lists Pods of the namespace, as the caller, in pages, and keeps of each what keep says and what states and
// nodes are made of.
func (c *call) manyPods(ctx context.Context, selector labels.Selector, keep func(*corev1.Pod) bool) ([]corev1.Pod, error) {
	select {
	case manyPods <- struct{}{}:
		defer func() { <-manyPods }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other lists of Pods: %w", ctx.Err())
	}
	var out []corev1.Pod
	var page corev1.PodList
	for {
		if err := c.client.List(ctx, &page, client.InNamespace(c.client.Namespace), client.MatchingLabelsSelector{Selector: selector},
			client.Limit(podPage), client.Continue(page.Continue)); err != nil {
			return nil, fmt.Errorf("listing the Pods: %w", err)
		}
		for i := range page.Items {
			if pod := &page.Items[i]; keep(pod) {
				out = append(out, outlineOf(pod))
			}
		}
		if page.Continue == "" {
			return out, nil
		}
		page.Items = nil
	}
}

// outlineLabels are the labels of Pods that are read.
var outlineLabels = []string{v1alpha1.LabelJobID, v1alpha1.LabelTaskInstanceIndex, v1alpha1.LabelAttempt, v1alpha1.LabelRun, v1alpha1.LabelEnvID}

// outlineOf returns what states and nodes are made of: some 1 KiB of a Pod.
func outlineOf(pod *corev1.Pod) corev1.Pod {
	out := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
		Labels: make(map[string]string, len(outlineLabels)),
	}}
	for _, name := range outlineLabels {
		if value, ok := pod.Labels[name]; ok {
			out.Labels[name] = value
		}
	}
	out.Spec.NodeName = pod.Spec.NodeName
	for i := range pod.Spec.Containers {
		if s := &pod.Spec.Containers[i]; s.Name == podspec.ContainerName {
			out.Spec.Containers = []corev1.Container{{Name: s.Name, Resources: corev1.ResourceRequirements{Requests: s.Resources.Requests}}}
		}
	}
	out.Status = corev1.PodStatus{Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message, HostIPs: pod.Status.HostIPs}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled {
			out.Status.Conditions = []corev1.PodCondition{condition}
		}
	}
	for i := range pod.Status.ContainerStatuses {
		s := corev1.ContainerStatus{Name: pod.Status.ContainerStatuses[i].Name, State: pod.Status.ContainerStatuses[i].State}
		switch {
		case s.Name != podspec.ContainerName && s.Name != podspec.OutputsContainer:
			continue
		case s.Name == podspec.ContainerName && s.State.Terminated != nil:
			s.State.Terminated = s.State.Terminated.DeepCopy()
			s.State.Terminated.Message = "" // the end of a stream
		}
		out.Status.ContainerStatuses = append(out.Status.ContainerStatuses, s)
	}
	return out
}
