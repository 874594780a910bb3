// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
)

// simClient is the client of a controller. Reads come from its caches and are not scheduled. Live reads and writes go to the
// schedule, which decides their answers.
//
// The embedded interface is nil: a call of a method that is not implemented below panics.
type simClient struct {
	client.Client
	c    *simController
	live bool
}

// simCall is a call that waits for its answer from the schedule.
type simCall struct {
	name string
	// write says that the call changes something.
	write bool
	// versioned says that the call carries a resource version, so it can conflict.
	versioned bool
	// do does the call; the goroutine of the schedule calls it.
	do func() error
	// err is the answer.
	err error
}

func (l *simClient) call(name string, write bool, do func() error) error {
	return l.c.ask(&simCall{name: name, write: write, do: do})
}

// Get reads an object.
func (l *simClient) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	if !l.live {
		return l.getCached(key.Name, obj)
	}
	switch out := obj.(type) {
	case *v1alpha1.BatchJob:
		return l.call("get job "+key.Name, false, func() error {
			job := l.c.s.jobs[key.Name]
			if job == nil {
				return apierrors.NewNotFound(jobResource, key.Name)
			}
			job.DeepCopyInto(out)
			return nil
		})
	case *corev1.Pod:
		return l.call("get pod "+key.Name, false, func() error {
			pod := l.c.s.pods[key.Name]
			if pod == nil {
				return apierrors.NewNotFound(podResource, key.Name)
			}
			pod.DeepCopyInto(out)
			return nil
		})
	case *corev1.ConfigMap:
		return l.call("get configmap "+key.Name, false, func() error {
			if l.c.s.stones == nil {
				return apierrors.NewNotFound(corev1.Resource("configmaps"), key.Name)
			}
			l.c.s.stones.DeepCopyInto(out)
			return nil
		})
	}
	panic(fmt.Sprintf("the simulation has no %T", obj))
}

// getCached reads a job from the cache, without a copy.
func (l *simClient) getCached(name string, obj client.Object) error {
	for _, job := range l.c.cachedJobs() {
		if job.Name == name {
			*obj.(*v1alpha1.BatchJob) = *job
			return nil
		}
	}
	return apierrors.NewNotFound(jobResource, name)
}

// podsOf reads the Pods of a job from the cache.
func (c *simController) podsOf(_ context.Context, job types.NamespacedName) (pods []*corev1.Pod, _ error) {
	for _, pod := range c.cachedPods() {
		if slices.Contains(indexPod(pod), job.String()) {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// List lists jobs by client token from the cache, and Pods by label from the API server.
func (l *simClient) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	if pods, ok := list.(*corev1.PodList); ok && l.live && o.LabelSelector != nil && o.Namespace == simNamespace {
		return l.call("list pods", false, func() error {
			for _, name := range slices.Sorted(maps.Keys(l.c.s.pods)) {
				if pod := l.c.s.pods[name]; o.LabelSelector.Matches(labels.Set(pod.Labels)) {
					pods.Items = append(pods.Items, *pod.DeepCopy())
				}
			}
			return nil
		})
	}
	if l.live || o.LabelSelector != nil || o.FieldSelector == nil || o.Namespace != simNamespace {
		panic(fmt.Sprintf("the simulation has no such list: %+v", o))
	}
	switch out := list.(type) {
	case *v1alpha1.BatchJobList:
		token, ok := o.FieldSelector.RequiresExactMatch(lookup.JobsByClientToken)
		for _, job := range l.c.cachedJobs() {
			if ok && job.Spec.ClientToken == token {
				out.Items = append(out.Items, *job)
			}
		}
	default:
		panic(fmt.Sprintf("the simulation has no %T", list))
	}
	return nil
}

// Create creates a Pod, or the ConfigMap.
func (l *simClient) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	if stones, ok := obj.(*corev1.ConfigMap); ok {
		return l.call("create tombstones", true, func() error {
			if l.c.s.stones != nil {
				return apierrors.NewAlreadyExists(corev1.Resource("configmaps"), stones.Name)
			}
			l.c.s.storeStones(stones)
			return nil
		})
	}
	pod := obj.(*corev1.Pod)
	return l.call("create "+pod.Name, true, func() error { return l.c.s.makePod(pod) })
}

// Update stores the ConfigMap.
func (l *simClient) Update(_ context.Context, obj client.Object, _ ...client.UpdateOption) error {
	stones := obj.(*corev1.ConfigMap)
	return l.call("store tombstones", true, func() error {
		if now := l.c.s.stones; now == nil || now.ResourceVersion != stones.ResourceVersion {
			return apierrors.NewConflict(corev1.Resource("configmaps"), stones.Name, errSimRefused)
		}
		l.c.s.storeStones(stones)
		return nil
	})
}

// Delete deletes a Pod or a job.
func (l *simClient) Delete(_ context.Context, obj client.Object, opts ...client.DeleteOption) error {
	var o client.DeleteOptions
	o.ApplyOptions(opts)
	if job, ok := obj.(*v1alpha1.BatchJob); ok {
		return l.call("delete job "+job.Name, true, func() error { return l.c.s.expireJob(job.Name, o.Preconditions) })
	}
	pod := obj.(*corev1.Pod)
	return l.call("delete "+pod.Name, true, func() error {
		if o.Preconditions == nil {
			return l.c.s.stopPod(pod.Name, nil)
		}
		now, version := l.c.s.pods[pod.Name], o.Preconditions.ResourceVersion
		if now != nil && version != nil && *version != now.ResourceVersion {
			return apierrors.NewConflict(corev1.Resource("pods"), pod.Name, fmt.Errorf("version is %s, not %s", now.ResourceVersion, *version))
		}
		return l.c.s.stopPod(pod.Name, o.Preconditions.UID)
	})
}

// Patch patches a Pod's metadata.
func (l *simClient) Patch(_ context.Context, obj client.Object, patch client.Patch, _ ...client.PatchOption) error {
	out := obj.(*metav1.PartialObjectMetadata)
	body, err := patch.Data(obj)
	if err != nil {
		return err
	}
	if out.Kind == "BatchJob" {
		return l.call("patch the finalizers of "+out.Name, true, func() error {
			job, err := l.c.s.patchJob(out.Name, body)
			if err == nil {
				out.ResourceVersion = job.ResourceVersion
			}
			return err
		})
	}
	return l.call("patch "+out.Name, true, func() error {
		version, err := l.c.s.editMetadata(out.Name, body)
		if err == nil {
			out.ResourceVersion = version
		}
		return err
	})
}

// Status returns the writer of statuses.
func (l *simClient) Status() client.SubResourceWriter { return &simStatus{l: l} }

type simStatus struct {
	client.SubResourceWriter
	l *simClient
}

// Patch stores a job's status.
func (s *simStatus) Patch(_ context.Context, obj client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	out := obj.(*metav1.PartialObjectMetadata)
	body, err := patch.Data(obj)
	if err != nil {
		return err
	}
	c := s.l.c
	return c.ask(&simCall{name: "store the status of " + out.Name, write: true, versioned: true, do: func() error {
		job, err := c.s.recordStatus(c, out.Name, body)
		if err == nil {
			job.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
		}
		return err
	}})
}

// simEventRecorder drops Events.
type simEventRecorder struct{}

func (simEventRecorder) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

func strictUnmarshal(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
