// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// claims are the instances that are issued now.
type claims struct {
	// create are the instances, in the order in which they are to be made.
	create []resolve.Instance
	// inEnv are all claims in each ComputeEnv, issued those of them that are new, and wanted the
	// instances that need nothing but a node of it; by its name.
	inEnv, issued, wanted map[string]int
	// blocked has the reason why no more instances of a task could be issued, by the position of the
	// task. It is nil where there is none.
	blocked []string
}

// claim issues instances of the tasks that may start, in the order of release, and puts them into at.
func claim(j *job, at []lists, pods *outcomes, ready taskReadiness) claims {
	var out claims
	c := claimer{job: j, claims: &out, at: at, pods: pods}
	c.countInEnvs()
	for _, i := range j.obs.Spec.ReleaseOrder {
		c.claim(&j.tasks[i], ready.tasks[i])
	}
	return out
}

// claimer makes the claims of one pass.
type claimer struct {
	*job
	*claims
	at   []lists
	pods *outcomes
}

// claim issues instances of t, those to be retried first, as far as maxConcurrentNum
// and the size of the batch allow.
func (c *claimer) claim(t *task, r readiness) {
	l := &c.at[t.pos]
	if r != ready || c.mode.draining || l.hasEnded(t.InstanceNum) || l.isBlocked(t) {
		return
	}
	if _, ok := c.obs.Refusals[t.pos]; ok && c.pods.tasks[t.pos].adopting > 0 {
		return // what is claimed already must be created first
	}
	if c.obs.NoMemory != "" {
		c.block(t, v1alpha1.ReasonOperatorMemory)
		return
	}
	//mutation:interrupted-take-no-slot
	//mutation:limit-from-pods
	left := min(t.MaxConcurrentNum-l.active.len()-l.interrupted.len(), batchLeft(&c.obs, c.pods, c.claims))
	left = c.leftInEnv(t, left)
	var again []ranges.Set
	for _, g := range l.retrying {
		if left <= 0 {
			break
		}
		again = append(again, g.set.First(left))
		left -= c.issue(t, g.history, again[len(again)-1])
	}
	l.retrying = l.retrying.minus(ranges.UnionAll(again...))
	if left > 0 {
		c.issue(t, history{}, l.unclaimed(t.InstanceNum).Minus(l.retrying.all()).First(left))
	}
}

// batchLeft is how many more instances the plan may claim.
func batchLeft(obs *Observation, pods *outcomes, c *claims) int {
	return min(cmp.Or(obs.BatchSize, MaxBatchSize), MaxBatchSize) - len(c.create) - len(pods.adopt)
}

// issue claims the instances of set and returns how many they are. The caller takes them out of
// the list of those to be retried.
func (c *claimer) issue(t *task, h history, set ranges.Set) int {
	if set.Empty() {
		return 0
	}
	l := &c.at[t.pos]
	l.active = l.active.plus(h, set)
	for i := range set.All() {
		c.create = append(c.create, resolve.Instance{Task: t.pos, Index: i, Attempt: h.attempt(), Run: c.mode.run, Machine: h.machines})
	}
	if e, ok := c.obs.Envs[t.EnvID]; ok {
		c.inEnv[e.Env.Name] += set.Len()
		c.issued[e.Env.Name] += set.Len()
	}
	return set.Len()
}

// block notes why no more instances of t can be issued.
func (c *claimer) block(t *task, reason string) {
	if c.blocked == nil {
		c.blocked = make([]string, len(c.tasks))
	}
	c.blocked[t.pos] = reason
}

// countInEnvs counts the claims that are left in each ComputeEnv.
func (c *claimer) countInEnvs() {
	if len(c.obs.Envs) == 0 {
		return
	}
	c.inEnv, c.issued, c.wanted = map[string]int{}, map[string]int{}, map[string]int{}
	for i := range c.tasks {
		if e, ok := c.obs.Envs[c.tasks[i].EnvID]; ok {
			c.inEnv[e.Env.Name] += c.at[i].active.len() + c.at[i].interrupted.len()
		}
	}
	for _, e := range byName(c.obs.Envs) {
		c.inEnv[e.Env.Name] += c.pods.lingering[e.Env.ID]
	}
}

// leftInEnv cuts left to what the nodes of the task's ComputeEnv allow, and notes what blocks more.
func (c *claimer) leftInEnv(t *task, left int) int {
	if t.EnvID == "" || left <= 0 {
		return left
	}
	left = min(left, c.at[t.pos].unclaimed(t.InstanceNum).Len())
	e, ok := c.obs.Envs[t.EnvID]
	if !ok {
		c.block(t, v1alpha1.ReasonComputeEnvNotFound)
		return 0
	}
	nodes := e.Limit - c.inEnv[e.Env.Name]
	if e.Closed {
		nodes = min(nodes, e.Grant-c.issued[e.Env.Name])
	}
	if nodes = max(nodes, 0); nodes < left {
		c.wanted[e.Env.Name] += left - nodes
		c.block(t, v1alpha1.ReasonComputeEnvFull)
		return nodes
	}
	return left
}

// byName returns each ComputeEnv once, by whatever names it is called.
func byName(envs map[string]EnvView) map[string]EnvView {
	out := make(map[string]EnvView, len(envs))
	for _, e := range envs {
		out[e.Env.Name] = e
	}
	return out
}
