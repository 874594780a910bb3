// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/validation"
)

// environments finds the ComputeEnvs of a namespace.
type environments struct{ cache, live client.Reader }

// find returns a function that tells the state of the ComputeEnv that an envId of the job stands
// for. The cache may not have a ComputeEnv yet that was created just before the job, as in one
// kubectl apply: if it lacks one, all are read from the API server in one list.
func (e environments) find(ctx context.Context, job *v1alpha1.BatchJob) (func(ref string) validation.EnvState, error) {
	refs := resolve.EnvIDs(job)
	if len(refs) == 0 {
		return func(string) validation.EnvState { return validation.EnvNotFound }, nil
	}
	envs, err := lookup.Envs(ctx, e.cache, job.Namespace)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(refs, func(ref string) bool { return stateOf(envs[ref]) != validation.EnvFound }) {
		if envs, err = lookup.Envs(ctx, e.live, job.Namespace); err != nil {
			return nil, fmt.Errorf("reading from the API server: %w", err)
		}
	}
	return func(ref string) validation.EnvState { return stateOf(envs[ref]) }, nil
}

// stateOf returns what a job may do with a ComputeEnv, which is nil when there is none.
func stateOf(env *v1alpha1.ComputeEnv) validation.EnvState {
	switch {
	case env == nil:
		return validation.EnvNotFound
	case env.DeletionTimestamp != nil:
		return validation.EnvDeleting
	}
	return validation.EnvFound
}

// users finds the BatchJobs that use a ComputeEnv in a cache with the indexes of package lookup.
type users struct{ cache client.Reader }

// jobsOf returns the names, sorted, of the jobs that have not finished and have a task in env.
func (u users) jobsOf(ctx context.Context, env *v1alpha1.ComputeEnv) ([]string, error) {
	jobs, err := lookup.UnfinishedJobs(ctx, u.cache, env)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range jobs {
		names = append(names, jobs[i].Name)
	}
	return names, nil
}
