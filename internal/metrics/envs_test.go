// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestEnvs(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := NewEnvs(reg)
	if err != nil {
		t.Fatal(err)
	}
	// All states are there from the start, so that a query finds a 0 and not nothing.
	families, err := reg.Gather()
	if err != nil || len(families) != 2 || len(families[0].Metric) != 3 {
		t.Errorf("at the start: %v, %v", families, err)
	}
	want := map[string]float64{}
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, values(t, reg)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	m.Observe(key("a"), EnvSnapshot{Free: 1, InUse: 2, Waiting: 0})
	m.Observe(key("b"), EnvSnapshot{InUse: 3, Excess: 4, Waiting: 5})
	want = map[string]float64{
		"batchjob_compute_env_nodes free": 1, "batchjob_compute_env_nodes in_use": 5, "batchjob_compute_env_nodes excess": 4,
		"batchjob_compute_env_waiting_jobs": 5,
	}
	check("two")
	m.Observe(key("b"), EnvSnapshot{Free: 3})
	want = map[string]float64{"batchjob_compute_env_nodes free": 4, "batchjob_compute_env_nodes in_use": 2}
	check("one reports again")
	m.Forget(key("a"))
	m.Forget(key("never seen"))
	want = map[string]float64{"batchjob_compute_env_nodes free": 3}
	check("one is gone")
	m.Forget(key("b"))
	want = map[string]float64{}
	check("both are gone")

	var none *Envs
	none.Observe(key("a"), EnvSnapshot{Free: 1})
	none.Forget(key("a"))
	var already prometheus.AlreadyRegisteredError
	if m, err := NewEnvs(reg); m != nil || !errors.As(err, &already) {
		t.Errorf("%v, %v", m, err)
	}
}
