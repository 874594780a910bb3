// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import corev1 "k8s.io/api/core/v1"

// KubernetesOptions are options of the Pods that the BatchCompute API lacks. They take
// precedence over what the operator would choose. At most 256 KiB together.
type KubernetesOptions struct {
	// nodeSelector has labels that a node must have, in addition to those that zones, hosts
	// and machine types require. At most 64.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations allow the Pods on nodes with taints, in addition to those of the charge type.
	// At most 32.
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// resources are the requests and limits of the container. Each resource that is given here
	// replaces that of the machine type.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// serviceAccountName is the ServiceAccount of the Pods. Its token is mounted only with
	// serviceAccountToken. Default: default.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// imagePullSecrets name Secrets of type kubernetes.io/dockerconfigjson, in addition to
	// application.docker.passwordSecretRef. At most 20.
	// +listType=atomic
	// +optional
	ImagePullSecrets []SecretRef `json:"imagePullSecrets,omitempty"`

	// runtimeClassName is the RuntimeClass that runs the container. Absent: the cluster's
	// default.
	// +optional
	RuntimeClassName string `json:"runtimeClassName,omitempty"`

	// schedulerName is the scheduler that finds the node. Default: default-scheduler.
	// +optional
	SchedulerName string `json:"schedulerName,omitempty"`

	// priorityClassName is the PriorityClass of the Pods. Default: the one that the
	// operator's configuration has for spec.job.priority, if any.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// securityContext is the user and group that the command runs as. Default: user and
	// group 65532. Privilege escalation is never allowed, and all capabilities are dropped.
	// +optional
	SecurityContext *SecurityContext `json:"securityContext,omitempty"`

	// labels are further labels of the Pods, such as kueue.x-k8s.io/queue-name. They
	// must not begin with batchcompute.dev/. At most 64.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are further annotations of the Pods. They must not begin with
	// batchcompute.dev/. At most 64 KiB together.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`

	// env are further variables of the command. Of the same name, they replace those of
	// envVars and of dockerRunOption. At most 100.
	// +listType=atomic
	// +optional
	Env []KubernetesEnvVar `json:"env,omitempty"`

	// envFrom makes variables of all keys of Secrets and ConfigMaps. A variable of the same
	// name from elsewhere wins; of two entries, the later one. At most 32.
	// +listType=atomic
	// +optional
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`

	// volumes are further volumes of the Pods. At most 32.
	// +listType=atomic
	// +optional
	Volumes []Volume `json:"volumes,omitempty"`

	// volumeMounts say where the command finds the volumes. At most 64.
	// +listType=atomic
	// +optional
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty"`

	// serviceAccountToken mounts a token of serviceAccountName, with which the command can
	// use the Kubernetes API. {} is enough. Absent: no token.
	// +optional
	ServiceAccountToken *ServiceAccountToken `json:"serviceAccountToken,omitempty"`

	// affinity restricts nodes further. What zones, hosts and machine types require must
	// hold too. At most 16 KiB.
	// +optional
	Affinity *Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints spread Pods over zones, nodes or other domains. At most 8.
	// +listType=atomic
	// +optional
	TopologySpreadConstraints []TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// hostAliases are further entries of /etc/hosts. At most 64.
	// +listType=atomic
	// +optional
	HostAliases []HostAlias `json:"hostAliases,omitempty"`

	// dnsPolicy is ClusterFirst, Default or None. Default: ClusterFirst.
	// +optional
	DNSPolicy string `json:"dnsPolicy,omitempty"`

	// dnsConfig has servers, search domains and options, in addition to those of dnsPolicy.
	// +optional
	DNSConfig *DNSConfig `json:"dnsConfig,omitempty"`

	// imagePullPolicy is Always, IfNotPresent or Never. Default: Always for the tag latest
	// and for no tag, else IfNotPresent.
	// +optional
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`

	// resourceClaims are claims of devices (dynamic resource allocation). At most 32.
	// +listType=atomic
	// +optional
	ResourceClaims []PodResourceClaim `json:"resourceClaims,omitempty"`

	// outputsOnFailure stores outputMappings after a command that failed, too, as far as there
	// are files; the attempt fails all the same. false is for those whom a part of the files
	// would harm. Logs are always stored. Default: true.
	// +optional
	OutputsOnFailure *bool `json:"outputsOnFailure,omitempty"`
}

// ResourceRequirements are amounts of resources, by name.
type ResourceRequirements struct {
	// requests are what a node must have available for the container.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits are what the container may use at most. A resource with a limit and no
	// request requests its limit.
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`

	// claims are which of resourceClaims the container uses. Default: all. At most 32.
	// +listType=atomic
	// +optional
	Claims []ResourceClaim `json:"claims,omitempty"`
}

// SecurityContext is the user and groups that a command runs as.
type SecurityContext struct {
	// runAsUser is the user's number. 0, which is root, requires runAsNonRoot: false.
	// +optional
	RunAsUser *int64 `json:"runAsUser,omitempty"`

	// runAsGroup is the number of the primary group.
	// +optional
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`

	// runAsNonRoot makes the kubelet refuse to run the command as root. Default: true,
	// unless runAsUser is 0.
	// +optional
	RunAsNonRoot *bool `json:"runAsNonRoot,omitempty"`

	// fsGroup is the number of the group that owns the volumes.
	// +optional
	FSGroup *int64 `json:"fsGroup,omitempty"`

	// supplementalGroups are the numbers of further groups of the user. At most 64.
	// +listType=atomic
	// +optional
	SupplementalGroups []int64 `json:"supplementalGroups,omitempty"`

	// readOnlyRootFilesystem mounts the root file system of the container read-only.
	// Default: false.
	// +optional
	ReadOnlyRootFilesystem *bool `json:"readOnlyRootFilesystem,omitempty"`
}
