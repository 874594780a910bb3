// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package objects finds the jobs, ComputeEnvs and TaskTemplates of a namespace by the identifiers of the API, in the gateway's cache.
//
// The cache has all BatchJobs, but of each only what answers about jobs and tasks are made of: no commands, no machines
// and no mappings. What needs the whole job reads it live.
package objects

import (
	"context"
	"fmt"
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// Names of the indexes. Their keys are a namespace, a slash, and what the index is by.
const (
	byNamespace = toolscache.NamespaceIndex
	byID        = "id"
	byToken     = "token"
)

// CacheOptions returns the options of the cache that New needs.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&v1alpha1.BatchJob{}:     {Transform: func(o any) (any, error) { return strip(o), nil }},
		&v1alpha1.ComputeEnv{}:   {Transform: cache.TransformStripManagedFields()},
		&v1alpha1.TaskTemplate{}: {Transform: cache.TransformStripManagedFields()},
	}
}

// Indexers returns the indexes of jobs, of ComputeEnvs and of TaskTemplates. A job is found by the identifier that its UID gives. A job that
// shows the result of an earlier one, which was deleted after its TTL, has that one's identifier in its status, and is
// found by it as well.
func Indexers() (jobs, envs, templates toolscache.Indexers) {
	jobs = toolscache.Indexers{
		byNamespace: toolscache.MetaNamespaceIndexFunc,
		byID: indexOf(func(job *v1alpha1.BatchJob) []string {
			ids := []string{naming.JobID(job.UID)}
			if id := job.Status.JobID; id != "" && id != ids[0] {
				ids = append(ids, id)
			}
			return ids
		}),
		byToken: indexOf(func(job *v1alpha1.BatchJob) []string {
			if job.Spec.ClientToken == "" {
				return nil
			}
			return []string{job.Spec.ClientToken}
		}),
	}
	envs = toolscache.Indexers{
		byNamespace: toolscache.MetaNamespaceIndexFunc,
		byID:        indexOf(func(env *v1alpha1.ComputeEnv) []string { return []string{naming.EnvID(env.UID)} }),
	}
	templates = toolscache.Indexers{
		byNamespace: toolscache.MetaNamespaceIndexFunc,
		byID:        indexOf(func(t *v1alpha1.TaskTemplate) []string { return []string{naming.TemplateID(t.Name, t.UID)} }),
	}
	return jobs, envs, templates
}

// indexOf returns an index by texts of objects of one kind.
func indexOf[T client.Object](texts func(T) []string) toolscache.IndexFunc {
	return func(o any) ([]string, error) {
		object, ok := o.(T)
		if !ok {
			return nil, nil
		}
		keys := texts(object)
		for i := range keys {
			keys[i] = object.GetNamespace() + "/" + keys[i]
		}
		return keys, nil
	}
}

// indexerOf returns what a cache that has not started knows of a kind, with indexes.
func indexerOf(ctx context.Context, c cache.Cache, kind client.Object, indexes toolscache.Indexers) (toolscache.Indexer, error) {
	informer, err := c.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching %T: %w", kind, err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("watching %T: the cache is restricted to some namespaces", kind)
	}
	indexes = maps.Clone(indexes)
	maps.DeleteFunc(indexes, func(name string, _ toolscache.IndexFunc) bool { return shared.GetIndexer().GetIndexers()[name] != nil })
	if err := shared.AddIndexers(indexes); err != nil {
		return nil, fmt.Errorf("adding the indexes of %T: %w", kind, err)
	}
	return shared.GetIndexer(), nil
}

// keptAnnotations are those of jobs that are read.
var keptAnnotations = []string{v1alpha1.AnnotationAwaitsCredentials, v1alpha1.AnnotationCredentials, v1alpha1.AnnotationTerminate}

// strip removes from a job what no answer is made of from the cache. The result shares nothing with the object that is
// large.
func strip(o any) any {
	job, ok := o.(*v1alpha1.BatchJob)
	if !ok {
		return o
	}
	out := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{
		Name: job.Name, Namespace: job.Namespace, UID: job.UID, ResourceVersion: job.ResourceVersion, Generation: job.Generation,
		CreationTimestamp: job.CreationTimestamp, DeletionTimestamp: job.DeletionTimestamp,
	}}
	for _, name := range keptAnnotations {
		if value, ok := job.Annotations[name]; ok {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[name] = strings.Clone(value[:min(len(value), v1alpha1.MaxTerminateLength+1)])
		}
	}
	from, to := &job.Spec, &out.Spec
	to.Placement, to.ClientToken, to.Suspend, to.Terminate, to.RetryToken = from.Placement, from.ClientToken, from.Suspend, from.Terminate, from.RetryToken
	to.Job.JobName, to.Job.Priority, to.Job.Tags, to.Job.Dependences = from.Job.JobName, from.Job.Priority, from.Job.Tags, from.Job.Dependences
	to.Job.Tasks = make([]v1alpha1.Task, len(from.Job.Tasks))
	for i := range from.Job.Tasks {
		t := &from.Job.Tasks[i]
		to.Job.Tasks[i] = v1alpha1.Task{TaskName: t.TaskName, TaskInstanceNum: t.TaskInstanceNum, RedirectInfo: t.RedirectInfo}
	}
	out.Status = job.Status
	out.Status.Conditions, out.Status.PodKeys = nil, nil
	for _, c := range job.Status.Conditions {
		if c.Type == v1alpha1.ConditionDuplicate || c.Type == v1alpha1.ConditionAccepted {
			out.Status.Conditions = append(out.Status.Conditions, metav1.Condition{Type: c.Type, Status: c.Status})
		}
	}
	return out
}
