// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certs makes, stores, serves and rotates the certificate of the admission
// webhook, and keeps the webhook configuration pointed at it.
//
//	Secret  <── optimistic lock ──  Keeper of every replica  ──>  TLS server (from memory)
//	                                      │
//	                                      └──>  ValidatingWebhookConfiguration: caBundle
//
// No leader is needed: the first replica to write the Secret wins, the others take
// what it wrote. Nothing is mounted and nothing restarts.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// The Secret holds the authority and the serving pair. It is written by every replica,
// read through a watch of this one name, and made when it is not there; a name cannot
// restrict the verb create.
//
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,resourceNames=batchcompute-webhook-cert,verbs=get;list;watch;update

// The bundle is put into our own webhook configuration, and put back when somebody
// takes it out, hence the watch.
//
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations,resourceNames=batchcompute-validating-webhook-configuration,verbs=get;list;watch;update

// Options say what a Keeper keeps. All names are required.
type Options struct {
	// Namespace is that of the Secret and of the Service.
	Namespace string
	// SecretName is the Secret that the material is stored in.
	SecretName string
	// ServiceName is the Service that the API server reaches the webhook through.
	ServiceName string
	// WebhookConfigurationName is the ValidatingWebhookConfiguration to keep.
	WebhookConfigurationName string
	// URL is where the API server reaches the webhook when not through the Service,
	// without a path: for a manager that runs on the host.
	URL *url.URL
	// Clock is the time. Nil means the real one.
	Clock clock.PassiveClock
}

// names are the host names and addresses that the certificate must be for; the API
// server verifies the first.
func (o Options) names() []string {
	service := o.ServiceName + "." + o.Namespace + ".svc"
	names := []string{service, service + ".cluster.local"}
	if o.URL != nil {
		names = slices.Insert(names, 0, o.URL.Hostname())
	}
	return names
}

// now is the time by the clock of the options.
func (o Options) now() time.Time {
	if o.Clock == nil {
		return time.Now()
	}
	return o.Clock.Now()
}

// Keeper keeps a serving certificate and the bundle that vouches for it.
type Keeper struct {
	opts    Options
	client  client.Client
	writes  *rate.Limiter // of the webhook configuration
	serving atomic.Pointer[tls.Certificate]
}

// NewKeeper returns a Keeper that has no certificate until SetupWithManager was
// called and the manager started.
func NewKeeper(opts Options) *Keeper {
	// A tool that resets the bundle on every sync is corrected at once a few times,
	// then twice a minute: both sides stay calm, and the logs say who fights.
	return &Keeper{opts: opts, writes: rate.NewLimiter(rate.Every(30*time.Second), 5)}
}

// CacheOptions restrict the manager's cache to the two objects that a Keeper reads, so
// that no informer needs a right beyond them.
func CacheOptions(opts Options) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{
			opts.Namespace: {FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, opts.SecretName)},
		}},
		&admissionv1.ValidatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector(metav1.ObjectNameField, opts.WebhookConfigurationName),
		},
	}
}

// SetupWithManager makes the manager run the Keeper, on every replica.
func (k *Keeper) SetupWithManager(mgr ctrl.Manager) error {
	k.client = mgr.GetClient()
	once := []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: k.opts.Namespace, Name: k.opts.SecretName}}}
	toOnce := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return once })
	err := ctrl.NewControllerManagedBy(mgr).
		Named("webhook-certs").
		Watches(&corev1.Secret{}, toOnce).
		Watches(&admissionv1.ValidatingWebhookConfiguration{}, toOnce).
		// The first look must not wait for an object that may not exist yet.
		WatchesRawSource(source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			q.Add(once[0])
			return nil
		})).
		WithOptions(controller.Options{
			NeedLeaderElection: new(bool),
			RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second),
		}).
		Complete(k)
	if err != nil {
		return fmt.Errorf("setting up the webhook certificates: %w", err)
	}
	return nil
}

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.serving.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the webhook has no certificate yet")
}

