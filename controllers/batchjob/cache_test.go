// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/testutil"
)

// fullPod returns the i-th Pod of a task with all fields that an API server sets.
func fullPod(i int) *corev1.Pod {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := metav1.NewTime(at)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team-weather", Name: fmt.Sprintf("forecast-1a2b3c4d5e-simulate-%d-0", i), GenerateName: "",
			UID: types.UID(fmt.Sprintf("11111111-2222-3333-4444-%012d", i)), ResourceVersion: fmt.Sprint(1_000_000 + i), CreationTimestamp: now,
			Labels: map[string]string{
				v1alpha1.LabelJobID: "job-1a2b3c4d5e", v1alpha1.LabelTaskName: "simulate", v1alpha1.LabelTaskInstanceIndex: fmt.Sprint(i),
				v1alpha1.LabelAttempt: "0", v1alpha1.LabelRun: "0", v1alpha1.LabelTracked: "true", v1alpha1.LabelProjectID: "0",
				v1alpha1.LabelTagPrefix + "team": "weather", "mine": "my own",
			},
			Annotations: map[string]string{
				"mine": "my own", v1alpha1.AnnotationJobName: "forecast", v1alpha1.AnnotationProof: fmt.Sprintf("0123abcd.%016x", i),
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "BatchJob", Name: "forecast", UID: "99999999-2222-3333-4444-000000000000",
				Controller: new(true), BlockOwnerDeletion: new(true),
			}},
			Finalizers:    []string{"somebody/else", v1alpha1.FinalizerTracking},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "batchcompute", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 2000))}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "task", Image: "registry.k8s.io/pause", Env: make([]corev1.EnvVar, 20)}}},
	}
	testutil.Bind(pod, "node-1")
	testutil.Start(pod, at)
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now})
	}
	pod.Status.PodIPs, pod.Status.HostIPs = []corev1.PodIP{{IP: "10.0.0.1"}}, []corev1.HostIP{{IP: "10.0.0.2"}}
	return pod
}

// TestStripPod: the cache has the fields of a Pod that this package and the planner read, and no others.
func TestStripPod(t *testing.T) {
	pod := fullPod(3)
	pod.Annotations[v1alpha1.AnnotationHosts], pod.Spec.SchedulerName = "host-1", "nope"
	testutil.Gate(pod, "kueue.x-k8s.io/admission")
	testutil.Disrupt(pod, "TerminationByKubelet", "the node is short of memory")
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = []corev1.Container{{Name: podspec.StageContainer, Image: "agent"}, {Name: "mesh", Image: "mesh", RestartPolicy: &always}}
	pod.Spec.Containers[0].Command = []string{podspec.AgentProgram, "exec", "--", "/bin/sh"}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: podspec.OutputsContainer, Image: "agent"}, corev1.Container{Name: "added"})
	before := pod.DeepCopy()
	got, err := stripPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(before, pod) {
		t.Error("the Pod was changed")
	}
	want := &corev1.Pod{ObjectMeta: pod.ObjectMeta, Spec: corev1.PodSpec{NodeName: "node-1", SchedulingGates: pod.Spec.SchedulingGates}}
	want.Labels = map[string]string{
		v1alpha1.LabelJobID: "job-1a2b3c4d5e", v1alpha1.LabelTaskName: "simulate", v1alpha1.LabelTaskInstanceIndex: "3",
		v1alpha1.LabelAttempt: "0", v1alpha1.LabelRun: "0", v1alpha1.LabelTracked: "true",
	}
	want.Annotations = map[string]string{v1alpha1.AnnotationHosts: "host-1", v1alpha1.AnnotationJobName: "forecast", v1alpha1.AnnotationProof: "0123abcd.0000000000000003"}
	want.Spec.SchedulerName = "nope"
	want.Spec.InitContainers = []corev1.Container{{Name: "mesh", RestartPolicy: &always}}
	want.Spec.Containers = []corev1.Container{{Name: "task", Command: []string{podspec.AgentProgram}}, {Name: podspec.OutputsContainer}}
	want.OwnerReferences[0].BlockOwnerDeletion = nil
	want.Finalizers, want.ManagedFields = []string{v1alpha1.FinalizerTracking}, nil
	want.Status = corev1.PodStatus{
		Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message,
		ContainerStatuses: []corev1.ContainerStatus{{Name: "task", State: pod.Status.ContainerStatuses[0].State}},
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled || c.Type == corev1.PodReady || c.Type == corev1.DisruptionTarget {
			c.LastProbeTime = metav1.Time{}
			want.Status.Conditions = append(want.Status.Conditions, c)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Pod (-want +got):\n%s", diff)
	}
}

