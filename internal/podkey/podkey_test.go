// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package podkey

import (
	"context"
	"errors"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const namespace = "system"

func keeper(c client.Client) *Keeper { return &Keeper{Namespace: namespace, Reader: c, Writer: c} }

func idOf(t *testing.T, k *Keeper) string {
	t.Helper()
	key, err := k.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return key.ID()
}

// TestKeyIsStored: processes that start at once, and later ones, have the same key.
func TestKeyIsStored(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i] = idOf(t, keeper(c)) })
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("the keys are %q", ids)
		}
	}
	if again := idOf(t, keeper(c)); again != ids[0] {
		t.Errorf("the next process has key %q, want %q", again, ids[0])
	}
}

// TestKeyOfProcess: a process keeps its key when the Secret is deleted or invalid, and the next
// process creates another.
func TestKeyOfProcess(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	k := keeper(c)
	id := idOf(t, k)
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: SecretName}, secret); err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{dataKey: []byte("short")}
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if idOf(t, k) != id {
		t.Error("the process has another key")
	}
	if next := idOf(t, keeper(c)); next == id || next != idOf(t, keeper(c)) {
		t.Errorf("the next process has key %q", next)
	}
}

// TestKeyUnreadable: an error is told and not remembered.
func TestKeyUnreadable(t *testing.T) {
	failing := true
	c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if failing {
				return errors.New("away")
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	k := keeper(c)
	if _, err := k.Key(t.Context()); err == nil {
		t.Fatal("there is no error")
	}
	failing = false
	idOf(t, k)
}
