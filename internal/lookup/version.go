// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package lookup

import "k8s.io/apimachinery/pkg/util/resourceversion"

// IsOlder reports whether the object that a cache has at resource version a is older than version b. An
// empty b, of an object that was not written yet, is older than all.
func IsOlder(a, b string) bool {
	if b == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
