// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestSimCases plays what the simulation has found, once more. Each case is a job, and what
// happens to it as soon as it can.
func TestSimCases(t *testing.T) {
	for name, tc := range map[string]struct {
		job    *testutil.JobBuilder
		script []string
	}{
		"held instances that have every place": {
			testutil.Job("sim").Task("a", testutil.Instances(2), testutil.Concurrent(1), action(v1alpha1.FailedActionInterrupt)),
			[]string{"exit 1 of"},
		},
		"a Pod without its label that is being deleted": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"label off", "crash", "a person deletes"},
		},
		"a claim of a cache that is behind": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "a person deletes", "crash, cache of jobs 4 behind"},
		},
		"a cache that has not seen what was written": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "crash after", "cache of jobs late"},
		},
		"a retry of a job whose Pod is on a lost node": {
			testutil.Job("sim").Task("a", testutil.Timeout(30)),
			[]string{"node lost under", "time passes", "much time passes", "retryToken"},
		},
		"a cache that does not know of the job": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "crash, cache of jobs empty"},
		},
		"a Pod that has lost a label, and a cache that is behind": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "attempt off", "crash, cache of jobs 8 behind", "cache of jobs late"},
		},
		"a command that ends well, and too late": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "a person deletes", "time passes", "exit 0 of"},
		},
		"a suspension": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "suspend or resume"},
		},
		"a signal ends a command, and a person deletes its Pod while the job is suspended": {
			testutil.Job("sim").Task("a").Task("b").Edges("a->b"),
			[]string{"exit 143 of", "time passes", "suspend or resume", "a person deletes"},
		},
		"a resumption while that which was suspended still runs": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "suspend or resume", "crash after", "suspend or resume"},
		},
		"Pods that another process has stored the ends of, and a cache that does not show them": {
			testutil.Job("sim").Task("a").Task("b"),
			[]string{"exit 0 of sim-a", "exit 0 of sim-b", "crash after, caches far behind", "cache of Pods late"},
		},
		"a Pod without its owner reference": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "owner off"},
		},
		"a Pod without its owner reference, its proof and its labels": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "owner off", "attempt off", "label off", "crash"},
		},
		"the Pod of a job that is orphaned": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "deletion of the job orphan"},
		},
		"a Pod that was given to another controller": {
			testutil.Job("sim").Task("a", testutil.Retries(1), machines(1)),
			[]string{"running", "given away", "idle", "much time passes", "idle", "much time passes", "idle", "much time passes", "idle"},
		},
		"a Pod that was given away, and its job is suspended": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "given away", "suspend or resume", "idle", "much time passes", "idle", "suspend or resume", "idle", "much time passes", "idle"},
		},
		"a Pod that was given away, and its job is terminated": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "given away", "terminate"},
		},
		"a Pod without its proof": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "proof off", "crash", "much time passes"},
		},
		"a retry that somebody made in advance": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"a forger makes", "exit 1 of"},
		},
		"a Pod on a lost node is asked to stop": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"node lost under", "a person deletes", "much time passes", "its node comes back"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, outlines := range []bool{false, true} {
				s := newSimulation(simSetup{jobs: []*v1alpha1.BatchJob{tc.job.Obj()}, outlines: outlines})
				s.script = append([]string{}, tc.script...)
				if err := s.play(maxRounds); err != nil {
					t.Fatal(err)
				}
				if len(s.script) > 0 {
					t.Fatalf("I8: it did not come to %q", s.script)
				}
			}
		})
	}
}
