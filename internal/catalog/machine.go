// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
	// will do. Never changed.
	NodeLabels map[string]string
	// Derived says that the file does not have the type: its size is that in its name.
	Derived bool
}

// ChargeType is what the cluster has for an instanceChargeType.
type ChargeType struct {
	// NodeLabels are labels that its nodes carry. Never changed.
	NodeLabels map[string]string
	// Tolerations let Pods onto them. Never changed.
	Tolerations []corev1.Toleration
}

// The API's names. Source: BatchCompute, InstanceTypeOptions.InstanceCategories,
// SystemDisk.DiskType, EnvData.InstanceChargeType, Job.Priority.
var (
	categories  = []string{"GENERAL", "GENERAL_2", "GENERAL_3", "COMPUTE", "COMPUTE_2", "COMPUTE_3"}
	diskTypes   = []string{"LOCAL_BASIC", "LOCAL_SSD", "CLOUD_BASIC", "CLOUD_SSD", "CLOUD_PREMIUM", "CLOUD_BSSD", "CLOUD_HSSD", "CLOUD_TSSD"}
	chargeTypes = []string{"POSTPAID_BY_HOUR", "SPOTPAID"}
)

const (
	allCategories = "ALL"
	maxPriority   = 100
)

// sizedType is a machine type with what Smallest compares.
type sizedType struct {
	milliCPU, memory int64 // thousandths of a core, bytes
	category         uint8 // its bit, 0 for none
	it               *InstanceType
}

// InstanceType returns the machine type of this name, or nil. With deriveInstanceTypes it
// may be one that the file does not have.
func (c *Catalog) InstanceType(name string) *InstanceType {
	if it := c.instanceTypes[name]; it != nil || !c.derive {
		return it
	}
	return derived(name)
}

// InstanceTypes returns the machine types of the file, by name. Those that deriveInstanceTypes adds are not among them:
// they cannot be counted. Cost: O(n log n).
func (c *Catalog) InstanceTypes() []*InstanceType {
	return slices.SortedFunc(maps.Values(c.instanceTypes), func(a, b *InstanceType) int { return cmp.Compare(a.Name, b.Name) })
}

// typeName is FAMILY.nSIZEm: n times the cores of the size, and m GB.
var typeName = regexp.MustCompile(`^([A-Z][A-Za-z0-9]{0,15})\.([0-9]{1,3})?(SMALL|MEDIUM|LARGE|XLARGE)([0-9]{1,5})$`)

// coresOf are the cores of a size without a number.
var coresOf = map[string]int64{"SMALL": 1, "MEDIUM": 2, "LARGE": 4, "XLARGE": 4}

// derived returns the machine type that a name describes; nil if it describes none, or if
// its family is none of plainFamily.
func derived(name string) *InstanceType {
	m := typeName.FindStringSubmatch(name)
	if m == nil || !plainFamily.MatchString(m[1]) {
		return nil
	}
	cores := coresOf[m[3]]
	if m[2] != "" {
		n, _ := strconv.ParseInt(m[2], 10, 64) // of three digits
		cores *= n
	}
	memory, _ := strconv.ParseInt(m[4], 10, 64) // of five digits
	if cores == 0 || memory == 0 {
		return nil
	}
	return &InstanceType{Name: name, Derived: true, Resources: corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(cores, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memory<<30, resource.BinarySI),
	}}
}

// plainFamily are the families with CPU and memory only: standard, memory, compute and
// batch, and those with an A (AMD), N (network) or R (ARM) behind. What others have besides,
// such as GPUs, a name does not say.
var plainFamily = regexp.MustCompile(`^(S|SA|SN|SR|M|MA|C|CA|CN|BS|BC)[0-9]{1,2}[a-z]?$`)

// Smallest returns the machine type with the least CPU, of these the one with the least
// memory, and of these the first by name, that has at least cpu cores and memory GiB and is
// in one of the categories; nil when there is none. "ALL" among the categories, or no
// category, stands for every type. A type with extended resources is never the answer: what
// is asked for is CPU and memory, and its Pods would wait for a GPU.
func (c *Catalog) Smallest(cpu, memory int64, categories []string) *InstanceType {
	if cpu > maxCPU || memory > maxMemory>>30 {
		return nil // what follows cannot overflow
	}
	milliCPU, bytes := cpu*1000, memory<<30
	all := len(categories) == 0
	var wanted uint8
	for _, name := range categories {
		all = all || name == allCategories
		wanted |= categoryBit(name)
	}
	first, _ := slices.BinarySearchFunc(c.bySize, milliCPU, func(s sizedType, milliCPU int64) int { return cmp.Compare(s.milliCPU, milliCPU) })
	for i := first; i < len(c.bySize); i++ {
		if s := &c.bySize[i]; s.memory >= bytes && (all || s.category&wanted != 0) {
			return s.it
		}
	}
	return nil
}

// categoryBit returns a bit for each category, 0 for what is none.
func categoryBit(name string) uint8 {
	if i := slices.Index(categories, name); i >= 0 {
		return 1 << i
	}
	return 0
}

// sortBySize returns what Smallest chooses from, in its order. The quantities are in the
// range that Parse allows.
func sortBySize(types map[string]*InstanceType) []sizedType {
	out := make([]sizedType, 0, len(types))
	for _, it := range types {
		if len(it.Resources) == 2 { // cpu and memory
			out = append(out, sizedType{it.Resources.Cpu().MilliValue(), it.Resources.Memory().Value(), categoryBit(it.Category), it})
		}
	}
	slices.SortFunc(out, func(a, b sizedType) int {
		return cmp.Or(cmp.Compare(a.milliCPU, b.milliCPU), cmp.Compare(a.memory, b.memory), cmp.Compare(a.it.Name, b.it.Name))
	})
	return out
}

// StorageClass returns the storage class that stands for a disk type; "" when there is
// none, and such a disk is a directory of the node.
func (c *Catalog) StorageClass(diskType string) string { return c.storageClasses[diskType] }

// ChargeType returns what the cluster has for an instanceChargeType.
func (c *Catalog) ChargeType(name string) (ChargeType, bool) {
	t, ok := c.chargeTypes[name]
	return t, ok
}

// PriorityClass returns the PriorityClass of jobs with this priority, 0-100; "" for none.
func (c *Catalog) PriorityClass(priority int) string {
	if priority < 0 || priority > maxPriority {
		return ""
	}
	return c.priorityClasses[priority]
}
