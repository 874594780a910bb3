// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// HoldsNode reports whether the Pod has a node of a ComputeEnv. It is not let go of before
// it has finished, whatever becomes of its job: as long as it may run, nobody else gets the
// node. One whose node does not confirm its end in time is given up.
func HoldsNode(pod *corev1.Pod, now time.Time) bool {
	return pod.Labels[v1alpha1.LabelEnvID] != "" && !HasFinished(pod) && !isStuck(pod, now)
}

// Unclaimed returns how many instances of tasks that name ComputeEnvs are left to be issued:
// none while the job is not to begin any.
func Unclaimed(spec *resolve.Job, job *v1alpha1.BatchJob) int {
	if job.DeletionTimestamp != nil || job.Spec.Suspend || job.Spec.Terminate {
		return 0
	}
	n, stored := 0, job.Status.Tasks
	for i := range spec.Tasks {
		t := &spec.Tasks[i]
		var s v1alpha1.TaskStatus
		if len(stored) > 0 && stored[0].Name == t.Name {
			s, stored = stored[0], stored[1:]
		}
		if t.EnvID == "" {
			continue
		}
		n += t.InstanceNum - Claims(&s)
		for _, text := range []string{s.Succeeded, s.Failed} {
			if done, err := ranges.Parse(text); err == nil {
				n -= done.Len()
			}
		}
	}
	return max(n, 0)
}

// InEnv returns how many claims a stored status has in each ComputeEnv, by its name; those
// in one that is not among envs are not counted. A list that cannot be read counts as empty:
// such a job gets no further.
func InEnv(spec *resolve.Job, s *v1alpha1.BatchJobStatus, envs map[string]EnvView) map[string]int {
	if len(envs) == 0 {
		return nil
	}
	out, i := map[string]int{}, 0
	for _, stored := range s.Tasks { // in the order of the spec
		for i < len(spec.Tasks) && spec.Tasks[i].Name != stored.Name {
			i++
		}
		if i == len(spec.Tasks) {
			break
		}
		if e, ok := envs[spec.Tasks[i].EnvID]; ok {
			out[e.Env.Name] += Claims(&stored)
		}
	}
	return out
}

// Claims returns how many instances of a task have been issued, or are held.
func Claims(s *v1alpha1.TaskStatus) int {
	n := 0
	for _, text := range []string{s.Active, s.Interrupted} {
		if g, err := parseGroups(text); err == nil {
			n += g.len()
		}
	}
	return n
}

// countInEnvs counts the claims that are left in each ComputeEnv.
func (c *computation) countInEnvs() {
	if len(c.obs.Envs) == 0 {
		return
	}
	c.inEnv, c.issued, c.wanted = map[string]int{}, map[string]int{}, map[string]int{}
	for i := range c.tasks {
		t := &c.tasks[i]
		if e, ok := c.obs.Envs[t.EnvID]; ok {
			c.inEnv[e.Env.Name] += t.active.len() + t.interrupted.len()
		}
	}
	for _, e := range byName(c.obs.Envs) {
		c.inEnv[e.Env.Name] += c.lingering[e.Env.ID]
	}
}

// inEnvRoom cuts room to what the nodes of the task's ComputeEnv allow, and notes what is
// lacking.
func (c *computation) inEnvRoom(t *task, room int) int {
	if t.EnvID == "" || room <= 0 {
		return room
	}
	room = min(room, t.unclaimed().Len())
	e, ok := c.obs.Envs[t.EnvID]
	if !ok {
		t.lacking = v1alpha1.ReasonComputeEnvNotFound
		return 0
	}
	nodes := e.Limit - c.inEnv[e.Env.Name]
	if e.Closed {
		nodes = min(nodes, e.Grant-c.issued[e.Env.Name])
	}
	if nodes = max(nodes, 0); nodes < room {
		c.wanted[e.Env.Name] += room - nodes
		t.lacking = v1alpha1.ReasonComputeEnvFull
		return nodes
	}
	return room
}

// byName returns each ComputeEnv once, by whatever names it is called.
func byName(envs map[string]EnvView) map[string]EnvView {
	out := map[string]EnvView{}
	for _, e := range envs {
		out[e.Env.Name] = e
	}
	return out
}

// took counts claims that were made in the ComputeEnv of t.
func (c *computation) took(t *task, n int) {
	if e, ok := c.obs.Envs[t.EnvID]; ok {
		c.inEnv[e.Env.Name] += n
		c.issued[e.Env.Name] += n
	}
}

// explainLack says what a task lacks of which no instance is under way.
func (c *computation) explainLack(t *task) {
	detail := fmt.Sprintf("there is no ComputeEnv %q", t.EnvID)
	if e, ok := c.obs.Envs[t.EnvID]; ok {
		switch {
		case e.Size == 0:
			detail = fmt.Sprintf("ComputeEnv %q has no node: its desiredComputeNodeCount is 0", e.Env.Name)
		default:
			detail = fmt.Sprintf("ComputeEnv %q has no node to spare: its %s are in use, or others are first", e.Env.Name, count(e.Size, "node"))
		}
	}
	if t.lacking == v1alpha1.ReasonOperatorMemory {
		detail = c.obs.NoMemory
	}
	next := ranges.Span(0, t.InstanceNum-1).Minus(t.succeeded).Minus(t.failed).First(1)
	for i := range next.All() {
		c.wait(t, i, "", t.lacking, detail)
	}
	t.reason, t.message = t.lacking, cut(detail)
}

// unschedulable returns what the scheduler says of a Pod that it finds no node for.
func unschedulable(pod *corev1.Pod) (message string, ok bool) {
	for _, c := range pod.Status.Conditions {
		// The reason is Unschedulable, or SchedulerError where the scheduler itself is in trouble.
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != corev1.PodReasonSchedulingGated {
			return c.Message, true
		}
	}
	return "", false
}

// maxZones is how many zones a sentence lists.
const maxZones = 5

// explainUnschedulable says why no node fits, in better words than the scheduler's where it
// is for the zone.
func (c *computation) explainUnschedulable(t *task, message string) (reason, detail string) {
	var zones []string
	if e := c.env(t); e != nil {
		zones = e.Zones
	}
	n := c.obs.Nodes
	if n == nil || len(zones) == 0 || slices.ContainsFunc(zones, func(z string) bool { return slices.Contains(n.Zones, z) }) {
		return v1alpha1.ReasonUnschedulable, fmt.Sprintf("no node fits%s: %s", inZones(zones), message)
	}
	known := n.Zones
	there := "no node has the label " + corev1.LabelTopologyZone
	if len(known) > 0 {
		there = "there are nodes" + inZones(known[:min(len(known), maxZones)])
		if more := len(known) - maxZones; more > 0 {
			there += fmt.Sprintf(" and %d more", more)
		}
	}
	return v1alpha1.ReasonZoneNotFound, fmt.Sprintf("no node is%s; %s", inZones(zones), there)
}

// env returns where and on what the instances of t run, or nil where that is not known.
func (c *computation) env(t *task) *resolve.Env { return envOf(t.Task, c.obs.Envs) }

// isOutdated reports whether the Pod waits for nodes by their names, and the addresses that
// these were found by are of others by now.
func (c *computation) isOutdated(t *task, pod *corev1.Pod) bool {
	if c.obs.Nodes == nil || pod.Spec.NodeName != "" {
		return false
	}
	_, rejected := unschedulable(pod)
	e := c.env(t)
	if e == nil || !waitsForHosts(pod, rejected) {
		return false
	}
	return strings.Join(c.obs.Nodes.named(e.HostIPs), ",") != pod.Annotations[v1alpha1.AnnotationHosts]
}
