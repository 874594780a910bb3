// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podspec builds the Pod that runs one attempt of one task instance.
//
//	BatchJob, or ComputeEnv --> resolve.Env   where and on what, every default decided
//	catalogue, nodes        --> Cluster       what the names in it mean here
//	Build(job, instance, Env, Cluster) --> Pod
//
// It is pure, and called again for each Pod: the catalogue may have changed, and so may the
// nodes that an address belongs to.
package podspec

import (
	"fmt"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/resolve"
)

// ContainerName is the name of the container that runs the command.
const ContainerName = "task"

// user is the account that commands run as. It owns nothing in any image.
const user int64 = 65532

// Cluster is what the names of a request mean in this cluster.
type Cluster struct {
	// Catalog has machine types, images and disks. Required.
	Catalog *catalog.Catalog
	// Agent is how Pods get the agent, which moves their data.
	Agent Agent
	// Hosts returns the host names of the nodes that have any of the addresses, sorted.
	// nil: no node has any.
	Hosts func(ips []string) []string
}

// Error says why there can be no Pod: what a request names is not, or no more, in the
// cluster.
type Error struct {
	// Reason is one of the API's reasons.
	Reason  string
	Message string
}

func (e *Error) Error() string { return e.Message }

func failure(reason, format string, args ...any) *Error {
	return &Error{reason, fmt.Sprintf(format, args...)}
}

// Meta returns the metadata of the Pod of an instance; env is nil where it is not known.
//
// The name is a function of job, task, index, attempt and run. A Pod is born with the
// tracking finalizer and label, owned by job.
func Meta(job *v1alpha1.BatchJob, spec *resolve.Job, in resolve.Instance, env *resolve.Env) metav1.ObjectMeta {
	labels, annotations := make(map[string]string, 16), make(map[string]string, 4)
	if env != nil {
		maps.Copy(labels, env.Labels)
		maps.Copy(annotations, env.Annotations)
	}
	labels[v1alpha1.LabelJobID] = spec.ID
	labels[v1alpha1.LabelTaskName] = spec.Tasks[in.Task].Label
	labels[v1alpha1.LabelTaskInstanceIndex] = strconv.Itoa(in.Index)
	labels[v1alpha1.LabelAttempt] = strconv.Itoa(in.Attempt)
	labels[v1alpha1.LabelRun] = strconv.Itoa(in.Run)
	labels[v1alpha1.LabelTracked] = "true"
	annotations[v1alpha1.AnnotationJobName] = job.Name
	return metav1.ObjectMeta{
		Name: spec.PodName(in), Namespace: job.Namespace, Labels: labels, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, v1alpha1.GroupVersion.WithKind("BatchJob"))},
		Finalizers:      []string{v1alpha1.FinalizerTracking},
	}
}

// Build returns the Pod of an instance. spec is what job resolves to, and env that of the
// instance's task. Without wishes of its own the Pod passes the Pod Security level
// restricted. The error is of type *Error. Cost: some microseconds, whatever the job's size.
func Build(job *v1alpha1.BatchJob, spec *resolve.Job, in resolve.Instance, env *resolve.Env, cluster Cluster) (*corev1.Pod, error) {
	t := &spec.Tasks[in.Task]
	all, system := variables(spec, t, in)
	b := &builder{task: t, env: env, cluster: cluster, system: system, pod: &corev1.Pod{
		ObjectMeta: Meta(job, spec, in, env),
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: new(false),
			EnableServiceLinks:           new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
				RunAsUser:      new(user),
				RunAsGroup:     new(user),
				FSGroup:        new(user),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			PriorityClassName: cluster.Catalog.PriorityClass(spec.Priority),
			Containers: []corev1.Container{{
				Name:    ContainerName,
				Command: []string{"/bin/sh", "-c", literal(t.Spec.Application.Command)},
				Env:     all,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}}
	b.container = &b.pod.Spec.Containers[0]
	types, err := b.instanceTypes()
	if err != nil {
		return nil, err
	}
	if err := b.place(types); err != nil {
		return nil, err
	}
	b.size(types, in.Machine)
	b.addDisks()
	b.addImage()
	b.applyRunOptions()
	b.applyKubernetes()
	if err := b.addData(spec, in); err != nil {
		return nil, err
	}
	b.nameServiceAccount()
	return b.pod, nil
}

// builder is one call of Build.
type builder struct {
	task      *resolve.Task
	env       *resolve.Env
	cluster   Cluster
	pod       *corev1.Pod
	container *corev1.Container
	system    []corev1.EnvVar
}
