// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podspec builds the Pod that runs one attempt of one task instance.
package podspec

import (
	"slices"
	"strconv"
	"strings"

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

// Build returns the Pod of an instance. spec is what job resolves to.
//
// The Pod's name is a function of job, task, index, attempt and run. It is born with the
// tracking finalizer and label, owned by job, and passes the Pod Security level
// restricted.
func Build(job *v1alpha1.BatchJob, spec *resolve.Job, in resolve.Instance, images *catalog.Catalog) *corev1.Pod {
	t := &spec.Tasks[in.Task]
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:      spec.PodName(in),
			Namespace: job.Namespace,
			Labels: map[string]string{
				v1alpha1.LabelJobID:             spec.ID,
				v1alpha1.LabelTaskName:          t.Label,
				v1alpha1.LabelTaskInstanceIndex: strconv.Itoa(in.Index),
				v1alpha1.LabelAttempt:           strconv.Itoa(in.Attempt),
				v1alpha1.LabelRun:               strconv.Itoa(in.Run),
				v1alpha1.LabelTracked:           "true",
			},
			Annotations:     map[string]string{v1alpha1.AnnotationJobName: job.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, v1alpha1.GroupVersion.WithKind("BatchJob"))},
			Finalizers:      []string{v1alpha1.FinalizerTracking},
		},
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
			Affinity: affinity(t),
			Containers: []corev1.Container{{
				Name:    ContainerName,
				Image:   image(t, images),
				Command: []string{"/bin/sh", "-c", literal(t.Spec.Application.Command)},
				Env:     env(spec, t, in),
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// image returns docker.image, else what imageId stands for, else the default. An
// imageId that is in no catalogue is taken for a container image.
func image(t *resolve.Task, images *catalog.Catalog) string {
	if d := t.Spec.Application.Docker; d != nil && d.Image != "" {
		return d.Image
	}
	if c := t.Spec.ComputeEnv; c != nil && c.EnvData != nil && c.EnvData.ImageID != "" {
		if ref, ok := images.Image(c.EnvData.ImageID); ok {
			return ref
		}
		return c.EnvData.ImageID
	}
	return images.DefaultImage
}

// env returns the user's variables and then the system's, which therefore win.
func env(spec *resolve.Job, t *resolve.Task, in resolve.Instance) []corev1.EnvVar {
	out := make([]corev1.EnvVar, 0, len(t.Spec.EnvVars)+4)
	for _, v := range t.Spec.EnvVars {
		out = append(out, corev1.EnvVar{Name: v.Name, Value: literal(v.Value)})
	}
	return append(out,
		corev1.EnvVar{Name: v1alpha1.EnvJobID, Value: spec.ID},
		corev1.EnvVar{Name: v1alpha1.EnvTaskName, Value: t.Name},
		corev1.EnvVar{Name: v1alpha1.EnvTaskInstanceNum, Value: strconv.Itoa(t.InstanceNum)},
		corev1.EnvVar{Name: v1alpha1.EnvTaskInstanceIndex, Value: strconv.Itoa(in.Index)},
	)
}

// literal guards text against the expansion of $(NAME) and $$ that Kubernetes does in
// commands and values: a shell must get its own $(date) and $$ as they were written.
func literal(text string) string {
	return strings.ReplaceAll(text, "$", "$$")
}

// affinity requires a node in one of the task's zones.
func affinity(t *resolve.Task) *corev1.Affinity {
	if len(t.Zones) == 0 {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: slices.Clone(t.Zones),
				}},
			}},
		},
	}}
}
