// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The types of this file are those of a Pod with fewer sources and fields: none that gives
// access to a node, and none that the schema would have to be much larger for.

// KubernetesEnvVar is a variable with a value, or with a reference to one.
type KubernetesEnvVar struct {
	// name is letters, digits and _, and does not begin with a digit, BATCH_ or
	// BATCHCOMPUTE_. Unique. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// value may refer to variables by $(NAME): those of the API, of the operator, of
	// envFrom, and those before it in env. $$ is one $.
	// +optional
	Value string `json:"value,omitempty"`

	// valueFrom is where the value is taken from. Not together with value.
	// +optional
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource is where the value of a variable is taken from: exactly one of these.
type EnvVarSource struct {
	// secretKeyRef is a key of a Secret.
	// +optional
	SecretKeyRef *KeySelector `json:"secretKeyRef,omitempty"`

	// configMapKeyRef is a key of a ConfigMap.
	// +optional
	ConfigMapKeyRef *KeySelector `json:"configMapKeyRef,omitempty"`

	// fieldRef is a field of the Pod.
	// +optional
	FieldRef *FieldSelector `json:"fieldRef,omitempty"`
}

// KeySelector is a key of a Secret or a ConfigMap of the namespace.
type KeySelector struct {
	// name is that of the Secret or the ConfigMap. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// key is the key in it. Required.
	// +optional
	Key string `json:"key,omitempty"`

	// optional leaves out the variable when there is no such key. Default: false, the
	// container waits for it.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// FieldSelector is a field of the Pod.
type FieldSelector struct {
	// fieldPath is metadata.name, metadata.namespace, metadata.uid, spec.nodeName,
	// spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP or status.podIPs.
	// Required.
	// +optional
	FieldPath string `json:"fieldPath,omitempty"`
}

// EnvFromSource is a Secret or a ConfigMap of which each key is a variable: exactly one.
type EnvFromSource struct {
	// prefix is put before each key.
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// secretRef is a Secret.
	// +optional
	SecretRef *OptionalRef `json:"secretRef,omitempty"`

	// configMapRef is a ConfigMap.
	// +optional
	ConfigMapRef *OptionalRef `json:"configMapRef,omitempty"`
}

// OptionalRef names a Secret or a ConfigMap of the namespace.
type OptionalRef struct {
	// name is that of the Secret or the ConfigMap. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// optional starts the container without it when it does not exist. Default: false, the
	// container waits for it.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// Volume is a volume of the Pods: a name, and exactly one source.
type Volume struct {
	// name is lower-case letters, digits and -, at most 63. Unique. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// persistentVolumeClaim is a claim of the namespace, which all instances share.
	// +optional
	PersistentVolumeClaim *ClaimVolume `json:"persistentVolumeClaim,omitempty"`

	// configMap has the keys of a ConfigMap as files.
	// +optional
	ConfigMap *ConfigMapVolume `json:"configMap,omitempty"`

	// secret has the keys of a Secret as files.
	// +optional
	Secret *SecretVolume `json:"secret,omitempty"`

	// emptyDir is a directory of the node, or in memory, that is deleted with the Pod.
	// +optional
	EmptyDir *EmptyDirVolume `json:"emptyDir,omitempty"`

	// ephemeral is a claim of the Pod's own, which is created and deleted with it.
	// +optional
	Ephemeral *EphemeralVolume `json:"ephemeral,omitempty"`

	// image has the files of a container image, read-only. Kubernetes 1.35 or later.
	// +optional
	Image *ImageVolume `json:"image,omitempty"`

	// csi is an inline volume of a CSI driver.
	// +optional
	CSI *CSIVolume `json:"csi,omitempty"`

	// projected has the files of several sources in one directory.
	// +optional
	Projected *ProjectedVolume `json:"projected,omitempty"`
}

// ClaimVolume is a PersistentVolumeClaim.
type ClaimVolume struct {
	// claimName is that of a PersistentVolumeClaim of the namespace. Required.
	// +optional
	ClaimName string `json:"claimName,omitempty"`

	// readOnly mounts it read-only everywhere.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// KeyToPath is a key, and the file that it becomes.
type KeyToPath struct {
	// key is the key. Required.
	// +optional
	Key string `json:"key,omitempty"`

	// path is the file, relative to the volume. Required.
	// +optional
	Path string `json:"path,omitempty"`

	// mode is the file's permissions, 0 to 511 (octal 0777). Default: that of the volume.
	// +optional
	Mode *int64 `json:"mode,omitempty"`
}

// ConfigMapVolume is a ConfigMap.
type ConfigMapVolume struct {
	// name is that of the ConfigMap. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// items are the keys, and the files that they become. Default: all keys, each a file of
	// its name. At most 64.
	// +listType=atomic
	// +optional
	Items []KeyToPath `json:"items,omitempty"`

	// defaultMode is the files' permissions, 0 to 511 (octal 0777). Default: 420 (octal 0644).
	// +optional
	DefaultMode *int64 `json:"defaultMode,omitempty"`

	// optional mounts what there is when the ConfigMap or a key does not exist. Default: false,
	// the container waits for it.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// NamedKeys are keys of a Secret or a ConfigMap.
type NamedKeys struct {
	// name is that of the Secret or the ConfigMap. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// items are the keys, and the files that they become. Default: all keys, each a file of
	// its name. At most 64.
	// +listType=atomic
	// +optional
	Items []KeyToPath `json:"items,omitempty"`

	// optional mounts what there is when the object or a key does not exist. Default: false,
	// the container waits for it.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// SecretVolume is a Secret.
type SecretVolume struct {
	// secretName is that of the Secret. Required.
	// +optional
	SecretName string `json:"secretName,omitempty"`

	// items are the keys, and the files that they become. Default: all keys, each a file of
	// its name. At most 64.
	// +listType=atomic
	// +optional
	Items []KeyToPath `json:"items,omitempty"`

	// defaultMode is the files' permissions, 0 to 511 (octal 0777). Default: 420 (octal 0644).
	// +optional
	DefaultMode *int64 `json:"defaultMode,omitempty"`

	// optional mounts what there is when the Secret or a key does not exist. Default: false,
	// the container waits for it.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// EmptyDirVolume is a directory that starts empty.
type EmptyDirVolume struct {
	// medium is Memory for a directory in memory, which counts for the memory limit.
	// Default: a directory of the node.
	// +optional
	Medium string `json:"medium,omitempty"`

	// sizeLimit is how much it may hold. A Pod that writes more is stopped.
	// +optional
	SizeLimit *resource.Quantity `json:"sizeLimit,omitempty"`
}

// EphemeralVolume is a claim that is created with the Pod.
type EphemeralVolume struct {
	// volumeClaimTemplate is the claim. Required.
	// +optional
	VolumeClaimTemplate *VolumeClaimTemplate `json:"volumeClaimTemplate,omitempty"`
}

// VolumeClaimTemplate is a claim to be created.
type VolumeClaimTemplate struct {
	// spec is that of the PersistentVolumeClaim.
	// +optional
	Spec VolumeClaimSpec `json:"spec,omitempty"`
}

// VolumeClaimSpec is what a claim asks for.
type VolumeClaimSpec struct {
	// accessModes are ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod.
	// Default: ReadWriteOnce.
	// +listType=atomic
	// +optional
	AccessModes []string `json:"accessModes,omitempty"`

	// storageClassName is the StorageClass. Absent: the cluster's default.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`

	// resources has the size, as requests.storage.
	// +optional
	Resources VolumeClaimResources `json:"resources,omitempty"`
}

// VolumeClaimResources has the size of a claim.
type VolumeClaimResources struct {
	// requests has storage. Required.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// ImageVolume is a container image.
type ImageVolume struct {
	// reference is the image. It is pulled with the Pod's imagePullSecrets. Required.
	// +optional
	Reference string `json:"reference,omitempty"`

	// pullPolicy is Always, IfNotPresent or Never. Default: as for imagePullPolicy.
	// +optional
	PullPolicy string `json:"pullPolicy,omitempty"`
}

// CSIVolume is an inline volume of a CSI driver.
type CSIVolume struct {
	// driver is the name of the driver, which must have the volume mode Ephemeral. Required.
	// +optional
	Driver string `json:"driver,omitempty"`

	// readOnly mounts it read-only everywhere.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`

	// fsType is the file system. Default: the driver's.
	// +optional
	FSType string `json:"fsType,omitempty"`

	// volumeAttributes are for the driver. At most 64.
	// +optional
	VolumeAttributes map[string]string `json:"volumeAttributes,omitempty"`

	// nodePublishSecretRef is a Secret for the driver.
	// +optional
	NodePublishSecretRef *SecretRef `json:"nodePublishSecretRef,omitempty"`
}

// ProjectedVolume has the files of its sources.
type ProjectedVolume struct {
	// sources are where the files come from. At most 16.
	// +listType=atomic
	// +optional
	Sources []VolumeProjection `json:"sources,omitempty"`

	// defaultMode is the files' permissions, 0 to 511 (octal 0777). Default: 420 (octal 0644).
	// +optional
	DefaultMode *int64 `json:"defaultMode,omitempty"`
}

// VolumeProjection is exactly one of these.
type VolumeProjection struct {
	// secret has the keys of a Secret as files.
	// +optional
	Secret *NamedKeys `json:"secret,omitempty"`

	// configMap has the keys of a ConfigMap as files.
	// +optional
	ConfigMap *NamedKeys `json:"configMap,omitempty"`

	// serviceAccountToken is a token of serviceAccountName, as a file.
	// +optional
	ServiceAccountToken *TokenProjection `json:"serviceAccountToken,omitempty"`
}

// TokenProjection is a token of the Pod's service account.
type TokenProjection struct {
	// audience is who the token is for. Default: the Kubernetes API.
	// +optional
	Audience string `json:"audience,omitempty"`

	// expirationSeconds is how long it is valid, 600 to 86400. The kubelet replaces it before.
	// Default: 3600.
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`

	// path is the file, relative to the volume. Required.
	// +optional
	Path string `json:"path,omitempty"`
}

// ServiceAccountToken mounts the files token, ca.crt and namespace, as for a Pod with
// automountServiceAccountToken.
type ServiceAccountToken struct {
	// audience is who the token is for. Default: the Kubernetes API.
	// +optional
	Audience string `json:"audience,omitempty"`

	// expirationSeconds is how long it is valid, 600 to 86400. The kubelet replaces it before.
	// Default: 3600.
	// +optional
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`

	// mountPath is the directory. Default: /var/run/secrets/kubernetes.io/serviceaccount.
	// +optional
	MountPath string `json:"mountPath,omitempty"`
}

// VolumeMount is where a volume is mounted.
type VolumeMount struct {
	// name is that of a volume of volumes. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// mountPath is an absolute path at which nothing else is mounted. Required.
	// +optional
	MountPath string `json:"mountPath,omitempty"`

	// subPath is a path in the volume, which is mounted instead of the whole. These are
	// replaced in it: ${BATCH_JOB_ID}, ${BATCH_TASK_NAME}, ${BATCH_TASK_INSTANCE_NUM} and
	// ${BATCH_TASK_INSTANCE_INDEX}.
	// +optional
	SubPath string `json:"subPath,omitempty"`

	// readOnly mounts it read-only.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// PodResourceClaim is a claim of devices: exactly one of a claim and a template.
type PodResourceClaim struct {
	// name is lower-case letters, digits and -, at most 63. Unique. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// resourceClaimName is a ResourceClaim of the namespace, which all instances share.
	// +optional
	ResourceClaimName string `json:"resourceClaimName,omitempty"`

	// resourceClaimTemplateName is a ResourceClaimTemplate of the namespace, of which each Pod
	// gets a claim of its own.
	// +optional
	ResourceClaimTemplateName string `json:"resourceClaimTemplateName,omitempty"`
}

// ResourceClaim is what a container uses of a claim.
type ResourceClaim struct {
	// name is that of an entry of resourceClaims. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// request is a request of the claim. Default: all of it.
	// +optional
	Request string `json:"request,omitempty"`
}

// HostAlias is an entry of /etc/hosts.
type HostAlias struct {
	// ip is the address. Required.
	// +optional
	IP string `json:"ip,omitempty"`

	// hostnames are the names that it has.
	// +listType=atomic
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`
}

// DNSConfig is how names are resolved.
type DNSConfig struct {
	// nameservers are addresses. At most 3.
	// +listType=atomic
	// +optional
	Nameservers []string `json:"nameservers,omitempty"`

	// searches are search domains. At most 32, and 2,048 characters together.
	// +listType=atomic
	// +optional
	Searches []string `json:"searches,omitempty"`

	// options are those of resolv.conf. At most 32.
	// +listType=atomic
	// +optional
	Options []DNSConfigOption `json:"options,omitempty"`
}

// DNSConfigOption is an option of resolv.conf.
type DNSConfigOption struct {
	// name is that of the option. Required.
	// +optional
	Name string `json:"name,omitempty"`

	// value is what is set. Absent: the option has none.
	// +optional
	Value *string `json:"value,omitempty"`
}
