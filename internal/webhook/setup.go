// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authzclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/validation"
)

// The quotas of a namespace are its annotations. They are read from a cache that has names
// and those annotations, so that a create needs no call; a cache needs list and watch.
// The jobs and ComputeEnvs of a namespace are counted, and the first job with a token is found,
// in the cache that the reconcilers have anyway. A ComputeEnv that was created a moment ago
// is read from the API server. Of TaskTemplates a cache has the names, to count them; those that a
// job names are read from the API server.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs;computeenvs;tasktemplates,verbs=get;list;watch

// Options are what the webhooks need in addition to a manager.
type Options struct {
	// Validator has the rules about a request's content.
	Validator validation.Validator
	// JobQuota is how many BatchJobs a namespace without an annotation may keep. 0 means no limit.
	JobQuota int64
	// JobBytesQuota is how many bytes its BatchJobs may take together, see
	// validation.StoredSize. 0 means no limit.
	JobBytesQuota int64
	// ComputeEnvQuota is the same for ComputeEnvs.
	ComputeEnvQuota int64
	// TaskTemplateQuota is the same for TaskTemplates.
	TaskTemplateQuota int64
}

// CacheOptions returns what the manager's cache must contain for the webhooks alone.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Namespace{}:      {Transform: stripNamespace},
		&v1alpha1.TaskTemplate{}: {Transform: stripTemplate},
	}
}

// templateMeta is a TaskTemplate of which only the metadata is read.
func templateMeta() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TaskTemplate"))
	return o
}

// stripTemplate keeps what identifies a TaskTemplate.
func stripTemplate(o any) (any, error) {
	t, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	meta := metav1.ObjectMeta{Namespace: t.Namespace, Name: t.Name, UID: t.UID, ResourceVersion: t.ResourceVersion}
	return &metav1.PartialObjectMetadata{TypeMeta: t.TypeMeta, ObjectMeta: meta}, nil
}

// stripNamespace keeps the name, the version, and the annotations of quotas.
func stripNamespace(o any) (any, error) {
	ns, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	meta := metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion}
	for _, kind := range []quotaKind{jobQuota, envQuota, templateQuota} {
		for _, key := range []string{kind.annotation, kind.bytesAnnotation} {
			if quota, ok := ns.Annotations[key]; ok {
				metav1.SetMetaDataAnnotation(&meta, key, quota)
			}
		}
	}
	return &metav1.PartialObjectMetadata{TypeMeta: ns.TypeMeta, ObjectMeta: meta}, nil
}

// Setup serves the webhooks for BatchJob, ComputeEnv and TaskTemplate on the manager's webhook server, on every
// replica, and keeps the manager unready until their caches are synced. The
// manager's cache must be built with CacheOptions and have the indexes of package lookup.
func Setup(mgr ctrl.Manager, o Options) error {
	// A client of their own: requests do not wait for the reconcilers, and their calls are limited.
	own := rest.CopyConfig(mgr.GetConfig())
	own.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(askQPS, askBurst)
	authz, err := authzclient.NewForConfigAndClient(own, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making the client for access reviews: %w", err)
	}
	direct, err := client.New(own, client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return fmt.Errorf("making the client for live reads: %w", err)
	}
	live := gatedReader{direct, make(gate, maxLiveReads)}
	q, err := newQuotas(mgr, o, direct)
	if err != nil {
		return err
	}
	hasSynced := q.synced
	if err := mgr.AddReadyzCheck("admission", func(*http.Request) error {
		if !hasSynced() {
			return errNotSynced
		}
		return nil
	}); err != nil {
		return fmt.Errorf("setting up the probe: %w", err)
	}
	setupName(mgr)
	access := newAccess(authz.SubjectAccessReviews())
	serve := func(path string, h admission.Handler) {
		mgr.GetWebhookServer().Register(path, &admission.Webhook{
			Handler: h,
			// The handler adds the request to each line itself.
			LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
		})
	}
	serve(batchJobPath, &batchJobHandler{
		validator: func(envs func(ref string) validation.EnvState) batchJobValidator {
			v := o.Validator
			v.Envs = envs
			return v
		},
		access: access,
		envs:   environments{cache: mgr.GetCache(), live: live},
		tokens: tokens{cache: mgr.GetCache(), live: live},
		quota:  q.jobs,
		synced: hasSynced,
	})
	serve(completePath, &completionHandler{validator: o.Validator, access: access, templates: liveTemplates{live}})
	serve(computeEnvPath, &computeEnvHandler{
		validator: o.Validator, access: access, users: users{mgr.GetCache()}, quota: q.envs, synced: hasSynced,
	})
	serve(templatePath, &templateHandler{validator: o.Validator, access: access, quota: q.templates, synced: hasSynced})
	return nil
}

// quotas are those of all kinds.
type quotas struct {
	jobs, envs, templates *quota
	synced                func() bool // reports whether the caches of all are synced
}

