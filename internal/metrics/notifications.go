// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Notifications counts the events of notifications that are sent. Its methods may be called from several goroutines.
type Notifications struct {
	events   *prometheus.CounterVec
	failures *prometheus.CounterVec
	lag      prometheus.Histogram

	mu     sync.Mutex
	queues []func() (int, time.Duration)
}

// NewNotifications registers the metrics with reg.
func NewNotifications(reg prometheus.Registerer) (*Notifications, error) {
	m := &Notifications{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_notification_events_total",
			Help: "Events of notifications by result: sent, which the receiver has acknowledged, or dropped, which are not sent again.",
		}, []string{"result"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_notification_failures_total",
			Help: "Attempts to send events that failed, by reason: unavailable, or refused, where the receiver does not take an event.",
		}, []string{"reason"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "batchjob_notification_lag_seconds",
			Help:    "Time from what an event announces to its acknowledgement by the receiver.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 86400},
		}),
	}
	jobs := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "batchjob_notification_queue_jobs",
		Help: "BatchJobs and ComputeEnvs with events that no receiver has acknowledged.",
	}, func() float64 {
		objects, _ := m.queued()
		return float64(objects)
	})
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "batchjob_notification_oldest_seconds",
		Help: "Age of the oldest event that no receiver has acknowledged; 0 if there is none.",
	}, func() float64 {
		_, oldest := m.queued()
		return oldest.Seconds()
	})
	var errs []error
	for _, c := range []prometheus.Collector{m.events, m.failures, m.lag, jobs, age} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	for _, result := range []string{"sent", "dropped"} {
		m.events.WithLabelValues(result)
	}
	for _, reason := range []string{"unavailable", "refused"} {
		m.failures.WithLabelValues(reason)
	}
	return m, nil
}

// Follow has the gauges include what queue returns: how many objects of a kind have events to be sent, and the age of the
// oldest event.
func (m *Notifications) Follow(queue func() (objects int, oldest time.Duration)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues = append(m.queues, queue)
}

func (m *Notifications) queued() (objects int, oldest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, queue := range m.queues {
		n, age := queue()
		objects, oldest = objects+n, max(oldest, age)
	}
	return objects, oldest
}

// Sent counts an event that was acknowledged a time after it happened.
func (m *Notifications) Sent(lag time.Duration) {
	m.events.WithLabelValues("sent").Inc()
	m.lag.Observe(max(lag, 0).Seconds())
}

// Failed counts an attempt to send that failed; refused says that the receiver did not take an event.
func (m *Notifications) Failed(refused bool) {
	reason := "unavailable"
	if refused {
		reason = "refused"
	}
	m.failures.WithLabelValues(reason).Inc()
}

// Dropped counts events that are not sent again.
func (m *Notifications) Dropped(n int) { m.events.WithLabelValues("dropped").Add(float64(n)) }
