// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// Lookups are the questions about the cluster, beyond the job's own objects, whose answers a plan
// depends on. Most passes have none. The caller puts the answers into the Observation.
type Lookups struct {
	// Schedulers are the names of schedulers: when did each look at a Pod last? Each is there once.
	Schedulers []string
	// Zones: in which zones are nodes?
	Zones bool
	// Addresses are those of nodes: what are the host names of the nodes that have them? Each is
	// there once.
	Addresses []string
}

// LookupsOf returns the questions for a job that resolves to spec and has these ComputeEnvs and Pods.
// Cost: O(Pods), and no memory when no Pod waits for a node.
func LookupsOf(spec *resolve.Job, envs map[string]EnvView, pods []*corev1.Pod) Lookups {
	var out Lookups
	for _, pod := range pods {
		if isUnscheduled(pod) {
			if name := schedulerOf(pod); !slices.Contains(out.Schedulers, name) {
				out.Schedulers = append(out.Schedulers, name)
			}
		}
		_, rejected := unschedulable(pod)
		out.Zones = out.Zones || rejected
		if waitsForHosts(pod, rejected) {
			out.addHosts(spec, envs, pod)
		}
	}
	return out
}

// addHosts asks for the addresses by which the task of a Pod names hosts.
func (l *Lookups) addHosts(spec *resolve.Job, envs map[string]EnvView, pod *corev1.Pod) {
	pos := spec.TaskByLabel(pod.Labels[v1alpha1.LabelTaskName])
	if pos < 0 {
		return
	}
	env := envOf(&spec.Tasks[pos], envs)
	if env == nil {
		return
	}
	for _, address := range env.HostIPs {
		if !slices.Contains(l.Addresses, address) {
			l.Addresses = append(l.Addresses, address)
		}
	}
}

// envOf returns where and on what the instances of t run, or nil where that is not known.
func envOf(t *resolve.Task, envs map[string]EnvView) *resolve.Env {
	if t.Env != nil {
		return t.Env
	}
	return envs[t.EnvID].Env
}

// waitsForHosts reports whether a Pod waits for nodes by their names, which were found by addresses.
// rejected says that the scheduler has found no node for it.
func waitsForHosts(pod *corev1.Pod, rejected bool) bool {
	if pod.Spec.NodeName != "" || !rejected && pod.DeletionTimestamp == nil {
		return false
	}
	_, ok := pod.Annotations[v1alpha1.AnnotationHosts]
	return ok
}

// named returns the host names of the nodes that have any of the addresses, each once, sorted.
func (n *Nodes) named(addresses []string) []string {
	var out []string
	for _, address := range addresses {
		out = append(out, n.Hosts[address]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
