// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"batchcompute.dev/operator/api/v1alpha1"
)

// write says how soon the next status must be written.
func (s *summary) write(old, next *v1alpha1.BatchJobStatus) StatusWrite {
	essential := s.mode.changed || s.pods.interruptedEnded || s.ready.failed || old.State == "" || isTerminal(next.State) ||
		!slices.Equal(old.PodKeys, next.PodKeys)
	moved := s.pods.ended + len(s.claims.create)
	switch {
	case !essential && moved == 0:
		return WriteInformational
	case !essential && !s.usesEnvs() && (len(s.claims.create) == 0 || s.isSmallShare(moved)):
		return WriteBatched
	}
	return WriteImmediate
}

// usesEnvs reports whether the job has nodes of ComputeEnvs, for which others may wait.
func (s *summary) usesEnvs() bool {
	return slices.ContainsFunc(s.job.tasks, func(t task) bool { return t.EnvID != "" })
}

// isSmallShare reports whether the instances that moved are few of many that are active, no
// task starts or ends with them, and there are no more to be claimed.
func (s *summary) isSmallShare(moved int) bool {
	if batchLeft(&s.obs, s.pods, &s.claims) <= 0 {
		return false
	}
	active := 0
	for i := range s.tasks {
		t, l, was := &s.job.tasks[i], &s.at[i], v1alpha1.TaskPending
		if t.old != nil {
			was = t.old.State
		}
		if s.tasks[i].state != was && (was == v1alpha1.TaskPending || l.hasEnded(t.InstanceNum) || l.isBlocked(t)) {
			return false
		}
		active += l.active.len()
	}
	return moved*smallShare < active
}

// smallShare is the share of the active instances that are worth a write by themselves: one in
// so many.
const smallShare = 20
