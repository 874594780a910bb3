// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ok is the code of an answer that is no error, in the log and in metrics.
const ok = "OK"

// The limits that a request can exceed, as values of a label.
const (
	rate     = "rate"
	inFlight = "in_flight"
	address  = "address"
)

// metrics count the requests.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	throttled *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_gateway_requests_total",
			Help: "Requests of the API, by action and by the code that they were answered with.",
		}, []string{"action", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "batchjob_gateway_request_duration_seconds",
			Help:    "How long requests of the API took, from the end of the header to the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"action"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_gateway_throttled_total",
			Help: "Requests of the API that were refused, by the limit that they exceeded.",
		}, []string{"limit"}),
	}
	if err := errors.Join(reg.Register(m.requests), reg.Register(m.durations), reg.Register(m.throttled)); err != nil {
		return nil, fmt.Errorf("registering the metrics of the gateway: %w", err)
	}
	for _, limit := range []string{rate, inFlight, address} {
		m.throttled.WithLabelValues(limit)
	}
	return m, nil
}

// answered counts a request. action is one of the table, or other.
func (m *metrics) answered(action, code string, took time.Duration) {
	m.requests.WithLabelValues(action, code).Inc()
	m.durations.WithLabelValues(action).Observe(took.Seconds())
}

// throttle counts a request that exceeded a limit.
func (m *metrics) throttle(limit string) { m.throttled.WithLabelValues(limit).Inc() }
