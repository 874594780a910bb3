// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// A namespace's quotas are annotations of the namespace. They are read from a cache of names
// and those annotations, so that a create waits for nobody; a cache needs list and watch.
// The jobs and the ComputeEnvs of a namespace are counted, and the first with a token found,
// in the cache that the reconcilers have anyway. A ComputeEnv that was created a moment ago
// is looked for in the cluster itself.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs;computeenvs,verbs=get;list;watch

// Options are what the webhooks need beside a manager.
type Options struct {
	// Validator has the rules about a request's content.
	Validator validation.Validator
	// JobQuota is how many BatchJobs a namespace may keep that says nothing itself. 0
	// means any number.
	JobQuota int64
	// JobBytesQuota is how many bytes its BatchJobs may take together, see
	// validation.StoredSize. 0 means any number.
	JobBytesQuota int64
	// ComputeEnvQuota is the same for ComputeEnvs.
	ComputeEnvQuota int64
}

// CacheOptions says what the manager's cache must hold of what the webhooks read and
// nobody else does.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{&corev1.Namespace{}: {Transform: stripNamespace}}
}

// stripNamespace keeps the name, the version, and the annotations that are read.
func stripNamespace(o any) (any, error) {
	ns, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	meta := metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion}
	for _, kind := range []quotaKind{jobQuota, envQuota} {
		for _, key := range []string{kind.annotation, kind.bytesAnnotation} {
			if quota, ok := ns.Annotations[key]; ok {
				metav1.SetMetaDataAnnotation(&meta, key, quota)
			}
		}
	}
	return &metav1.PartialObjectMetadata{TypeMeta: ns.TypeMeta, ObjectMeta: meta}, nil
}

// Setup serves the webhooks for BatchJob and ComputeEnv on the manager's webhook server, on every
// replica, and makes the manager unready until they know what the cluster holds. The
// manager's cache must be built with CacheOptions and have the indexes of package lookup.
func Setup(mgr ctrl.Manager, o Options) error {
	// Requests do not wait for the reconcilers, and what they make the manager ask is bounded.
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
	jobs, envs := newQuota(jobQuota, amount{o.JobQuota, o.JobBytesQuota}), newQuota(envQuota, amount{objects: o.ComputeEnvQuota})
	jobs.live = liveObjects{direct, v1alpha1.GroupVersion.WithKind("BatchJob")}
	envs.live = liveObjects{direct, v1alpha1.GroupVersion.WithKind("ComputeEnv")}
	jobsSynced, err := jobs.listen(mgr.GetCache(), &v1alpha1.BatchJob{})
	if err != nil {
		return err
	}
	envsSynced, err := envs.listen(mgr.GetCache(), &v1alpha1.ComputeEnv{})
	if err != nil {
		return err
	}
	hasSynced := func() bool { return jobsSynced() && envsSynced() }
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
			// The handler says itself what a line is about.
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
		quota:  jobs,
		synced: hasSynced,
	})
	serve(computeEnvPath, &computeEnvHandler{
		validator: o.Validator, access: access, users: users{mgr.GetCache()}, quota: envs, synced: hasSynced,
	})
	return nil
}

// Paths returns the paths that Setup serves, by the names of the webhooks that lead there in
// config/webhook.
func Paths() map[string]string {
	return map[string]string{
		"batchjob-name.batchcompute.dev":     namePath,
		"batchjob.batchcompute.dev":          batchJobPath,
		"computeenv.batchcompute.dev":        computeEnvPath,
		"computeenv-delete.batchcompute.dev": computeEnvPath,
		"computeenv-scale.batchcompute.dev":  computeEnvPath,
	}
}

// What the webhooks ask of the API server, for all requests together: so many calls a second
// and in a burst, and so many live reads at once. An answer about a user is kept, so this is
// enough for some hundred users who submit all the time.
const (
	askQPS, askBurst = 100, 200
	maxLiveReads     = 4
)

// gatedReader reads with a bounded number of calls at once.
type gatedReader struct {
	client.Reader
	gate gate
}

// Get reads an object when there is a place for it.
func (r gatedReader) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.Reader.Get(ctx, key, obj, opts...)
}

// List reads objects when there is a place for it.
func (r gatedReader) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	return r.Reader.List(ctx, list, opts...)
}

// storedSize is what a job in the cache counts for in the quota of bytes; 0 for other
// objects. The cache notes it, since it does not keep all of a job.
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

// errNotSynced says that the manager has just started.
var errNotSynced = errors.New("the cache does not hold all jobs, ComputeEnvs and namespaces yet")

// listen makes the quota hear of the objects of a kind, and of namespaces. hasSynced says
// whether it has heard of all that were there.
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

// handler tells of objects that are there, again at each change, and of those that went.
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

// waitUntil waits until f says yes, for patience at most.
func waitUntil(ctx context.Context, f func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
