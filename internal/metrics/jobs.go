// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
)

// Jobs counts what happens to BatchJobs. Its methods may be called from several
// goroutines. A nil *Jobs is valid and counts nothing.
//
// The gauges are sums over the jobs that were observed and not forgotten. They are kept up
// to date with each observation: nothing is listed when they are read.
type Jobs struct {
	mu   sync.Mutex
	seen map[types.NamespacedName]Snapshot
	sum  Snapshot

	instances         *prometheus.GaugeVec
	held, unmade      prometheus.Gauge
	writes, retries   *prometheus.CounterVec
	ended, endedParts *prometheus.CounterVec
	statusBytes       prometheus.Histogram
	dependence        prometheus.Histogram
}

// Snapshot is what one job adds to the gauges.
type Snapshot struct {
	// Instances counts the job's task instances by state.
	Instances v1alpha1.StateMetrics
	// Held are its Pods that have finished and still carry the tracking finalizer, other
	// than those of instances that are FAILED_INTERRUPTED. Unmade are its instances that
	// have been claimed and have no Pod.
	Held, Unmade int
}

// NewJobs registers the metrics with reg. The error says which could not be.
func NewJobs(reg prometheus.Registerer) (*Jobs, error) {
	m := &Jobs{
		seen: map[types.NamespacedName]Snapshot{},
		instances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "batchjob_task_instances",
			Help: "Task instances of the BatchJobs that have not ended, by state.",
		}, []string{"state"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "batchjob_finished_pods_held",
			Help: "Finished Pods that still have the operator's finalizer: their outcome is not stored yet, or the finalizer is not removed yet.",
		}),
		unmade: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "batchjob_claims_without_pod",
			Help: "Task instances that the status claims as issued and that have no Pod.",
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_api_writes_total",
			Help: "Writes to the API server, by verb, resource and result.",
		}, []string{"verb", "resource", "result"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_task_instance_retries_total",
			Help: "Attempts of task instances that failed and are run again, by the budget spent and the reason.",
		}, []string{"budget", "reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_jobs_ended_total",
			Help: "BatchJobs that came to an end, by final state; one that is retried comes to several.",
		}, []string{"state"}),
		endedParts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "batchjob_task_instances_ended_total",
			Help: "Task instances that came to an end, by final state.",
		}, []string{"state"}),
		statusBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "batchjob_status_size_bytes",
			Help:    "Size of the statuses written, as JSON.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 2, 11), // 1 KiB to 1 MiB
		}),
		dependence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "batchjob_dependence_latency_seconds",
			Help:    "Time from the end of a task's last predecessor to the creation of the task's first Pod, the delay of the watch and all waits included.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.instances, m.held, m.unmade, m.writes, m.retries, m.ended, m.endedParts, m.statusBytes, m.dependence,
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	m.begin()
	return m, nil
}

// begin makes the series that rates and alerts are made of, so that their first increase
// is one from 0.
func (m *Jobs) begin() {
	for i := range instanceStates {
		m.instances.WithLabelValues(instanceStates[i].name)
	}
	for _, state := range endStates {
		m.ended.WithLabelValues(state)
		m.endedParts.WithLabelValues(state)
	}
	for _, result := range results {
		m.writes.WithLabelValues("patch", "batchjobs/status", result)
	}
}

// Observe replaces what the job adds to the gauges.
func (m *Jobs) Observe(key types.NamespacedName, s Snapshot) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.seen[key]
	m.seen[key] = s
	m.move(old, s)
}

// Forget takes away what the job adds to the gauges.
func (m *Jobs) Forget(key types.NamespacedName) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.seen[key]
	delete(m.seen, key)
	m.move(old, Snapshot{})
}

// move replaces old by next in the sums and shows them. m.mu is held.
func (m *Jobs) move(old, next Snapshot) {
	for i := range instanceStates {
		of := instanceStates[i].of
		sum := of(&m.sum.Instances)
		*sum += *of(&next.Instances) - *of(&old.Instances)
		m.instances.WithLabelValues(instanceStates[i].name).Set(float64(*sum))
	}
	m.sum.Held += next.Held - old.Held
	m.held.Set(float64(m.sum.Held))
	m.sum.Unmade += next.Unmade - old.Unmade
	m.unmade.Set(float64(m.sum.Unmade))
}

// Wrote counts a write: its verb, its resource, with the subresource as in
// "batchjobs/status", and what came of it.
func (m *Jobs) Wrote(verb, resource string, err error) {
	if m == nil {
		return
	}
	m.writes.WithLabelValues(among(verbs, verb), among(resources, resource), resultOf(err)).Inc()
}

// StatusBytes notes the size of a status that was written.
func (m *Jobs) StatusBytes(n int) {
	if m == nil {
		return
	}
	m.statusBytes.Observe(float64(n))
}

// DependenceLatency observes the time from the end of a task's last predecessor to the creation of the
// task's first Pod. A negative time, of clocks that differ, counts as 0.
func (m *Jobs) DependenceLatency(d time.Duration) {
	if m == nil {
		return
	}
	m.dependence.Observe(max(d, 0).Seconds())
}

// Retried counts n attempts that failed for a reason of the API and are run again; budget
// is BudgetCommand or BudgetMachine.
func (m *Jobs) Retried(budget, reason string, n int) {
	if m == nil || n <= 0 {
		return
	}
	m.retries.WithLabelValues(among(budgets, budget), among(retryReasons, reason)).Add(float64(n))
}

// Ended counts jobs and task instances that came to an end, by their final state.
func (m *Jobs) Ended(state string, jobs, instances int) {
	if m == nil {
		return
	}
	state = among(endStates, state)
	m.ended.WithLabelValues(state).Add(float64(max(jobs, 0)))
	m.endedParts.WithLabelValues(state).Add(float64(max(instances, 0)))
}
