// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import corev1 "k8s.io/api/core/v1"

// KubernetesOptions are what a cluster's users need of a Pod beyond the BatchCompute
// API. What is given here wins over what the operator would choose.
type KubernetesOptions struct {
	// nodeSelector has labels that a node must carry, beside what zones, hosts and
	// machine types ask for.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations let the Pods onto nodes with taints, beside those of the charge type.
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// resources of the container. Each resource that is given here stands in the place
	// of the machine type's.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// serviceAccountName is the account that the Pods have. Its token is not mounted.
	// Default: default.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// imagePullSecrets name Secrets of type kubernetes.io/dockerconfigjson, beside
	// application.docker.passwordSecretRef.
	// +listType=atomic
	// +optional
	ImagePullSecrets []SecretRef `json:"imagePullSecrets,omitempty"`

	// runtimeClassName is the RuntimeClass that runs the container.
	// +optional
	RuntimeClassName string `json:"runtimeClassName,omitempty"`

	// schedulerName is the scheduler that finds the node. Default: default-scheduler.
	// +optional
	SchedulerName string `json:"schedulerName,omitempty"`

	// priorityClassName is the PriorityClass of the Pods. Default: what the operator's
	// configuration has for spec.job.priority, if anything.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// securityContext says as whom the command runs. Default: as user and group 65532.
	// Whatever it says, privileges are never escalated and capabilities are dropped.
	// +optional
	SecurityContext *SecurityContext `json:"securityContext,omitempty"`

	// labels are further labels of the Pods, such as kueue.x-k8s.io/queue-name. They
	// must not begin with batchcompute.dev/.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are further annotations of the Pods. They must not begin with
	// batchcompute.dev/.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ResourceRequirements are amounts of resources, by name.
type ResourceRequirements struct {
	// requests are what a node must have free.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits are what the container may use at most. A resource with a limit and no
	// request requests its limit.
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// SecurityContext says as whom a command runs.
type SecurityContext struct {
	// runAsUser is the user's number. 0, root, needs runAsNonRoot: false.
	// +optional
	RunAsUser *int64 `json:"runAsUser,omitempty"`

	// runAsGroup is the group's number.
	// +optional
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`

	// runAsNonRoot makes the kubelet refuse to run the command as root. Default: true,
	// unless runAsUser is 0.
	// +optional
	RunAsNonRoot *bool `json:"runAsNonRoot,omitempty"`

	// fsGroup is the group that owns the volumes.
	// +optional
	FSGroup *int64 `json:"fsGroup,omitempty"`

	// supplementalGroups are further groups of the user.
	// +listType=atomic
	// +optional
	SupplementalGroups []int64 `json:"supplementalGroups,omitempty"`

	// readOnlyRootFilesystem makes the image's files read-only. Default: false.
	// +optional
	ReadOnlyRootFilesystem *bool `json:"readOnlyRootFilesystem,omitempty"`
}
