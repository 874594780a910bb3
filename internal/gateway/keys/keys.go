// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keys has the API keys of the gateway, which are Secrets: see package apikey.
//
// If two Secrets have one secretId, the older one is the key: nobody can take over a secretId by creating another
// Secret with it, in whichever namespace. The Secret that is not used is reported in the log and in the metric.
package keys

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/gateway"
	"batchcompute.dev/operator/internal/gateway/apikey"
)

// Key is an API key and the Secret that it is from.
type Key struct {
	apikey.Key
	name    string // of the Secret
	created time.Time
	uid     types.UID
}

// parse reads a Secret. The error says what is wrong with it and repeats nothing of it.
func parse(s *corev1.Secret) (*Key, error) {
	k, err := apikey.Parse(s)
	if err != nil {
		return nil, err
	}
	return &Key{Key: *k, name: s.Name, created: s.CreationTimestamp.Time, uid: s.UID}, nil
}

// maxKeys is how many keys a namespace has at most; the oldest count. A tenant could else fill the memory of the
// gateway.
const maxKeys = 200

// isOlder reports whether a Secret was created before another; one of them is older if they are different.
func (k *Key) isOlder(other *Key) bool {
	return cmp.Or(k.created.Compare(other.created), cmp.Compare(k.uid, other.uid)) < 0
}

// Store has the keys of all namespaces, as an informer shows them: a change holds as soon as it arrives.
type Store struct {
	logger     logr.Logger
	now        func() time.Time
	registered toolscache.ResourceEventHandlerRegistration

	mu sync.RWMutex
	// bySecret has the keys of all Secrets that can be parsed, byID those with one secretId, the oldest first.
	bySecret map[types.NamespacedName]*Key
	byID     map[string][]*Key
	invalid  map[types.NamespacedName]bool
	perSpace map[string][]*Key // of a namespace, the oldest first
}

// CacheOptions returns the options of the cache that NewStore needs: only Secrets with the label of keys, without
// what is not read.
func CacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{&corev1.Secret{}: {
		Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelAPIKey: "true"}), Transform: strip,
	}}
}

// strip keeps of a Secret what a key is made of.
func strip(o any) (any, error) {
	s, ok := o.(*corev1.Secret)
	if !ok {
		return o, nil
	}
	out := &corev1.Secret{Data: map[string][]byte{}}
	out.Namespace, out.Name, out.UID, out.ResourceVersion, out.CreationTimestamp = s.Namespace, s.Name, s.UID, s.ResourceVersion, s.CreationTimestamp
	if account, ok := s.Annotations[v1alpha1.AnnotationServiceAccount]; ok {
		out.Annotations = map[string]string{v1alpha1.AnnotationServiceAccount: account}
	}
	for name, longest := range map[string]int{
		apikey.SecretID: apikey.MaxEntryLength, apikey.SecretKey: apikey.MaxEntryLength, apikey.Token: apikey.MaxTokenLength, apikey.Expiry: apikey.MaxEntryLength, apikey.Enabled: apikey.MaxEntryLength, apikey.ServiceAccount: apikey.MaxEntryLength,
	} {
		if value, ok := s.Data[name]; ok {
			out.Data[name] = bytes.Clone(value[:min(len(value), longest+1)]) // which is refused then
		}
	}
	return out, nil
}

// NewStore returns a store that follows the Secrets in a cache with CacheOptions. Its metric is registered in reg.
func NewStore(ctx context.Context, secrets cache.Cache, reg prometheus.Registerer, now func() time.Time) (*Store, error) {
	s := newStore(log.FromContext(ctx), now)
	if err := reg.Register(s); err != nil {
		return nil, fmt.Errorf("registering the metric of the API keys: %w", err)
	}
	informer, err := secrets.GetInformer(ctx, &corev1.Secret{})
	if err != nil {
		return nil, fmt.Errorf("watching the Secrets of API keys: %w", err)
	}
	s.registered, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.set(o) },
		UpdateFunc: func(_, o any) { s.set(o) },
		DeleteFunc: func(o any) { s.remove(o) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching the Secrets of API keys: %w", err)
	}
	return s, nil
}

func newStore(logger logr.Logger, now func() time.Time) *Store {
	return &Store{
		logger: logger, now: now,
		bySecret: map[types.NamespacedName]*Key{}, byID: map[string][]*Key{}, invalid: map[types.NamespacedName]bool{}, perSpace: map[string][]*Key{},
	}
}

// HasSynced reports whether all keys that there were at the start are known.
func (s *Store) HasSynced() bool { return s.registered.HasSynced() }

