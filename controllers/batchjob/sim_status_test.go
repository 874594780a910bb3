// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"fmt"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// simRecord is what a status says of an instance: its list, how often its command failed, and how often its machine was not
// acquired or lost. run is the run of the Pod of an interrupted instance. The zero value is an instance that was not claimed
// yet.
type simRecord struct {
	where                  string
	run, retries, machines int
}

func (at simRecord) attempt() int { return at.retries + at.machines }

const (
	simSucceeded   = "succeeded"
	simFailed      = "failed"
	simActive      = "active"
	simRetrying    = "retrying"
	simInterrupted = "interrupted"
)

// records returns the records of the instances of a task, by index. It does not use the code that wrote the lists.
func (s *simulation) records(job *v1alpha1.BatchJob, task int) map[int]simRecord {
	out := map[int]simRecord{}
	add := func(text, where string) {
		if text == "" {
			return
		}
		for part := range strings.SplitSeq(text, ";") {
			at := simRecord{where: where}
			head, indexes, ok := strings.Cut(part, ":")
			if !ok {
				head, indexes = "", part
			}
			for head != "" {
				var letter byte
				var n, used int
				if _, err := fmt.Sscanf(head, "%c%d", &letter, &n); err != nil {
					s.fail("I5: group %q of %q: %v", head, text, err)
				}
				used = len(fmt.Sprintf("%c%d", letter, n))
				switch letter {
				case 'x':
					at.run = n
				case 'r':
					at.retries = n
				case 'm':
					at.machines = n
				default:
					s.fail("I5: group %q of %q", head, text)
				}
				head = head[used:]
			}
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
	}
	for _, t := range job.Status.Tasks {
		if t.Name == s.specs[job.Name].Tasks[task].Name {
			add(t.Succeeded, simSucceeded)
			add(t.Failed, simFailed)
			add(t.Active, simActive)
			add(t.Retrying, simRetrying)
			add(t.Interrupted, simInterrupted)
		}
	}
	return out
}

// claims reports whether a Pod is that of an active or interrupted instance in the stored status.
func (s *simulation) claims(job *v1alpha1.BatchJob, b *simPod) bool {
	at := s.records(job, b.in.Task)[b.in.Index]
	run := int(job.Status.Run)
	if at.where == simInterrupted {
		run = at.run
	}
	return (at.where == simActive || at.where == simInterrupted) && at.attempt() == b.in.Attempt && run == b.in.Run
}
