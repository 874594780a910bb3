// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"k8s.io/client-go/rest"
)

// TestReadyNotBeforeTheCaches: an API server that answers is not enough, since the checks of the
// webhooks are added only after that.
func TestReadyNotBeforeTheCaches(t *testing.T) {
	a := newAPIServer(&rest.Config{Host: "h"})
	for _, err := range []error{nil, errors.New("gone"), nil} {
		a.set(err)
		if a.ready(nil) == nil {
			t.Errorf("ready before the caches have synced, with %v", err)
		}
	}
	must(t, a.Start(t.Context()))
	if err := a.ready(nil); err != nil {
		t.Errorf("not ready: %v", err)
	}
}
