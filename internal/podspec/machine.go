// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
)

// gib is a GB of the API. Unit: bytes.
const gib = 1 << 30

// defaultSystemDisk is the size of a system disk that gives none. Unit: GB.
// Source: BatchCompute, SystemDisk.DiskSize.
const defaultSystemDisk = 50

// resourceGPU is what --gpus asks for.
const resourceGPU = corev1.ResourceName("nvidia.com/gpu")

// instanceTypes returns the machine types that may be used, in order of preference. It is
// nil where a size is asked for, or nothing.
func (b *builder) instanceTypes() ([]*catalog.InstanceType, error) {
	data := b.env.Data
	names := data.InstanceTypes
	if data.InstanceType != "" {
		names = []string{data.InstanceType}
	}
	var types []*catalog.InstanceType
	for _, name := range names {
		t := b.cluster.Catalog.InstanceType(name)
		if t == nil {
			return nil, failure(v1alpha1.ReasonMachineUnknown, "the operator's catalogue has no machine type %q any more", name)
		}
		types = append(types, t)
	}
	if o := data.InstanceTypeOptions; o != nil && choosesType(o.InstanceCategories) {
		t := b.cluster.Catalog.Smallest(valueOf(o.CPU), valueOf(o.Memory), o.InstanceCategories)
		if t == nil {
			return nil, failure(v1alpha1.ReasonMachineUnknown, "the operator's catalogue has no machine type in %s any more with %d cores and %d GB",
				strings.Join(o.InstanceCategories, ", "), valueOf(o.CPU), valueOf(o.Memory))
		}
		types = append(types, t)
	}
	return types, nil
}

// choosesType reports whether categories restrict the machine to types of the catalogue.
func choosesType(categories []string) bool {
	return len(categories) > 0 && !slices.Contains(categories, "ALL")
}

// size gives the container the resources of its machine: those of the type whose turn it
// is, or of the size that is asked for. CPU is requested and not limited: what the node
// has to spare may be used. All else that a machine has, it has no more of.
func (b *builder) size(types []*catalog.InstanceType, machine int) {
	r := &b.container.Resources
	set := func(name corev1.ResourceName, q resource.Quantity, limited bool) {
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = q
		if !limited {
			return
		}
		if r.Limits == nil {
			r.Limits = corev1.ResourceList{}
		}
		r.Limits[name] = q
	}
	if len(types) > 0 {
		for name, q := range types[machine%len(types)].Resources {
			set(name, q, name != corev1.ResourceCPU)
		}
	} else if o := b.env.Data.InstanceTypeOptions; o != nil {
		set(corev1.ResourceCPU, *resource.NewQuantity(valueOf(o.CPU), resource.DecimalSI), false)
		set(corev1.ResourceMemory, *resource.NewQuantity(valueOf(o.Memory)*gib, resource.BinarySI), true)
	}
	if gpus := b.task.RunOptions.GPUs; gpus > 0 {
		set(resourceGPU, *resource.NewQuantity(gpus, resource.DecimalSI), true)
	}
	if n, limited := b.storage(); n > 0 {
		set(corev1.ResourceEphemeralStorage, *resource.NewQuantity(n*gib, resource.BinarySI), limited)
	}
}

// storage is what the Pod takes of its node's disk, in GB: the system disk, and the data
// disks that are directories of the node. Without a system disk only the data disks have a
// limit of their own: the kubelet counts all that a Pod writes.
func (b *builder) storage() (gb int64, limited bool) {
	if d := b.env.Data.SystemDisk; d != nil {
		gb, limited = defaultSystemDisk, true
		if d.DiskSize != nil {
			gb = *d.DiskSize
		}
	}
	for d := range b.disks() {
		if d.class == "" {
			gb += d.size
		}
	}
	return gb, limited
}

// disk is a data disk that is mounted.
type disk struct {
	index int    // in dataDisks
	size  int64  // GB
	class string // storage class; "" is a directory of the node
	path  string
}

// disks yields the data disks that are mounted: the mounts belong to the disks in their
// order, a disk of size 0 being none.
func (b *builder) disks() func(yield func(disk) bool) {
	return func(yield func(disk) bool) {
		mounts := b.env.Mounts
		for i := range b.env.Data.DataDisks {
			d := &b.env.Data.DataDisks[i]
			if len(mounts) == 0 {
				return
			}
			if valueOf(d.DiskSize) == 0 {
				continue
			}
			kind := d.DiskType
			if kind == "" {
				kind = defaultDiskType
			}
			if !yield(disk{i, *d.DiskSize, b.cluster.Catalog.StorageClass(kind), mounts[0].LocalPath}) {
				return
			}
			mounts = mounts[1:]
		}
	}
}

// defaultDiskType is that of a data disk. Source: BatchCompute, DataDisk.DiskType.
const defaultDiskType = "LOCAL_BASIC"

// addDisks gives the Pod its data disks and what is mounted without one. Each disk is its own: a directory of the node with a
// bound, or a volume of a storage class that comes and goes with the Pod.
func (b *builder) addDisks() {
	for d := range b.disks() {
		v := corev1.Volume{Name: fmt.Sprintf("data-disk-%d", d.index)}
		size := *resource.NewQuantity(d.size*gib, resource.BinarySI)
		if d.class == "" {
			v.EmptyDir = &corev1.EmptyDirVolumeSource{SizeLimit: &size}
		} else {
			v.Ephemeral = &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					StorageClassName: new(d.class),
					Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
				},
			}}
		}
		b.mount(v, d.path)
	}
	// Admission takes more mounts than disks only where there is no disk: then each is a
	// directory of the system disk, whose bound is that of the whole Pod.
	if slices.ContainsFunc(b.env.Data.DataDisks, func(d v1alpha1.DataDisk) bool { return valueOf(d.DiskSize) != 0 }) {
		return
	}
	for i, m := range b.env.Mounts {
		b.mount(corev1.Volume{
			Name: fmt.Sprintf("directory-%d", i), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		}, m.LocalPath)
	}
}

// mount adds a volume and mounts it.
func (b *builder) mount(v corev1.Volume, path string) {
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, v)
	b.container.VolumeMounts = append(b.container.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: path})
}

func valueOf(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}
