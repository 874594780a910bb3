// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package objects

import (
	"context"
	"fmt"
	"regexp"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/naming"
)

// The resources that are read from the cache.
var (
	Jobs = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "batchjobs"}
	Envs = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "computeenvs"}
	// Templates are the TaskTemplates.
	Templates = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "tasktemplates"}
)

// The forms of identifiers. Source: BatchCompute, samples of all actions.
var (
	jobIDForm = regexp.MustCompile(`^job-[0-9a-z]{8}$`)
	envIDForm = regexp.MustCompile(`^env-[0-9a-z]{8}$`)
)

// Bounds of a search for an object that the cache does not have.
const (
	// cacheWait is how long the cache may take to show what was just created; after that the API server is asked.
	cacheWait = 200 * time.Millisecond
	cachePoll = 10 * time.Millisecond
	// goneWait is how long the cache may take to show that an object was deleted.
	goneWait = time.Second
	// pageSize is how many objects a page of a live list has.
	pageSize = 500
	// absentTTL is how long an identifier that no object has is remembered. It cannot become that of an object that
	// somebody knows: identifiers come from the UIDs of new objects.
	absentTTL   = 10 * time.Second
	absentCount = 4096
)

// Finder finds objects. What it returns is shared with the cache and must not be changed.
type Finder struct {
	jobs, envs, templates toolscache.Indexer
	absent                *utilcache.LRUExpireCache // namespace/identifier
}

// New returns a finder over a cache with CacheOptions, of all namespaces, that has not started.
func New(ctx context.Context, c cache.Cache) (*Finder, error) {
	forJobs, forEnvs, forTemplates := Indexers()
	jobs, err := indexerOf(ctx, c, &v1alpha1.BatchJob{}, forJobs)
	if err != nil {
		return nil, err
	}
	envs, err := indexerOf(ctx, c, &v1alpha1.ComputeEnv{}, forEnvs)
	if err != nil {
		return nil, err
	}
	templates, err := indexerOf(ctx, c, &v1alpha1.TaskTemplate{}, forTemplates)
	return NewFinder(jobs, envs, templates), err
}

// NewFinder returns a finder over objects with Indexers.
func NewFinder(jobs, envs, templates toolscache.Indexer) *Finder {
	return &Finder{jobs: jobs, envs: envs, templates: templates, absent: utilcache.NewLRUExpireCache(absentCount)}
}

// found returns the objects that an index has for a key.
func found[T any](objects toolscache.Indexer, index, key string) ([]T, error) {
	list, err := objects.ByIndex(index, key)
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	out := make([]T, 0, len(list))
	for _, o := range list {
		if object, ok := o.(T); ok {
			out = append(out, object)
		}
	}
	return out, nil
}

// CheckJobID returns a Refusal for what is no job's identifier.
func CheckJobID(id string) error {
	if !jobIDForm.MatchString(id) {
		return refusal.New(errcode.JobIDMalformed, "JobId must be job- and 8 characters of 0-9 and a-z")
	}
	return nil
}

// CheckEnvID returns a Refusal for what is no environment's identifier.
func CheckEnvID(id string) error {
	if !envIDForm.MatchString(id) {
		return refusal.New(errcode.EnvIDMalformed, "EnvId must be env- and 8 characters of 0-9 and a-z")
	}
	return nil
}

// Job returns the job with an identifier, as the cache has it. It waits for the cache for a short time, and then asks
// the API server. The error is a Refusal if there is no such job, or if the identity may
// not read it.
func (f *Finder) Job(ctx context.Context, c *tenant.Client, id string) (*v1alpha1.BatchJob, error) {
	if err := CheckJobID(id); err != nil {
		return nil, err
	}
	if err := c.Check(ctx, "get", Jobs); err != nil {
		return nil, err
	}
	notFound := refusal.New(errcode.JobNotFound, "there is no job %s", id)
	key := c.Namespace + "/" + id
	if _, absent := f.absent.Get(key); absent {
		return nil, notFound
	}
	job, err := f.awaitJob(ctx, c.Namespace, id)
	if job != nil || err != nil {
		return job, err
	}
	name, err := liveName(ctx, c, "BatchJobList", func(o *metav1.PartialObjectMetadata) bool { return naming.JobID(o.UID) == id })
	if err != nil {
		return nil, err
	}
	if name == "" {
		f.absent.Add(key, nil, absentTTL)
		return nil, notFound
	}
	whole, err := WholeJob(ctx, c, name)
	if err != nil {
		return nil, err
	}
	if whole == nil {
		return nil, notFound
	}
	return strip(whole).(*v1alpha1.BatchJob), nil //nolint:forcetypeassert // of a job it is one
}

// awaitJob waits until the cache has a job, for a short time; nil if it has not.
func (f *Finder) awaitJob(ctx context.Context, namespace, id string) (*v1alpha1.BatchJob, error) {
	end := time.NewTimer(cacheWait)
	defer end.Stop()
	for {
		job, err := f.cachedJob(namespace, id)
		if job != nil || err != nil {
			return job, err
		}
		select {
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the cache: %w", ctx.Err())
		case <-time.After(cachePoll):
		}
	}
}

// cachedJob returns the job with an identifier; nil if the cache has none.
func (f *Finder) cachedJob(namespace, id string) (*v1alpha1.BatchJob, error) {
	list, err := found[*v1alpha1.BatchJob](f.jobs, byID, namespace+"/"+id)
	if len(list) == 0 || err != nil {
		return nil, err
	}
	for _, job := range list {
		if naming.JobID(job.UID) == id {
			return job, nil // and not one that only shows its result
		}
	}
	return list[0], nil
}

