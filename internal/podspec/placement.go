// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
)

// place says which nodes the Pod may run on, and which it would like best.
//
// Zones, hosts and the charge type must be right. Of machine types that the catalogue gives
// labels to, the node must be of one; all are liked in the order in which they are listed.
func (b *builder) place(types []*catalog.InstanceType) error {
	var must []corev1.NodeSelectorRequirement
	if len(b.env.Zones) > 0 {
		must = append(must, in(corev1.LabelTopologyZone, b.env.Zones))
	}
	if len(b.env.HostIDs) > 0 || len(b.env.HostIPs) > 0 {
		hosts, err := b.hosts()
		if err != nil {
			return err
		}
		must = append(must, in(corev1.LabelHostname, hosts))
	}
	if name := b.env.Data.InstanceChargeType; name != "" {
		if charge, ok := b.cluster.Catalog.ChargeType(name); ok {
			must = append(must, labels(charge.NodeLabels)...)
			b.pod.Spec.Tolerations = append(b.pod.Spec.Tolerations, charge.Tolerations...)
		}
	}
	affinity := &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: likes(types)}
	if terms := demand(must, types); len(terms) > 0 {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
	}
	if len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 || affinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		b.pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: affinity}
	}
	return nil
}

// hosts returns the names of the hosts that may be used, sorted.
func (b *builder) hosts() ([]string, error) {
	hosts := slices.Clone(b.env.HostIDs)
	if len(b.env.HostIPs) > 0 {
		var found []string
		if b.cluster.Hosts != nil {
			found = b.cluster.Hosts(b.env.HostIPs)
		}
		b.pod.Annotations[v1alpha1.AnnotationHosts] = strings.Join(found, ",")
		hosts = append(hosts, found...)
	}
	if len(hosts) == 0 {
		return nil, failure(v1alpha1.ReasonHostNotFound, "no node has the address %s", strings.Join(b.env.HostIPs, " or "))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// demand returns the terms of which a node must meet one: all of must, and the labels of
// one of the types. A type without labels can be any node.
func demand(must []corev1.NodeSelectorRequirement, types []*catalog.InstanceType) []corev1.NodeSelectorTerm {
	var terms []corev1.NodeSelectorTerm
	for _, t := range types {
		if len(t.NodeLabels) == 0 {
			terms = nil
			break
		}
		terms = append(terms, corev1.NodeSelectorTerm{MatchExpressions: slices.Concat(must, labels(t.NodeLabels))})
	}
	if len(terms) == 0 && len(must) > 0 {
		terms = []corev1.NodeSelectorTerm{{MatchExpressions: must}}
	}
	return terms
}

// likes returns the types as preferences, the first one weighing most. What the catalogue
// gives no labels to is known by the label that clouds set.
func likes(types []*catalog.InstanceType) []corev1.PreferredSchedulingTerm {
	out := make([]corev1.PreferredSchedulingTerm, 0, len(types))
	for i, t := range types {
		expressions := labels(t.NodeLabels)
		if len(expressions) == 0 {
			expressions = []corev1.NodeSelectorRequirement{in(corev1.LabelInstanceTypeStable, []string{t.Name})}
		}
		out = append(out, corev1.PreferredSchedulingTerm{
			Weight: int32(max(1, 100-10*i)), Preference: corev1.NodeSelectorTerm{MatchExpressions: expressions},
		})
	}
	return out
}

func labels(set map[string]string) []corev1.NodeSelectorRequirement {
	if len(set) == 0 {
		return nil
	}
	out := make([]corev1.NodeSelectorRequirement, 0, len(set))
	for _, key := range slices.Sorted(maps.Keys(set)) {
		out = append(out, in(key, []string{set[key]}))
	}
	return out
}

func in(key string, values []string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: slices.Clone(values)}
}