// newQuotas makes the quotas and connects them to the informers of their kinds; reader looks up
// reservations.
func newQuotas(mgr ctrl.Manager, o Options, reader client.Reader) (*quotas, error) {
	q := &quotas{
		jobs:      newQuota(jobQuota, amount{o.JobQuota, o.JobBytesQuota}),
		envs:      newQuota(envQuota, amount{objects: o.ComputeEnvQuota}),
		templates: newQuota(templateQuota, amount{objects: o.TaskTemplateQuota}),
	}
	var synced []func() bool
	for _, k := range []struct {
		quota *quota
		kind  string
		cache client.Object
	}{
		{q.jobs, "BatchJob", &v1alpha1.BatchJob{}},
		{q.envs, "ComputeEnv", &v1alpha1.ComputeEnv{}},
		{q.templates, "TaskTemplate", templateMeta()},
	} {
		k.quota.live = liveObjects{reader, v1alpha1.GroupVersion.WithKind(k.kind)}
		s, err := k.quota.listen(mgr.GetCache(), k.cache)
		if err != nil {
			return nil, err
		}
		synced = append(synced, s)
	}
	q.synced = func() bool {
		return !slices.ContainsFunc(synced, func(has func() bool) bool { return !has() })
	}
	return q, nil
}

// Paths returns the paths that Setup serves, by the names of the webhooks in config/webhook.
func Paths() map[string]string {
	return map[string]string{
		"batchjob-name.batchcompute.dev":         namePath,
		"batchjob-tasktemplate.batchcompute.dev": completePath,
		"batchjob.batchcompute.dev":              batchJobPath,
		"computeenv.batchcompute.dev":            computeEnvPath,
		"computeenv-delete.batchcompute.dev":     computeEnvPath,
		"computeenv-scale.batchcompute.dev":      computeEnvPath,
		"tasktemplate.batchcompute.dev":          templatePath,
	}
}

// Limits of the calls of all webhooks to the API server: calls per second, their burst, and live
// reads in flight. Answers about users are cached, so this is enough for some hundred users who
// submit all the time.
const (
	askQPS, askBurst = 100, 200
	maxLiveReads     = 4
)

// gatedReader reads with a bounded number of calls in flight.
type gatedReader struct {
	client.Reader
	gate gate
}

// Get waits for capacity and reads an object.
func (r gatedReader) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.Reader.Get(ctx, key, obj, opts...)
}

// List waits for capacity and reads objects.
func (r gatedReader) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.Reader.List(ctx, list, opts...)
}

// storedSize is how many bytes of the quota a job in the cache takes; 0 for other objects. An
// annotation of the cached copy has it, since the cache does not keep all of a job.
func storedSize(o client.Object) int64 {
	job, ok := o.(*v1alpha1.BatchJob)
	if !ok {
		return 0
	}
	if n, err := strconv.ParseInt(job.Annotations[v1alpha1.AnnotationStoredSize], 10, 64); err == nil {
		return n
	}
	return validation.StoredSize(job)
}

// errNotSynced means that the manager has just started.
var errNotSynced = errors.New("the caches of BatchJobs, ComputeEnvs, TaskTemplates and Namespaces are not synced yet")

// listen connects the quota to the informers of a kind and of namespaces. hasSynced reports
// whether it has got all objects that existed.
func (q *quota) listen(c cache.Cache, kind client.Object) (hasSynced func() bool, err error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	objects, err := register(c, kind, handler(
		func(o client.Object) { q.saw(o.GetNamespace(), o.GetName(), storedSize(o)) },
		func(o client.Object) { q.sawGone(o.GetNamespace(), o.GetName()) }))
	if err != nil {
		return nil, err
	}
	namespaces, err := register(c, namespace, handler(
		func(o client.Object) { q.sawNamespace(o.GetName(), o.GetAnnotations()) },
		func(o client.Object) { q.sawNoNamespace(o.GetName()) }))
	if err != nil {
		return nil, err
	}
	return func() bool { return objects.HasSynced() && namespaces.HasSynced() }, nil
}

func register(c cache.Cache, obj client.Object, h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := c.GetInformer(context.Background(), obj, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", obj.GetObjectKind().GroupVersionKind().Kind, err)
	}
	r, err := informer.AddEventHandler(h)
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", obj.GetObjectKind().GroupVersionKind().Kind, err)
	}
	return r, nil
}

// handler calls there for each object that exists and for each change of one, and gone for each
// that was deleted.
func handler(there, gone func(client.Object)) toolscache.ResourceEventHandler {
	tell := func(f func(client.Object)) func(any) {
		return func(o any) {
			if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if obj, ok := o.(client.Object); ok {
				f(obj)
			}
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    tell(there),
		UpdateFunc: func(_, o any) { tell(there)(o) },
		DeleteFunc: tell(gone),
	}
}

// waitUntil waits until f returns true, at most turnTimeout.
func waitUntil(ctx context.Context, f func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	for !f() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
