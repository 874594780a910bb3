// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// SystemPriority begins the names of the PriorityClasses that belong to the cluster itself.
// Only a list that names one allows it: their Pods preempt everything else, and the API server lets
// any namespace use them unless it was configured otherwise.
const SystemPriority = "system-"

// maxAllowed bounds each list of a policy, which is searched for each toleration of a request.
const maxAllowed = 256

// Policy says what requests may ask of their Pods. The zero value allows everything, but for the
// PriorityClasses of the cluster itself.
type Policy struct {
	// PriorityClassNames, ServiceAccountNames, RuntimeClassNames and SchedulerNames may be
	// given in kubernetes; TolerationKeys and NodeSelectorKeys are those of its tolerations and its
	// nodeSelector. What is absent from a request is always allowed.
	PriorityClassNames, ServiceAccountNames, RuntimeClassNames, SchedulerNames Allowed
	TolerationKeys, NodeSelectorKeys                                           Allowed
	// VolumeTypes are the sources that kubernetes.volumes may have, and CSIDrivers the drivers of
	// inline volumes. SecretNames are the Secrets that a Pod may read, in variables and volumes.
	VolumeTypes, CSIDrivers, SecretNames Allowed
	// ForbidRoot refuses to run a command as root, ForbidHosts to choose single nodes by
	// placement.hostIds and placement.hostIps.
	ForbidRoot, ForbidHosts bool
	// ForbidTokens refuses tokens of service accounts.
	ForbidTokens bool
}

// Allowed are the values that a field may have: nil any, empty none. Never changed.
type Allowed []string

// Has reports whether a value is allowed.
func (a Allowed) Has(value string) bool { return a == nil || slices.Contains(a, value) }

// HasPriorityClass reports whether a PriorityClass is allowed.
func (p *Policy) HasPriorityClass(name string) bool {
	if p.PriorityClassNames == nil {
		return !strings.HasPrefix(name, SystemPriority)
	}
	return p.PriorityClassNames.Has(name)
}

// Policy returns what requests may ask of their Pods. It must not be changed.
func (c *Catalog) Policy() *Policy { return &c.policy }

// policy reads the section of that name.
func (r *reader) policy(f field) Policy {
	var p Policy
	for _, e := range r.entries(f) {
		switch e.name {
		case "priorityClassNames":
			p.PriorityClassNames = r.allowed(e, isObjectName, "the name of an object")
		case "serviceAccountNames":
			p.ServiceAccountNames = r.allowed(e, isObjectName, "the name of an object")
		case "runtimeClassNames":
			p.RuntimeClassNames = r.allowed(e, isObjectName, "the name of an object")
		case "schedulerNames":
			p.SchedulerNames = r.allowed(e, isObjectName, "the name of a scheduler")
		case "tolerationKeys":
			p.TolerationKeys = r.allowed(e, isQualifiedName, "the key of a taint")
		case "nodeSelectorKeys":
			p.NodeSelectorKeys = r.allowed(e, isQualifiedName, "the key of a label")
		case "volumeTypes":
			p.VolumeTypes = r.allowed(e, isVolumeType, "one of "+strings.Join(volumeTypes, ", "))
		case "csiDrivers":
			p.CSIDrivers = r.allowed(e, isObjectName, "the name of a CSI driver")
		case "secretNames":
			p.SecretNames = r.allowed(e, isObjectName, "the name of a Secret")
		case "allowServiceAccountTokens":
			p.ForbidTokens = !r.boolean(e)
		case "allowRoot":
			p.ForbidRoot = !r.boolean(e)
		case "allowHosts":
			p.ForbidHosts = !r.boolean(e)
		default:
			r.unknown(e, "priorityClassNames", "serviceAccountNames", "runtimeClassNames", "schedulerNames", "tolerationKeys",
				"nodeSelectorKeys", "volumeTypes", "csiDrivers", "secretNames", "allowServiceAccountTokens", "allowRoot", "allowHosts")
		}
	}
	return p
}

// volumeTypes are the sources of kubernetes.volumes, and VolumeNFS.
var volumeTypes = []string{"persistentVolumeClaim", "configMap", "secret", "emptyDir", "ephemeral", "image", "csi", "projected", VolumeNFS}

// VolumeNFS is the source of a cfs:// or nfs:// path for which there is no CSI driver in the catalogue.
const VolumeNFS = "nfs"

func isVolumeType(s string) bool { return slices.Contains(volumeTypes, s) }

func isObjectName(s string) bool    { return len(validation.IsDNS1123Subdomain(s)) == 0 }
func isQualifiedName(s string) bool { return len(validation.IsQualifiedName(s)) == 0 }

// allowed returns the values of a list, never nil. A field without a value is an error here, since
// nobody could tell whether it allows everything or nothing.
func (r *reader) allowed(f field, is func(string) bool, what string) Allowed {
	out := Allowed{}
	if !f.given() {
		r.fail(f, "must be a list, got nothing; [] allows none, and without the field all are allowed")
		return out
	}
	items := r.items(f)
	if len(items) > maxAllowed {
		r.fail(field{line: items[maxAllowed].line, path: f.path}, "must be at most %d values, got %d", maxAllowed, len(items))
		return out
	}
	for _, item := range items {
		out = append(out, r.required(item, what, is))
	}
	return out
}

// boolean returns true or false.
func (r *reader) boolean(f field) bool {
	var b bool
	if !f.given() || f.node.Kind != yaml.ScalarNode || f.node.ShortTag() != "!!bool" || f.node.Decode(&b) != nil {
		r.fail(f, "must be true or false, got %s", describe(f.node))
	}
	return b
}
