// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// Envs shows the nodes of ComputeEnvs, as sums over all that were observed and not forgotten.
// Its methods may be called from several goroutines. A nil *Envs is valid and shows nothing.
type Envs struct {
	mu   sync.Mutex
	seen map[types.NamespacedName]EnvSnapshot
	sum  EnvSnapshot

	nodes   *prometheus.GaugeVec
	waiting prometheus.Gauge
}

// EnvSnapshot is what one ComputeEnv adds to the gauges.
type EnvSnapshot struct {
	// Free and InUse are its nodes by state. Excess are the instances beyond them, after it
	// was made smaller.
	Free, InUse, Excess int
	// Waiting are the jobs that wait for a node.
	Waiting int
}

// NewEnvs registers the metrics with reg. The error says which could not be.
func NewEnvs(reg prometheus.Registerer) (*Envs, error) {
	m := &Envs{
		seen: map[types.NamespacedName]EnvSnapshot{},
		nodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "batchjob_compute_env_nodes",
			Help: "Nodes of ComputeEnvs by state; excess are instances beyond the nodes of one that was made smaller.",
		}, []string{"state"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "batchjob_compute_env_waiting_jobs",
			Help: "BatchJobs that wait for a node of a ComputeEnv, once for each that they wait for.",
		}),
	}
	if err := errors.Join(reg.Register(m.nodes), reg.Register(m.waiting)); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	m.show()
	return m, nil
}

// Observe replaces what the ComputeEnv adds to the gauges.
func (m *Envs) Observe(key types.NamespacedName, s EnvSnapshot) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(m.seen[key], -1)
	m.add(s, 1)
	m.seen[key] = s
	m.show()
}

// Forget takes away what the ComputeEnv adds to the gauges.
func (m *Envs) Forget(key types.NamespacedName) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(m.seen[key], -1)
	delete(m.seen, key)
	m.show()
}

func (m *Envs) add(s EnvSnapshot, sign int) {
	m.sum.Free += sign * s.Free
	m.sum.InUse += sign * s.InUse
	m.sum.Excess += sign * s.Excess
	m.sum.Waiting += sign * s.Waiting
}

func (m *Envs) show() {
	m.nodes.WithLabelValues("free").Set(float64(m.sum.Free))
	m.nodes.WithLabelValues("in_use").Set(float64(m.sum.InUse))
	m.nodes.WithLabelValues("excess").Set(float64(m.sum.Excess))
	m.waiting.Set(float64(m.sum.Waiting))
}
