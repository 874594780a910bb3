// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// addImage gives the container docker.image, else what imageId stands for, else the
// default image, each from where the catalogue has a mirror of its registry. An imageId
// that is in no catalogue is taken for a container image.
func (b *builder) addImage() {
	c := b.cluster.Catalog
	image := c.DefaultImage
	docker := b.task.Spec.Application.Docker
	switch id := b.env.Data.ImageID; {
	case docker != nil && docker.Image != "":
		image = docker.Image
		if docker.Server != "" && !hasRegistry(image) {
			image = docker.Server + "/" + image
		}
	case id != "":
		image = id
		if ref, ok := c.Image(id); ok {
			image = ref
		}
	}
	b.container.Image = c.Mirror(image)
	if docker != nil && docker.PasswordSecretRef != nil {
		b.pod.Spec.ImagePullSecrets = append(b.pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: docker.PasswordSecretRef.Name})
	}
}

// hasRegistry reports whether an image's name begins with a registry: what is before the
// first slash, if it has a dot or a port or is localhost.
func hasRegistry(image string) bool {
	first, _, ok := strings.Cut(image, "/")
	return ok && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// applyRunOptions does what dockerRunOption asks for beyond variables and GPUs.
func (b *builder) applyRunOptions() {
	o := &b.task.RunOptions
	b.runAs(o.User, o.Group)
	b.container.WorkingDir = o.WorkingDir
	const shm = "/dev/shm"
	taken := slices.ContainsFunc(b.container.VolumeMounts, func(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == shm }) ||
		slices.ContainsFunc(b.env.Kubernetes.VolumeMounts, func(m v1alpha1.VolumeMount) bool { return path.Clean(m.MountPath) == shm })
	if o.ShmSize != nil && !taken { // a ComputeEnv may have a disk or a volume there
		size := o.ShmSize.DeepCopy()
		b.mount(corev1.Volume{Name: "shm", VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size},
		}}, shm)
	}
}

// runAs sets the user and group, where they are given. Root is not refused then.
func (b *builder) runAs(user, group *int64) {
	s := b.pod.Spec.SecurityContext
	if user != nil {
		s.RunAsUser, s.RunAsNonRoot = new(*user), new(*user != 0)
	}
	if group != nil {
		s.RunAsGroup = new(*group)
	}
}
