//go:build e2e

// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/hack/internal/install"
)

// The median time from the end of the last Pod of a predecessor to the creation of its successor's is at
// most idleLatency on an idle cluster, and on one that is not at most so many times that from the creation
// of an object to its event. There are two writes and two events on the way, and other Pods are at work.
const (
	idleLatency = 100 * time.Millisecond
	roundTrips  = 25
)

// TestDependenceLatency runs a chain of tasks and measures, on one watch, the time from
// the event that says a Pod has ended to the one that says its successor is there.
func TestDependenceLatency(t *testing.T) {
	s := begin(t)
	const hops = 10
	var spec strings.Builder
	spec.WriteString("tasks:\n")
	for i := range hops + 1 {
		fmt.Fprintf(&spec, "- {taskName: t%d, application: {deliveryForm: LOCAL, command: 'true'}, computeEnv: {}}\n", i)
	}
	spec.WriteString("dependences:\n")
	for i := range hops {
		fmt.Fprintf(&spec, "- {startTask: t%d, endTask: t%d}\n", i, i+1)
	}
	w, err := kube.Watch(s.ctx, &corev1.PodList{}, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatalf("watching pods: %v", err)
	}
	defer w.Stop()
	s.apply(job("chain", spec.String()))

	created, ended := s.times(w, hops+1)
	var hop []time.Duration
	for i := range hops {
		hop = append(hop, created[fmt.Sprintf("t%d", i+1)].Sub(ended[fmt.Sprintf("t%d", i)]))
	}
	slices.Sort(hop)
	t.Logf("LATENCY from a Pod's end to its successor's creation, %d hops, %s: median %s, min %s, max %s",
		hops, nodeKind(), hop[hops/2].Round(time.Millisecond/10), hop[0].Round(time.Millisecond/10), hop[hops-1].Round(time.Millisecond/10))
	trip := s.roundTrip(hops)
	t.Logf("from the creation of a ConfigMap to its event: median %s", trip.Round(time.Millisecond/10))
	if limit := max(idleLatency, roundTrips*trip); hop[hops/2] > limit {
		t.Errorf("median = %s, want under %s", hop[hops/2], limit)
	}
	s.end("chain", v1alpha1.JobSucceed)
}

// times returns when a watch told that the Pods of n tasks are there, and that they have succeeded, by the names of the
// tasks.
func (s *story) times(w watch.Interface, n int) (created, ended map[string]time.Time) {
	s.Helper()
	created, ended = map[string]time.Time{}, map[string]time.Time{}
	deadline := time.After(time.Minute + time.Duration(n)*12*time.Second)
	for len(ended) < n {
		select {
		case event := <-w.ResultChan():
			pod, ok := event.Object.(*corev1.Pod)
			if !ok {
				s.Fatalf("the watch ended: %v", event.Object)
			}
			now, name := time.Now(), pod.Labels[v1alpha1.LabelTaskName]
			if _, ok := created[name]; !ok {
				created[name] = now
			}
			if _, ok := ended[name]; !ok && pod.Status.Phase == corev1.PodSucceeded {
				ended[name] = now
			}
		case <-deadline:
			s.Fatalf("only %d of %d tasks ended", len(ended), n)
		}
	}
	return created, ended
}

var latencyRounds = flag.Int("latency-rounds", 3, "how many Pods of each kind TestDataLatency measures")

