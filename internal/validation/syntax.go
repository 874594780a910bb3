// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Kubernetes' bounds of names. Unit: bytes.
const (
	maxLabelValue = 63
	maxObjectName = 253
)

// checkLabelValue checks a value that nodes are chosen by, item i of a list or single:
// it is compared with a label, so it must be a label's value.
func (c *checker) checkLabelValue(value string, code errcode.Code, path *field.Path, name string, i int) bool {
	ok := isLabelValue(value)
	if !ok {
		c.failItem(code, path, name, i,
			"must be 1-%d letters, digits, -, _ and ., beginning and ending with a letter or a digit, got %s", maxLabelValue, quote(value))
	}
	return ok
}

func isLabelValue(s string) bool {
	return len(s) <= maxLabelValue && s != "" && isAlphanumeric(s[0]) && isAlphanumeric(s[len(s)-1]) && only(s, "-_.")
}

// only says whether s has nothing but letters, digits and the given characters.
func only(s, others string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return true
}

// checkIP checks an address, item i of a list or single.
func (c *checker) checkIP(value string, code errcode.Code, path *field.Path, name string, i int) {
	if addr, err := netip.ParseAddr(value); err != nil || addr.Zone() != "" {
		c.failItem(code, path, name, i, "must be an IP address, got %s", quote(value))
	}
}

// checkSecretRef checks a reference that may be absent.
func (c *checker) checkSecretRef(ref *v1alpha1.SecretRef, path *field.Path, name string) {
	if ref == nil {
		return
	}
	path = path.Child(name)
	if c.required(ref.Name, path, "name") && !isObjectName(ref.Name) {
		c.fail(errcode.InvalidParameterValue, path, "name",
			"must be the name of a Secret: lower-case letters, digits, - and ., at most %d; got %s", maxObjectName, quote(ref.Name))
	}
}

// isObjectName is what Kubernetes calls a DNS-1123 subdomain, of which the labels may be as
// long as the whole.
func isObjectName(s string) bool {
	return isDotted(s, maxObjectName) && s == strings.ToLower(s)
}

// maxHostLabel is the length of a label of a host name. Source: RFC 1035. Unit: bytes.
const maxHostLabel = 63

// isHost says whether s is a host name: labels of letters, digits and inner hyphens, joined
// by single dots. An IPv4 address is a host too.
func isHost(s string) bool { return isDotted(s, maxHostLabel) }

// isDotted says whether s is at most 253 bytes of labels that a host name could have, each
// at most maxLabel bytes long.
func isDotted(s string, maxLabel int) bool {
	if len(s) > maxObjectName {
		return false
	}
	for {
		label, rest, more := strings.Cut(s, ".")
		if label == "" || len(label) > maxLabel || !isAlphanumeric(label[0]) || !isAlphanumeric(label[len(label)-1]) || !only(label, "-") {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// isRegistry says whether s is a host, with a port or without.
func isRegistry(s string) bool {
	host, port, ok := strings.Cut(s, ":")
	return isHost(host) && (!ok || isPort(port))
}

func isPort(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 5 && (len(s) < 5 || s <= "65535")
}

// Bounds of an image reference. Source: OCI distribution specification. Unit: bytes.
const (
	maxImageName = 255
	maxImageTag  = 128
	minDigest    = 32
	maxDigest    = 256
)

// isImageReference says whether s is [registry/]path[:tag][@digest] as container
// runtimes read it.
func isImageReference(s string) bool {
	if len(s) > maxImageName+1+maxImageTag+1+maxDigest {
		return false
	}
	s, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest && !isDigest(digest) {
		return false
	}
	name := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		name = s[:i]
		if !isImageTag(s[i+1:]) {
			return false
		}
	}
	if len(name) > maxImageName {
		return false
	}
	// What stands before the first slash is a registry if it could not be a path or
	// says so with a dot or a port.
	if first, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost" || first != strings.ToLower(first)) {
		if !isRegistry(first) {
			return false
		}
		name = rest
	}
	for part := range strings.SplitSeq(name, "/") {
		if !isImagePath(part) {
			return false
		}
	}
	return true
}

func isDigest(s string) bool {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok || algorithm == "" || !only(algorithm, "+._-") || len(hex) < minDigest || len(s) > maxDigest {
		return false
	}
	for i := range len(hex) {
		if ch := hex[i]; !isDigit(ch) && (ch < 'a' || ch > 'f') {
			return false
		}
	}
	return true
}

func isImageTag(s string) bool {
	return s != "" && len(s) <= maxImageTag && s[0] != '.' && s[0] != '-' && only(s, "_.-")
}

// isImagePath says whether s is lower-case letters and digits, joined by ".", "_", "__"
// or any number of "-".
func isImagePath(s string) bool {
	word := false // the last character was a letter or a digit
	for i := 0; i < len(s); {
		if ch := s[i]; isDigit(ch) || 'a' <= ch && ch <= 'z' {
			word = true
			i++
			continue
		}
		end := i
		for end < len(s) && (s[end] == '.' || s[end] == '_' || s[end] == '-') {
			end++
		}
		joint := s[i:end]
		if !word || joint != "." && joint != "_" && joint != "__" && (joint == "" || strings.Trim(joint, "-") != "") {
			return false
		}
		word = false
		i = end
	}
	return word
}
