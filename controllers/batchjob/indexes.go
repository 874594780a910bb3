// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// podsByJob is the index of Pods by the "namespace/name" of the job that they name.
const podsByJob = "batchjob"

// podReader returns the Pods in the cache that name a job. The caller must not change them.
type podReader func(ctx context.Context, job types.NamespacedName) ([]*corev1.Pod, error)

// indexPods adds the index of Pods by job to the cache, and returns its reader. The reader returns the objects of the
// cache, since a client would copy all of them in each pass.
func indexPods(c cache.Cache) (podReader, error) {
	informer, err := c.GetInformer(context.Background(), &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("indexing pods by job: the cache has a %T", informer)
	}
	err = shared.AddIndexers(toolscache.Indexers{podsByJob: func(o any) ([]string, error) {
		pod, ok := o.(*corev1.Pod)
		if !ok {
			return nil, nil
		}
		return indexPod(pod), nil
	}})
	if err != nil {
		return nil, fmt.Errorf("indexing pods by job: %w", err)
	}
	return func(_ context.Context, job types.NamespacedName) ([]*corev1.Pod, error) {
		found, err := shared.GetIndexer().ByIndex(podsByJob, job.String())
		if err != nil {
			return nil, fmt.Errorf("looking into the index of pods: %w", err)
		}
		pods := make([]*corev1.Pod, 0, len(found))
		for _, o := range found {
			if pod, ok := o.(*corev1.Pod); ok {
				pods = append(pods, pod)
			}
		}
		return pods, nil
	}, nil
}

func indexPod(pod client.Object) []string {
	if name := jobOf(pod); name != "" {
		return []string{pod.GetNamespace() + "/" + name}
	}
	return nil
}

// jobOf returns the name of the BatchJob that a Pod names; "" for none. That is its controller, or, if the owner
// reference was removed, the job that its annotation names.
func jobOf(pod client.Object) string {
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "BatchJob" && isOurs(owner.APIVersion) {
		return owner.Name
	}
	return pod.GetAnnotations()[v1alpha1.AnnotationJobName]
}

func isOurs(apiVersion string) bool {
	return len(apiVersion) > len(v1alpha1.GroupVersion.Group) &&
		apiVersion[:len(v1alpha1.GroupVersion.Group)+1] == v1alpha1.GroupVersion.Group+"/"
}