// Reconcile brings Secret, memory and webhook configuration into agreement. It
// serves only what is stored, so that all replicas serve under one authority.
func (k *Keeper) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var cfg admissionv1.ValidatingWebhookConfiguration
	err := k.client.Get(ctx, types.NamespacedName{Name: k.opts.WebhookConfigurationName}, &cfg)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("reading the webhook configuration: %w", err)
	}
	m, err := k.ensureSecret(ctx, req.NamespacedName, injectedBundle(&cfg))
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ctrl.Result{RequeueAfter: 100 * time.Millisecond}, nil // another replica was first: take what it wrote
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	k.serving.Store(m.serving)
	next := m.nextRenewal(k.opts.now())
	if cfg.Name == "" {
		return ctrl.Result{RequeueAfter: next}, nil // the watch tells when it comes
	}
	wait, err := k.ensureConfiguration(ctx, &cfg, m)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	if wait > 0 {
		next = min(next, wait)
	}
	return ctrl.Result{RequeueAfter: next}, err
}

// ensureSecret returns the stored material, after renewing it if that is due.
func (k *Keeper) ensureSecret(ctx context.Context, key types.NamespacedName, injected []byte) (material, error) {
	var secret corev1.Secret
	err := k.client.Get(ctx, key, &secret)
	if client.IgnoreNotFound(err) != nil {
		return material{}, fmt.Errorf("reading secret %s: %w", key, err)
	}
	exists := err == nil
	m, changed, err := parseMaterial(secret.Data).renew(k.opts.now(), k.opts.names(), injected)
	if err != nil || !changed {
		return m, err
	}
	data, err := m.data()
	if err != nil {
		return m, err
	}
	if exists {
		next := secret.DeepCopy()
		if next.Data == nil {
			next.Data = map[string][]byte{}
		}
		maps.Copy(next.Data, data)
		err = k.client.Update(ctx, next)
	} else {
		err = k.client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
			Type:       corev1.SecretTypeTLS,
			Data:       data,
		})
	}
	if err != nil {
		return m, fmt.Errorf("storing secret %s: %w", key, err)
	}
	log.FromContext(ctx).Info("Renewed the webhook certificate", "secret", klog.KRef(key.Namespace, key.Name),
		"servingUntil", m.serving.Leaf.NotAfter, "authorities", len(m.authorities))
	return m, nil
}

// ensureConfiguration points every webhook of the configuration at this manager and
// gives it the bundle. A wait above zero means: not now, there were too many writes.
func (k *Keeper) ensureConfiguration(ctx context.Context, cfg *admissionv1.ValidatingWebhookConfiguration, m material) (wait time.Duration, err error) {
	bundle, err := m.bundle()
	if err != nil {
		return 0, err
	}
	next := cfg.DeepCopy()
	for i := range next.Webhooks {
		k.point(&next.Webhooks[i].ClientConfig, bundle)
	}
	if equality.Semantic.DeepEqual(cfg, next) {
		return 0, nil
	}
	now := k.opts.now()
	if r := k.writes.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait = r.DelayFrom(now)
		r.CancelAt(now)
		return wait, nil
	}
	if err := k.client.Update(ctx, next); err != nil {
		return 0, fmt.Errorf("writing the webhook configuration: %w", err)
	}
	log.FromContext(ctx).Info("Wrote the webhook configuration", "configuration", cfg.Name)
	return 0, nil
}

// point makes a client config lead to this manager, under the path that it has.
func (k *Keeper) point(c *admissionv1.WebhookClientConfig, bundle []byte) {
	c.CABundle = bundle
	path := "/"
	if c.URL != nil {
		if u, err := url.Parse(*c.URL); err == nil {
			path = u.Path
		}
	} else if c.Service != nil && c.Service.Path != nil {
		path = *c.Service.Path
	}
	switch {
	case k.opts.URL != nil:
		u := k.opts.URL.JoinPath(path).String()
		c.URL, c.Service = &u, nil
	case c.URL != nil:
		c.URL, c.Service = nil, &admissionv1.ServiceReference{Namespace: k.opts.Namespace, Name: k.opts.ServiceName, Path: &path}
	}
}

// injectedBundle is what all webhooks of the configuration trust, or nil.
func injectedBundle(cfg *admissionv1.ValidatingWebhookConfiguration) []byte {
	var bundle []byte
	for i := range cfg.Webhooks {
		b := cfg.Webhooks[i].ClientConfig.CABundle
		if i > 0 && !bytes.Equal(b, bundle) {
			return nil
		}
		bundle = b
	}
	return bundle
}
