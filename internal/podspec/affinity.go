// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
)

// applyAffinity adds the user's affinity to what the operator requires of nodes.
func (b *builder) applyAffinity() {
	a := b.env.Kubernetes.Affinity
	if a == nil {
		return
	}
	spec := &b.pod.Spec
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if n := a.NodeAffinity; n != nil {
		if spec.Affinity.NodeAffinity == nil {
			spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
		}
		addNodeAffinity(spec.Affinity.NodeAffinity, n)
	}
	if p := a.PodAffinity; p != nil {
		out := &corev1.PodAffinity{}
		out.RequiredDuringSchedulingIgnoredDuringExecution, out.PreferredDuringSchedulingIgnoredDuringExecution = b.podTerms(p)
		spec.Affinity.PodAffinity = out
	}
	if p := a.PodAntiAffinity; p != nil {
		out := &corev1.PodAntiAffinity{}
		out.RequiredDuringSchedulingIgnoredDuringExecution, out.PreferredDuringSchedulingIgnoredDuringExecution = b.podTerms(p)
		spec.Affinity.PodAntiAffinity = out
	}
}

func addNodeAffinity(to *corev1.NodeAffinity, n *v1alpha1.NodeAffinity) {
	for _, p := range n.Preferred {
		to.PreferredDuringSchedulingIgnoredDuringExecution = append(to.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: weight(p.Weight), Preference: corev1.NodeSelectorTerm{MatchExpressions: nodeRequirements(p.Preference)}})
	}
	if n.Required == nil {
		return
	}
	var ours []corev1.NodeSelectorTerm
	if r := to.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		ours = r.NodeSelectorTerms
	}
	to.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: both(ours, n.Required.NodeSelectorTerms)}
}

// both returns the terms of which a node meets one if it meets one of ours and one of theirs:
// every pair of them as one term. Without ours it is theirs.
func both(ours []corev1.NodeSelectorTerm, theirs []v1alpha1.NodeSelectorTerm) []corev1.NodeSelectorTerm {
	if len(ours) == 0 {
		ours = []corev1.NodeSelectorTerm{{}}
	}
	out := make([]corev1.NodeSelectorTerm, 0, len(ours)*len(theirs))
	for _, our := range ours {
		for _, their := range theirs {
			pair := make([]corev1.NodeSelectorRequirement, 0, len(our.MatchExpressions)+len(their.MatchExpressions))
			for i := range our.MatchExpressions {
				pair = append(pair, *our.MatchExpressions[i].DeepCopy())
			}
			out = append(out, corev1.NodeSelectorTerm{MatchExpressions: append(pair, nodeRequirements(their)...)})
		}
	}
	return out
}

func nodeRequirements(t v1alpha1.NodeSelectorTerm) []corev1.NodeSelectorRequirement {
	var out []corev1.NodeSelectorRequirement
	for _, e := range t.MatchExpressions {
		out = append(out, corev1.NodeSelectorRequirement{Key: e.Key, Operator: corev1.NodeSelectorOperator(e.Operator), Values: slices.Clone(e.Values)})
	}
	return out
}

func (b *builder) podTerms(p *v1alpha1.PodAffinity) (required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i := range p.Required {
		required = append(required, b.podTerm(&p.Required[i]))
	}
	for i := range p.Preferred {
		preferred = append(preferred, corev1.WeightedPodAffinityTerm{Weight: weight(p.Preferred[i].Weight), PodAffinityTerm: b.podTerm(&p.Preferred[i].PodAffinityTerm)})
	}
	return required, preferred
}

func (b *builder) podTerm(t *v1alpha1.PodAffinityTerm) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{LabelSelector: b.podSelector(t.LabelSelector), TopologyKey: t.TopologyKey, MatchLabelKeys: slices.Clone(t.MatchLabelKeys)}
}

// podSelector returns a selector; without one, that of the Pods of the task, of this job.
func (b *builder) podSelector(s *v1alpha1.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		own := map[string]string{}
		for _, key := range []string{v1alpha1.LabelJobID, v1alpha1.LabelTaskName} {
			own[key] = b.pod.Labels[key]
		}
		return &metav1.LabelSelector{MatchLabels: own}
	}
	out := &metav1.LabelSelector{MatchLabels: maps.Clone(s.MatchLabels)}
	for _, e := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: slices.Clone(e.Values)})
	}
	return out
}

// applySpread adds the constraints of how Pods are spread.
func (b *builder) applySpread() {
	for i := range b.env.Kubernetes.TopologySpreadConstraints {
		c := &b.env.Kubernetes.TopologySpreadConstraints[i]
		out := corev1.TopologySpreadConstraint{
			MaxSkew: weight(c.MaxSkew), TopologyKey: c.TopologyKey, WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(c.WhenUnsatisfiable),
			LabelSelector: b.podSelector(c.LabelSelector), MinDomains: narrow(c.MinDomains), MatchLabelKeys: slices.Clone(c.MatchLabelKeys),
		}
		if c.NodeAffinityPolicy != "" {
			out.NodeAffinityPolicy = new(corev1.NodeInclusionPolicy(c.NodeAffinityPolicy))
		}
		if c.NodeTaintsPolicy != "" {
			out.NodeTaintsPolicy = new(corev1.NodeInclusionPolicy(c.NodeTaintsPolicy))
		}
		b.pod.Spec.TopologySpreadConstraints = append(b.pod.Spec.TopologySpreadConstraints, out)
	}
}

// weight is a number that must be given.
func weight(n *int64) int32 {
	if n == nil {
		return 0
	}
	return *narrow(n)
}
