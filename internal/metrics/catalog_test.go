// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestCatalog(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := NewCatalog(reg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"batchjob_catalog_valid": 1}, values(t, reg)); diff != "" {
		t.Errorf("at the start (-want +got):\n%s", diff)
	}
	m.Reloaded(nil)
	m.Reloaded(errors.New("line 3"))
	want := map[string]float64{"batchjob_catalog_reloads_total ok": 1, "batchjob_catalog_reloads_total error": 1}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("in error (-want +got):\n%s", diff)
	}
	m.Reloaded(nil)
	want = map[string]float64{"batchjob_catalog_valid": 1, "batchjob_catalog_reloads_total ok": 2, "batchjob_catalog_reloads_total error": 1}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("good again (-want +got):\n%s", diff)
	}
	var already prometheus.AlreadyRegisteredError
	if m, err := NewCatalog(reg); m != nil || !errors.As(err, &already) {
		t.Errorf("%v, %v", m, err)
	}
}