// TestDataLatency measures how much longer a Pod takes, from its creation to its end, if the task has data. The tasks
// are one chain, in which each kind has its turn in each round, so that what else the machine does meets all of
// them. A kubelet looks once a second for containers that have ended, so the commands of a round sleep for another part
// of a second: the means differ by what the data take, not by whole seconds. It reports, and judges nothing.
func TestDataLatency(t *testing.T) {
	needsStore(t)
	s := beginWithStore(t)
	s.put("latency/in/file", "x")
	rounds := max(1, *latencyRounds)
	url := "cos://" + host + "/latency/"
	redirects := "redirectInfo: {stdoutRedirectPath: '" + url + "logs/', stderrRedirectPath: '" + url + "logs/'}"
	inputs := "inputMappings: [{sourcePath: '" + url + "in/', destinationPath: /in/}]"
	outputs := "outputMappings: [{sourcePath: /out/, destinationPath: '" + url + "out/'}]"
	kinds := []struct{ name, text, fields string }{
		{"plain", "without data", ""},
		{"redirects", "redirects", redirects},
		{"inputs", "inputs", inputs},
		{"all", "inputs, outputs and redirects", inputs + ", " + outputs + ", " + redirects},
	}
	var spec, edges strings.Builder
	last := ""
	for i := range rounds {
		for _, k := range kinds {
			name := fmt.Sprint(k.name, i)
			fmt.Fprintf(&spec, "- {taskName: %s, application: {deliveryForm: LOCAL, command: 'sleep 0.%03d'}, computeEnv: {}, %s}\n", name, i*1000/rounds, k.fields)
			if last != "" {
				fmt.Fprintf(&edges, "- {startTask: %s, endTask: %s}\n", last, name)
			}
			last = name
		}
	}
	w, err := kube.Watch(s.ctx, &corev1.PodList{}, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatalf("watching pods: %v", err)
	}
	defer w.Stop()
	s.apply(job("latency", "tasks:\n"+spec.String()+"dependences:\n"+edges.String()))
	created, ended := s.times(w, rounds*len(kinds))
	var plain time.Duration
	for _, k := range kinds {
		var took []time.Duration
		for i := range rounds {
			name := fmt.Sprint(k.name, i)
			took = append(took, ended[name].Sub(created[name]))
		}
		var sum time.Duration
		for _, d := range took {
			sum += d
		}
		mean := sum / time.Duration(rounds)
		if k.name == "plain" {
			plain = mean
		}
		t.Logf("LATENCY of a Pod, %d of them, %s, %s: mean %.2f s, min %.2f s, max %.2f s; mean %+.2f s and %.2f times that without data",
			rounds, nodeKind(), k.text, mean.Seconds(), slices.Min(took).Seconds(), slices.Max(took).Seconds(), (mean - plain).Seconds(), mean.Seconds()/plain.Seconds())
	}
	s.end("latency", v1alpha1.JobSucceed)
}

// roundTrip is the median time from the creation of a ConfigMap to the event that tells of it.
func (s *story) roundTrip(n int) time.Duration {
	s.Helper()
	w, err := kube.Watch(s.ctx, &corev1.ConfigMapList{}, client.InNamespace(s.namespace))
	if err != nil {
		s.Fatalf("watching ConfigMaps: %v", err)
	}
	defer w.Stop()
	var trips []time.Duration
	for i := range n {
		name, begin := fmt.Sprint("round-trip-", i), time.Now()
		if err := kube.Create(s.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}); err != nil {
			s.Fatal(err)
		}
		for event := range w.ResultChan() {
			if o, ok := event.Object.(*corev1.ConfigMap); ok && o.Name == name {
				break
			}
		}
		trips = append(trips, time.Since(begin))
	}
	slices.Sort(trips)
	return trips[n/2]
}

// Bounds for a manager that has nothing to do.
const (
	maxIdleRSS = 60 << 20
	maxIdleCPU = 0.01 // of one core
)

// TestIdleManager measures the manager's memory and processor time while nothing runs.
func TestIdleManager(t *testing.T) {
	if target.Cluster != "local" {
		t.Skip("left out: the manager's process is only within reach on a local cluster")
	}
	pid, err := install.ManagerPID(t.Context(), kube)
	if cluster.NodeKind == "process" {
		pid, err = cluster.HostManagerPID(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	// The stories before may have left something to do, such as the deletion of their namespaces. A manager that is idle
	// has an interval under the bound; one that polls has none.
	const interval, most = 15 * time.Second, 6
	cpu := math.Inf(1)
	for n := 0; n < most && cpu > maxIdleCPU; n++ {
		before := cpuTime(t, pid)
		time.Sleep(interval)
		cpu = min(cpu, float64(cpuTime(t, pid)-before)/float64(interval))
	}
	rss := residentSet(t, pid)
	t.Logf("IDLE manager, %s: %.1f MiB resident, %.2f %% of a core", nodeKind(), float64(rss)/(1<<20), 100*cpu)
	if rss > maxIdleRSS {
		t.Errorf("resident set = %d bytes, want under %d", rss, maxIdleRSS)
	}
	if cpu > maxIdleCPU {
		t.Errorf("processor time = %.2f %% of a core in the least of %d intervals of %s, want at most %.0f %%", 100*cpu, most, interval, 100*maxIdleCPU)
	}
}

// cpuTime returns the processor time that a process has used, user and system.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// residentSet returns the memory of a process, in bytes.
func residentSet(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d has no resident set", pid)
	return 0
}
