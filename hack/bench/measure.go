// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// result is one measurement.
type result struct {
	Round     int     `json:"round"`
	Shape     string  `json:"shape"`
	Subject   string  `json:"subject"`
	Instances int     `json:"instances"`
	Seconds   float64 `json:"seconds"`
	// Of the manager, and for ours alone: processor seconds, peak resident set in MiB, and
	// writes to the API server for each instance.
	CPU    float64 `json:"cpuSeconds,omitempty"`
	RSS    float64 `json:"peakRSSMiB,omitempty"`
	Writes float64 `json:"writesPerInstance,omitempty"`
	// Hops are the middle and the 99th percentile from the end of a task to the next Pod, in
	// milliseconds.
	HopP50 float64 `json:"hopP50ms,omitempty"`
	HopP99 float64 `json:"hopP99ms,omitempty"`
}

func (r result) rate() float64 { return float64(r.Instances) / r.Seconds }

// measure has a subject do the work of a shape once.
func (b *bench) measure(ctx context.Context, s shape, subject subject) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	b.seq++
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", b.seq)}}
	if err := b.kube.Create(ctx, ns); err != nil {
		return result{}, fmt.Errorf("making a namespace: %w", err)
	}
	r := result{Shape: s.name, Subject: subject.name, Instances: s.total()}
	cpu, writes, err := b.manages(ctx)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	hops, err := subject.do(ctx, b, ns.Name, s)
	r.Seconds = time.Since(begin).Seconds()
	if err != nil || subject.name != ours.name {
		return r, err
	}
	time.Sleep(time.Second) // what it still has to let go of counts as well
	cpuAfter, writesAfter, err := b.manages(ctx)
	if err != nil {
		return r, err
	}
	r.CPU = (cpuAfter - cpu).Seconds()
	r.Writes = float64(writesAfter-writes) / float64(s.total())
	r.RSS, err = peak(b.manager)
	if n := len(hops); n > 0 {
		r.HopP50, r.HopP99 = milliseconds(hops[n/2]), milliseconds(hops[n*99/100])
	}
	return r, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// manages returns the processor time that the manager has used, and how many writes the API
// server has had that are the operator's own. Others bind Pods and write their status.
func (b *bench) manages(ctx context.Context) (cpu time.Duration, writes int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.manager))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(n) * 10 * time.Millisecond
	}
	text, err := b.api.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return cpu, countWrites(string(text)), nil
}

var request = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\S+)$`)

// countWrites sums the API server's counters of what only the operator does here: Pods made,
// patched and deleted, and statuses of BatchJobs.
func countWrites(metrics string) (sum int64) {
	for _, m := range request.FindAllStringSubmatch(metrics, -1) {
		has := func(label, value string) bool { return strings.Contains(m[1], label+`="`+value+`"`) }
		pods := has("resource", "pods") && has("subresource", "") && (has("verb", "POST") || has("verb", "PATCH") || has("verb", "DELETE"))
		if pods || has("resource", "batchjobs") && has("subresource", "status") {
			n, err := strconv.ParseFloat(m[2], 64)
			if err == nil {
				sum += int64(n)
			}
		}
	}
	return sum
}

// peak returns the largest resident set that a process has had, in MiB.
func peak(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kib)[0], 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident set", pid)
}

// report prints the medians, with the ratio to floor2 of the same round.
func report(out io.Writer, results []result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SHAPE\tBY\tINSTANCES\tSECONDS (RANGE)\tPER SECOND\tOF FLOOR2\tCPU s\tPEAK MiB\tWRITES\tHOP p50/p99 ms")
	type key struct{ shape, subject string }
	groups, order := map[key][]result{}, []key{}
	floors := map[string]map[int]float64{}
	for _, r := range results {
		k := key{r.Shape, r.Subject}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], r)
		if r.Subject == floor2.name {
			if floors[r.Shape] == nil {
				floors[r.Shape] = map[int]float64{}
			}
			floors[r.Shape][r.Round] = r.rate()
		}
	}
	for _, k := range order {
		g := groups[k]
		med := func(of func(result) float64) float64 {
			var values []float64
			for _, r := range g {
				values = append(values, of(r))
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		slices.SortFunc(g, func(a, b result) int { return int(1000 * (a.Seconds - b.Seconds)) })
		ratio := "-"
		if f := floors[k.shape]; f != nil {
			ratio = fmt.Sprintf("%.2f", med(func(r result) float64 { return r.rate() / f[r.Round] }))
		}
		own, hop := "-\t-\t-", "-"
		if k.subject == ours.name {
			own = fmt.Sprintf("%.2f\t%.0f\t%.2f", med(func(r result) float64 { return r.CPU }), med(func(r result) float64 { return r.RSS }), med(func(r result) float64 { return r.Writes }))
		}
		if g[0].HopP50 > 0 {
			hop = fmt.Sprintf("%.1f/%.1f", med(func(r result) float64 { return r.HopP50 }), med(func(r result) float64 { return r.HopP99 }))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f (%.2f-%.2f)\t%.1f\t%s\t%s\t%s\n", k.shape, k.subject, g[0].Instances,
			med(func(r result) float64 { return r.Seconds }), g[0].Seconds, g[len(g)-1].Seconds, med(result.rate), ratio, own, hop)
	}
	_ = w.Flush()
}
