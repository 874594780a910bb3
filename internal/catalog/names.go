// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"maps"
	"slices"
)

// InstanceTypeNames returns the names of all machine types, sorted. The caller may change
// the slice.
func (c *Catalog) InstanceTypeNames() []string { return slices.Sorted(maps.Keys(c.instanceTypes)) }
