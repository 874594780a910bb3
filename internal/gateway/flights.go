// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import "sync"

// flights counts the requests of each namespace that are being answered.
type flights struct {
	limit int

	mu    sync.Mutex
	count map[string]int
}

func newFlights(limit int) *flights { return &flights{limit: limit, count: map[string]int{}} }

// start reports whether one more may be answered. If so, end must be called.
func (f *flights) start(namespace string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[namespace] >= f.limit {
		return false
	}
	f.count[namespace]++
	return true
}

func (f *flights) end(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[namespace]--; f.count[namespace] == 0 {
		delete(f.count, namespace)
	}
}
