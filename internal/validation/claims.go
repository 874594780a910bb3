// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
)

// maxClaims counts the claims of devices.
const maxClaims = 32

// checkClaims checks kubernetes.resourceClaims, and which of them the container uses.
func (c *checker) checkClaims(k *v1alpha1.KubernetesOptions, path *field.Path) {
	names := make(map[string]bool, len(k.ResourceClaims))
	if c.checkCount(len(k.ResourceClaims), maxClaims, path, "resourceClaims") {
		for i := range k.ResourceClaims {
			claim, p := &k.ResourceClaims[i], path.Child("resourceClaims").Index(i)
			c.checkDNSLabel(claim.Name, names, p)
			c.exactlyOne([]choice{
				{"resourceClaimName", claim.ResourceClaimName != ""}, {"resourceClaimTemplateName", claim.ResourceClaimTemplateName != ""},
			}, p)
			c.checkName(claim.ResourceClaimName, p, "resourceClaimName")
			c.checkName(claim.ResourceClaimTemplateName, p, "resourceClaimTemplateName")
		}
	}
	if k.Resources == nil || !c.checkCount(len(k.Resources.Claims), maxClaims, path.Child("resources"), "claims") {
		return
	}
	seen := map[v1alpha1.ResourceClaim]bool{}
	for i, use := range k.Resources.Claims {
		p := path.Child("resources", "claims").Index(i)
		switch {
		case !c.required(use.Name, p, "name"):
		case !names[use.Name]:
			c.wrong(p, "name", "must be the name of a claim of resourceClaims, got %s", quote(use.Name))
		case seen[use] || seen[v1alpha1.ResourceClaim{Name: use.Name}] || use.Request == "" && usesPartOf(seen, use.Name):
			c.wrong(p, "name", "must be used once as a whole, or once for each request, got %s again", quote(use.Name))
		}
		if use.Request != "" && !isDNSLabel(use.Request) {
			c.wrong(p, "request", "must be lower-case letters, digits and -, at most %d, got %s", maxHostLabel, quote(use.Request))
		}
		seen[use] = true
	}
}

func usesPartOf(seen map[v1alpha1.ResourceClaim]bool, name string) bool {
	for use := range seen {
		if use.Name == name {
			return true
		}
	}
	return false
}