// TestCacheIsSmall: a live Pod takes less than 2.75 KiB of memory, and a finished job of ten tasks less than 2 KiB. Informers
// and their indexes add some hundred bytes to each.
// TestStripPodWithData: the planner must see which containers are the agent's.
func TestStripPodWithData(t *testing.T) {
	pod := fullPod(3)
	pod.Spec.InitContainers = []corev1.Container{
		{Name: podspec.StageContainer, Image: "agent"},
		{Name: "mesh", Image: "mesh", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
	}
	pod.Spec.Containers = []corev1.Container{
		{Name: podspec.ContainerName, Command: []string{podspec.AgentProgram, "exec", "--", "/bin/sh"}, Image: "debian"},
		{Name: "log", Image: "log"},
		{Name: podspec.OutputsContainer, Image: "agent"},
	}
	got, err := stripPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.PodSpec{
		NodeName:       "node-1",
		InitContainers: []corev1.Container{{Name: "mesh", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
		Containers:     []corev1.Container{{Name: podspec.ContainerName, Command: []string{podspec.AgentProgram}}, {Name: podspec.OutputsContainer}},
	}
	if diff := cmp.Diff(want, got.(*corev1.Pod).Spec); diff != "" {
		t.Errorf("the Pod's spec (-want +got):\n%s", diff)
	}
}

func TestCacheIsSmall(t *testing.T) {
	const n = 2000
	for name, tc := range map[string]struct {
		most int
		make func(i int) (any, error)
	}{
		"live Pod": {2816, func(i int) (any, error) {
			text, err := fullPod(i).Marshal()
			if err != nil {
				return nil, err
			}
			pod := &corev1.Pod{}
			if err := pod.Unmarshal(text); err != nil {
				return nil, err
			}
			return stripPod(pod)
		}},
		"ended job": {2048, func(i int) (any, error) {
			b := testutil.Job(fmt.Sprint("forecast-", i)).Token(fmt.Sprint("token-", i))
			for task := range 10 {
				b.Task(fmt.Sprint("task-", task))
			}
			job := b.Obj()
			job.UID = types.UID(fmt.Sprintf("11111111-2222-3333-4444-%012d", i))
			end := metav1.Now()
			job.Status.State, job.Status.EndTime = v1alpha1.JobSucceed, &end
			return stripJob(job)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			// Managers of earlier tests may still be stopping, and free memory. So only the release of the objects is
			// measured, which takes less time than their creation, and the median counts.
			var each []int
			for range 5 {
				kept := make([]any, n)
				for i := range kept {
					var err error
					if kept[i], err = tc.make(i); err != nil {
						t.Fatal(err)
					}
				}
				before := heap()
				runtime.KeepAlive(kept) // the objects are garbage after this line
				each = append(each, int(before-heap())/n)
			}
			slices.Sort(each)
			t.Logf("%d bytes each", each)
			if median := each[len(each)/2]; median > tc.most || median < 500 {
				t.Errorf("%d bytes each, want at most %d, and at least 500", median, tc.most)
			}
		})
	}
}

// heap returns how much memory is in use. It collects garbage twice, since pools keep objects for one collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
