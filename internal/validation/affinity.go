// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"math"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of affinity. A node affinity is written once for each machine type of a request, so
// its terms are few.
const (
	maxTerms        = 8
	maxPreferences  = 16
	maxRequirements = 16
	maxValues       = 64
	maxMatchKeys    = 16
	maxSpread       = 8
	maxWeight       = 100
	// maxAffinity is the size of affinity as JSON: with maxInstanceTypes a Pod has most of it that
	// many times, and must fit into etcd. Unit: bytes.
	maxAffinity = 16 << 10
)

var (
	selectorOperators = []string{
		string(metav1.LabelSelectorOpIn), string(metav1.LabelSelectorOpNotIn), string(metav1.LabelSelectorOpExists), string(metav1.LabelSelectorOpDoesNotExist),
	}
	nodeOperators      = append(slices.Clone(selectorOperators), string(corev1.NodeSelectorOpGt), string(corev1.NodeSelectorOpLt))
	unsatisfiable      = []string{string(corev1.DoNotSchedule), string(corev1.ScheduleAnyway)}
	nodeInclusionRules = []string{string(corev1.NodeInclusionPolicyHonor), string(corev1.NodeInclusionPolicyIgnore)}
)

// checkAffinity checks kubernetes.affinity.
func (c *checker) checkAffinity(a *v1alpha1.Affinity, path *field.Path) {
	if a == nil {
		return
	}
	if size := encodedSize(affinityShape, reflect.ValueOf(a).Elem()); size > maxAffinity {
		c.wrong(path, "affinity", "must be at most %d bytes as JSON, got %d", maxAffinity, size)
		return
	}
	path = path.Child("affinity")
	if n := a.NodeAffinity; n != nil {
		c.checkNodeAffinity(n, path.Child("nodeAffinity"))
	}
	if p := a.PodAffinity; p != nil {
		c.checkPodAffinity(p, path.Child("podAffinity"))
	}
	if p := a.PodAntiAffinity; p != nil {
		c.checkPodAffinity(p, path.Child("podAntiAffinity"))
	}
}

// The names of both lists, as a Pod has them.
const (
	requiredTerms  = "requiredDuringSchedulingIgnoredDuringExecution"
	preferredTerms = "preferredDuringSchedulingIgnoredDuringExecution"
)

func (c *checker) checkNodeAffinity(n *v1alpha1.NodeAffinity, path *field.Path) {
	if n.Required != nil {
		p := path.Child(requiredTerms)
		terms := n.Required.NodeSelectorTerms
		if len(terms) == 0 {
			c.fail(errcode.MissingParameter, p, "nodeSelectorTerms", "must have at least one term")
		}
		if c.checkCount(len(terms), maxTerms, p, "nodeSelectorTerms") {
			for i := range terms {
				c.checkNodeTerm(&terms[i], p.Child("nodeSelectorTerms").Index(i))
			}
		}
	}
	if c.checkCount(len(n.Preferred), maxPreferences, path, preferredTerms) {
		for i := range n.Preferred {
			p := path.Child(preferredTerms).Index(i)
			c.checkWeight(n.Preferred[i].Weight, p)
			c.checkNodeTerm(&n.Preferred[i].Preference, p.Child("preference"))
		}
	}
}

func (c *checker) checkWeight(weight *int64, path *field.Path) {
	if n, ok := c.requiredNumber(weight, path, "weight"); ok && weight != nil && (n < 1 || n > maxWeight) {
		c.wrong(path, "weight", "must be from 1 to %d, got %d", maxWeight, n)
	}
}

// checkNodeTerm checks a term. One without requirements would be met by no node in
// Kubernetes, and by any that the operator's own requirements allow once they are combined.
func (c *checker) checkNodeTerm(t *v1alpha1.NodeSelectorTerm, path *field.Path) {
	if len(t.MatchExpressions) == 0 {
		c.fail(errcode.MissingParameter, path, "matchExpressions", "must have at least one requirement")
	}
	c.checkRequirements(t.MatchExpressions, nodeOperators, path)
	if p := c.policy(); p != nil && p.NodeSelectorKeys != nil {
		for i := range t.MatchExpressions {
			c.checkAllowed(t.MatchExpressions[i].Key, p.NodeSelectorKeys, path.Child("matchExpressions").Index(i), "key", "nodeSelectorKeys")
		}
	}
}

func (c *checker) checkRequirements(list []v1alpha1.SelectorRequirement, operators []string, path *field.Path) {
	if !c.checkCount(len(list), maxRequirements, path, "matchExpressions") {
		return
	}
	for i := range list {
		c.checkRequirement(&list[i], operators, path.Child("matchExpressions").Index(i))
	}
}

func (c *checker) checkRequirement(r *v1alpha1.SelectorRequirement, operators []string, path *field.Path) {
	c.checkLabelKey(r.Key, path, "key")
	if c.required(r.Operator, path, "operator") {
		c.oneOfValues(r.Operator, operators, path, "operator")
	}
	if !c.checkCount(len(r.Values), maxValues, path, "values") {
		return
	}
	switch r.Operator {
	case string(metav1.LabelSelectorOpIn), string(metav1.LabelSelectorOpNotIn):
		if len(r.Values) == 0 {
			c.wrong(path, "values", "must have at least one value when operator is %s", r.Operator)
		}
	case string(metav1.LabelSelectorOpExists), string(metav1.LabelSelectorOpDoesNotExist):
		if len(r.Values) > 0 {
			c.wrong(path, "values", "must be empty when operator is %s", r.Operator)
		}
	case string(corev1.NodeSelectorOpGt), string(corev1.NodeSelectorOpLt):
		if len(r.Values) != 1 || !isInteger(r.Values[0]) {
			c.wrong(path, "values", "must be one whole number when operator is %s", r.Operator)
		}
		return
	}
	for i, value := range r.Values {
		if value != "" && !isLabelValue(value) {
			c.failItem(errcode.InvalidParameterValue, path, "values", i, "must be at most %d letters, digits, -, _ and ., got %s", maxLabelValue, quote(value))
		}
	}
}

