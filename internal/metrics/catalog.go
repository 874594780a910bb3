// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Catalog counts what comes of the changes of the catalogue.
type Catalog struct {
	valid   prometheus.Gauge
	reloads *prometheus.CounterVec
}

// NewCatalog registers the metrics of a catalogue that is in order with reg. The error
// says which could not be.
func NewCatalog(reg prometheus.Registerer) (*Catalog, error) {
	m := &Catalog{
		valid: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "batchjob_catalog_valid",
			Help: "Whether the catalogue's file is in order: 1, or 0 while the last good content stays in use.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_catalog_reloads_total",
			Help: "Changes of the catalogue's file, by what came of them.",
		}, []string{"result"}),
	}
	if err := errors.Join(reg.Register(m.valid), reg.Register(m.reloads)); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	m.valid.Set(1)
	for _, result := range reloadResults {
		m.reloads.WithLabelValues(result)
	}
	return m, nil
}

// Reloaded notes a change of the file, and what is wrong with it.
func (m *Catalog) Reloaded(err error) {
	result, valid := "ok", 1.0
	if err != nil {
		result, valid = "error", 0
	}
	m.valid.Set(valid)
	m.reloads.WithLabelValues(result).Inc()
}
