// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// TestFaultsComputeEnv: two jobs share a small ComputeEnv while a tenth of all calls fails, watches are late and cut, and
// one manager after the other is killed. There are never more live Pods than nodes, and both jobs end.
func TestFaultsComputeEnv(t *testing.T) {
	t.Parallel()
	const size, instances = 4, 30
	d := newFaultEnv(t, controlplane.Get(t), 3)
	d.pool("pool", size)
	for i, name := range []string{"first", "second"} {
		d.create(testutil.Job(name).Task("a", testutil.Instances(instances), testutil.EnvID("pool")).Priority(int64(i)))
	}
	var proxied *proxy
	start := func(seed uint64) *running {
		p, cfg := newProxy(t, d.Config, seed)
		proxied = p
		m := d.manager(cfg, nil)
		p.change(func(p *proxy) { p.share, p.lag, p.cut = 0.1, 50*time.Millisecond, 2*time.Second })
		return m
	}
	ended := func() int64 {
		var sum int64
		d.have(func(job *v1alpha1.BatchJob) bool {
			sum += job.Status.TaskInstanceMetrics.SucceedCount + job.Status.TaskInstanceMetrics.FailedCount
			return true
		})
		return sum
	}
	kills := 0
	manager := start(1)
	for next := int64(8); next < 2*instances; next += 8 {
		d.within(3*time.Minute, fmt.Sprint(next, " instances have ended"), func() bool { return ended() >= next })
		proxied.change(func(p *proxy) { p.refuses = func(*http.Request) bool { return true } }) // none of its calls gets through
		manager.cancel()
		<-manager.ended
		kills++
		manager = start(uint64(kills + 1))
	}
	d.within(3*time.Minute, "both jobs have ended", d.allEnded)
	f := d.witness.Figures()
	t.Logf("%d Pods of two jobs on %d nodes, at most %d live at once; %d managers killed; %s", f.Pods, size, f.Peak, kills, proxied.report())
	if f.Peak > size || f.Peak < 2 {
		t.Errorf("%d Pods were live at once, on %d nodes", f.Peak, size)
	}
	d.wantNoOverlap()
}

// BenchmarkComputeEnvRelease measures the time from the end of an instance to the Pod of the next one, while 1,000 jobs
// wait for nodes: as many as the default quota of a namespace allows. They wait for 100 ComputeEnvs of one node, or all
// for the same one. BenchmarkSettle of internal/nodepool measures the ledger with 1,000 jobs for each of 100 ComputeEnvs.
// The nodes are simulated.
func BenchmarkComputeEnvRelease(b *testing.B) {
	for _, envs := range []int{100, 1} {
		b.Run(fmt.Sprint("envs=", envs), func(b *testing.B) { benchmarkRelease(b, envs, 1000) })
	}
}

func benchmarkRelease(b *testing.B, envs, jobs int) {
	e := newTestEnv(b)
	for i := range envs {
		e.pool(fmt.Sprint("pool-", i), 1)
	}
	for i := range jobs + envs {
		job := testutil.Job(fmt.Sprint("job-", i)).Task("a", testutil.EnvID(fmt.Sprint("pool-", i%envs))).New(e.ns)
		if err := e.Create(context.Background(), job); err != nil {
			b.Fatal(err)
		}
	}
	defer e.manage()()
	e.eventually("every node is in use, and the other jobs wait", func() bool {
		var list v1alpha1.BatchJobList
		waiting := 0
		if err := e.cache.List(context.Background(), &list, client.InNamespace(e.ns)); err != nil {
			b.Fatal(err)
		}
		for i := range list.Items {
			if len(list.Items[i].Status.Waiting) > 0 {
				waiting++
			}
		}
		return waiting == jobs && len(e.Pods(b, e.ns)) == envs
	})
	running := e.Pods(b, e.ns)
	seen := map[string]bool{}
	for _, pod := range running {
		seen[pod.Name] = true
	}
	next := func() *corev1.Pod { // from the cache, so that the measurement puts no load on the API server
		var list corev1.PodList
		if err := e.cache.List(context.Background(), &list, client.InNamespace(e.ns)); err != nil {
			b.Fatal(err)
		}
		for i := range list.Items {
			if pod := &list.Items[i]; !seen[pod.Name] {
				return pod
			}
		}
		return nil
	}
	var waits []time.Duration
	for i := 0; b.Loop() && i < jobs; i++ {
		e.Finish(b, &running[i], 0, time.Now())
		start := time.Now()
		e.eventually("the next job has the node", func() bool { return next() != nil })
		waits = append(waits, time.Since(start))
		running = append(running, *next())
		seen[running[len(running)-1].Name] = true
	}
	report(b, waits, e.roundTrip())
}

// roundTrip returns the median time from the creation of a Pod until the cache has it.
func (e *testEnv) roundTrip() time.Duration {
	e.t.Helper()
	var times []time.Duration
	for i := range 9 {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprint("reference-", i), Namespace: e.ns, Labels: map[string]string{v1alpha1.LabelTracked: "true"},
		}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		start := time.Now()
		if err := e.Create(context.Background(), pod); err != nil {
			e.t.Fatal(err)
		}
		e.eventually("the cache has the Pod", func() bool {
			return e.cache.Get(context.Background(), client.ObjectKeyFromObject(pod), &corev1.Pod{}) == nil
		})
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// report reports the median and the longest of some times, and compares the median with a round trip. Between the end of
// one instance and the Pod of the next are four writes and what the watches take.
func report(b *testing.B, times []time.Duration, roundTrip time.Duration) {
	b.Helper()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Milliseconds()), "ms-median")
	b.ReportMetric(float64(times[len(times)-1].Milliseconds()), "ms-longest")
	b.ReportMetric(float64(times[len(times)/2])/float64(roundTrip), "round-trips")
	if median := times[len(times)/2]; median > 20*roundTrip {
		b.Errorf("the median is %s, and a round trip takes %s", median, roundTrip)
	}
}
