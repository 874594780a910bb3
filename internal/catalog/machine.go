// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	corev1 "k8s.io/api/core/v1"
)

// InstanceType is a machine type.
type InstanceType struct {
	// Name is the type's name, such as S5.MEDIUM4.
	Name string
	// Category is GENERAL, COMPUTE or one of the API's other categories. Empty: none.
	Category string
	// Resources are what one machine has: cpu, memory, and extended resources such as
	// nvidia.com/gpu. Never changed.
	Resources corev1.ResourceList
	// NodeLabels are labels that its nodes carry. Empty: any node that is large enough
	// will do.
	NodeLabels map[string]string
}

// ChargeType is what the cluster has for an instanceChargeType.
type ChargeType struct {
	// NodeLabels are labels that its nodes carry.
	NodeLabels map[string]string
	// Tolerations let Pods onto them.
	Tolerations []corev1.Toleration
}

// InstanceType returns the machine type of this name, or nil.
func (c *Catalog) InstanceType(name string) *InstanceType { return nil }

// Smallest returns the machine type with the least CPU, of these the one with the least
// memory, and of these the first by name, that has at least cpu cores and memory GiB and is
// in one of the categories; nil when there is none. "ALL" among the categories, or no
// category, stands for every type.
func (c *Catalog) Smallest(cpu, memory int64, categories []string) *InstanceType { return nil }

// StorageClass returns the storage class that stands for a disk type; "" when there is
// none, and such a disk is a directory of the node.
func (c *Catalog) StorageClass(diskType string) string { return "" }

// ChargeType returns what the cluster has for an instanceChargeType.
func (c *Catalog) ChargeType(name string) (ChargeType, bool) { return ChargeType{}, false }

// PriorityClass returns the PriorityClass of jobs with this priority, 0-100; "" for none.
func (c *Catalog) PriorityClass(priority int) string { return "" }

// Mirror returns the name under which an image is pulled: its registry replaced where a
// mirror is configured for it. An image without a registry is one of docker.io.
func (c *Catalog) Mirror(image string) string { return image }
