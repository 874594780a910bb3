// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package staging brings a task's data to where its command finds it, and takes its results to a store.
// It is the library of the agent in a Pod, and knows nothing of Kubernetes.
package staging

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/staging/attempt"
	"batchcompute.dev/operator/internal/staging/fault"
	"batchcompute.dev/operator/internal/staging/localdir"
	"batchcompute.dev/operator/internal/staging/meter"
	"batchcompute.dev/operator/internal/staging/store"
)

// Defaults of agentapi.Limits.
const (
	defaultWorkers   = 32
	defaultPartBytes = 16 << 20
	defaultMaxFiles  = 500_000
	defaultStall     = time.Minute

	// A command waits for its inputs, while outputs are lost if they cannot be stored.
	stageNoProgress = 10 * time.Minute
	storeNoProgress = 30 * time.Minute

	// minPartBytes is the least that S3 allows for a part, but the last. Unit: bytes.
	minPartBytes = 5 << 20
	// maxWorkers keeps the memory for buffers bounded.
	maxWorkers = 128
)

// GCPercent is what a program that calls Stage or Store gives debug.SetGCPercent. The buffers of all workers are in use from
// the start to the end, so that with Go's default, 100, as much garbage as they are large is kept beside them.
const GCPercent = 50

// agent does the work, with what tests replace.
type agent struct {
	// stateDir has the streams of the command.
	stateDir string
	// policy replaces that of the limits; nil means that it does not.
	policy *attempt.Policy
	// minPart replaces minPartBytes.
	minPart int64
	wrap    func(http.RoundTripper) http.RoundTripper
	step    localdir.Step
	report  Reporter

	// told guards toldAt, the time of the last reason that the reporter was told.
	told   sync.Mutex
	toldAt time.Time
}

// limits are those of agentapi, with the defaults filled in.
type limits struct {
	agentapi.Limits

	policy attempt.Policy
}

// limits fills in the defaults.
func (a *agent) limits(l agentapi.Limits, noProgress time.Duration) limits {
	l.Workers = min(cmp.Or(l.Workers, defaultWorkers), maxWorkers)
	l.PartBytes = max(cmp.Or(l.PartBytes, defaultPartBytes), cmp.Or(a.minPart, minPartBytes))
	l.MaxFiles = cmp.Or(l.MaxFiles, defaultMaxFiles)
	out := limits{Limits: l, policy: attempt.Policy{
		Stall:      cmp.Or(time.Duration(l.StallSeconds)*time.Second, defaultStall),
		NoProgress: cmp.Or(time.Duration(l.NoProgressSeconds)*time.Second, noProgress),
	}}
	if a.policy != nil {
		out.policy = *a.policy
	}
	return out
}

// policyOf is the policy of the transfers of a field, which says in its reports which one they are for.
func (a *agent) policyOf(field string, l limits) attempt.Policy {
	p := l.policy
	p.Retrying = func(err error) { a.retrying(fault.At(field, err)) }
	return p
}

// client returns a client of the store of a field.
func (a *agent) client(field string, s agentapi.Store, l limits) (*store.Client, error) {
	return store.New(s, store.Options{Policy: a.policyOf(field, l), Connections: l.Workers, Wrap: a.wrap})
}

// result returns the Result of all transfers that a meter counted.
func result(err error, meters ...*meter.Meter) agentapi.Result {
	r := fault.Result(err)
	for _, m := range meters {
		r.Files += int(m.SentFiles.Load())
		r.Bytes += m.SentBytes.Load()
		r.Skipped += int(m.Skipped.Load())
	}
	return r
}
