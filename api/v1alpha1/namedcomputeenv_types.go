// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ComputeEnv is a named compute environment: a number of equal nodes, shared by all
// BatchJobs of the namespace whose tasks name it in envId.
//
// A node is capacity for one task instance at a time. At most desiredComputeNodeCount
// instances are active; the others wait in a queue: the job with the highest priority
// first, and the oldest first among jobs of equal priority.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.desiredComputeNodeCount,statuspath=.status.desiredComputeNodeCount
// +kubebuilder:resource:shortName=cenv,categories=all
// +kubebuilder:printcolumn:name="EnvId",type=string,JSONPath=`.status.envId`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.desiredComputeNodeCount`,description="instances that may be active at the same time"
// +kubebuilder:printcolumn:name="In use",type=integer,JSONPath=`.status.inUseCount`,description="instances that have a node"
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.waitingJobCount`,description="jobs that wait for a node"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Zone",type=string,JSONPath=`.spec.placement.zone`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
type ComputeEnv struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the request, as CreateComputeEnv takes it. A change applies to Pods that are
	// created after it.
	// +optional
	Spec ComputeEnvSpec `json:"spec,omitempty"`

	// status says how many nodes are in use. Only the operator writes it.
	// +optional
	Status ComputeEnvStatus `json:"status,omitempty"`
}

// ComputeEnvList is a list of ComputeEnvs.
//
// +kubebuilder:object:root=true
type ComputeEnvList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ComputeEnv `json:"items"`
}

// ComputeEnvSpec is the body of a CreateComputeEnv request: the placement, and the
// fields of its ComputeEnv.
// Source: BatchCompute, CreateComputeEnv, input parameters, and NamedComputeEnv.
type ComputeEnvSpec struct {
	// placement says where the nodes are. For tasks with this envId it replaces the
	// placement of their job. Required. Source: BatchCompute, CreateComputeEnv.Placement.
	// +optional
	Placement Placement `json:"placement,omitempty"`

	// envName is a name for people; it need not be unique. At most 60 characters.
	// Required. Source: BatchCompute, NamedComputeEnv.EnvName.
	// +optional
	EnvName string `json:"envName,omitempty"`

	// envDescription is a remark for people. At most 200 characters.
	// Source: BatchCompute, NamedComputeEnv.EnvDescription.
	// +optional
	EnvDescription string `json:"envDescription,omitempty"`

	// desiredComputeNodeCount is how many nodes there are: 0-2000. When it is reduced,
	// also to 0, running instances continue, and new ones wait until a node is free.
	// Required. Source: BatchCompute, NamedComputeEnv.DesiredComputeNodeCount.
	// +optional
	// +kubebuilder:validation:Maximum=1000000
	DesiredComputeNodeCount *int64 `json:"desiredComputeNodeCount,omitempty"`

	// envType is MANAGED. Default: MANAGED.
	// Source: BatchCompute, NamedComputeEnv.EnvType.
	// +optional
	EnvType string `json:"envType,omitempty"`

	// envData describes the machine of a node. Absent: the operator's defaults.
	// Source: BatchCompute, NamedComputeEnv.EnvData.
	// +optional
	EnvData *EnvData `json:"envData,omitempty"`

	// mountDataDisks say where the data disks are mounted, in their order. Without data
	// disks they are directories of the system disk.
	// Source: BatchCompute, NamedComputeEnv.MountDataDisks.
	// +listType=atomic
	// +optional
	MountDataDisks []MountDataDisk `json:"mountDataDisks,omitempty"`

	// agentRunningMode is for Windows machines only. No effect on Kubernetes.
	// Source: BatchCompute, NamedComputeEnv.AgentRunningMode.
	// +optional
	AgentRunningMode *AgentRunningMode `json:"agentRunningMode,omitempty"`

	// authentications are the keys of tasks that have none of their own.
	// Source: BatchCompute, NamedComputeEnv.Authentications.
	// +listType=atomic
	// +optional
	Authentications []Authentication `json:"authentications,omitempty"`

	// inputMappings bring remote directories for every instance, before the mappings of its task.
	// Source: BatchCompute, NamedComputeEnv.InputMappings.
	// +listType=atomic
	// +optional
	InputMappings []InputMapping `json:"inputMappings,omitempty"`

	// notifications say which changes of state are announced, and to which topics: eventName is COMPUTE_ENV_CREATED,
	// COMPUTE_ENV_DELETED, COMPUTE_NODE_CREATED, COMPUTE_NODE_RUNNING or COMPUTE_NODE_DELETING. The nodes are those that
	// desiredComputeNodeCount asks for. COMPUTE_NODE_CREATION_FAILED and COMPUTE_NODE_ABNORMAL are accepted; the
	// notifications of the job whose instance loses its machine announce them. The operator's catalogue says which
	// receiver a topic has. For a topic that it does not have, the annotation batchcompute.dev/notification-sink may
	// name one. Source: BatchCompute, NamedComputeEnv.Notifications.
	// +listType=atomic
	// +optional
	Notifications []Notification `json:"notifications,omitempty"`

	// notificationTarget is the message service of the topics in notifications: CMQ or
	// TDMQ_CMQ. Default: CMQ. No effect: the operator's catalogue decides which service a topic is of.
	// Source: BatchCompute, NamedComputeEnv.NotificationTarget.
	// +optional
	NotificationTarget string `json:"notificationTarget,omitempty"`

	// actionIfComputeNodeInactive is RECREATE: an instance whose node is lost or cannot
	// be acquired gets another. Default: RECREATE.
	// Source: BatchCompute, NamedComputeEnv.ActionIfComputeNodeInactive.
	// +optional
	ActionIfComputeNodeInactive string `json:"actionIfComputeNodeInactive,omitempty"`

	// resourceMaxRetryCount is how often an instance gets another node: 0-100. For tasks
	// with this envId it replaces their own. Default: 7.
	// Source: BatchCompute, NamedComputeEnv.ResourceMaxRetryCount.
	// +optional
	ResourceMaxRetryCount *int64 `json:"resourceMaxRetryCount,omitempty"`

	// tags are key-value pairs that the Pods on its nodes carry, as with the tags of a job.
	// At most 10.
	// Source: BatchCompute, NamedComputeEnv.Tags.
	// +listType=atomic
	// +optional
	Tags []Tag `json:"tags,omitempty"`

	// clientToken makes a creation with metadata.generateName idempotent: the object's name
	// is computed from both, so a second creation names the same object. The client chooses
	// it: at most 64 ASCII characters, not only spaces. No effect with metadata.name, or
	// when it is changed. Source: BatchCompute, CreateComputeEnv.ClientToken.
	// +optional
	ClientToken string `json:"clientToken,omitempty"`

	// kubernetes has options of the Pods that the BatchCompute API lacks.
	// +optional
	Kubernetes *KubernetesOptions `json:"kubernetes,omitempty"`
}

// ComputeEnvStatus is the state of an environment and of its nodes.
type ComputeEnvStatus struct {
	// observedGeneration is the generation of the spec that the status is computed from.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// envId is the environment's identifier in BatchCompute's form: "env-" and 8
	// characters of [0-9a-z]. It is computed from the object's UID. A task's envId is
	// this identifier or the object's name. Source: BatchCompute, CreateComputeEnv, EnvId.
	// +optional
	EnvID string `json:"envId,omitempty"`

	// desiredComputeNodeCount is how many instances may be active at the same time.
	// Source: BatchCompute, DescribeComputeEnv, DesiredComputeNodeCount.
	// +optional
	DesiredComputeNodeCount int64 `json:"desiredComputeNodeCount"`

	// inUseCount is how many instances are active or interrupted. It can be more than
	// desiredComputeNodeCount for a while after that was reduced.
	// +optional
	InUseCount int64 `json:"inUseCount"`

	// waitingJobCount is how many jobs are in the queue for a node.
	// +optional
	WaitingJobCount int64 `json:"waitingJobCount"`

	// notifications says which events of spec.notifications are to be sent, and how many were.
	// +optional
	Notifications *NotificationStatus `json:"notifications,omitempty"`

	// nextAction is DELETING while the deletion of the environment waits for jobs that use it, or for
	// events that are to be sent.
	// Source: BatchCompute, DescribeComputeEnv, NextAction.
	// +optional
	NextAction string `json:"nextAction,omitempty"`

	// conditions are Ready, Notified and, for tools that read kstatus, Reconciling.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
