// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podkey keeps the key with which the operator proves that a Pod is its own: in a
// Secret of the manager's namespace, where no tenant can read it.
package podkey

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/internal/proof"
)

// The key is read by each process once. It is made where there is none; a name cannot
// restrict create. update puts a key into a Secret that has lost it.
//
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=system,resources=secrets,resourceNames=batchcompute-pod-key,verbs=get;update

// SecretName is the name of the Secret, and dataKey of its entry.
const (
	SecretName = "batchcompute-pod-key"
	dataKey    = "key"
)

// Keeper returns the key of this process.
type Keeper struct {
	// Namespace is that of the Secret, the manager's own.
	Namespace string
	// Reader reads the Secret from the API server; a cache would need to watch it.
	Reader client.Reader
	// Writer makes the Secret.
	Writer client.Writer

	mu  sync.Mutex
	key *proof.Key
}

// Key returns the key. Its first call that succeeds reads it, or makes one: of several processes
// that do so at once all get the same. Later calls are cheap, whatever becomes of the Secret.
func (k *Keeper) Key(ctx context.Context) (*proof.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	key, err := k.ensure(ctx)
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		key, err = k.ensure(ctx) // another process was first
	}
	if err != nil {
		return nil, err
	}
	k.key = key
	return key, nil
}

func (k *Keeper) ensure(ctx context.Context) (*proof.Key, error) {
	secret := &corev1.Secret{}
	err := k.Reader.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: SecretName}, secret)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading secret %s/%s: %w", k.Namespace, SecretName, err)
	}
	exists := err == nil
	if exists {
		if key, err := proof.New(secret.Data[dataKey]); err == nil {
			return key, nil
		}
	}
	text := make([]byte, proof.MinKeyLength)
	_, _ = rand.Read(text) // never fails
	key, err := proof.New(text)
	if err != nil {
		return nil, err
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[dataKey] = text
	if exists {
		err = k.Writer.Update(ctx, secret)
	} else {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: k.Namespace, Name: SecretName}
		err = k.Writer.Create(ctx, secret)
	}
	if err != nil {
		return nil, fmt.Errorf("storing secret %s/%s: %w", k.Namespace, SecretName, err)
	}
	klog.FromContext(ctx).Info("Made the key that proves which Pods are the operator's", "secret", klog.KRef(k.Namespace, SecretName), "keyID", key.ID())
	return key, nil
}
