// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// HoldsNode reports whether the Pod has a node of a ComputeEnv. Its finalizer is not removed before
// it has finished, whatever becomes of its job: as long as it may run, nobody else gets the
// node. After the confirmation timeout the node counts as lost.
func HoldsNode(pod *corev1.Pod, now time.Time) bool {
	return pod.Labels[v1alpha1.LabelEnvID] != "" && !HasFinished(pod) && !isStuck(pod, now)
}

// Unclaimed returns how many instances of tasks that name ComputeEnvs are left to be issued:
// none while the job must not start any.
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

// ClaimsByEnvID is InEnv for a job that is not resolved: by what its tasks call the ComputeEnvs in envId.
func ClaimsByEnvID(job *v1alpha1.BatchJob) map[string]int {
	out, tasks := map[string]int{}, job.Spec.Job.Tasks
	for i := range job.Status.Tasks { // in the order of the spec
		stored := &job.Status.Tasks[i]
		for len(tasks) > 0 && resolve.TaskName(&tasks[0]) != stored.Name {
			tasks = tasks[1:]
		}
		if len(tasks) == 0 {
			break
		}
		if n := Claims(stored); n > 0 && tasks[0].EnvID != "" {
			out[tasks[0].EnvID] += n
		}
	}
	return out
}

// Claims returns how many instances of a task are active or interrupted.
func Claims(s *v1alpha1.TaskStatus) int {
	n := 0
	for _, text := range []string{s.Active, s.Interrupted} {
		if g, err := parseGroups(text); err == nil {
			n += g.len()
		}
	}
	return n
}

// ComputeEnvNotFound returns the error for a task whose ComputeEnv does not exist; ref is what the task calls it.
func ComputeEnvNotFound(ref string) error {
	return fmt.Errorf("ComputeEnv %q does not exist; create it to start the task", ref)
}
