// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestSimCases repeats bugs that the simulation has found. Each case is a job, and a script of deviations, each of which happens
// as soon as it can.
func TestSimCases(t *testing.T) {
	for name, tc := range map[string]struct {
		job    *testutil.JobBuilder
		script []string
	}{
		"interrupted instances that use up maxConcurrentNum": {
			testutil.Job("sim").Task("a", testutil.Instances(2), testutil.Concurrent(1), action(v1alpha1.FailedActionInterrupt)),
			[]string{"exit 1 of"},
		},
		"a Pod without its label that is being deleted": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"label removed", "crash", "a user deletes"},
		},
		"a claim in a stale cache": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "a user deletes", "crash, cache of jobs 4 behind"},
		},
		"a cache that does not have the last write": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "crash after", "cache of jobs stale"},
		},
		"a retry of a job whose Pod is on a lost node": {
			testutil.Job("sim").Task("a", testutil.Timeout(30)),
			[]string{"node lost of", "time passes", "much time passes", "retryToken"},
		},
		"a cache that does not know of the job": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "crash, cache of jobs empty"},
		},
		"a Pod that has lost a label, and a stale cache": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"exit 1 of", "attempt label removed", "crash, cache of jobs 8 behind", "cache of jobs stale"},
		},
		"a command that ends well, and too late": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "a user deletes", "time passes", "exit 0 of"},
		},
		"a suspension": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "suspend or resume"},
		},
		"a signal ends a command, and a person deletes its Pod while the job is suspended": {
			testutil.Job("sim").Task("a").Task("b").Edges("a->b"),
			[]string{"exit 143 of", "time passes", "suspend or resume", "a user deletes"},
		},
		"a resumption while the suspended Pods still run": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "suspend or resume", "crash after", "suspend or resume"},
		},
		"Pods whose end another process has stored, and a stale cache": {
			testutil.Job("sim").Task("a").Task("b"),
			[]string{"exit 0 of sim-a", "exit 0 of sim-b", "crash after, caches far behind", "cache of Pods stale"},
		},
		"a Pod without its owner reference": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "owner removed"},
		},
		"a Pod without its owner reference, its proof and its labels": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "owner removed", "attempt label removed", "label removed", "crash"},
		},
		"the Pod of a job that is orphaned": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "deletion of the job orphan"},
		},
		"a Pod that was given to another controller": {
			testutil.Job("sim").Task("a", testutil.Retries(1), machines(1)),
			[]string{"running", "given to another controller", "idle", "much time passes", "idle", "much time passes", "idle", "much time passes", "idle"},
		},
		"a Pod that was given to another controller, and its job is suspended": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "given to another controller", "suspend or resume", "idle", "much time passes", "idle", "suspend or resume", "idle", "much time passes", "idle"},
		},
		"a Pod that was given to another controller, and its job is terminated": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "given to another controller", "terminate"},
		},
		"a Pod without its proof": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"running", "proof removed", "crash", "much time passes"},
		},
		"a Pod of a retry that a user created in advance": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"a user forges Pod", "exit 1 of"},
		},
		"a process dies before it removes the finalizer of the Pod of a suspended job": {
			testutil.Job("sim").Task("a"),
			[]string{"running", "suspend or resume", "idle", "crash after"},
		},
		"a job is suspended before its Pod is created, and the other process forgets the Pod": {
			testutil.Job("sim").Task("a"),
			[]string{"pending create", "suspend or resume", "the other starts a pass"},
		},
		"a Pod on a lost node is deleted": {
			testutil.Job("sim").Task("a", testutil.Retries(1)),
			[]string{"node lost of", "a user deletes", "much time passes", "its node comes back"},
		},
		"a Pod on a lost node that has no label anymore when its job ends": {
			testutil.Job("sim").Task("a").Task("b").Edges("a->b"),
			[]string{"node lost of", "terminate", "idle", "much time passes", "answer lost", "crash", "label removed"},
		},
		"a Pod that a user deletes, and that is evicted after its timeout": {
			testutil.Job("sim").Task("a", testutil.Timeout(30), machines(1)),
			[]string{"node lost of", "a user deletes", "idle", "time passes", "its node comes back", "evicted"},
		},
		"inputs that cannot be copied now, and then can": {
			testutil.Job("sim").Task("a", inputs, machines(1)), []string{"inputs fail (transient)"},
		},
		"inputs that can never be copied": {
			testutil.Job("sim").Task("a", inputs, machines(1), testutil.Retries(1)), []string{"inputs fail (permanent)"},
		},
		"outputs that can never be stored of a command that succeeded": {
			testutil.Job("sim").Task("a", outputs, machines(1), testutil.Retries(1)), []string{"exit 0 of", "outputs fail (permanent)"},
		},
		"outputs that cannot be stored now": {
			testutil.Job("sim").Task("a", outputs, machines(1)), []string{"exit 0 of", "outputs fail (transient)"},
		},
		"outputs of a command that failed cannot be stored": {
			testutil.Job("sim").Task("a", outputs, testutil.Retries(1)), []string{"exit 1 of", "outputs fail (permanent)"},
		},
		"a Pod that is deleted while its outputs are stored, and they are": {
			testutil.Job("sim").Task("a", outputs), []string{"exit 0 of", "idle", "time passes", "a user deletes", "idle", "outputs stored of"},
		},
		"a Pod that is deleted while its outputs are stored, and they are not": {
			testutil.Job("sim").Task("a", outputs, machines(1)), []string{"exit 0 of", "idle", "time passes", "a user deletes", "idle", "outputs fail (killed)"},
		},
		"a node that is lost while outputs are stored": {
			testutil.Job("sim").Task("a", outputs, machines(1)), []string{"exit 0 of", "idle", "node lost of", "much time passes", "idle", "its node is deleted"},
		},
		"a node that restarts before it started all containers of a Pod": {
			testutil.Job("sim").Task("a", outputs, machines(1)), []string{"its node restarts, which had not started the outputs of"},
		},
		"a long upload": {
			testutil.Job("sim").Task("a", outputs, testutil.Timeout(30)), []string{"exit 0 of", "much time passes", "idle", "much time passes", "idle", "outputs stored of"},
		},
		"an interrupted instance whose logs are being stored": {
			testutil.Job("sim").Task("a", outputs, action(v1alpha1.FailedActionInterrupt)), []string{"exit 1 of", "time passes", "idle", "terminate", "idle", "outputs stored of"},
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
					t.Fatalf("I8: the run ended before %q", s.script)
				}
			}
		})
	}
}
