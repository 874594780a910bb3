// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package catalog reads the operator's configuration file: what this cluster
// offers under the names that the BatchCompute API knows.
//
//	apiVersion: config.batchcompute.dev/v1alpha1
//	kind: Catalog
//	defaultImage: busybox:1.37
//	images:
//	  img-bd78fy2t: python:3.13-slim
//	instanceTypes:
//	  S5.MEDIUM4: {cpu: 2, memory: 4Gi, category: GENERAL_3}
//	  GN7.2XLARGE32: {cpu: 8, memory: 32Gi, resources: {nvidia.com/gpu: 1}, nodeLabels: {gpu: t4}}
//	deriveInstanceTypes: true
//	diskTypes:
//	  CLOUD_SSD: {storageClassName: fast}
//	chargeTypes:
//	  SPOTPAID: {nodeLabels: {spot: "true"}, tolerations: [{key: spot, operator: Exists, effect: NoSchedule}]}
//	priorityClasses:
//	- {from: 0, to: 49, priorityClassName: batch-low}
//	registryMirrors:
//	  docker.io: mirror.example/dockerhub
//	stores:
//	- {match: "*.cos.ap-guangzhou.myqcloud.com", endpoint: https://s3.example.com, style: path, secretName: store-keys}
//	fileSystems:
//	- {match: "*", csiDriver: nfs.csi.k8s.io}
//	policy:
//	  serviceAccountNames: [default]
//	  allowRoot: false
//	notifications:
//	  topics:
//	  - {name: films-done, http: {url: "https://events.example.com/batch"}}
//
// The file is decoded strictly: an unknown field, a field given twice and a
// second document are errors, so that a typing mistake is found at the start
// and not by a user whose job runs in the wrong image. Aliases are not followed.
package catalog

// What the head of the file must say.
const (
	APIVersion = "config.batchcompute.dev/v1alpha1"
	Kind       = "Catalog"
)

// DefaultImage is the default image of a file that names none, and of Default.
const DefaultImage = "busybox:1.37"

// Bounds of the file. MaxSize is also that of a ConfigMap.
const (
	MaxSize          = 1 << 20 // bytes
	MaxInstanceTypes = 5000
)

// Catalog is what the cluster offers. It is never changed after Parse, so any
// number of goroutines may read it. Its lookups are made for each Pod.
type Catalog struct {
	// DefaultImage is the container image of a task that names none. Never empty.
	DefaultImage string
	// images maps a machine image's identifier to a container image.
	images map[string]string
	// instanceTypes are by name, bySize are those that Smallest chooses from.
	instanceTypes map[string]*InstanceType
	// derive says that a type which is not in instanceTypes has the size in its name.
	derive bool
	bySize []sizedType
	// storageClasses are by disk type.
	storageClasses map[string]string
	chargeTypes    map[string]ChargeType
	// priorityClasses are by priority.
	priorityClasses [maxPriority + 1]string
	// mirrors are by registry host.
	mirrors map[string]string
	// stores and fileSystems are in the order of the file: the first that matches counts.
	stores      []storeRule
	fileSystems []fileSystemRule
	policy      Policy
	// notifications has the defaults if the file has no such section.
	notifications Notifications
}

// Default is the catalogue of an operator that was given no file: no image
// identifiers, no machine types, and DefaultImage.
func Default() *Catalog {
	return &Catalog{DefaultImage: DefaultImage, notifications: Notifications{DeliveryTimeout: DefaultDeliveryTimeout}}
}

// Image returns the container image that the catalogue has for a machine image's
// identifier, such as img-bd78fy2t. ok is false when the catalogue has no such
// identifier; whether it is then a container image itself is not decided here.
func (c *Catalog) Image(id string) (ref string, ok bool) {
	ref, ok = c.images[id]
	return ref, ok
}
