// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// applyKubernetes does what is wished for beyond the API. It comes last, and wins.
func (b *builder) applyKubernetes() {
	k, spec := b.env.Kubernetes, &b.pod.Spec
	spec.NodeSelector = maps.Clone(k.NodeSelector)
	for i := range k.Tolerations {
		spec.Tolerations = append(spec.Tolerations, *k.Tolerations[i].DeepCopy())
	}
	for _, s := range k.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s.Name})
	}
	spec.ServiceAccountName, spec.SchedulerName = k.ServiceAccountName, k.SchedulerName
	if k.RuntimeClassName != "" {
		spec.RuntimeClassName = new(k.RuntimeClassName)
	}
	if k.PriorityClassName != "" {
		spec.PriorityClassName = k.PriorityClassName
	}
	b.applyResources()
	b.applySecurity()
	b.addEnvironment()
	b.addVolumes()
	b.applyAffinity()
	b.applySpread()
	b.applyNetwork()
	b.container.ImagePullPolicy = corev1.PullPolicy(k.ImagePullPolicy)
	b.applyClaims()
}

// applyNetwork says how the Pod finds hosts.
func (b *builder) applyNetwork() {
	k, spec := b.env.Kubernetes, &b.pod.Spec
	for _, h := range k.HostAliases {
		spec.HostAliases = append(spec.HostAliases, corev1.HostAlias{IP: h.IP, Hostnames: slices.Clone(h.Hostnames)})
	}
	spec.DNSPolicy = corev1.DNSPolicy(k.DNSPolicy)
	c := k.DNSConfig
	if c == nil {
		return
	}
	spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: slices.Clone(c.Nameservers), Searches: slices.Clone(c.Searches)}
	for _, o := range c.Options {
		out := corev1.PodDNSConfigOption{Name: o.Name}
		if o.Value != nil {
			out.Value = new(*o.Value)
		}
		spec.DNSConfig.Options = append(spec.DNSConfig.Options, out)
	}
}

// applyClaims adds the claims of devices. The container uses those that it names, or all.
func (b *builder) applyClaims() {
	k := b.env.Kubernetes
	for _, claim := range k.ResourceClaims {
		out := corev1.PodResourceClaim{Name: claim.Name}
		if claim.ResourceClaimName != "" {
			out.ResourceClaimName = new(claim.ResourceClaimName)
		}
		if claim.ResourceClaimTemplateName != "" {
			out.ResourceClaimTemplateName = new(claim.ResourceClaimTemplateName)
		}
		b.pod.Spec.ResourceClaims = append(b.pod.Spec.ResourceClaims, out)
	}
	r := &b.container.Resources
	if k.Resources != nil && len(k.Resources.Claims) > 0 {
		for _, claim := range k.Resources.Claims {
			r.Claims = append(r.Claims, corev1.ResourceClaim{Name: claim.Name, Request: claim.Request})
		}
		return
	}
	for _, claim := range k.ResourceClaims {
		r.Claims = append(r.Claims, corev1.ResourceClaim{Name: claim.Name})
	}
}

// applyResources puts each resource that is given in the place of the machine's: a request
// or limit that would not fit beside it is the machine's, and goes.
func (b *builder) applyResources() {
	k := b.env.Kubernetes.Resources
	if k == nil {
		return
	}
	r := &b.container.Resources
	for _, list := range []corev1.ResourceList{k.Requests, k.Limits} {
		for name := range list {
			delete(r.Requests, name)
			delete(r.Limits, name)
		}
	}
	add := func(to *corev1.ResourceList, from corev1.ResourceList) {
		if *to == nil && len(from) > 0 {
			*to = corev1.ResourceList{}
		}
		for name, q := range from {
			(*to)[name] = q.DeepCopy()
		}
	}
	add(&r.Requests, k.Requests)
	add(&r.Limits, k.Limits)
}

func (b *builder) applySecurity() {
	k, s := b.env.Kubernetes.SecurityContext, b.pod.Spec.SecurityContext
	if k == nil {
		return
	}
	b.runAs(k.RunAsUser, k.RunAsGroup)
	if k.RunAsNonRoot != nil {
		s.RunAsNonRoot = new(*k.RunAsNonRoot)
	}
	if k.FSGroup != nil {
		s.FSGroup = new(*k.FSGroup)
	}
	s.SupplementalGroups = append(s.SupplementalGroups, k.SupplementalGroups...)
	if k.ReadOnlyRootFilesystem != nil {
		b.container.SecurityContext.ReadOnlyRootFilesystem = new(*k.ReadOnlyRootFilesystem)
	}
}
