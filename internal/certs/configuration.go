// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// The bundle and the token are put into our own webhook configurations, and put back when
// somebody takes them out, hence the watch.
//
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=batchcompute-mutating-webhook-configuration,verbs=get;list;watch;update
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations,resourceNames=batchcompute-validating-webhook-configuration,verbs=get;list;watch;update

// configurations are the webhook configurations to keep, with nothing but their names.
func (o Options) configurations() []client.Object {
	return []client.Object{
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: o.MutatingConfigurationName}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: o.ValidatingConfigurationName}},
	}
}

// readConfigurations reads what configurations returns, in its order; nil where there
// is none.
func (o Options) readConfigurations(ctx context.Context, reader client.Reader) ([]client.Object, error) {
	objs := o.configurations()
	for i, obj := range objs {
		err := reader.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		if apierrors.IsNotFound(err) {
			objs[i] = nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the webhook configuration: %w", err)
		}
	}
	return objs, nil
}

// hook is one webhook of a configuration. The pointer leads into the configuration.
type hook struct {
	name   string
	client *admissionv1.WebhookClientConfig
}

// hooksOf returns the webhooks of a configuration of either kind; none of nil.
func hooksOf(obj client.Object) []hook {
	var hooks []hook
	switch cfg := obj.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		for i := range cfg.Webhooks {
			hooks = append(hooks, hook{cfg.Webhooks[i].Name, &cfg.Webhooks[i].ClientConfig})
		}
	case *admissionv1.ValidatingWebhookConfiguration:
		for i := range cfg.Webhooks {
			hooks = append(hooks, hook{cfg.Webhooks[i].Name, &cfg.Webhooks[i].ClientConfig})
		}
	}
	return hooks
}

// injectedBundle is what all webhooks of all configurations trust, or nil.
func injectedBundle(cfgs []client.Object) []byte {
	var hooks []hook
	for _, cfg := range cfgs {
		hooks = append(hooks, hooksOf(cfg)...)
	}
	for i := range hooks {
		if !bytes.Equal(hooks[i].client.CABundle, hooks[0].client.CABundle) {
			return nil
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	return hooks[0].client.CABundle
}

// pathOf is the path that a client config has.
func pathOf(c *admissionv1.WebhookClientConfig) string {
	if c.URL != nil {
		if u, err := url.Parse(*c.URL); err == nil {
			return u.Path
		}
	} else if c.Service != nil && c.Service.Path != nil {
		return *c.Service.Path
	}
	return ""
}

// carriedToken is the token that the paths of all our webhooks of all configurations end in;
// "" if they do not agree.
func (o Options) carriedToken(cfgs []client.Object) string {
	carried, first := "", true
	for _, cfg := range cfgs {
		for _, h := range hooksOf(cfg) {
			base, ours := o.Paths[h.name]
			if !ours {
				continue
			}
			token, ok := strings.CutPrefix(pathOf(h.client), base+"/")
			if !ok || !first && token != carried {
				return ""
			}
			carried, first = token, false
		}
	}
	return carried
}

// ensureConfiguration points every webhook of configuration i at this manager, under a path
// with the token, and gives it the bundle. A wait above zero means: not now, there were too
// many writes.
func (k *Keeper) ensureConfiguration(ctx context.Context, i int, cfg client.Object, bundle []byte, token string) (wait time.Duration, err error) {
	next := cfg.DeepCopyObject().(client.Object)
	for _, h := range hooksOf(next) {
		k.point(h, bundle, token)
	}
	if equality.Semantic.DeepEqual(cfg, next) {
		return 0, nil
	}
	now := k.opts.now()
	if r := k.writes[i].ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait = r.DelayFrom(now)
		r.CancelAt(now)
		return wait, nil
	}
	if err := k.client.Update(ctx, next); err != nil {
		return 0, fmt.Errorf("writing the webhook configuration: %w", err)
	}
	log.FromContext(ctx).Info("Wrote the webhook configuration", "configuration", klog.KObj(cfg))
	return 0, nil
}

// point makes a webhook lead to this manager, with the token behind its path if it is one of
// ours. The path of another stays as it is.
func (k *Keeper) point(h hook, bundle []byte, token string) {
	c := h.client
	c.CABundle = bundle
	p, ours := k.opts.Paths[h.name]
	switch {
	case !ours:
		p = "/" + strings.TrimPrefix(pathOf(c), "/")
	case token != "":
		p += "/" + token
	}
	switch {
	case k.opts.URL != nil:
		u := k.opts.URL.JoinPath(p).String()
		c.URL, c.Service = &u, nil
	case c.URL != nil || c.Service == nil:
		c.URL, c.Service = nil, &admissionv1.ServiceReference{Namespace: k.opts.Namespace, Name: k.opts.ServiceName, Path: &p}
	case ours:
		c.Service.Path = &p
	}
}
