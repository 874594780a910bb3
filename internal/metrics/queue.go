// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// queueMetrics make the metrics of a controller's queue: those that controller-runtime has for its
// own queues, so that dashboards need not know whose the queue is. It exports no other way to them
// than the registry.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, work              *prometheus.HistogramVec
}

// NewQueueMetrics returns the provider of metrics for a queue that is not one of
// controller-runtime's. reg is controller-runtime's registry. The error says that it has a metric of
// that name which is another; names, labels and help must be those of controller-runtime.
func NewQueueMetrics(reg prometheus.Registerer) (workqueue.MetricsProvider, error) {
	labels := []string{"name", "controller"}
	gauge := func(key, help string, more ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: ctrlmetrics.WorkQueueSubsystem, Name: key, Help: help}, append(labels, more...))
	}
	counter := func(key, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: ctrlmetrics.WorkQueueSubsystem, Name: key, Help: help}, labels)
	}
	histogram := func(key, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: ctrlmetrics.WorkQueueSubsystem, Name: key, Help: help,
			Buckets: prometheus.ExponentialBuckets(10e-9, 10, 12), NativeHistogramBucketFactor: 1.1,
			NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, labels)
	}
	var errs []error
	m := &queueMetrics{
		depth: registered(reg, &errs, gauge(ctrlmetrics.DepthKey, "Current depth of workqueue by workqueue and priority", "priority")),
		unfinished: registered(reg, &errs, gauge(ctrlmetrics.UnfinishedWorkKey, "How many seconds of work has been done that "+
			"is in progress and hasn't been observed by work_duration. Large "+
			"values indicate stuck threads. One can deduce the number of stuck "+
			"threads by observing the rate at which this increases.")),
		longest: registered(reg, &errs, gauge(ctrlmetrics.LongestRunningProcessorKey, "How many seconds has the longest running "+
			"processor for workqueue been running.")),
		adds: registered(reg, &errs, counter(ctrlmetrics.AddsKey, "Total number of adds handled by workqueue")),
		retries: registered(reg, &errs, counter(ctrlmetrics.RetriesKey,
			"Total number of items added to the workqueue with a non-zero delay (rate-limited requeues, explicit RequeueAfter or AddAfter calls)")),
		latency: registered(reg, &errs, histogram(ctrlmetrics.QueueLatencyKey, "How long in seconds an item stays in workqueue before being requested")),
		work:    registered(reg, &errs, histogram(ctrlmetrics.WorkDurationKey, "How long in seconds processing an item from workqueue takes.")),
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("registering the metrics of queues: %w", err)
	}
	return m, nil
}

// registered returns the collector that the registry has in the place of c, or else c.
func registered[C prometheus.Collector](reg prometheus.Registerer, errs *[]error, c C) C {
	err := reg.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if existing, ok := there.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		*errs = append(*errs, err)
	}
	return c
}

// NewDepthMetric has no priority in its label: users choose theirs, so they are too many for one.
func (m *queueMetrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name, name, "")
}

// NewAddsMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name, name)
}

// NewLatencyMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name, name)
}

// NewWorkDurationMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.work.WithLabelValues(name, name)
}

// NewUnfinishedWorkSecondsMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name, name)
}

// NewLongestRunningProcessorSecondsMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name, name)
}

// NewRetriesMetric is workqueue.MetricsProvider's.
func (m *queueMetrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name, name)
}
