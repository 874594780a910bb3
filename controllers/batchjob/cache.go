// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/validation"
)

// CacheOptions returns the options of the manager's cache that Setup needs. The cache has all BatchJobs, but only
// outlines of finished and of large ones, and the Pods that have the tracking label, without the fields that are not
// read. Reads do not copy objects, so no reader may change one.
func CacheOptions() map[client.Object]cache.ByObject {
	shared := true
	return map[client.Object]cache.ByObject{
		&v1alpha1.BatchJob{}:   {Transform: stripJob, UnsafeDisableDeepCopy: &shared},
		&v1alpha1.ComputeEnv{}: {UnsafeDisableDeepCopy: &shared},
		&corev1.Node{}:         {Transform: stripNode, UnsafeDisableDeepCopy: &shared},
		&corev1.Pod{}: {
			Label:                 labels.SelectorFromSet(labels.Set{v1alpha1.LabelTracked: "true"}),
			Transform:             stripPod,
			UnsafeDisableDeepCopy: &shared,
		},
	}
}

// stripJob removes the fields of a job that are not read. Of a finished or large job it keeps only an outline: see
// Reconciler.readWhole.
func stripJob(o any) (any, error) { return stripJobFrom(o, plan.LargeJob) }

// stripJobFrom is stripJob with another size from which a job is large.
func stripJobFrom(o any, large int) (any, error) {
	job, ok := o.(*v1alpha1.BatchJob)
	if !ok {
		return o, nil
	}
	if len(job.ManagedFields) > 0 && job.ManagedFields[0].Operation == stripped[0].Operation {
		return job, nil
	}
	size := strconv.FormatInt(validation.StoredSize(job), 10) // of the whole job
	job.ManagedFields, job.Labels = stripped, nil
	terminate, ok := job.Annotations[v1alpha1.AnnotationTerminate]
	sink := job.Annotations[v1alpha1.AnnotationNotificationSink]
	job.Annotations = map[string]string{v1alpha1.AnnotationStoredSize: size}
	if sink != "" && len(job.Spec.Job.Notifications) > 0 {
		job.Annotations[v1alpha1.AnnotationNotificationSink] = strings.Clone(sink[:min(len(sink), maxSinkURL+1)]) // else as below
	}
	if ok {
		// A text that is too long to be parsed is cut, and stays too long.
		terminate = strings.Clone(terminate[:min(len(terminate), v1alpha1.MaxTerminateLength+1)])
		job.Annotations[v1alpha1.AnnotationTerminate] = terminate
	}
	out := plan.OutlineFrom(job, large)
	out.ManagedFields = stripped
	return out, nil
}

// maxSinkURL is more than the URL of a receiver may have. Unit: bytes.
const maxSinkURL = 2048

// stripped marks the result of stripJob. A starting informer calls stripJob twice for each object, and the second call
// would measure the stripped object. The API server stores no such operation, so users cannot forge the mark.
var stripped = []metav1.ManagedFieldsEntry{{Operation: "Stripped"}}

// stripNode keeps the addresses, zone, host name and versions of a node.
func stripNode(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion}}
	out.Status.Addresses = node.Status.Addresses
	out.Status.NodeInfo.KubeletVersion = interned(node.Status.NodeInfo.KubeletVersion)
	out.Status.NodeInfo.ContainerRuntimeVersion = interned(node.Status.NodeInfo.ContainerRuntimeVersion)
	out.Labels = some(node.Labels, corev1.LabelTopologyZone, corev1.LabelHostname)
	return out, nil
}

// readLabels are the labels of Pods that are read.
var readLabels = []string{
	v1alpha1.LabelTracked, v1alpha1.LabelJobID, v1alpha1.LabelTaskName, v1alpha1.LabelTaskInstanceIndex,
	v1alpha1.LabelAttempt, v1alpha1.LabelRun, v1alpha1.LabelEnvID,
}

// stripPod removes the fields of a Pod that neither this package nor the planner reads. There may be 100,000 Pods, so
// equal strings share memory.
func stripPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: interned(pod.Namespace), UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
			DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
			Labels:                     some(pod.Labels, readLabels...),
			Annotations:                some(pod.Annotations, v1alpha1.AnnotationJobName, v1alpha1.AnnotationHosts),
		},
		Spec: corev1.PodSpec{
			NodeName: interned(pod.Spec.NodeName), SchedulingGates: pod.Spec.SchedulingGates, SchedulerName: interned(pod.Spec.SchedulerName),
			InitContainers: readContainers(pod.Spec.InitContainers), Containers: readContainers(pod.Spec.Containers),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, Reason: pod.Status.Reason, Message: pod.Status.Message},
	}
	if text := pod.Annotations[v1alpha1.AnnotationProof]; text != "" { // not interned: it is unique
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[v1alpha1.AnnotationProof] = text
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		out.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: interned(owner.APIVersion), Kind: interned(owner.Kind), Name: interned(owner.Name),
			UID: types.UID(interned(string(owner.UID))), Controller: new(true),
		}}
	}
	if slices.Contains(pod.Finalizers, v1alpha1.FinalizerTracking) {
		out.Finalizers = tracked
	}
	out.Status.Conditions = readConditions(pod.Status.Conditions)
	out.Status.InitContainerStatuses = readStatuses(pod.Status.InitContainerStatuses)
	out.Status.ContainerStatuses = readStatuses(pod.Status.ContainerStatuses)
	return out, nil
}

