// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certs makes, stores, serves and rotates the certificate of the admission
// webhook and the token in its path, and keeps the webhook configurations pointed at it.
//
//	Secret  <── optimistic lock ──  Keeper of every replica  ──>  TLS server (from memory)
//	                                      │
//	                                      └──>  Mutating- and ValidatingWebhookConfiguration: caBundle, path
//
// The token is how the webhook knows the API server: it is the last element of the path in
// the configurations, which only administrators read.
//
// No leader is needed: the first replica to write the Secret wins, the others take
// what it wrote. Nothing is mounted and nothing restarts.
package certs

import (
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

// The Secret holds the authority, the serving pair and the path's tokens. It is written by every replica,
// read through a watch of this one name, and made when it is not there; a name cannot
// restrict the verb create.
//
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,resourceNames=batchcompute-webhook-cert,verbs=get;list;watch;update

// Options say what a Keeper keeps. All names are required.
type Options struct {
	// Namespace is that of the Secret and of the Service.
	Namespace string
	// SecretName is the Secret that the material is stored in.
	SecretName string
	// ServiceName is the Service that the API server reaches the webhook through.
	ServiceName string
	// MutatingConfigurationName is the MutatingWebhookConfiguration to keep.
	MutatingConfigurationName string
	// ValidatingConfigurationName is the ValidatingWebhookConfiguration to keep.
	ValidatingConfigurationName string
	// Paths are the paths that the webhooks are served under, by the webhooks' names, without
	// a token. The paths of webhooks with other names are left alone.
	Paths map[string]string
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
	writes  []*rate.Limiter // of each webhook configuration
	serving atomic.Pointer[tls.Certificate]
	tokens  atomic.Pointer[[]string]
}

// NewKeeper returns a Keeper that has no certificate until SetupWithManager was
// called and the manager started.
func NewKeeper(opts Options) *Keeper {
	// A tool that resets the bundle on every sync is corrected at once a few times,
	// then twice a minute: both sides stay calm, and the logs say who fights.
	k := &Keeper{opts: opts}
	for range opts.configurations() {
		k.writes = append(k.writes, rate.NewLimiter(rate.Every(30*time.Second), 5))
	}
	return k
}

// CacheOptions restrict the manager's cache to the objects that a Keeper reads, so that
// no informer needs a right beyond them.
func CacheOptions(opts Options) map[client.Object]cache.ByObject {
	byObject := map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{
			opts.Namespace: {FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, opts.SecretName)},
		}},
	}
	for _, cfg := range opts.configurations() {
		byObject[cfg] = cache.ByObject{Field: fields.OneTermEqualSelector(metav1.ObjectNameField, cfg.GetName())}
	}
	return byObject
}

// SetupWithManager makes the manager run the Keeper, on every replica.
func (k *Keeper) SetupWithManager(mgr ctrl.Manager) error {
	k.client = mgr.GetClient()
	once := []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: k.opts.Namespace, Name: k.opts.SecretName}}}
	toOnce := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return once })
	err := ctrl.NewControllerManagedBy(mgr).
		Named("webhook-certs").
		Watches(&corev1.Secret{}, toOnce).
		Watches(&admissionv1.MutatingWebhookConfiguration{}, toOnce).
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

// PathTokens returns the tokens that may be the last element of a path now, one of them "" while
// the paths without a token are valid. It returns none before the Secret was read.
func (k *Keeper) PathTokens() []string {
	if list := k.tokens.Load(); list != nil {
		return *list
	}
	return nil
}

// Reconcile brings Secret, memory and webhook configurations into agreement. It
// serves only what is stored, so that all replicas serve under one authority.
func (k *Keeper) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	cfgs, err := k.opts.readConfigurations(ctx, k.client)
	if err != nil {
		return ctrl.Result{}, err
	}
	m, tokens, err := k.ensureSecret(ctx, req.NamespacedName, cfgs)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ctrl.Result{RequeueAfter: 100 * time.Millisecond}, nil // another replica was first: take what it wrote
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	k.serving.Store(m.serving)
	values := tokens.values()
	k.tokens.Store(&values)
	bundle, err := m.bundle()
	if err != nil {
		return ctrl.Result{}, err
	}
	now := k.opts.now()
	next := min(m.nextRenewal(now), tokens.nextRenewal(now))
	var errs []error
	for i, cfg := range cfgs {
		if cfg == nil {
			continue // the watch tells when it comes
		}
		wait, err := k.ensureConfiguration(ctx, i, cfg, bundle, tokens.current(now, k.opts.carriedToken(cfgs)))
		if apierrors.IsConflict(err) {
			wait, err = 100*time.Millisecond, nil
		}
		if wait > 0 {
			next = min(next, wait)
		}
		errs = append(errs, err)
	}
	return ctrl.Result{RequeueAfter: next}, errors.Join(errs...)
}

// ensureSecret returns what is stored, after renewing it if that is due.
func (k *Keeper) ensureSecret(ctx context.Context, key types.NamespacedName, cfgs []client.Object) (material, pathTokens, error) {
	var secret corev1.Secret
	err := k.client.Get(ctx, key, &secret)
	if client.IgnoreNotFound(err) != nil {
		return material{}, nil, fmt.Errorf("reading secret %s: %w", key, err)
	}
	exists, now := err == nil, k.opts.now()
	old := parseMaterial(secret.Data)
	m, certChanged, err := old.renew(now, k.opts.names(), injectedBundle(cfgs))
	if err != nil {
		return m, nil, err
	}
	// Where there was nothing to serve there is nobody who is asked without a token.
	tokens, tokensChanged := parseTokens(secret.Data[tokensKey]).renew(now, k.opts.carriedToken(cfgs), old.serves(now, nil))
	if !certChanged && !tokensChanged {
		return m, tokens, nil
	}
	data, err := m.data()
	if err != nil {
		return m, tokens, err
	}
	data[tokensKey] = tokens.data()
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
		return m, tokens, fmt.Errorf("storing secret %s: %w", key, err)
	}
	logger := log.FromContext(ctx).WithValues("secret", klog.KRef(key.Namespace, key.Name))
	if certChanged {
		logger.Info("Renewed the webhook certificate", "servingUntil", m.serving.Leaf.NotAfter, "authorities", len(m.authorities))
	}
	if tokensChanged {
		logger.V(1).Info("Renewed the token in the webhook's path")
	}
	return m, tokens, nil
}
