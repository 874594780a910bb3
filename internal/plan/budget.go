// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// budget is what an instance of one task may spend on attempts and on waiting for machines.
// Source: BatchCompute, Task.MaxRetryCount, Task.ResourceMaxRetryCount, Job.StateIfCreateCvmFailed.
type budget struct {
	// retries is how many failures of its command an instance survives.
	retries int
	// types is how many machine types are tried in a round, 1 or more. Those of a ComputeEnv may
	// change under a job: the machines that its instances did not acquire are then counted in
	// rounds of the new ones.
	types int
	// machines is how many machines an instance may fail to acquire, or lose, before that counts as
	// a failure of its command: in each round all machine types are tried. The size of the status
	// counts on it.
	machines int
	// waits says that an instance waits for its machine without end, once all types were tried.
	waits bool
	// unit is the timeout for the first machine.
	unit time.Duration
}

func budgetOf(t *resolve.Task, obs *Observation) budget {
	b := budget{retries: t.MaxRetryCount, types: 1, waits: obs.Spec.WaitsForMachine && t.EnvID == "", unit: obs.ResourceWait}
	if b.unit == 0 {
		b.unit = DefaultResourceWait
	}
	rounds, env := t.ResourceMaxRetryCount, t.Env
	if t.EnvID != "" {
		rounds = v1alpha1.DefaultEnvResourceMaxRetryCount
		if view, ok := obs.Envs[t.EnvID]; ok {
			rounds, env = view.Env.ResourceMaxRetryCount, view.Env
		}
	}
	if env != nil {
		b.types = env.InstanceTypes()
	}
	b.machines = min((rounds+1)*b.types-1, v1alpha1.MaxResourceRetryCount)
	return b
}

// nextRound is the number of machines not acquired with which the first type is tried again.
func (b *budget) nextRound(h history) int { return (h.machines/b.types + 1) * b.types }

// hasNextType reports whether another machine type follows, which does not start a new round.
func (b *budget) hasNextType(h history) bool { return (h.machines+1)%b.types != 0 }

// timesOut reports whether an instance that waits for its machine fails to acquire it at some time:
// then it gets another machine type or, unless stateIfCreateCvmFailed has it wait, fails.
func (b *budget) timesOut(h history) bool { return !b.waits || b.hasNextType(h) }

// timeout is how long an instance with this history waits for its machine. It grows with how often all
// machine types were tried.
// Source: BatchCompute, Task.ResourceMaxRetryCount.
func (b *budget) timeout(h history) time.Duration {
	switch n := h.machines/b.types + 1; {
	case n <= 3:
		return b.unit
	case n <= 10:
		return b.unit * 3 / 2
	case n <= 50:
		return b.unit * 3
	}
	return b.unit * 6
}

// timeouts is how long an instance with this history has waited for machines in all when the timeout of
// the present one is over.
func (b *budget) timeouts(h history) time.Duration {
	var sum time.Duration
	for n := range h.machines + 1 {
		sum += b.timeout(history{machines: n})
	}
	return sum
}