// readContainers returns what the planner reads of containers: which of them are the agent's, and which of the
// others restart by themselves.
func readContainers(all []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range all {
		c := &all[i]
		switch runsAgent := len(c.Command) > 0 && c.Command[0] == podspec.AgentProgram; {
		case c.Name == podspec.ContainerName && runsAgent:
			out = append(out, corev1.Container{Name: podspec.ContainerName, Command: agentCommand})
		//mutation:cache-without-containers
		case c.Name == podspec.OutputsContainer, c.RestartPolicy != nil:
			out = append(out, corev1.Container{Name: interned(c.Name), RestartPolicy: c.RestartPolicy})
		}
	}
	return out
}

// agentCommand is the start of a command that the agent runs; stripped Pods share it, and nobody changes it in place.
var agentCommand = []string{podspec.AgentProgram}

// readStatuses returns the container statuses without the fields that are not read.
func readStatuses(all []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range all {
		s := &all[i]
		kept := corev1.ContainerStatus{Name: interned(s.Name), State: s.State}
		if s.State.Waiting != nil {
			kept.Image = s.Image
		}
		out = append(out, kept)
	}
	return out
}

// tracked is the list of finalizers that stripped Pods share; nobody changes it in place.
var tracked = []string{v1alpha1.FinalizerTracking}

// readConditions returns the conditions of a Pod that are read.
func readConditions(all []corev1.PodCondition) []corev1.PodCondition {
	kept := make([]corev1.PodCondition, 0, 2) // a running Pod has two
	for _, c := range all {
		switch {
		case c.Type == corev1.PodReady:
			c.Reason, c.Message = "", "" // only its time is read
		case c.Type == corev1.PodInitialized && c.Status == corev1.ConditionFalse:
			c.Reason, c.Message = "", ""
		case c.Type == corev1.PodScheduled,
			c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionFalse,
			(c.Type == corev1.DisruptionTarget || c.Type == plan.TerminationTarget) && c.Status == corev1.ConditionTrue:
		default:
			continue
		}
		c.LastProbeTime = metav1.Time{}
		c.Type, c.Status = corev1.PodConditionType(interned(string(c.Type))), corev1.ConditionStatus(interned(string(c.Status)))
		kept = append(kept, c)
	}
	return kept
}

// some returns the entries with these keys; nil if there are none.
func some(all map[string]string, keys ...string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		if value, ok := all[key]; ok {
			if out == nil {
				out = make(map[string]string, min(len(all), len(keys)))
			}
			out[key] = interned(value)
		}
	}
	return out
}

// interned returns text in memory that equal texts share.
func interned(text string) string { return unique.Make(text).Value() }

// listedAtOnce is how many BatchJobs one page of a list has: a few dozen MiB at most.
const listedAtOnce = 8

// NewInformer creates the informers of the manager's cache. A recent API server streams the existing objects to a
// starting informer one by one. An older one sends a list, which is in memory as a whole. So BatchJobs are listed in
// small pages, and each job is stripped when its page arrives.
func NewInformer(lw toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	if _, ok := kind.(*v1alpha1.BatchJob); ok {
		lw = inPages(toolscache.ToListerWatcherWithContext(lw))
	}
	return toolscache.NewSharedIndexInformer(lw, kind, resync, indexers)
}

// inPages returns a ListerWatcher that lists BatchJobs in small pages.
func inPages(lw toolscache.ListerWatcherWithContext) toolscache.ListerWatcher {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// From its own cache an API server sends all objects in one answer, whatever the limit, so the resource version is
			// dropped. The pages of one list have the same version.
			if opts.Limit = listedAtOnce; opts.Continue == "" {
				opts.ResourceVersion, opts.ResourceVersionMatch = "", ""
			}
			all := &v1alpha1.BatchJobList{}
			for {
				out, err := lw.ListWithContext(ctx, opts)
				if err != nil {
					return nil, err
				}
				page, ok := out.(*v1alpha1.BatchJobList)
				if !ok {
					return nil, fmt.Errorf("listing BatchJobs: the answer is a %T", out)
				}
				for i := range page.Items {
					stripped, err := stripJob(&page.Items[i])
					if err != nil {
						return nil, err
					}
					if job, ok := stripped.(*v1alpha1.BatchJob); ok {
						all.Items = append(all.Items, *job)
					}
				}
				all.ListMeta = page.ListMeta
				if opts.Continue = page.Continue; opts.Continue == "" {
					return all, nil
				}
			}
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			return lw.WatchWithContext(ctx, opts)
		},
	}
}
