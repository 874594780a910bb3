// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// world is a cluster with a webhook configuration, and a time.
type world struct {
	t     *testing.T
	c     client.WithWatch
	clock *clocktesting.FakePassiveClock
}

func newWorld(t *testing.T, objs ...client.Object) *world {
	return &world{
		t: t, clock: clocktesting.NewFakePassiveClock(epoch),
		c: fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(objs...).Build(),
	}
}

func toService(path string) admissionv1.WebhookClientConfig {
	return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "ns", Name: "hook", Path: &path}}
}

func mutating() *admissionv1.MutatingWebhookConfiguration {
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "config"},
		Webhooks:   []admissionv1.MutatingWebhook{{Name: "m", ClientConfig: toService("/mutate")}},
	}
}

func validating() *admissionv1.ValidatingWebhookConfiguration {
	return &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "config"},
		Webhooks: []admissionv1.ValidatingWebhook{
			{Name: "a", ClientConfig: toService("/validate")},
			{Name: "b", ClientConfig: toService("/validate")},
		},
	}
}

// keeper is a replica whose client is c, the world's one if nil.
func (w *world) keeper(c client.Client) *Keeper {
	if c == nil {
		c = w.c
	}
	k := NewKeeper(w.options())
	k.client = c
	return k
}

func (w *world) options() Options {
	return Options{
		Namespace: "ns", SecretName: "cert", ServiceName: "hook",
		MutatingConfigurationName: "config", ValidatingConfigurationName: "config", Clock: w.clock,
		Paths: map[string]string{"m": "/mutate", "a": "/validate", "b": "/validate"},
	}
}

// reconcile runs one pass and returns when the next is due.
func (w *world) reconcile(k *Keeper) time.Duration {
	w.t.Helper()
	res, err := k.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "cert"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.RequeueAfter
}

