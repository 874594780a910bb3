// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lookup finds BatchJobs and ComputeEnvs by what names them beside their own name: a client
// token and an envId. The webhook and the reconcilers use it, so that they cannot disagree about
// which object is meant.
//
// It reads through a cache with the indexes that AddIndexes makes. Nothing that it returns may be
// changed: the objects are those of the cache.
package lookup

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// Fields of the indexes. A selector of one of them works in a cache with the indexes, not on the
// API server.
const (
	// JobsByClientToken has the BatchJobs by spec.clientToken.
	JobsByClientToken = "spec.clientToken"
	// UnfinishedJobsByEnv has the BatchJobs that have not finished, by the envId of their tasks.
	UnfinishedJobsByEnv = "spec.job.tasks.envId"
	// EnvsByID has the ComputeEnvs by their identifier. It is computed: status.envId is absent
	// until the reconciler has stored it, and whoever may write the status could set any other.
	EnvsByID = "computed.envId"
)

// Index is one index of a cache.
type Index struct {
	Object client.Object
	Field  string
	Values client.IndexerFunc
}

// Indexes returns the indexes that this package reads.
func Indexes() []Index {
	return []Index{
		{&v1alpha1.BatchJob{}, JobsByClientToken, tokenOf},
		{&v1alpha1.BatchJob{}, UnfinishedJobsByEnv, envIDsOf},
		{&v1alpha1.ComputeEnv{}, EnvsByID, func(o client.Object) []string { return []string{naming.EnvID(o.GetUID())} }},
	}
}

// AddIndexes adds the indexes to a cache that has not started.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, x := range Indexes() {
		if err := indexer.IndexField(ctx, x.Object, x.Field, x.Values); err != nil {
			return fmt.Errorf("adding the index of %T by %s: %w", x.Object, x.Field, err)
		}
	}
	return nil
}

func tokenOf(o client.Object) []string {
	if job, ok := o.(*v1alpha1.BatchJob); ok && job.Spec.ClientToken != "" {
		return []string{job.Spec.ClientToken}
	}
	return nil
}

func envIDsOf(o client.Object) []string {
	if job, ok := o.(*v1alpha1.BatchJob); ok && !plan.IsFinished(job) {
		return resolve.EnvIDs(job)
	}
	return nil
}

// JobsWithToken returns the BatchJobs of a namespace with a client token.
func JobsWithToken(ctx context.Context, cache client.Reader, namespace, token string) ([]v1alpha1.BatchJob, error) {
	var list v1alpha1.BatchJobList
	if err := cache.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{JobsByClientToken: token}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the BatchJobs with the same clientToken: %w", err)
	}
	return list.Items, nil
}

// UnfinishedJobs returns the BatchJobs that have not finished and have a task in a ComputeEnv, each
// once, by name.
func UnfinishedJobs(ctx context.Context, cache client.Reader, env client.Object) ([]v1alpha1.BatchJob, error) {
	var jobs []v1alpha1.BatchJob
	for _, ref := range refs(env) {
		var list v1alpha1.BatchJobList
		if err := cache.List(ctx, &list, client.InNamespace(env.GetNamespace()), client.MatchingFields{UnfinishedJobsByEnv: ref}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing the BatchJobs with envId %q: %w", ref, err)
		}
		jobs = append(jobs, list.Items...)
	}
	slices.SortFunc(jobs, func(a, b v1alpha1.BatchJob) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(jobs, func(a, b v1alpha1.BatchJob) bool { return a.Name == b.Name }), nil
}

// Env returns the ComputeEnv of a namespace that an envId stands for: the one with that name, else
// the one with that identifier, else nil.
func Env(ctx context.Context, cache client.Reader, namespace, ref string) (*v1alpha1.ComputeEnv, error) {
	env := &v1alpha1.ComputeEnv{}
	err := cache.Get(ctx, types.NamespacedName{Namespace: namespace, Name: ref}, env)
	if err == nil {
		return env, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ComputeEnv %q: %w", ref, err)
	}
	var list v1alpha1.ComputeEnvList
	if err := cache.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{EnvsByID: ref}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the ComputeEnvs with the identifier %q: %w", ref, err)
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	return &list.Items[0], nil
}

// Envs returns the ComputeEnvs of a namespace by the envIds that stand for them, as Env finds each.
// It needs no index, so r may be a client of the API server.
func Envs(ctx context.Context, r client.Reader, namespace string) (map[string]*v1alpha1.ComputeEnv, error) {
	var list v1alpha1.ComputeEnvList
	if err := r.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the ComputeEnvs: %w", err)
	}
	out := make(map[string]*v1alpha1.ComputeEnv, 2*len(list.Items))
	for i := range list.Items {
		env := &list.Items[i]
		for _, ref := range refs(env) {
			if known := out[ref]; known == nil || known.Name != ref { // a name goes before an identifier
				out[ref] = env
			}
		}
	}
	return out, nil
}

// refs returns what a task may write in envId for a ComputeEnv: its name, and its identifier.
func refs(env client.Object) []string { return []string{env.GetName(), naming.EnvID(env.GetUID())} }
