// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// Values of the API that are always the same here.
const (
	// ResourceTypeCVM is the ResourceType of every environment: there is no bare metal.
	ResourceTypeCVM = "CVM"
	// originCreated is the ResourceOrigin of a node. Source: BatchCompute, ComputeNode.ResourceOrigin.
	originCreated = "BATCH_CREATED"
)

// The states of a node. Source: BatchCompute, ComputeNode.ComputeNodeState.
const (
	nodeCreating = "CREATING"
	nodeCreated  = "CREATED"
	nodeRunning  = "RUNNING"
	nodeDeleting = "DELETING"
)

// NodeMetrics counts nodes by state. Source: BatchCompute, ComputeNodeMetrics.
type NodeMetrics struct {
	SubmittedCount, CreatingCount, CreationFailedCount, CreatedCount, RunningCount, DeletingCount, AbnormalCount int64
}

// EnvView is an environment in a list. Source: BatchCompute, ComputeEnvView.
type EnvView struct {
	EnvID                    string `json:"EnvId"`
	EnvName                  string
	Placement                *Placement
	CreateTime               string
	ComputeNodeMetrics       NodeMetrics
	EnvType                  string
	DesiredComputeNodeCount  int64
	ResourceType             string
	NextAction               string
	AttachedComputeNodeCount int64
	Tags                     []Tag
}

// Env is the answer of DescribeComputeEnv.
type Env struct {
	EnvView
	ComputeNodeSet []Node
}

// Node is the capacity for one instance. One that an instance uses is the instance's Pod; the others have no
// machine yet. Source: BatchCompute, ComputeNode.
type Node struct {
	ComputeNodeID            string `json:"ComputeNodeId"`
	ComputeNodeInstanceID    string `json:"ComputeNodeInstanceId"`
	ComputeNodeState         string
	CPU                      int64 `json:"Cpu"`
	Mem                      int64
	ResourceCreatedTime      string
	TaskInstanceNumAvailable int64
	AgentVersion             string
	PrivateIPAddresses       []string `json:"PrivateIpAddresses"`
	PublicIPAddresses        []string `json:"PublicIpAddresses"`
	ResourceType             string
	ResourceOrigin           string
}

// OfEnv returns an environment as DescribeComputeEnvs lists it.
func OfEnv(env *v1alpha1.ComputeEnv) EnvView {
	v := EnvView{
		EnvID: naming.EnvID(env.UID), EnvName: env.Spec.EnvName, Placement: placementOf(&env.Spec.Placement),
		CreateTime: stamp(env.CreationTimestamp), EnvType: cmp.Or(env.Spec.EnvType, v1alpha1.EnvTypeManaged),
		DesiredComputeNodeCount: int64(resolve.ComputeNodeCount(env)), ResourceType: ResourceTypeCVM,
		NextAction: env.Status.NextAction, Tags: tagsOf(env.Spec.Tags),
	}
	if env.DeletionTimestamp != nil {
		v.NextAction = nodeDeleting
	}
	v.ComputeNodeMetrics.RunningCount = v.DesiredComputeNodeCount
	v.ComputeNodeMetrics.DeletingCount = max(0, env.Status.InUseCount-v.DesiredComputeNodeCount)
	return v
}

// EnvDetails returns the answer of DescribeComputeEnv. pods are those that use nodes of the environment and have
// not ended.
func EnvDetails(env *v1alpha1.ComputeEnv, pods []corev1.Pod, offers *catalog.Catalog) Env {
	v := Env{EnvView: OfEnv(env), ComputeNodeSet: []Node{}}
	v.ComputeNodeMetrics = NodeMetrics{}
	cpu, mem := sizeOf(env, offers)
	for i := range pods {
		v.ComputeNodeSet = append(v.ComputeNodeSet, usedNode(&pods[i], cpu, mem))
	}
	for _, id := range IdleNodes(env, len(pods)) {
		v.ComputeNodeSet = append(v.ComputeNodeSet, Node{
			ComputeNodeID: id.ID, ComputeNodeState: nodeRunning, CPU: cpu, Mem: mem, ResourceCreatedTime: v.CreateTime,
			TaskInstanceNumAvailable: 1, PrivateIPAddresses: []string{}, PublicIPAddresses: []string{},
			ResourceType: ResourceTypeCVM, ResourceOrigin: originCreated,
		})
	}
	slices.SortStableFunc(v.ComputeNodeSet, func(a, b Node) int { return cmp.Compare(a.ComputeNodeID, b.ComputeNodeID) })
	for i := range v.ComputeNodeSet {
		switch v.ComputeNodeSet[i].ComputeNodeState {
		case nodeCreating:
			v.ComputeNodeMetrics.CreatingCount++
		case nodeCreated:
			v.ComputeNodeMetrics.CreatedCount++
		case nodeDeleting:
			v.ComputeNodeMetrics.DeletingCount++
		default:
			v.ComputeNodeMetrics.RunningCount++
		}
	}
	return v
}