func (w *world) config() *admissionv1.ValidatingWebhookConfiguration {
	w.t.Helper()
	cfg := &admissionv1.ValidatingWebhookConfiguration{}
	if err := w.c.Get(w.t.Context(), client.ObjectKey{Name: "config"}, cfg); err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

func (w *world) mutating() *admissionv1.MutatingWebhookConfiguration {
	w.t.Helper()
	cfg := &admissionv1.MutatingWebhookConfiguration{}
	if err := w.c.Get(w.t.Context(), client.ObjectKey{Name: "config"}, cfg); err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

// hooks are all webhooks of both configurations.
func (w *world) hooks() []hook {
	w.t.Helper()
	return append(hooksOf(w.mutating()), hooksOf(w.config())...)
}

// versions changes with every write of a configuration or the secret.
func (w *world) versions() string {
	w.t.Helper()
	return strings.Join([]string{w.secret().ResourceVersion, w.mutating().ResourceVersion, w.config().ResourceVersion}, " ")
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.c.Get(w.t.Context(), client.ObjectKey{Namespace: "ns", Name: "cert"}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// serves fails the test unless the API server would trust what k serves.
func (w *world) serves(k *Keeper) {
	w.t.Helper()
	c, err := k.GetCertificate(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, hook := range w.hooks() {
		trusted := parseMaterial(map[string][]byte{caKey: hook.client.CABundle})
		trusted.serving = c
		if !trusted.serves(w.clock.Now(), []string{"hook.ns.svc"}) {
			w.t.Errorf("webhook %s does not trust what is served", hook.name)
		}
	}
}

func TestFirstStart(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(nil)
	if _, err := k.GetCertificate(nil); err == nil {
		t.Error("serves before it has a certificate")
	}
	if got := w.reconcile(k); got != 12*time.Hour {
		t.Errorf("next pass in %s", got)
	}
	w.serves(k)
	if s := w.secret(); s.Type != corev1.SecretTypeTLS {
		t.Errorf("the secret has type %s", s.Type)
	}
	if svc := w.config().Webhooks[0].ClientConfig.Service; svc == nil || svc.Name != "hook" {
		t.Errorf("the service changed to %v", svc)
	}
	before := w.versions()
	w.reconcile(k)
	if after := w.versions(); after != before {
		t.Error("a second pass wrote")
	}
}

func TestConfigurationComesLater(t *testing.T) {
	w := newWorld(t)
	k := w.keeper(nil)
	w.reconcile(k)
	if err := w.c.Create(t.Context(), validating()); err != nil {
		t.Fatal(err)
	}
	w.reconcile(k)
	if len(w.config().Webhooks[0].ClientConfig.CABundle) == 0 {
		t.Error("the validating configuration waits for the other")
	}
	if err := w.c.Create(t.Context(), mutating()); err != nil {
		t.Fatal(err)
	}
	w.reconcile(k)
	w.serves(k)
}

func TestBadSecret(t *testing.T) {
	w := newWorld(t, mutating(), validating(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cert"},
		Data:       map[string][]byte{corev1.TLSCertKey: []byte("rubbish"), "mine": []byte("kept")},
	})
	k := w.keeper(nil)
	w.reconcile(k)
	w.serves(k)
	if got := string(w.secret().Data["mine"]); got != "kept" {
		t.Errorf("a foreign key became %q", got)
	}
}

// TestTwoReplicas lets both find no secret, with a cache that lags behind: one wins,
// the other takes what it wrote.
func TestTwoReplicas(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	lagging := true
	stale := interceptor.NewClient(w.c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*corev1.Secret); ok && lagging {
				return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	a, b := w.keeper(nil), w.keeper(stale)
	w.reconcile(a)
	if got := w.reconcile(b); got != 100*time.Millisecond {
		t.Errorf("the loser looks again in %s", got)
	}
	if _, err := b.GetCertificate(nil); err == nil {
		t.Error("the loser serves what is not stored")
	}
	lagging = false
	w.reconcile(b)
	w.serves(a)
	w.serves(b)
	if ca, cb := a.serving.Load(), b.serving.Load(); !ca.Leaf.Equal(cb.Leaf) {
		t.Error("the replicas serve different certificates")
	}

	// Both renew: the second fails on the lock and takes the first one's.
	w.clock.SetTime(epoch.Add(61 * day))
	old := w.secret()
	staleUpdate := interceptor.NewClient(w.c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if s, ok := obj.(*corev1.Secret); ok && lagging {
				old.DeepCopyInto(s)
				return nil
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	w.reconcile(a)
	lagging = true
	b.client = staleUpdate
	if got := w.reconcile(b); got != 100*time.Millisecond {
		t.Errorf("the loser looks again in %s", got)
	}
	lagging = false
	w.reconcile(b)
	if ca, cb := a.serving.Load(), b.serving.Load(); !ca.Leaf.Equal(cb.Leaf) {
		t.Error("the replicas renewed differently")
	}
	w.serves(a)
}

// TestYears runs a keeper for 40 years, with a look every fortnight: what is served is
// trusted at every moment.
func TestYears(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(nil)
	w.reconcile(k)
	cas := map[string]bool{}
	for now := epoch; now.Before(epoch.Add(40 * 365 * day)); now = now.Add(14 * day) {
		w.clock.SetTime(now)
		w.serves(k) // before the pass too: the keeper may not have run since
		wait := w.reconcile(k)
		w.serves(k)
		if wait <= settle {
			w.clock.SetTime(now.Add(wait))
			w.reconcile(k)
			w.serves(k)
		}
		m := parseMaterial(w.secret().Data)
		cas[m.authorities[0].SerialNumber.String()] = true
		if len(m.authorities) > 2 {
			t.Fatalf("%d authorities", len(m.authorities))
		}
	}
	if len(cas) != 6 {
		t.Errorf("%d authorities in 40 years, want 6", len(cas))
	}
}

func TestResetBundle(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(nil)
	w.reconcile(k)
	reset := func() {
		t.Helper()
		cfg, m := w.config(), w.mutating()
		cfg.Webhooks[1].ClientConfig.CABundle, m.Webhooks[0].ClientConfig.CABundle = nil, nil
		if err := errors.Join(w.c.Update(t.Context(), cfg), w.c.Update(t.Context(), m)); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		reset()
		w.reconcile(k)
		w.serves(k)
	}
	// The fifth reset in no time waits, and is then put right.
	reset()
	before := w.versions()
	wait := w.reconcile(k)
	if wait != 30*time.Second {
		t.Errorf("waits %s", wait)
	}
	if w.versions() != before {
		t.Error("fights in a hot loop")
	}
	w.clock.SetTime(w.clock.Now().Add(wait))
	w.reconcile(k)
	w.serves(k)
}

func TestURL(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	inside, outside := w.keeper(nil), w.keeper(nil)
	outside.opts.URL = &url.URL{Scheme: "https", Host: "127.0.0.1:9443"}

	w.reconcile(outside)
	token := "/" + outside.PathTokens()[0]
	paths := []string{"/mutate" + token, "/validate" + token, "/validate" + token}
	for i, hook := range w.hooks() {
		if c := hook.client; c.Service != nil || c.URL == nil || *c.URL != "https://127.0.0.1:9443"+paths[i] {
			t.Errorf("service %v, URL %v", c.Service, c.URL)
		}
	}
	leaf := outside.serving.Load().Leaf
	if err := leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	w.serves(outside)

	w.reconcile(inside)
	for i, hook := range w.hooks() {
		c := hook.client
		if c.URL != nil || c.Service == nil || c.Service.Namespace != "ns" || c.Service.Name != "hook" || *c.Service.Path != paths[i] {
			t.Errorf("service %v, URL %v", c.Service, c.URL)
		}
	}
	if !inside.serving.Load().Leaf.Equal(leaf) {
		t.Error("the certificate changed although it was good for both")
	}
}

func TestErrors(t *testing.T) {
	down := errors.New("down")
	tests := map[string]interceptor.Funcs{
		"reading the webhook configuration": {Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*admissionv1.ValidatingWebhookConfiguration); ok {
				return down
			}
			return c.Get(ctx, key, obj, opts...)
		}},
		"reading secret ns/cert": {Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*corev1.Secret); ok {
				return down
			}
			return c.Get(ctx, key, obj, opts...)
		}},
		"storing secret ns/cert": {Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return down }},
		"writing the webhook configuration": {Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return down
		}},
	}
	for want, funcs := range tests {
		t.Run(want, func(t *testing.T) {
			w := newWorld(t, mutating(), validating())
			k := w.keeper(interceptor.NewClient(w.c, funcs))
			_, err := k.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "cert"}})
			if !errors.Is(err, down) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

func TestConfigurationConflict(t *testing.T) {
	w := newWorld(t, mutating(), validating())
	k := w.keeper(interceptor.NewClient(w.c, interceptor.Funcs{
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error {
			return apierrors.NewConflict(corev1.Resource("x"), "config", errors.New("changed"))
		},
	}))
	if got := w.reconcile(k); got != 100*time.Millisecond {
		t.Errorf("looks again in %s", got)
	}
}

func TestReadyCheck(t *testing.T) {
	w := newWorld(t)
	k := w.keeper(nil)
	l := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for _, token := range k.PathTokens() {
			if r.URL.Path == "/mutate/"+token || r.URL.Path == "/validate/"+token {
				rw.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
		}
		rw.WriteHeader(http.StatusNotFound)
	}))
	l.TLS = &tls.Config{GetCertificate: k.GetCertificate, MinVersion: tls.VersionTLS12}
	// httptest brings a certificate of its own, which must not be served.
	listener := tls.NewListener(l.Listener, l.TLS)
	l.Listener, l.TLS = listener, nil
	l.Config.ErrorLog = log.New(io.Discard, "", 0)
	l.Start()
	defer l.Close()
	check := ReadyCheck(w.c, w.options(), listener.Addr().String(), nil)
	probe := func() error { return check((&http.Request{}).WithContext(t.Context())) }
	wantErr := func(part string) {
		t.Helper()
		if err := probe(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q", err, part)
		}
	}

	wantErr(`mutatingwebhookconfigurations.admissionregistration.k8s.io "config" not found`)
	wantErr(`validatingwebhookconfigurations.admissionregistration.k8s.io "config" not found`)
	if err := errors.Join(w.c.Create(t.Context(), mutating()), w.c.Create(t.Context(), validating())); err != nil {
		t.Fatal(err)
	}
	wantErr("webhook m: the webhook does not answer with a certificate that its configuration trusts")
	wantErr("webhook a: the webhook does not answer with a certificate that its configuration trusts")
	w.reconcile(k)
	if err := probe(); err != nil {
		t.Errorf("not ready: %v", err)
	}

	cfg := w.config()
	cfg.Webhooks[1].ClientConfig.CABundle = data(t, fresh(t))[caKey]
	if err := w.c.Update(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantErr("webhook b: the webhook does not answer with a certificate that its configuration trusts")
	cfg.Webhooks[1].ClientConfig.CABundle = []byte("rubbish")
	if err := w.c.Update(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	wantErr("webhook b: the bundle in the webhook configuration holds no certificate")
	w.reconcile(k)
	if err := probe(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	// A path that this server does not answer; the error does not tell the one that it has.
	token := k.PathTokens()[0]
	k.tokens.Store(&[]string{newToken()})
	wantErr("webhook a: the webhook does not answer under the path of its configuration: 404 Not Found")
	if err := probe(); strings.Contains(err.Error(), token) {
		t.Errorf("the error tells the token: %v", err)
	}
	w.reconcile(k)
	if err := probe(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	w.clock.SetTime(epoch.Add(servingLife + time.Second))
	wantErr("expired")

	if err := ReadyCheck(w.c, w.options(), "nonsense", nil)((&http.Request{}).WithContext(t.Context())); err == nil {
		t.Error("an address that is none is fine")
	}
}

func TestInjectedBundle(t *testing.T) {
	m, v := mutating(), validating()
	v.Webhooks[0].ClientConfig.CABundle = []byte("a")
	if got := injectedBundle([]client.Object{nil, v}); got != nil {
		t.Errorf("%q, though one webhook has none", got)
	}
	v.Webhooks[1].ClientConfig.CABundle = []byte("a")
	if got := injectedBundle([]client.Object{nil, v}); !bytes.Equal(got, []byte("a")) {
		t.Errorf("%q", got)
	}
	if got := injectedBundle([]client.Object{m, v}); got != nil {
		t.Errorf("%q, though the mutating webhook has none", got)
	}
	m.Webhooks[0].ClientConfig.CABundle = []byte("a")
	if got := injectedBundle([]client.Object{m, v}); !bytes.Equal(got, []byte("a")) {
		t.Errorf("%q", got)
	}
	if got := injectedBundle(nil); got != nil {
		t.Errorf("%q of no webhooks", got)
	}
}
