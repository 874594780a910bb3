// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"time"

	"k8s.io/client-go/util/workqueue"
)

// unfinishedInterval is how often the times of requests that are not done are reported.
const unfinishedInterval = 500 * time.Millisecond

// metrics are those of client-go's queues. nil counts nothing. They are used under the queue's lock.
type metrics struct {
	depth                     workqueue.GaugeMetric
	adds, retries             workqueue.CounterMetric
	latency, work             workqueue.HistogramMetric
	unfinishedWork, longestOf workqueue.SettableGaugeMetric
}

func newMetrics(p workqueue.MetricsProvider, name string) *metrics {
	if p == nil {
		return nil
	}
	return &metrics{
		depth: p.NewDepthMetric(name), adds: p.NewAddsMetric(name), retries: p.NewRetriesMetric(name),
		latency: p.NewLatencyMetric(name), work: p.NewWorkDurationMetric(name),
		unfinishedWork: p.NewUnfinishedWorkSecondsMetric(name), longestOf: p.NewLongestRunningProcessorSecondsMetric(name),
	}
}

// delayed counts an addition after some time.
func (m *metrics) delayed() {
	if m != nil {
		m.retries.Inc()
	}
}

// added counts a request that became ready.
func (m *metrics) added() {
	if m != nil {
		m.adds.Inc()
		m.depth.Inc()
	}
}

// handedOut counts a request that was ready for so long.
func (m *metrics) handedOut(after time.Duration) {
	if m != nil {
		m.depth.Dec()
		m.latency.Observe(after.Seconds())
	}
}

// done counts a request whose processing took so long.
func (m *metrics) done(took time.Duration) {
	if m != nil {
		m.work.Observe(took.Seconds())
	}
}

// unfinished tells for how long requests have been processed that are not done.
func (m *metrics) unfinished(sum, longest time.Duration) {
	if m != nil {
		m.unfinishedWork.Set(sum.Seconds())
		m.longestOf.Set(longest.Seconds())
	}
}
