// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authzclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/validation"
)

// A namespace's quota is an annotation of the namespace. It is read from a cache of names
// and that annotation, so that a create waits for nobody; a cache needs list and watch.
// The jobs of a namespace are counted, and the first with a token found, in the cache
// that the reconciler has anyway.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=batchcompute.dev,resources=batchjobs,verbs=get;list;watch

// Options are what the webhooks need beside a manager.
type Options struct {
	// Validator has the rules about a request's content.
	Validator validation.Validator
	// JobQuota is how many BatchJobs a namespace may keep that says nothing itself. 0
	// means any number.
	JobQuota int64
}

// CacheOptions says what the manager's cache must hold of what the webhooks read and
// nobody else does.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{&corev1.Namespace{}: {Transform: stripNamespace}}
}

// stripNamespace keeps the name, the version, and the one annotation that is read.
func stripNamespace(o any) (any, error) {
	ns, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil
	}
	meta := metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion}
	if quota, ok := ns.Annotations[v1alpha1.AnnotationJobQuota]; ok {
		meta.Annotations = map[string]string{v1alpha1.AnnotationJobQuota: quota}
	}
	return &metav1.PartialObjectMetadata{TypeMeta: ns.TypeMeta, ObjectMeta: meta}, nil
}

// Setup serves the webhooks for BatchJob on the manager's webhook server, on every
// replica, and makes the manager unready until they know what the cluster holds. The
// manager's cache must be built with CacheOptions.
func Setup(mgr ctrl.Manager, o Options) error {
	authz, err := authzclient.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making the client for access reviews: %w", err)
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.BatchJob{}, jobsByToken, indexToken); err != nil {
		return fmt.Errorf("indexing jobs by token: %w", err)
	}
	quota := newQuota(o.JobQuota)
	hasSynced, err := quota.listen(mgr.GetCache())
	if err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("admission", func(*http.Request) error {
		if !hasSynced() {
			return errNotSynced
		}
		return nil
	}); err != nil {
		return fmt.Errorf("setting up the probe: %w", err)
	}
	setupName(mgr)
	mgr.GetWebhookServer().Register(batchJobPath, &admission.Webhook{
		Handler: &batchJobHandler{
			validator: o.Validator,
			access:    newAccess(authz.SubjectAccessReviews()),
			tokens:    tokens{mgr.GetCache()},
			quota:     quota,
			synced:    hasSynced,
		},
		// The handler says itself what a line is about.
		LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
	})
	return nil
}

// errNotSynced says that the manager has just started.
var errNotSynced = errors.New("the cache does not hold all jobs and namespaces yet")

// listen makes the quota hear of jobs and namespaces. hasSynced says whether it has heard
// of all that were there.
func (q *quota) listen(c cache.Cache) (hasSynced func() bool, err error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	jobs, err := register(c, &v1alpha1.BatchJob{}, handler(
		func(o client.Object) { q.sawJob(o.GetNamespace(), o.GetName()) },
		func(o client.Object) { q.sawNoJob(o.GetNamespace(), o.GetName()) }))
	if err != nil {
		return nil, err
	}
	namespaces, err := register(c, namespace, handler(
		func(o client.Object) { q.sawNamespace(o.GetName(), o.GetAnnotations()) },
		func(o client.Object) { q.sawNoNamespace(o.GetName()) }))
	if err != nil {
		return nil, err
	}
	return func() bool { return jobs.HasSynced() && namespaces.HasSynced() }, nil
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
