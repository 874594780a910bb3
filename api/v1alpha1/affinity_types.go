// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Affinity says near what the Pods run. It is that of a Pod without namespaces: the Pods that
// it looks at are those of its own namespace.
type Affinity struct {
	// nodeAffinity is about labels of nodes.
	// +optional
	NodeAffinity *NodeAffinity `json:"nodeAffinity,omitempty"`

	// podAffinity brings Pods to where others are.
	// +optional
	PodAffinity *PodAffinity `json:"podAffinity,omitempty"`

	// podAntiAffinity keeps Pods from where others are.
	// +optional
	PodAntiAffinity *PodAffinity `json:"podAntiAffinity,omitempty"`
}

// NodeAffinity is about labels of nodes.
type NodeAffinity struct {
	// requiredDuringSchedulingIgnoredDuringExecution must hold, as well as what zones, hosts
	// and machine types require.
	// +optional
	Required *NodeSelector `json:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`

	// preferredDuringSchedulingIgnoredDuringExecution are preferences, beside those for the
	// first machine types. At most 16.
	// +listType=atomic
	// +optional
	Preferred []PreferredSchedulingTerm `json:"preferredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// NodeSelector is terms, of which a node must meet one.
type NodeSelector struct {
	// nodeSelectorTerms are the terms. 1 to 8.
	// +listType=atomic
	// +optional
	NodeSelectorTerms []NodeSelectorTerm `json:"nodeSelectorTerms,omitempty"`
}

// NodeSelectorTerm is requirements that a node must meet all.
type NodeSelectorTerm struct {
	// matchExpressions are the requirements. 1 to 16.
	// +listType=atomic
	// +optional
	MatchExpressions []SelectorRequirement `json:"matchExpressions,omitempty"`
}

// SelectorRequirement is about one label.
type SelectorRequirement struct {
	// key is that of the label. Required.
	// +optional
	Key string `json:"key,omitempty"`

	// operator is In, NotIn, Exists or DoesNotExist; for nodes also Gt or Lt. Required.
	// +optional
	Operator string `json:"operator,omitempty"`

	// values are for In and NotIn; one number for Gt and Lt. At most 64.
	// +listType=atomic
	// +optional
	Values []string `json:"values,omitempty"`
}

// PreferredSchedulingTerm is a preference of nodes.
type PreferredSchedulingTerm struct {
	// weight is 1 to 100. Required.
	// +optional
	Weight *int64 `json:"weight,omitempty"`

	// preference is what a node should meet.
	// +optional
	Preference NodeSelectorTerm `json:"preference,omitempty"`
}

// PodAffinity is about Pods that run already.
type PodAffinity struct {
	// requiredDuringSchedulingIgnoredDuringExecution must all hold. At most 8.
	// +listType=atomic
	// +optional
	Required []PodAffinityTerm `json:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`

	// preferredDuringSchedulingIgnoredDuringExecution are preferences. At most 16.
	// +listType=atomic
	// +optional
	Preferred []WeightedPodAffinityTerm `json:"preferredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// WeightedPodAffinityTerm is a preference.
type WeightedPodAffinityTerm struct {
	// weight is 1 to 100. Required.
	// +optional
	Weight *int64 `json:"weight,omitempty"`

	// podAffinityTerm is what should hold.
	// +optional
	PodAffinityTerm PodAffinityTerm `json:"podAffinityTerm,omitempty"`
}

// PodAffinityTerm is Pods of the namespace, and how near to them is meant.
type PodAffinityTerm struct {
	// labelSelector selects the Pods. Absent: those of the same task of the same job. {}: all.
	// +optional
	LabelSelector *LabelSelector `json:"labelSelector,omitempty"`

	// topologyKey is a label of nodes, such as kubernetes.io/hostname: near is the same value.
	// Required.
	// +optional
	TopologyKey string `json:"topologyKey,omitempty"`

	// matchLabelKeys are labels whose values must be those of this Pod, such as
	// batchcompute.dev/job-id. They need labelSelector, and must not be in it. At most 16.
	// +listType=atomic
	// +optional
	MatchLabelKeys []string `json:"matchLabelKeys,omitempty"`
}

// LabelSelector selects Pods by their labels. All of it must match.
type LabelSelector struct {
	// matchLabels are labels and their values. At most 64.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions are requirements. At most 16.
	// +listType=atomic
	// +optional
	MatchExpressions []SelectorRequirement `json:"matchExpressions,omitempty"`
}

// TopologySpreadConstraint says how evenly Pods are spread.
type TopologySpreadConstraint struct {
	// maxSkew is by how many Pods two domains may differ, 1 or more. Required.
	// +optional
	MaxSkew *int64 `json:"maxSkew,omitempty"`

	// topologyKey is a label of nodes: each of its values is a domain. Required.
	// +optional
	TopologyKey string `json:"topologyKey,omitempty"`

	// whenUnsatisfiable is DoNotSchedule or ScheduleAnyway. Required.
	// +optional
	WhenUnsatisfiable string `json:"whenUnsatisfiable,omitempty"`

	// labelSelector selects the Pods that are counted. Absent: those of the same task of the
	// same job.
	// +optional
	LabelSelector *LabelSelector `json:"labelSelector,omitempty"`

	// minDomains is how many domains there must be, 1 or more, with DoNotSchedule.
	// +optional
	MinDomains *int64 `json:"minDomains,omitempty"`

	// nodeAffinityPolicy is Honor or Ignore. Default: Honor, domains of nodes that the Pod
	// cannot have do not count.
	// +optional
	NodeAffinityPolicy string `json:"nodeAffinityPolicy,omitempty"`

	// nodeTaintsPolicy is Honor or Ignore. Default: Ignore, nodes with taints count.
	// +optional
	NodeTaintsPolicy string `json:"nodeTaintsPolicy,omitempty"`

	// matchLabelKeys are labels whose values must be those of this Pod. They need
	// labelSelector, and must not be in it. At most 16.
	// +listType=atomic
	// +optional
	MatchLabelKeys []string `json:"matchLabelKeys,omitempty"`
}
