// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/slots"
)

// resolvedEnv is a ComputeEnv as it was resolved for a job.
type resolvedEnv struct {
	uid        types.UID
	generation int64
	env        *resolve.Env
}

// doubt is a status write of which it is not known whether it took place. It may have, as
// long as the job has not got a newer version than the one that was written to.
type doubt struct {
	version string
	inEnv   map[string]int
}

// askForNodes finds the ComputeEnvs that the job names, and asks for nodes of them.
func (r *Reconciler) askForNodes(ctx context.Context, obs *observation) error {
	m, job := obs.memory, obs.Job
	if m.spec == nil || !m.usesEnvs {
		return nil
	}
	if err := r.seed(ctx, job.Namespace); err != nil {
		return err
	}
	obs.Envs = map[string]plan.EnvView{}
	for i := range m.spec.Tasks {
		ref := m.spec.Tasks[i].EnvID
		if _, ok := obs.Envs[ref]; ok || ref == "" {
			continue
		}
		env, err := lookup.Env(ctx, r.client, job.Namespace, ref)
		if err != nil {
			return err
		}
		if env == nil {
			continue
		}
		r.resize(env)
		known := m.envs[ref]
		if known.uid != env.UID || known.generation != env.Generation {
			known = resolvedEnv{env.UID, env.Generation, resolve.Named(env, m.spec.Tags)}
			if m.envs == nil {
				m.envs = map[string]resolvedEnv{}
			}
			m.envs[ref] = known
		}
		obs.Envs[ref] = plan.EnvView{Env: known.env, Size: resolve.ComputeNodeCount(env)}
	}
	if m.doubt != nil && isOlder(m.doubt.version, job.ResourceVersion) {
		m.doubt = nil
	}
	stored := plan.InEnv(m.spec, &job.Status, obs.Envs)
	have := map[string]int{}
	raise(have, stored)
	if m.doubt != nil {
		raise(have, m.doubt.inEnv)
	}
	obs.place = placeOf(job)
	most := min(plan.Unclaimed(m.spec, job), plan.WaveSize)
	offers := map[string]slots.Offer{}
	for ref, view := range obs.Envs {
		name := view.Env.Name
		offer, asked := offers[name]
		if !asked {
			offer = r.options.Slots.Ask(types.NamespacedName{Namespace: job.Namespace, Name: name}, obs.place, have[name], most)
			// What may have been claimed already is the job's as well.
			offer.Grant += have[name] - stored[name]
			offers[name] = offer
		}
		view.Limit, view.Grant, view.Closed = offer.Limit, offer.Grant, offer.Closed
		obs.Envs[ref] = view
	}
	return nil
}

// resize tells the ledger how many nodes a ComputeEnv has.
func (r *Reconciler) resize(env *v1alpha1.ComputeEnv) {
	r.options.Slots.Resize(client.ObjectKeyFromObject(env), slots.Size{UID: env.UID, Generation: env.Generation, Nodes: resolve.ComputeNodeCount(env)})
}

func raise(have, floor map[string]int) {
	for name, n := range floor {
		have[name] = max(have[name], n)
	}
}

// placeOf is the job's place in the lines for nodes. Its identifier stands for its UID: it is
// on the Pods as well, when the job is gone.
func placeOf(job *v1alpha1.BatchJob) slots.Place {
	p := slots.Place{Job: client.ObjectKeyFromObject(job), UID: types.UID(naming.JobID(job.UID)), Created: job.CreationTimestamp.Time}
	p.Priority = v1alpha1.DefaultPriority
	if n := job.Spec.Job.Priority; n != nil {
		p.Priority = int(*n)
	}
	return p
}

// settleNodes tells the ledger what the job has and wants after its status was stored.
// Where that failed it is not known what it has: p may have been stored, or not.
func (r *Reconciler) settleNodes(obs *observation, p *plan.Plan, stored error) {
	m := obs.memory
	if m.spec == nil || !m.usesEnvs {
		return
	}
	have := map[string]int{}
	switch {
	case p == nil:
	case p.InEnv != nil:
		raise(have, p.InEnv)
	default:
		raise(have, plan.InEnv(m.spec, &p.Status, obs.Envs))
	}
	if obs.wrote {
		m.doubt = nil // had that write taken place, this one would have met with a conflict
	} else {
		raise(have, plan.InEnv(m.spec, &obs.Job.Status, obs.Envs))
		if m.doubt != nil {
			raise(have, m.doubt.inEnv)
		}
		if p != nil && stored != nil && !apierrors.IsConflict(stored) {
			m.doubt = &doubt{obs.Job.ResourceVersion, maps.Clone(have)}
		}
	}
	done := map[string]bool{}
	for _, view := range obs.Envs {
		name := view.Env.Name
		if done[name] {
			continue
		}
		done[name] = true
		wants := 0
		if p != nil && stored == nil {
			wants = p.Wanted[name]
		}
		r.options.Slots.Settle(types.NamespacedName{Namespace: obs.Job.Namespace, Name: name}, obs.place, have[name], wants)
	}
	// A ComputeEnv that is not there now may come back: what the job has of it stays its own,
	// but it waits for nothing.
	for name, n := range r.options.Slots.Held(obs.place.UID) {
		if !done[name.Name] {
			r.options.Slots.Settle(name, obs.place, n, 0)
		}
	}
}

// leaveNodes tells the ledger that the job has ended, and has none any more.
func (r *Reconciler) leaveNodes(job *v1alpha1.BatchJob) {
	place := placeOf(job)
	for name := range r.options.Slots.Held(place.UID) {
		r.options.Slots.Settle(name, place, 0, 0)
	}
}
