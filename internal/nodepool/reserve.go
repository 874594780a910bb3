// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package nodepool

import (
	"context"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// Account is what the process remembers of one job between two passes. The zero value is that of a job
// that the process does not know. Only one pass may use it at a time.
type Account struct {
	envs    map[string]resolvedEnv // by what the job calls them in envId
	inDoubt *inDoubtWrite
}

// DropEnvs frees the memory that the ComputeEnvs of the job take. They are resolved again when needed.
func (a *Account) DropEnvs() { a.envs = nil }

// resolvedEnv is a ComputeEnv as it was resolved for a job.
type resolvedEnv struct {
	uid        types.UID
	generation int64
	env        *resolve.Env
}

// inDoubtWrite is a status write whose answer was lost. It may have taken place, as long as the job has
// no newer version than the one that the write was made to.
type inDoubtWrite struct {
	version string
	claims  map[string]int // by ComputeEnv
}

// Reservation is what a pass has reserved. Every reservation must be settled.
type Reservation struct {
	pool    *Pool
	job     Job
	spec    *resolve.Job
	account *Account
	envs    map[string]plan.EnvView
}

// Reserve finds the ComputeEnvs that a job names, and reserves nodes of them for one pass. The reservation of a
// job that names none is empty. The error is ErrCacheBehind as long as the ledger cannot be rebuilt.
func (p *Pool) Reserve(ctx context.Context, job *v1alpha1.BatchJob, spec *resolve.Job, a *Account) (*Reservation, error) {
	r := &Reservation{}
	if !UsesNodes(spec) {
		return r, nil
	}
	if err := p.rebuild(ctx, job.Namespace); err != nil {
		return nil, err
	}
	r.pool, r.job, r.spec, r.account, r.envs = p, jobOf(job), spec, a, map[string]plan.EnvView{}
	if err := r.findEnvs(ctx); err != nil {
		return nil, err
	}
	if a.inDoubt != nil && lookup.IsOlder(a.inDoubt.version, job.ResourceVersion) {
		a.inDoubt = nil
	}
	stored := plan.InEnv(spec, &job.Status, r.envs)
	claims := map[string]int{}
	raise(claims, stored)
	if a.inDoubt != nil {
		raise(claims, a.inDoubt.claims)
	}
	maxNew := min(plan.Unclaimed(spec, job), plan.MaxBatchSize)
	offers := map[string]Offer{}
	for ref, view := range r.envs {
		name := view.Env.Name
		offer, ok := offers[name]
		if !ok {
			offer = p.Ledger.Reserve(r.env(name), r.job, claims[name], maxNew)
			offer.Grant += claims[name] - stored[name] // the job may have claimed these already
			offers[name] = offer
		}
		view.Limit, view.Grant, view.Closed = offer.Limit, offer.Grant, offer.Closed
		r.envs[ref] = view
	}
	return r, nil
}

// UsesNodes reports whether a task of a job names a ComputeEnv.
func UsesNodes(spec *resolve.Job) bool {
	if spec == nil {
		return false
	}
	for i := range spec.Tasks {
		if spec.Tasks[i].EnvID != "" {
			return true
		}
	}
	return false
}

// findEnvs finds the ComputeEnvs that the job names.
func (r *Reservation) findEnvs(ctx context.Context) error {
	for i := range r.spec.Tasks {
		ref := r.spec.Tasks[i].EnvID
		if _, ok := r.envs[ref]; ok || ref == "" {
			continue
		}
		env, err := lookup.Env(ctx, r.pool.Cache, r.job.Name.Namespace, ref)
		if err != nil {
			return err
		}
		if env == nil {
			continue
		}
		r.pool.EnvChanged(env)
		known := r.account.envs[ref]
		if known.uid != env.UID || known.generation != env.Generation {
			known = resolvedEnv{env.UID, env.Generation, resolve.Named(env, r.spec.Tags)}
			if r.account.envs == nil {
				r.account.envs = map[string]resolvedEnv{}
			}
			r.account.envs[ref] = known
		}
		r.envs[ref] = plan.EnvView{Env: known.env, Size: resolve.ComputeNodeCount(env)}
	}
	return nil
}

func (r *Reservation) env(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: r.job.Name.Namespace, Name: name}
}

// Envs returns the ComputeEnvs that the job names, by what it calls them in envId, and what is reserved
// of them; nil if it names none.
func (r *Reservation) Envs() map[string]plan.EnvView { return r.envs }

// Outcome is what became of the status of a pass.
type Outcome struct {
	// Job is the job as the pass has read it.
	Job *v1alpha1.BatchJob
	// Plan has the status; nil if the pass got no further than planning.
	Plan *plan.Plan
	// Written says that the status was written, and Err is the error of the write.
	Written bool
	Err     error
}

// Settle counts what the job has and wants after its status was stored, and frees what else was reserved.
// If the write got no answer, the stored claims are unknown.
func (r *Reservation) Settle(o Outcome) {
	if r.pool == nil {
		return
	}
	claims := map[string]int{}
	switch {
	case o.Plan == nil:
	case o.Plan.InEnv != nil:
		raise(claims, o.Plan.InEnv)
	default:
		raise(claims, plan.InEnv(r.spec, &o.Plan.Status, r.envs))
	}
	a := r.account
	if o.Written {
		a.inDoubt = nil // had that write taken place, this one would have met a conflict
	} else {
		raise(claims, plan.InEnv(r.spec, &o.Job.Status, r.envs))
		if a.inDoubt != nil {
			raise(claims, a.inDoubt.claims)
		}
		if o.Plan != nil && o.Err != nil && !apierrors.IsConflict(o.Err) {
			a.inDoubt = &inDoubtWrite{o.Job.ResourceVersion, maps.Clone(claims)}
		}
	}
	settled := map[string]bool{}
	for _, view := range r.envs {
		name := view.Env.Name
		if settled[name] {
			continue
		}
		settled[name] = true
		wanted := 0
		if o.Plan != nil && o.Err == nil {
			wanted = o.Plan.Wanted[name]
		}
		r.pool.Ledger.Settle(r.env(name), r.job, claims[name], wanted)
	}
	// A ComputeEnv that does not exist now may come back: the job keeps its claims, and leaves the queue.
	for name, n := range r.pool.Ledger.Claims(r.job.UID) {
		if !settled[name.Name] {
			r.pool.Ledger.Settle(name, r.job, n, 0)
		}
	}
}

// raise raises the numbers of claims to those of floor.
func raise(claims, floor map[string]int) {
	for name, n := range floor {
		claims[name] = max(claims[name], n)
	}
}
