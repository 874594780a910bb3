// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// simStanding is where a status has an instance: in which list, and with which attempt.
// The zero value is that of an instance that was not issued yet.
type simStanding struct {
	where   string
	attempt int
}

const (
	simSucceeded = "succeeded"
	simFailed    = "failed"
	simActive    = "active"
	simRetrying  = "retrying"
)

// standings are where the instances of a task are, by index.
func (s *simulation) standings(job *v1alpha1.BatchJob, task int) map[int]simStanding {
	out := map[int]simStanding{}
	add := func(indexes string, at simStanding) {
		set, err := ranges.Parse(indexes)
		if err != nil {
			s.fail("I5: %v", err)
		}
		for i := range set.All() {
			if _, ok := out[i]; ok {
				s.fail("I5: instance %d is in two lists", i)
			}
			out[i] = at
		}
	}
	for _, t := range job.Status.Tasks {
		if t.Name != s.specs[job.Name].Tasks[task].Name {
			continue
		}
		add(t.Succeeded, simStanding{where: simSucceeded})
		add(t.Failed, simStanding{where: simFailed})
		for _, g := range t.Active {
			add(g.Indexes, simStanding{simActive, int(g.Retries)})
		}
		for _, g := range t.Retrying {
			add(g.Indexes, simStanding{simRetrying, int(g.Retries)})
		}
	}
	return out
}
