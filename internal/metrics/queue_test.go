// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	_ "sigs.k8s.io/controller-runtime/pkg/controller" // registers its metrics
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// TestQueueMetricsAreControllerRuntimes: what is counted is in the metrics that controller-runtime
// has registered, and no second time. A version of it that names or explains them otherwise fails here.
func TestQueueMetricsAreControllerRuntimes(t *testing.T) {
	m, err := NewQueueMetrics(ctrlmetrics.Registry)
	if err != nil {
		t.Fatal(err)
	}
	const name = "a-queue"
	m.NewDepthMetric(name).Inc()
	m.NewAddsMetric(name).Inc()
	m.NewRetriesMetric(name).Inc()
	m.NewLatencyMetric(name).Observe(1)
	m.NewWorkDurationMetric(name).Observe(1)
	m.NewUnfinishedWorkSecondsMetric(name).Set(1)
	m.NewLongestRunningProcessorSecondsMetric(name).Set(1)
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if l.GetName() == "name" && l.GetValue() == name {
					found[strings.TrimPrefix(f.GetName(), ctrlmetrics.WorkQueueSubsystem+"_")] = true
				}
			}
		}
	}
	for _, key := range []string{
		ctrlmetrics.DepthKey, ctrlmetrics.AddsKey, ctrlmetrics.RetriesKey, ctrlmetrics.QueueLatencyKey,
		ctrlmetrics.WorkDurationKey, ctrlmetrics.UnfinishedWorkKey, ctrlmetrics.LongestRunningProcessorKey,
	} {
		if !found[key] {
			t.Errorf("%s counts nothing for the queue", key)
		}
	}

	other := prometheus.NewRegistry()
	other.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Subsystem: ctrlmetrics.WorkQueueSubsystem, Name: ctrlmetrics.DepthKey, Help: "another"}))
	if _, err := NewQueueMetrics(other); err == nil {
		t.Error("a metric of that name that is another is no error")
	}
}
