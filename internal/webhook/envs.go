// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/validation"
)

// environments finds the ComputeEnvs of a namespace.
type environments struct{ cache, live client.Reader }

// lookup returns a function that says what an envId of the job stands for. The cache may not
// have a ComputeEnv yet that was created before the job, as one kubectl apply does it: when
// it lacks one, the cluster itself is asked, once for all of them.
func (e environments) lookup(ctx context.Context, job *v1alpha1.BatchJob) (func(ref string) validation.EnvState, error) {
	refs := resolve.EnvIDs(job)
	if len(refs) == 0 {
		return func(string) validation.EnvState { return validation.EnvNotFound }, nil
	}
	states, err := envStates(ctx, e.cache, job.Namespace)
	if err != nil {
		return nil, fmt.Errorf("listing the ComputeEnvs in the cache: %w", err)
	}
	if slices.ContainsFunc(refs, func(ref string) bool { return states[ref] != validation.EnvFound }) {
		if states, err = envStates(ctx, e.live, job.Namespace); err != nil {
			return nil, fmt.Errorf("listing the ComputeEnvs: %w", err)
		}
	}
	return func(ref string) validation.EnvState { return states[ref] }, nil
}

// envStates returns the ComputeEnvs of a namespace by name and by identifier. A name goes
// before an identifier that is the same.
func envStates(ctx context.Context, r client.Reader, namespace string) (map[string]validation.EnvState, error) {
	var list v1alpha1.ComputeEnvList
	if err := r.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	states := make(map[string]validation.EnvState, 2*len(list.Items))
	for _, byName := range []bool{false, true} {
		for i := range list.Items {
			env := &list.Items[i]
			ref, state := env.Status.EnvID, validation.EnvFound
			if byName {
				ref = env.Name
			}
			if env.DeletionTimestamp != nil {
				state = validation.EnvDeleting
			}
			states[ref] = state
		}
	}
	delete(states, "")
	return states, nil
}

// jobsByEnv is the index from an envId to the BatchJobs that have not ended and have it.
const jobsByEnv = "webhook.envRef"

func indexEnvs(o client.Object) []string {
	if job, ok := o.(*v1alpha1.BatchJob); ok && job.Status.EndTime == nil && !meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionDuplicate) {
		return resolve.EnvIDs(job)
	}
	return nil
}

// users finds the BatchJobs that use a ComputeEnv in a cache with the index jobsByEnv.
type users struct{ cache client.Reader }

// jobsOf returns the names, sorted, of the jobs that have not ended and have a task in env.
func (u users) jobsOf(ctx context.Context, env *v1alpha1.ComputeEnv) ([]string, error) {
	var names []string
	for _, ref := range []string{env.Name, env.Status.EnvID} {
		if ref == "" {
			continue
		}
		var list v1alpha1.BatchJobList
		if err := u.cache.List(ctx, &list, client.InNamespace(env.Namespace), client.MatchingFields{jobsByEnv: ref}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing the jobs with envId %q: %w", ref, err)
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
