// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/dockerrun"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/sanitize"
)

// The checks of this file are about what this cluster's policy, a part of the operator's
// catalogue, lets requests ask of their Pods. They follow the checks of the form, those of volumes
// and variables item by item; what is absent is allowed.

// forbidden records that the policy does not allow the field name of the object at path. must is
// what it says, got the value as a message repeats it, and entry the part of the policy.
func (c *checker) forbidden(path *field.Path, name, entry, must, got string) {
	if got != "" {
		got = ", got " + got
	}
	c.fail(errcode.UnauthorizedOperation, path, name,
		"%s under this cluster's policy%s; a cluster administrator can change policy.%s in its catalogue", must, got, entry)
}

// checkAllowed checks a value, which may be absent, against a list of the policy.
func (c *checker) checkAllowed(value string, allowed catalog.Allowed, path *field.Path, name, entry string) {
	switch {
	case value == "" || allowed.Has(value):
	case c.full():
		c.total++
	default:
		c.forbidden(path, name, entry, "must be "+listed(allowed), quote(value))
	}
}

// maxAllowed is how much of a list a sentence names. Unit: bytes.
const maxAllowed = 80

// listed names what is allowed, as much of it as fits into a sentence.
func listed(allowed catalog.Allowed) string {
	if len(allowed) == 0 {
		return "absent"
	}
	if text := either(allowed); len(text) <= maxAllowed {
		return text
	}
	return "one of " + sanitize.Truncate(strings.Join(allowed, ", "), maxAllowed)
}

// checkPolicy checks what a task or a ComputeEnv wants of its Pods; path is that of kubernetes.
func (c *checker) checkPolicy(k *v1alpha1.KubernetesOptions, path *field.Path) {
	p := c.policy()
	if p == nil {
		return
	}
	if p.NodeSelectorKeys != nil {
		for _, key := range slices.Sorted(maps.Keys(k.NodeSelector)) {
			if !p.NodeSelectorKeys.Has(key) { // the path is made only when it is needed
				c.checkAllowed(key, p.NodeSelectorKeys, keyed(path.Child("nodeSelector"), key), "", "nodeSelectorKeys")
			}
		}
	}
	if p.TolerationKeys != nil {
		for i := range k.Tolerations {
			c.checkTolerationKey(k.Tolerations[i].Key, p.TolerationKeys, path.Child("tolerations").Index(i))
		}
	}
	c.checkAllowed(k.ServiceAccountName, p.ServiceAccountNames, path, "serviceAccountName", "serviceAccountNames")
	c.checkAllowed(k.RuntimeClassName, p.RuntimeClassNames, path, "runtimeClassName", "runtimeClassNames")
	c.checkAllowed(k.SchedulerName, p.SchedulerNames, path, "schedulerName", "schedulerNames")
	switch name := k.PriorityClassName; {
	case name == "" || p.HasPriorityClass(name):
	case p.PriorityClassNames == nil:
		c.forbidden(path, "priorityClassName", "priorityClassNames",
			"must not begin with "+catalog.SystemPriority+", as those of the cluster itself do,", quote(name))
	default:
		c.checkAllowed(name, p.PriorityClassNames, path, "priorityClassName", "priorityClassNames")
	}
	if s := k.SecurityContext; s != nil && p.ForbidRoot {
		if s.RunAsUser != nil && *s.RunAsUser == 0 {
			c.forbidRoot(path.Child("securityContext"), "runAsUser")
		} else if s.RunAsNonRoot != nil && !*s.RunAsNonRoot {
			c.forbidRoot(path.Child("securityContext"), "runAsNonRoot")
		}
	}
}

// checkTolerationKey checks a toleration's key. Without one it tolerates every taint.
func (c *checker) checkTolerationKey(key string, allowed catalog.Allowed, path *field.Path) {
	switch {
	case key == "" && len(allowed) > 0:
		c.forbidden(path, "key", "tolerationKeys", "must be given, as "+listed(allowed)+",", "")
		return
	case key == "":
		c.forbidden(path, "", "tolerationKeys", "must be absent", "")
		return
	}
	c.checkAllowed(key, allowed, path, "key", "tolerationKeys")
}

func (c *checker) forbidRoot(path *field.Path, name string) {
	c.forbidden(path, name, "allowRoot", "must not let the command run as root", "")
}

// checkDockerPolicy checks as whom the options for docker run let a command run.
func (c *checker) checkDockerPolicy(o dockerrun.Options, path *field.Path) {
	if c.offers != nil && o.User != nil && *o.User == 0 && c.offers.Policy().ForbidRoot {
		c.forbidRoot(path, "dockerRunOption")
	}
}

// checkHostsPolicy checks whether single nodes may be chosen.
func (c *checker) checkHostsPolicy(p *v1alpha1.Placement, path *field.Path) {
	if c.offers == nil || !c.offers.Policy().ForbidHosts {
		return
	}
	for _, f := range [...]struct {
		name  string
		count int
	}{{"hostIds", len(p.HostIDs)}, {"hostIps", len(p.HostIPs)}} {
		if f.count > 0 {
			c.forbidden(path, f.name, "allowHosts", "must not be given", "")
		}
	}
}

// checkSecretName checks whether commands may read a Secret.
func (c *checker) checkSecretName(value string, path *field.Path, name string) {
	if p := c.policy(); p != nil {
		c.checkAllowed(value, p.SecretNames, path, name, "secretNames")
	}
}

// checkVolumeType checks whether volumes may have the source that this one has.
func (c *checker) checkVolumeType(v *v1alpha1.Volume, path *field.Path) {
	p := c.policy()
	if p == nil || p.VolumeTypes == nil {
		return
	}
	for _, s := range sourcesOf(v) {
		if s.given && !p.VolumeTypes.Has(s.name) {
			c.forbidden(path, s.name, "volumeTypes", "must be another source: "+listed(p.VolumeTypes)+",", "")
		}
	}
}

// checkNFS checks whether a remote path may be mounted as a volume of type nfs, if it would be.
func (c *checker) checkNFS(source string, path *field.Path) {
	p := c.policy()
	scheme, rest, _ := strings.Cut(source, "://")
	host, _, _ := strings.Cut(rest, "/")
	if p == nil || p.VolumeTypes == nil || p.VolumeTypes.Has(catalog.VolumeNFS) || scheme == "cos" || c.offers.FileSystem(strings.TrimSuffix(host, ":")).CSIDriver != "" {
		return
	}
	c.forbidden(path, "sourcePath", "volumeTypes", "must not be mounted as a volume of type nfs: it must begin with cos://, or the catalogue must have a csiDriver for its host,", "")
}

// checkDriver checks whether volumes may be of a CSI driver.
func (c *checker) checkDriver(name string, path *field.Path) {
	if p := c.policy(); p != nil {
		c.checkAllowed(name, p.CSIDrivers, path, "driver", "csiDrivers")
	}
}

// checkTokens checks whether commands may have a token of their service account.
func (c *checker) checkTokens(path *field.Path) {
	if p := c.policy(); p != nil && p.ForbidTokens {
		c.forbidden(path, "", "allowServiceAccountTokens", "must not be given", "")
	}
}

// policy is the cluster's policy, nil if it is not known.
func (c *checker) policy() *catalog.Policy {
	if c.offers == nil {
		return nil
	}
	return c.offers.Policy()
}
