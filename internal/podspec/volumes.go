// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// addVolumes adds the volumes that the user defines, and mounts them.
func (b *builder) addVolumes() {
	k := b.env.Kubernetes
	for i := range k.Volumes {
		b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, corev1.Volume{Name: k.Volumes[i].Name, VolumeSource: b.volumeSource(&k.Volumes[i])})
	}
	if len(k.VolumeMounts) > 0 {
		expand := b.placeholders()
		for i := range k.VolumeMounts {
			m := &k.VolumeMounts[i]
			b.container.VolumeMounts = append(b.container.VolumeMounts, corev1.VolumeMount{
				Name: m.Name, MountPath: m.MountPath, SubPath: expand.Replace(m.SubPath), ReadOnly: m.ReadOnly,
			})
		}
	}
	if k.ServiceAccountToken != nil {
		b.addToken(k.ServiceAccountToken)
	}
}

// nameServiceAccount names the default account of a Pod that has a token: the API server wants it to be said.
func (b *builder) nameServiceAccount() {
	if b.pod.Spec.ServiceAccountName == "" && slices.ContainsFunc(b.pod.Spec.Volumes, hasToken) {
		b.pod.Spec.ServiceAccountName = defaultServiceAccount
	}
}

// defaultServiceAccount is the service account of Pods that name none.
const defaultServiceAccount = "default"

func hasToken(v corev1.Volume) bool {
	return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil })
}

// placeholders replaces ${NAME} by the value of the system variable of that name.
func (b *builder) placeholders() *strings.Replacer {
	var pairs []string
	for _, v := range b.system {
		pairs = append(pairs, "${"+v.Name+"}", v.Value)
	}
	return strings.NewReplacer(pairs...)
}

// volumeSource returns the source of a volume, of which validation has found that it has one.
func (b *builder) volumeSource(v *v1alpha1.Volume) (out corev1.VolumeSource) {
	if s := v.PersistentVolumeClaim; s != nil {
		out.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.ClaimName, ReadOnly: s.ReadOnly}
	}
	if s := v.ConfigMap; s != nil {
		out.ConfigMap = &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.Name}, Items: files(s.Items), DefaultMode: narrow(s.DefaultMode), Optional: truth(s.Optional),
		}
	}
	if s := v.Secret; s != nil {
		out.Secret = &corev1.SecretVolumeSource{
			SecretName: s.SecretName, Items: files(s.Items), DefaultMode: narrow(s.DefaultMode), Optional: truth(s.Optional),
		}
	}
	if s := v.EmptyDir; s != nil {
		out.EmptyDir = &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMedium(s.Medium)}
		if s.SizeLimit != nil {
			size := s.SizeLimit.DeepCopy()
			out.EmptyDir.SizeLimit = &size
		}
	}
	if s := v.Ephemeral; s != nil {
		out.Ephemeral = &corev1.EphemeralVolumeSource{VolumeClaimTemplate: claimTemplate(s.VolumeClaimTemplate)}
	}
	if s := v.Image; s != nil {
		out.Image = &corev1.ImageVolumeSource{Reference: b.cluster.Catalog.Mirror(s.Reference), PullPolicy: corev1.PullPolicy(s.PullPolicy)}
	}
	if s := v.CSI; s != nil {
		out.CSI = &corev1.CSIVolumeSource{Driver: s.Driver, ReadOnly: truth(s.ReadOnly), VolumeAttributes: maps.Clone(s.VolumeAttributes)}
		if s.FSType != "" {
			out.CSI.FSType = new(s.FSType)
		}
		if s.NodePublishSecretRef != nil {
			out.CSI.NodePublishSecretRef = &corev1.LocalObjectReference{Name: s.NodePublishSecretRef.Name}
		}
	}
	if s := v.Projected; s != nil {
		out.Projected = &corev1.ProjectedVolumeSource{DefaultMode: narrow(s.DefaultMode)}
		for i := range s.Sources {
			out.Projected.Sources = append(out.Projected.Sources, projection(&s.Sources[i]))
		}
	}
	return out
}

func claimTemplate(t *v1alpha1.VolumeClaimTemplate) *corev1.PersistentVolumeClaimTemplate {
	if t == nil {
		return nil
	}
	out := &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: t.Spec.Resources.Requests.DeepCopy()},
	}}
	if modes := t.Spec.AccessModes; len(modes) > 0 {
		out.Spec.AccessModes = nil
		for _, mode := range modes {
			out.Spec.AccessModes = append(out.Spec.AccessModes, corev1.PersistentVolumeAccessMode(mode))
		}
	}
	if class := t.Spec.StorageClassName; class != nil {
		out.Spec.StorageClassName = new(*class)
	}
	return out
}

func projection(s *v1alpha1.VolumeProjection) (out corev1.VolumeProjection) {
	if k := s.Secret; k != nil {
		out.Secret = &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: k.Name}, Items: files(k.Items), Optional: truth(k.Optional),
		}
	}
	if k := s.ConfigMap; k != nil {
		out.ConfigMap = &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: k.Name}, Items: files(k.Items), Optional: truth(k.Optional),
		}
	}
	if t := s.ServiceAccountToken; t != nil {
		out.ServiceAccountToken = token(t.Audience, t.ExpirationSeconds, t.Path)
	}
	return out
}

// tokenVolume is the volume of serviceAccountToken.
const tokenVolume = v1alpha1.VolumePrefix + "token"

// addToken mounts what a kubelet mounts for a Pod that automounts its token: the token, the
// certificate of the API server and the namespace.
func (b *builder) addToken(t *v1alpha1.ServiceAccountToken) {
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, corev1.Volume{Name: tokenVolume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: token(t.Audience, t.ExpirationSeconds, corev1.ServiceAccountTokenKey)},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: corev1.ServiceAccountRootCAKey, Path: corev1.ServiceAccountRootCAKey}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: corev1.ServiceAccountNamespaceKey, FieldRef: field("metadata.namespace")},
			}}},
		}},
	}})
	b.container.VolumeMounts = append(b.container.VolumeMounts, corev1.VolumeMount{
		Name: tokenVolume, MountPath: cmp.Or(t.MountPath, v1alpha1.DefaultTokenPath), ReadOnly: true,
	})
}

// rootCAConfigMap is in every namespace: the controller manager publishes it.
const rootCAConfigMap = "kube-root-ca.crt"

// token is a token for an audience, with the validity that Kubernetes has as its default.
func token(audience string, seconds *int64, path string) *corev1.ServiceAccountTokenProjection {
	validity := int64(v1alpha1.DefaultTokenSeconds)
	if seconds != nil {
		validity = *seconds
	}
	return &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: &validity, Path: path}
}

func files(items []v1alpha1.KeyToPath) []corev1.KeyToPath {
	var out []corev1.KeyToPath
	for _, item := range items {
		out = append(out, corev1.KeyToPath{Key: item.Key, Path: item.Path, Mode: narrow(item.Mode)})
	}
	return out
}

// narrow copies a number that validation has found to be a small one.
func narrow(n *int64) *int32 {
	if n == nil {
		return nil
	}
	return new(int32(*n))
}

// truth is true as an optional value, and nil for false, which is the default.
func truth(yes bool) *bool {
	if !yes {
		return nil
	}
	return new(true)
}
