// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Bounds of the checks of reservations.
const (
	// storeTime is longer than the API server takes to store an object after it was admitted here,
	// including other webhooks, whose default timeout is 10 s. A reservation that is older ends if
	// the API server does not have its object. An object that another webhook delays for longer is
	// not counted until the informer shows it.
	storeTime = 10 * time.Second
	// checkInterval is the minimum time between two checks in one namespace, checkCount how many
	// objects each reads, checkTimeout how long it may take, and maxChecks how many are in flight
	// in all namespaces.
	checkInterval = time.Second
	checkCount    = 20
	checkTimeout  = 2500 * time.Millisecond
	maxChecks     = 4
)

// check starts a check of the reservations that are old enough, if there are any and the last
// check was long enough ago. It returns how long to wait for the next change at most. The caller holds the lock.
func (q *quota) check(namespace string, acc *account, now time.Time) time.Duration {
	if q.live == nil || acc.checking {
		return turnTimeout
	}
	if left := acc.nextCheck.Sub(now); left > 0 {
		return left
	}
	next, due := turnTimeout, map[string]reservation{}
	for name, r := range acc.reserved {
		since := r.at
		if r.checked.After(since) {
			since = r.checked
		}
		if left := storeTime - now.Sub(since); left > 0 {
			next = min(next, left)
		} else if len(due) < checkCount {
			due[name] = r
		}
	}
	if len(due) > 0 {
		acc.checking = true
		go q.lookUp(namespace, acc, due)
	}
	return next
}

// lookUp reads objects from the API server, and ends the reservations of those that do not
// exist. It reads them one by one: a list would return the metadata of all objects of the
// namespace, up to 1 MiB each.
func (q *quota) lookUp(namespace string, acc *account, due map[string]reservation) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	found := make(map[string]bool, len(due))
	err := q.checks.enter(ctx)
	if err == nil {
		for name := range due {
			if found[name], err = q.live.exists(ctx, namespace, name); err != nil {
				delete(found, name)
				break
			}
		}
		q.checks.leave()
	}
	if err != nil {
		log.Log.Error(err, "Could not look up admitted objects in the API server", "namespace", klog.KRef("", namespace))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for name, exists := range found {
		r, ok := acc.reserved[name]
		switch {
		case !ok || r.at != due[name].at: // the informer showed it, or it was admitted again
		case exists:
			r.checked = now
			acc.reserved[name] = r
		default:
			acc.drop(name)
		}
	}
	acc.checking, acc.nextCheck = false, now.Add(checkInterval)
	acc.wake()
}

// liveObjects are the objects of a kind in the API server.
type liveObjects struct {
	reader client.Reader
	kind   schema.GroupVersionKind
}

// exists reads the metadata of an object.
func (l liveObjects) exists(ctx context.Context, namespace, name string) (bool, error) {
	obj := &metav1.PartialObjectMetadata{}
	obj.SetGroupVersionKind(l.kind)
	err := l.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("reading the metadata of %s %s: %w", l.kind.Kind, name, err)
	}
	return !apierrors.IsNotFound(err), nil
}

// gate is a semaphore.
type gate chan struct{}

// enter waits for capacity; it returns an error if ctx ends first. After a success the caller must
// call leave.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many concurrent reads: %w", ctx.Err())
	}
}

func (g gate) leave() { <-g }
