// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testingclock "k8s.io/utils/clock/testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// dependenceLatencies returns how many dependence latencies were observed, and their sum.
func dependenceLatencies(t *testing.T, reg *prometheus.Registry) (uint64, time.Duration) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "batchjob_dependence_latency_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), time.Duration(h.GetSampleSum() * float64(time.Second)).Round(time.Millisecond)
		}
	}
	t.Fatal("no such metric")
	return 0, 0
}

// TestDependenceLatency measures from the end of the last predecessor to the first Pod: with the delay of the watch,
// which the first event of a Pod ends, and with what follows.
func TestDependenceLatency(t *testing.T) {
	second := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return second.Add(time.Duration(s * float64(time.Second))) }
	for name, tc := range map[string]struct {
		ends    []float64 // of the Pods of a and b, in the whole seconds that Pods have; -1 for a Pod that runs
		event   float64   // the first that no pass has recorded
		created float64   // the first Pod of c
		run     int64     // of the stored status
		want    time.Duration
		count   uint64
	}{
		"no delay":                              {[]float64{1, 5}, 5.75, 5.8, 0, 50 * time.Millisecond, 1},
		"the watch is late":                     {[]float64{1, 5}, 15, 15.5, 0, 9500 * time.Millisecond, 1},
		"the event of another Pod came earlier": {[]float64{1, 5}, 2, 5.5, 0, 500 * time.Millisecond, 1},
		"it waits for a quota":                  {[]float64{5, 1}, 5.5, 65.5, 0, time.Minute, 1},
		"the clock of a node is ahead":          {[]float64{1, 9}, 5.5, 5.75, 0, 0, 1},
		"the Pods are gone":                     {[]float64{-1, -1}, 5.5, 6, 0, 0, 0},
		"the job was resumed":                   {[]float64{1, 5}, 5.5, 6, 1, 500 * time.Millisecond, 1},
	} {
		t.Run(name, func(t *testing.T) {
			job := testutil.Job("j").Task("a").Task("b").Task("c", testutil.Instances(2)).Edges("a->c b->c").Obj()
			job.Status.TaskMetrics = v1alpha1.StateMetrics{PendingCount: 1, RunningCount: 2}
			job.Status.Tasks = []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning}, {Name: "b", State: v1alpha1.TaskRunning}}
			spec, err := resolve.Resolve(job)
			if err != nil {
				t.Fatal(err)
			}
			reg := prometheus.NewRegistry()
			m, err := metrics.NewJobs(reg)
			if err != nil {
				t.Fatal(err)
			}
			now := testingclock.NewFakePassiveClock(at(tc.event))
			r := &jobMetrics{Jobs: m, clock: now}
			obs := &observation{
				Observation: plan.Observation{Job: job, Spec: spec}, firstEvent: at(tc.event),
				state: &jobState{ready: map[int]time.Time{0: second}}, // of an earlier run, if it is another
			}
			for i, end := range tc.ends {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelTaskName: naming.TaskLabel(spec.Tasks[i].Name)}}}
				if end >= 0 {
					pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.ContainerName, State: corev1.ContainerState{
						Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(at(end))},
					}}}
				}
				obs.Pods = append(obs.Pods, pod)
			}
			next := job.Status.DeepCopy()
			next.Run = tc.run
			next.TaskMetrics = v1alpha1.StateMetrics{RunnableCount: 1, SucceedCount: 2}
			next.Tasks = append(next.Tasks, v1alpha1.TaskStatus{Name: "c", State: v1alpha1.TaskRunnable})
			r.noteReady(obs, next)
			now.SetTime(at(tc.created))
			if tc.run > 0 {
				r.observeDependence(obs.state, 0) // forgotten
			}
			for range 2 { // the second Pod is not observed
				r.observeDependence(obs.state, 2)
			}
			if count, sum := dependenceLatencies(t, reg); count != tc.count || sum != tc.want {
				t.Errorf("observed %d, %s in all, want %d, %s", count, sum, tc.count, tc.want)
			}
		})
	}
}

// TestDependenceLatencyOfJob: a job has one for each task with predecessors, whatever the number of its instances.
func TestDependenceLatencyOfJob(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := metrics.NewJobs(reg)
	if err != nil {
		t.Fatal(err)
	}
	job := testutil.Job("sim").Task("a", testutil.Instances(2)).Task("b").Task("c", testutil.Instances(3)).Task("d").Edges("a->c b->c c->d").Obj()
	s := newSimulation(simSetup{jobs: []*v1alpha1.BatchJob{job}})
	s.choose = func(int) int { return 0 }
	s.controllers[0].r.metrics.Jobs = m
	if err := s.play(30); err != nil {
		t.Fatal(err)
	}
	if count, _ := dependenceLatencies(t, reg); count != 2 {
		t.Errorf("observed %d, want 2", count)
	}
	if n := len(s.controllers[0].r.states.byName); n != 0 {
		t.Errorf("%d jobs are remembered", n)
	}
}