// Lookup implements gateway.Keys.
func (s *Store) Lookup(_ context.Context, secretID string) (gateway.Key, bool, error) {
	k, ok := s.find(secretID)
	if !ok || !k.IsUsable(s.now()) {
		return gateway.Key{}, false, nil
	}
	return gateway.Key{
		SecretKey: k.SecretKey, Token: k.Token, Tenant: gateway.Tenant{Namespace: k.Namespace, ServiceAccount: k.ServiceAccount},
	}, true, nil
}

// find returns the key with a secretId; false if there is none. It may have expired or be disabled.
func (s *Store) find(secretID string) (Key, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if k := s.active(secretID); k != nil {
		return *k, true
	}
	return Key{}, false
}

// active returns the oldest key with a secretId, unless its namespace has too many. The caller holds the lock.
func (s *Store) active(secretID string) *Key {
	list := s.byID[secretID]
	if len(list) == 0 || s.isExcess(list[0]) {
		return nil
	}
	return list[0]
}

// isExcess reports whether a namespace has maxKeys keys that are older. The caller holds the lock.
func (s *Store) isExcess(k *Key) bool {
	list := s.perSpace[k.Namespace]
	return len(list) > maxKeys && !k.isOlder(list[maxKeys])
}

// set adds or replaces the key of a Secret.
func (s *Store) set(o any) {
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return
	}
	name := client.ObjectKeyFromObject(secret)
	key, err := parse(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(name)
	switch {
	case err != nil:
		s.invalid[name] = true
		s.logger.Error(err, "Ignored the Secret of an API key", "secret", klog.KRef(name.Namespace, name.Name))
	default:
		s.bySecret[name] = key
		s.byID[key.SecretID] = insert(s.byID[key.SecretID], key)
		s.perSpace[key.Namespace] = insert(s.perSpace[key.Namespace], key)
		s.report(key)
	}
}

// report logs which Secret is not used beside another. The caller holds the lock.
func (s *Store) report(key *Key) {
	if s.isExcess(key) {
		s.logger.Info("Ignored an API key: its namespace has too many", "secret", klog.KRef(key.Namespace, key.name), "limit", maxKeys)
	}
	if list := s.byID[key.SecretID]; len(list) > 1 {
		used, unused := list[0], key
		if unused == used {
			unused = list[1]
		}
		s.logger.Info("Ignored an API key: an older Secret has its secretId",
			"secret", klog.KRef(unused.Namespace, unused.name), "used", klog.KRef(used.Namespace, used.name))
	}
}

// remove removes the key of a Secret that was deleted.
func (s *Store) remove(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(client.ObjectKeyFromObject(secret))
}

// forget removes what is known of a Secret. The caller holds the lock.
func (s *Store) forget(name types.NamespacedName) {
	delete(s.invalid, name)
	key := s.bySecret[name]
	if key == nil {
		return
	}
	delete(s.bySecret, name)
	drop(s.byID, key.SecretID, key)
	drop(s.perSpace, key.Namespace, key)
}

// keyCount is the metric.
var keyCount = prometheus.NewDesc("batchjob_gateway_api_keys", "Secrets with the label of API keys, by what they are: "+
	"active, duplicate (an older one has the secretId), excess (its namespace has too many), invalid.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (s *Store) Describe(out chan<- *prometheus.Desc) { out <- keyCount }

// Collect implements prometheus.Collector. Cost: O(keys).
func (s *Store) Collect(out chan<- prometheus.Metric) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	active, excess := 0, 0
	for id := range s.byID {
		if s.active(id) != nil {
			active++
		}
	}
	for _, list := range s.perSpace {
		excess += max(0, len(list)-maxKeys)
	}
	for state, n := range map[string]int{
		"active": active, "excess": excess, "duplicate": max(0, len(s.bySecret)-active-excess), "invalid": len(s.invalid),
	} {
		out <- prometheus.MustNewConstMetric(keyCount, prometheus.GaugeValue, float64(n), state)
	}
}

// insert adds a key to a list that is sorted by age.
func insert(list []*Key, key *Key) []*Key {
	at, _ := slices.BinarySearchFunc(list, key, func(a, b *Key) int {
		if a.isOlder(b) {
			return -1
		}
		return 1
	})
	return slices.Insert(list, at, key)
}

// drop removes a key from a list.
func drop(lists map[string][]*Key, name string, key *Key) {
	list := slices.DeleteFunc(lists[name], func(k *Key) bool { return k == key })
	if lists[name] = list; len(list) == 0 {
		delete(lists, name)
	}
}