// JobWithToken returns a job of the cache with a client token; nil if there is none.
func (f *Finder) JobWithToken(namespace, token string) (*v1alpha1.BatchJob, error) {
	list, err := found[*v1alpha1.BatchJob](f.jobs, byToken, namespace+"/"+token)
	if len(list) == 0 || err != nil {
		return nil, err
	}
	return list[0], nil
}

// AllJobs returns the jobs of the identity's namespace, in no order.
func (f *Finder) AllJobs(ctx context.Context, c *tenant.Client) ([]*v1alpha1.BatchJob, error) {
	if err := c.Check(ctx, "list", Jobs); err != nil {
		return nil, err
	}
	return found[*v1alpha1.BatchJob](f.jobs, byNamespace, c.Namespace)
}

// AwaitJobGone waits for a short time until the cache shows that a job was deleted.
func (f *Finder) AwaitJobGone(ctx context.Context, namespace, id string) {
	f.awaitCached(ctx, namespace, id, func(job *v1alpha1.BatchJob) bool { return job == nil || job.DeletionTimestamp != nil })
}

// AwaitRetry waits for a short time until the cache shows that a job has a retryToken, or was deleted.
func (f *Finder) AwaitRetry(ctx context.Context, namespace, id, token string) {
	f.awaitCached(ctx, namespace, id, func(job *v1alpha1.BatchJob) bool { return job == nil || job.Spec.RetryToken == token })
}

// awaitCached waits for a short time until shows is true for the job in the cache, nil for none.
func (f *Finder) awaitCached(ctx context.Context, namespace, id string, shows func(*v1alpha1.BatchJob) bool) {
	ctx, cancel := context.WithTimeout(ctx, goneWait)
	defer cancel()
	for {
		job, err := f.cachedJob(namespace, id)
		if err != nil || shows(job) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(cachePoll):
		}
	}
}

// WholeJob reads a job from the API server; nil if there is none.
func WholeJob(ctx context.Context, c *tenant.Client, name string) (*v1alpha1.BatchJob, error) {
	job := &v1alpha1.BatchJob{}
	err := c.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, job)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading BatchJob %s: %w", name, err)
	}
	return job, nil
}

// liveName returns the name of the object that matches, "" if there is none. It reads only metadata, in pages.
func liveName(ctx context.Context, c *tenant.Client, kind string, matches func(*metav1.PartialObjectMetadata) bool) (string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	for {
		if err := c.List(ctx, list, client.InNamespace(c.Namespace), client.Limit(pageSize), client.Continue(list.Continue)); err != nil {
			return "", fmt.Errorf("listing the metadata of the namespace's objects (%s): %w", kind, err)
		}
		for i := range list.Items {
			if matches(&list.Items[i]) {
				return list.Items[i].Name, nil
			}
		}
		if list.Continue == "" {
			return "", nil
		}
	}
}

// Env returns the ComputeEnv with an identifier, as Job does.
func (f *Finder) Env(ctx context.Context, c *tenant.Client, id string) (*v1alpha1.ComputeEnv, error) {
	if err := CheckEnvID(id); err != nil {
		return nil, err
	}
	if err := c.Check(ctx, "get", Envs); err != nil {
		return nil, err
	}
	notFound := refusal.New(errcode.ComputeEnvNotFound, "there is no compute environment %s", id)
	key := c.Namespace + "/" + id
	if _, absent := f.absent.Get(key); absent {
		return nil, notFound
	}
	env, err := f.cachedEnv(c.Namespace, id)
	if env != nil || err != nil {
		return env, err
	}
	name, err := liveName(ctx, c, "ComputeEnvList", func(o *metav1.PartialObjectMetadata) bool { return naming.EnvID(o.UID) == id })
	if err != nil {
		return nil, err
	}
	if name == "" {
		f.absent.Add(key, nil, absentTTL)
		return nil, notFound
	}
	whole, err := WholeEnv(ctx, c, name)
	if whole == nil && err == nil {
		return nil, notFound
	}
	return whole, err
}

// cachedEnv returns the ComputeEnv with an identifier; nil if the cache has none.
func (f *Finder) cachedEnv(namespace, id string) (*v1alpha1.ComputeEnv, error) {
	list, err := found[*v1alpha1.ComputeEnv](f.envs, byID, namespace+"/"+id)
	if len(list) == 0 || err != nil {
		return nil, err
	}
	return list[0], nil
}

// AllEnvs returns the ComputeEnvs of the identity's namespace, in no order.
func (f *Finder) AllEnvs(ctx context.Context, c *tenant.Client) ([]*v1alpha1.ComputeEnv, error) {
	if err := c.Check(ctx, "list", Envs); err != nil {
		return nil, err
	}
	return found[*v1alpha1.ComputeEnv](f.envs, byNamespace, c.Namespace)
}

// WholeEnv reads a ComputeEnv from the API server; nil if there is none.
func WholeEnv(ctx context.Context, c *tenant.Client, name string) (*v1alpha1.ComputeEnv, error) {
	env := &v1alpha1.ComputeEnv{}
	err := c.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: name}, env)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading ComputeEnv %s: %w", name, err)
	}
	return env, nil
}
