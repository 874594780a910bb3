// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"k8s.io/client-go/rest"
)

// TestLeaseIdentity: a container that is started again in the same Pod is the same
// holder; whoever runs in no Pod has no name to be known by.
func TestLeaseIdentity(t *testing.T) {
	for pod, want := range map[string]string{"": "", "manager-0": "manager-0"} {
		t.Setenv("POD_NAME", pod)
		lock, err := leaseLock(&rest.Config{}, "batchcompute-system")
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if lock != nil {
			got = lock.Identity()
		}
		if got != want {
			t.Errorf("in Pod %q the identity is %q, want %q", pod, got, want)
		}
	}
}