// isInteger says whether s is a number and a label's value, which has no sign.
func isInteger(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil && isLabelValue(s)
}

// checkLabelKey checks the key of a label, which must be given.
func (c *checker) checkLabelKey(key string, path *field.Path, name string) {
	if c.required(key, path, name) && !isQualifiedName(key) {
		c.wrong(path, name, "must be a label's key such as topology.kubernetes.io/zone, got %s", quote(key))
	}
}

func (c *checker) checkPodAffinity(a *v1alpha1.PodAffinity, path *field.Path) {
	if c.checkCount(len(a.Required), maxTerms, path, requiredTerms) {
		for i := range a.Required {
			c.checkPodTerm(&a.Required[i], path.Child(requiredTerms).Index(i))
		}
	}
	if c.checkCount(len(a.Preferred), maxPreferences, path, preferredTerms) {
		for i := range a.Preferred {
			p := path.Child(preferredTerms).Index(i)
			c.checkWeight(a.Preferred[i].Weight, p)
			c.checkPodTerm(&a.Preferred[i].PodAffinityTerm, p.Child("podAffinityTerm"))
		}
	}
}

func (c *checker) checkPodTerm(t *v1alpha1.PodAffinityTerm, path *field.Path) {
	c.checkSelector(t.LabelSelector, path)
	c.checkLabelKey(t.TopologyKey, path, "topologyKey")
	c.checkMatchKeys(t.MatchLabelKeys, t.LabelSelector, path)
}

func (c *checker) checkSelector(s *v1alpha1.LabelSelector, path *field.Path) {
	if s == nil {
		return
	}
	path = path.Child("labelSelector")
	c.checkLabels(s.MatchLabels, false, path, "matchLabels")
	c.checkRequirements(s.MatchExpressions, selectorOperators, path)
}

// checkMatchKeys checks keys of which the Pod's own values are added to a selector.
func (c *checker) checkMatchKeys(keys []string, s *v1alpha1.LabelSelector, path *field.Path) {
	if len(keys) == 0 || !c.checkCount(len(keys), maxMatchKeys, path, "matchLabelKeys") {
		return
	}
	if s == nil {
		c.wrong(path, "matchLabelKeys", "must not be given without labelSelector; labelSelector: {} selects all Pods of the namespace")
		return
	}
	seen := make(map[string]bool, len(keys))
	for key := range s.MatchLabels {
		seen[key] = true
	}
	for i := range s.MatchExpressions {
		seen[s.MatchExpressions[i].Key] = true
	}
	for i, key := range keys {
		switch p := path.Child("matchLabelKeys").Index(i); {
		case key == "" || !isQualifiedName(key):
			c.wrong(p, "", "must be a label's key such as %s, got %s", v1alpha1.LabelJobID, quote(key))
		case seen[key]:
			c.wrong(p, "", "must be unique, and not in labelSelector, got %s", quote(key))
		}
		seen[key] = true
	}
}

// checkSpread checks kubernetes.topologySpreadConstraints.
func (c *checker) checkSpread(constraints []v1alpha1.TopologySpreadConstraint, path *field.Path) {
	if !c.checkCount(len(constraints), maxSpread, path, "topologySpreadConstraints") {
		return
	}
	type kind struct{ key, action string }
	seen := make(map[kind]bool, len(constraints))
	for i := range constraints {
		s, p := &constraints[i], path.Child("topologySpreadConstraints").Index(i)
		if n, ok := c.requiredNumber(s.MaxSkew, p, "maxSkew"); ok && s.MaxSkew != nil && (n < 1 || n > math.MaxInt32) {
			c.wrong(p, "maxSkew", "must be 1 or more, and fit into 32 bits, got %d", n)
		}
		c.checkLabelKey(s.TopologyKey, p, "topologyKey")
		if c.required(s.WhenUnsatisfiable, p, "whenUnsatisfiable") {
			c.oneOfValues(s.WhenUnsatisfiable, unsatisfiable, p, "whenUnsatisfiable")
		}
		if k := (kind{s.TopologyKey, s.WhenUnsatisfiable}); seen[k] {
			c.wrong(p, "topologyKey", "must be unique together with whenUnsatisfiable, got %s again", quote(s.TopologyKey))
		} else {
			seen[k] = true
		}
		c.checkSelector(s.LabelSelector, p)
		c.within(s.MinDomains, 1, math.MaxInt32, errcode.InvalidParameterValue, p, "minDomains")
		if s.MinDomains != nil && s.WhenUnsatisfiable != string(corev1.DoNotSchedule) {
			c.wrong(p, "minDomains", "must not be given unless whenUnsatisfiable is %s", corev1.DoNotSchedule)
		}
		c.oneOfValues(s.NodeAffinityPolicy, nodeInclusionRules, p, "nodeAffinityPolicy")
		c.oneOfValues(s.NodeTaintsPolicy, nodeInclusionRules, p, "nodeTaintsPolicy")
		c.checkMatchKeys(s.MatchLabelKeys, s.LabelSelector, p)
	}
}
