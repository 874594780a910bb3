// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tenant reads and writes the cluster as the identity of an API key: a service account of the key's namespace,
// by impersonation. So the cluster's RBAC, quotas and audit decide what a caller may do, and the gateway's own rights
// are not lent to anybody.
//
// What the gateway has in its own cache is read with its own rights. So before an answer is made of it, a
// SelfSubjectAccessReview asks, also as the identity, whether that identity may read it. The answer is cached
// for some seconds.
package tenant

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
)

// Identity is whom a request acts as.
type Identity struct{ Namespace, ServiceAccount string }

// user is the identity's name in the cluster.
func (i Identity) user() string {
	return "system:serviceaccount:" + i.Namespace + ":" + i.ServiceAccount
}

// Bounds of what is kept.
const (
	// clientCount and clientTTL bound the clients that are kept for the next request of the same identity.
	clientCount = 1024
	clientTTL   = 10 * time.Minute
	// yesTTL and noTTL are how long an answer of an access review is cached. A no is cached for a short time only:
	// somebody may be granting the permission at this moment.
	yesTTL, noTTL = 10 * time.Second, 2 * time.Second
	answerCount   = 8192
	// callTimeout bounds each call of the API server.
	callTimeout = 20 * time.Second
)

// Clients makes clients for identities.
type Clients struct {
	config  *rest.Config
	scheme  *runtime.Scheme
	mapper  meta.RESTMapper
	clients *utilcache.LRUExpireCache // Identity -> *Client
	answers *utilcache.LRUExpireCache // question -> bool
	mu      sync.Mutex                // while a client is made
}

// question is one that an access review answers.
type question struct {
	identity Identity
	verb     string
	resource schema.GroupResource
}

// NewClients returns clients for the cluster of config, whose identity may impersonate service accounts. scheme must
// know Kubernetes' kinds and ours. There is no client-side limit of requests: the gateway limits its callers.
func NewClients(config *rest.Config, scheme *runtime.Scheme) *Clients {
	own := rest.CopyConfig(config)
	own.QPS, own.Burst, own.RateLimiter = -1, -1, nil
	own.Timeout = callTimeout
	return &Clients{
		config: own, scheme: scheme, mapper: Mapper(),
		clients: utilcache.NewLRUExpireCache(clientCount), answers: utilcache.NewLRUExpireCache(answerCount),
	}
}

// Mapper returns what clients and caches ask for the resources of kinds. It knows those that the gateway reads and
// writes, so that the cluster need not be asked.
func Mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, gvk := range []schema.GroupVersionKind{
		v1alpha1.GroupVersion.WithKind("BatchJob"), v1alpha1.GroupVersion.WithKind("ComputeEnv"), v1alpha1.GroupVersion.WithKind("TaskTemplate"),
		corev1.SchemeGroupVersion.WithKind("Secret"), corev1.SchemeGroupVersion.WithKind("Pod"),
		authzv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"),
	} {
		scope := meta.RESTScopeNamespace
		if gvk.Group == authzv1.GroupName {
			scope = meta.RESTScopeRoot
		}
		m.Add(gvk, scope)
	}
	return m
}

// Client acts as one identity, in its namespace.
type Client struct {
	// Client reads and writes live. Its callers name the namespace.
	client.Client
	Identity
	core    corev1client.CoreV1Interface
	answers *utilcache.LRUExpireCache
}

// For returns the client of an identity.
func (c *Clients) For(id Identity) (*Client, error) {
	if known, ok := c.clients.Get(id); ok {
		return known.(*Client), nil //nolint:forcetypeassert // nothing else is put in
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.clients.Get(id); ok {
		return known.(*Client), nil //nolint:forcetypeassert // nothing else is put in
	}
	made, err := c.newClient(id)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", id.user(), err)
	}
	c.clients.Add(id, made, clientTTL)
	return made, nil
}

// newClient makes a client. All clients share their connections, since they have the same TLS configuration.
func (c *Clients) newClient(id Identity) (*Client, error) {
	config := rest.CopyConfig(c.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: id.user()}
	config.WarningHandlerWithContext = rest.NoWarnings{} // those of admission quote the request, and the API has no place for them
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	live, err := client.New(config, client.Options{Scheme: c.scheme, Mapper: c.mapper, HTTPClient: transport})
	if err != nil {
		return nil, err
	}
	core, err := newCore(config, transport)
	return &Client{Client: live, Identity: id, core: core, answers: c.answers}, err
}

func newCore(config *rest.Config, transport *http.Client) (corev1client.CoreV1Interface, error) {
	return corev1client.NewForConfigAndClient(config, transport)
}

// Check returns nil if the identity may do verb with a resource of its namespace, such as batchjobs or pods/log, else a
// Refusal.
func (c *Client) Check(ctx context.Context, verb string, resource schema.GroupResource) error {
	q := question{c.Identity, verb, resource}
	allowed, known := c.answers.Get(q)
	if !known {
		name, subresource, _ := strings.Cut(resource.Resource, "/")
		review := &authzv1.SelfSubjectAccessReview{Spec: authzv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authzv1.ResourceAttributes{
			Namespace: c.Namespace, Verb: verb, Group: resource.Group, Resource: name, Subresource: subresource,
		}}}
		if err := c.Create(ctx, review); err != nil {
			return fmt.Errorf("reviewing the access of %s: %w", c.user(), err)
		}
		yes := review.Status.Allowed && !review.Status.Denied
		ttl := noTTL
		if yes {
			ttl = yesTTL
		}
		c.answers.Add(q, yes, ttl)
		allowed = yes
	}
	if allowed != true {
		return refusal.New(errcode.UnauthorizedOperation, "service account %s of namespace %s may not %s %s", c.ServiceAccount, c.Namespace, verb, resource.String())
	}
	return nil
}

// Log returns the last limit bytes of the log of a container.
func (c *Client) Log(ctx context.Context, pod, container string, limit int) ([]byte, error) {
	for _, lines := range []int64{32, int64(limit)} { // limit lines are limit bytes at least
		tail, complete, err := c.tail(ctx, pod, container, lines, limit)
		if err != nil || complete {
			return tail, err
		}
	}
	return nil, nil // the second is complete
}

// tail reads the last lines of a log and keeps the last limit bytes. complete says that there are no more bytes that
// it should have kept.
func (c *Client) tail(ctx context.Context, pod, container string, lines int64, limit int) (tail []byte, complete bool, err error) {
	stream, err := c.core.Pods(c.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, TailLines: &lines}).Stream(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("reading the log of Pod %s: %w", pod, err)
	}
	defer func() { _ = stream.Close() }()
	end := &ending{limit: limit}
	if err := end.readFrom(stream); err != nil {
		return nil, false, fmt.Errorf("reading the log of Pod %s: %w", pod, err)
	}
	return end.bytes, end.total >= int64(limit) || end.lines < lines || lines >= int64(limit), nil
}
