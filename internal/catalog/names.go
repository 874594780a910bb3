// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

// InstanceTypeNames returns the names of all machine types, sorted. The caller may change
// the slice.
func (c *Catalog) InstanceTypeNames() []string { return nil }