// usedNode is the node that a Pod uses.
func usedNode(pod *corev1.Pod, cpu, mem int64) Node {
	n := Node{
		ComputeNodeID: naming.NodeID(pod.UID), ComputeNodeInstanceID: pod.Spec.NodeName, ComputeNodeState: nodeCreating,
		CPU: cpu, Mem: mem, ResourceCreatedTime: stamp(pod.CreationTimestamp),
		PrivateIPAddresses: []string{}, PublicIPAddresses: []string{}, ResourceType: ResourceTypeCVM, ResourceOrigin: originCreated,
	}
	for _, a := range pod.Status.HostIPs {
		n.PrivateIPAddresses = append(n.PrivateIPAddresses, a.IP)
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == podspec.ContainerName && (n.CPU == 0 || n.Mem == 0) {
			n.CPU, n.Mem = sizes(c.Resources.Requests.Cpu(), c.Resources.Requests.Memory())
		}
	}
	switch state := containerState(pod, podspec.ContainerName); {
	case pod.DeletionTimestamp != nil:
		n.ComputeNodeState = nodeDeleting
	case state.Running != nil || state.Terminated != nil:
		n.ComputeNodeState = nodeRunning
	case pod.Spec.NodeName != "":
		n.ComputeNodeState = nodeCreated
	}
	return n
}

// sizeOf returns the cores and GiB of a node, 0 where neither the environment nor the catalogue says so.
func sizeOf(env *v1alpha1.ComputeEnv, offers *catalog.Catalog) (cpu, mem int64) {
	data := env.Spec.EnvData
	if data == nil {
		return 0, 0
	}
	name := data.InstanceType
	if len(data.InstanceTypes) > 0 {
		name = data.InstanceTypes[0]
	}
	if o := data.InstanceTypeOptions; o != nil {
		if o.CPU != nil {
			cpu = *o.CPU
		}
		if o.Memory != nil {
			mem = *o.Memory
		}
		return cpu, mem
	}
	if it := offers.InstanceType(name); it != nil {
		return sizes(it.Resources.Cpu(), it.Resources.Memory())
	}
	return 0, 0
}

// sizes returns cores and GiB, both rounded up.
func sizes(cpu, memory *resource.Quantity) (cores, gib int64) {
	const unit = 1 << 30
	return (cpu.MilliValue() + 999) / 1000, (memory.Value() + unit - 1) / unit
}

// IdleNode is a node that no instance uses, by its number.
type IdleNode struct {
	ID     string
	Number int
}

// IdleNodes returns the nodes of an environment that are free while inUse others are not, ascending by number. The
// numbers of nodes that were terminated are left out: see v1alpha1.AnnotationTerminatedNodes.
func IdleNodes(env *v1alpha1.ComputeEnv, inUse int) []IdleNode {
	free := resolve.ComputeNodeCount(env) - inUse
	if free <= 0 {
		return nil
	}
	gone := TerminatedNodes(env)
	out := make([]IdleNode, 0, free)
	for n := 0; len(out) < free; n++ {
		if !gone.Contains(n) {
			out = append(out, IdleNode{naming.NodeID(env.UID, fmt.Sprint(n)), n})
		}
	}
	return out
}

// TerminatedNodes returns the numbers of the nodes that were terminated while they were free. A text that cannot
// be read, since users may write it, stands for none.
func TerminatedNodes(env *v1alpha1.ComputeEnv) ranges.Set {
	set, err := ranges.Parse(env.Annotations[v1alpha1.AnnotationTerminatedNodes])
	if err != nil {
		return ranges.Set{}
	}
	return set
}

// NodeIDOf returns the identifier of the node that a Pod uses.
func NodeIDOf(pod *corev1.Pod) string { return naming.NodeID(pod.UID) }

// Activity is the creation of a node. Source: BatchCompute, Activity.
type Activity struct {
	ActivityID              string `json:"ActivityId"`
	ComputeNodeID           string `json:"ComputeNodeId"`
	ComputeNodeActivityType string
	EnvID                   string `json:"EnvId"`
	Cause                   string
	ActivityState           string
	StateReason             string
	StartTime               string
	EndTime                 *string
	InstanceID              *string `json:"InstanceId"`
}

// Activities returns the creation of the node of each Pod, the newest first.
func Activities(env *v1alpha1.ComputeEnv, pods []corev1.Pod) []Activity {
	sorted := make([]*corev1.Pod, len(pods))
	for i := range pods {
		sorted[i] = &pods[i]
	}
	slices.SortFunc(sorted, func(a, b *corev1.Pod) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	out := make([]Activity, len(sorted))
	for i, pod := range sorted {
		v := &out[i]
		*v = Activity{
			ActivityID: naming.ActivityID(pod.UID), ComputeNodeID: naming.NodeID(pod.UID), ComputeNodeActivityType: "CREATE_COMPUTE_NODE",
			EnvID: naming.EnvID(env.UID), Cause: "an instance of " + pod.Labels[v1alpha1.LabelJobID] + " got the node",
			ActivityState: "PROCESSING", StartTime: stamp(pod.CreationTimestamp), InstanceID: textOrNull(pod.Spec.NodeName),
		}
		switch {
		case pod.Spec.NodeName != "":
			v.ActivityState, v.EndTime = "SUCCEED", new(stamp(scheduledAt(pod)))
		case pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil:
			v.ActivityState, v.StateReason = "FAILED", cmp.Or(pod.Status.Message, pod.Status.Reason)
		}
	}
	return out
}
