// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"k8s.io/client-go/rest"
)

// TestOneLimit: --kube-api-qps bounds all requests together, and not those for each kind of
// object, as clients do that were made without a limiter.
func TestOneLimit(t *testing.T) {
	o, err := parseOptions([]string{"--kube-api-qps=7"})
	if err != nil {
		t.Fatal(err)
	}
	all, lease := limited(&rest.Config{Host: "https://127.0.0.1:1"}, o)
	if all.RateLimiter == nil || all.RateLimiter.QPS() != 7 {
		t.Errorf("limiter %v, want one of 7 requests a second", all.RateLimiter)
	}
	if lease.RateLimiter != nil || lease.QPS != 7 || lease.Host != all.Host {
		t.Errorf("the lease waits for others, or has no limit: %v", lease)
	}
}
