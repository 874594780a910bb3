// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// operatorsPod is a Pod as the operator makes it, of a task of which nothing is asked. All
// subjects make this one, so that they differ in who watches over it and not in its size.
func operatorsPod() (*corev1.Pod, error) {
	job := batchJob("", 0, shape{tasks: single(1)}, atOnce)
	spec, err := resolve.Resolve(job)
	if err != nil {
		return nil, fmt.Errorf("resolving a job: %w", err)
	}
	pod, err := podspec.Build(job, spec, resolve.Instance{}, spec.Tasks[0].Env, podspec.Cluster{Catalog: catalog.Default()})
	if err != nil {
		return nil, fmt.Errorf("building a Pod: %w", err)
	}
	// With these it would be the operator's.
	delete(pod.Labels, v1alpha1.LabelTracked)
	delete(pod.Annotations, v1alpha1.AnnotationJobName)
	pod.OwnerReferences, pod.Finalizers = nil, nil
	return pod, nil
}

// barePod is the i-th Pod of a bare client; a tracked one is to be patched at its end.
func barePod(like *corev1.Pod, namespace string, i int, tracked bool) *corev1.Pod {
	pod := like.DeepCopy()
	pod.Namespace, pod.Name = namespace, fmt.Sprint("pod-", i)
	if tracked {
		pod.Finalizers = []string{v1alpha1.FinalizerTracking}
	}
	return pod
}

// coreJob is the i-th job of a shape of one task, as the core Job controller takes it.
func coreJob(like *corev1.Pod, namespace string, i int, s shape) *batchv1.Job {
	n, indexed := int32(s.perJob()), batchv1.IndexedCompletion
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: like.Labels, Annotations: like.Annotations}, Spec: like.Spec}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("job-", i)},
		Spec:       batchv1.JobSpec{Completions: &n, Parallelism: &n, CompletionMode: &indexed, Template: template},
	}
}
