// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package objects finds the jobs and ComputeEnvs of a namespace by the identifiers of the API, in the gateway's cache.
//
// The cache has all BatchJobs, but of each only what answers about jobs and tasks are made of: no commands, no machines
// and no mappings. What needs the whole job reads it live.
package objects

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// Fields of the indexes, which only work in a cache.
const (
	jobsByID    = "computed.jobId"
	jobsByToken = "spec.clientToken"
	envsByID    = "computed.envId"
)

// CacheOptions returns the options of the cache that New needs. Reads do not copy objects, so no reader may change one.
func CacheOptions() map[client.Object]cache.ByObject {
	shared := true
	return map[client.Object]cache.ByObject{
		&v1alpha1.BatchJob{}:   {Transform: func(o any) (any, error) { return strip(o), nil }, UnsafeDisableDeepCopy: &shared},
		&v1alpha1.ComputeEnv{}: {Transform: cache.TransformStripManagedFields(), UnsafeDisableDeepCopy: &shared},
	}
}

// addIndexes adds the indexes to a cache that has not started. A job is found by the identifier that its UID gives. A job
// that shows the result of an earlier one, which was deleted after its TTL, has that one's identifier in its status,
// and is found by it as well.
func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	byID := func(o client.Object) []string {
		ids := []string{naming.JobID(o.GetUID())}
		if job, ok := o.(*v1alpha1.BatchJob); ok && job.Status.JobID != "" && job.Status.JobID != ids[0] {
			ids = append(ids, job.Status.JobID)
		}
		return ids
	}
	byToken := func(o client.Object) []string {
		if job, ok := o.(*v1alpha1.BatchJob); ok && job.Spec.ClientToken != "" {
			return []string{job.Spec.ClientToken}
		}
		return nil
	}
	envByID := func(o client.Object) []string { return []string{naming.EnvID(o.GetUID())} }
	for _, x := range []struct {
		object client.Object
		field  string
		values client.IndexerFunc
	}{{&v1alpha1.BatchJob{}, jobsByID, byID}, {&v1alpha1.BatchJob{}, jobsByToken, byToken}, {&v1alpha1.ComputeEnv{}, envsByID, envByID}} {
		if err := indexer.IndexField(ctx, x.object, x.field, x.values); err != nil {
			return fmt.Errorf("adding the index of %T by %s: %w", x.object, x.field, err)
		}
	}
	return nil
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
