// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of how a Pod finds hosts. Those of name servers and search domains are the API server's.
const (
	maxHostAliases = 64
	maxHostnames   = 64
	maxNameservers = 3
	maxSearches    = 32
	maxSearchText  = 2048
	maxDNSOptions  = 32
	maxDNSOption   = 253
)

// dnsPolicies are all but that of Pods in the network of their node.
var dnsPolicies = []string{string(corev1.DNSClusterFirst), string(corev1.DNSDefault), string(corev1.DNSNone)}

// checkHosts checks kubernetes.hostAliases, dnsPolicy and dnsConfig.
func (c *checker) checkHosts(k *v1alpha1.KubernetesOptions, path *field.Path) {
	if c.checkCount(len(k.HostAliases), maxHostAliases, path, "hostAliases") {
		for i := range k.HostAliases {
			c.checkHostAlias(&k.HostAliases[i], path.Child("hostAliases").Index(i))
		}
	}
	c.oneOfValues(k.DNSPolicy, dnsPolicies, path, "dnsPolicy")
	if k.DNSPolicy == string(corev1.DNSNone) && (k.DNSConfig == nil || len(k.DNSConfig.Nameservers) == 0) {
		c.wrong(path, "dnsPolicy", "must not be %s without dnsConfig.nameservers", corev1.DNSNone)
	}
	if k.DNSConfig != nil {
		c.checkDNSConfig(k.DNSConfig, path.Child("dnsConfig"))
	}
}

func (c *checker) checkHostAlias(a *v1alpha1.HostAlias, path *field.Path) {
	if c.required(a.IP, path, "ip") {
		c.checkIP(a.IP, errcode.InvalidParameterValue, path, "ip", single)
	}
	if c.checkCount(len(a.Hostnames), maxHostnames, path, "hostnames") {
		for i, name := range a.Hostnames {
			if !isObjectName(name) {
				c.failItem(errcode.InvalidParameterValue, path, "hostnames", i, "must be a host name in lower case, got %s", quote(name))
			}
		}
	}
}

func (c *checker) checkDNSConfig(d *v1alpha1.DNSConfig, path *field.Path) {
	if c.checkCount(len(d.Nameservers), maxNameservers, path, "nameservers") {
		for i, ip := range d.Nameservers {
			c.checkIP(ip, errcode.InvalidParameterValue, path, "nameservers", i)
		}
	}
	if n := len(strings.Join(d.Searches, " ")); n > maxSearchText {
		c.wrong(path, "searches", "must be at most %d characters together, got %d", maxSearchText, n)
	} else if c.checkCount(len(d.Searches), maxSearches, path, "searches") {
		for i, domain := range d.Searches {
			// As the API server does it: a domain may end with a dot, and have underscores.
			if domain != "." && len(utilvalidation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(domain, "."))) > 0 {
				c.failItem(errcode.InvalidParameterValue, path, "searches", i, "must be a domain in lower case, got %s", quote(domain))
			}
		}
	}
	if !c.checkCount(len(d.Options), maxDNSOptions, path, "options") {
		return
	}
	for i := range d.Options {
		o, p := &d.Options[i], path.Child("options").Index(i)
		if c.required(o.Name, p, "name") && !isDNSOption(o.Name) {
			c.wrong(p, "name", "must be at most %d characters that print, without spaces, got %s", maxDNSOption, quote(o.Name))
		}
		if o.Value != nil && !isDNSOption(*o.Value) {
			c.wrong(p, "value", "must be at most %d characters that print, without spaces, got %s", maxDNSOption, quote(*o.Value))
		}
	}
}

// isDNSOption says whether s can stand in a line of resolv.conf.
func isDNSOption(s string) bool {
	return len(s) <= maxDNSOption && isPrintable(s) && !strings.Contains(s, " ")
}
