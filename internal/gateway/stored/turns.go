// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stored

import (
	"context"
	"errors"
	"sync"
)

// turns lets each namespace do maxAtOnce things at the same time. The zero value is ready.
type turns struct {
	mu sync.Mutex
	of map[string]*queue
}

// queue is one namespace's. It is kept while somebody uses it.
type queue struct {
	slots chan struct{} // an item for each that is in use
	users int
}

// start waits until the namespace may do one more thing, or until ctx ends. The function that it returns must be called
// at the end of that.
func (t *turns) start(ctx context.Context, namespace string) (done func(), err error) {
	t.mu.Lock()
	q := t.of[namespace]
	if q == nil {
		if t.of == nil {
			t.of = map[string]*queue{}
		}
		q = &queue{slots: make(chan struct{}, maxAtOnce)}
		t.of[namespace] = q
	}
	q.users++
	t.mu.Unlock()
	select {
	case q.slots <- struct{}{}:
		return func() {
			<-q.slots
			t.leave(namespace, q)
		}, nil
	case <-ctx.Done():
		t.leave(namespace, q)
		return nil, errors.New("other objects of the namespace took all of the time")
	}
}

func (t *turns) leave(namespace string, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(t.of, namespace)
	}
}
