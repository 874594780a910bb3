// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/convert"
)

// The sizes of BenchmarkGateway.
const (
	benchCalls   = 300  // of each kind, one after another
	benchSubmits = 1000 // of each kind, by benchClients at once
	benchClients = 16
)

// BenchmarkGateway compares SubmitJob with a create of the same BatchJob by a client of the API server, in one run. Both pass
// the webhook of the manager, which reconciles the jobs meanwhile, as a cluster does.
func BenchmarkGateway(b *testing.B) {
	c := startCluster(b)
	d := c.newCaller(b, c.startGateway(b, append([]string{"--v=0"}, noLimits...)...))
	d.to.client.Transport.(*http.Transport).MaxIdleConnsPerHost = benchClients
	ns := &corev1.Namespace{}
	must(b, c.Get(b.Context(), client.ObjectKey{Name: d.namespace}, ns))
	ns.Annotations = map[string]string{v1alpha1.AnnotationJobQuota: "0", v1alpha1.AnnotationJobBytesQuota: "0"}
	must(b, c.Update(b.Context(), ns))
	time.Sleep(2 * time.Second) // the manager follows the annotations

	var n atomic.Int64
	body := func() string {
		return strings.Replace(fmt.Sprintf(dag, fmt.Sprintf(`, "ClientToken": "bench-%d"`, n.Add(1))), "dag_demo", "d", 1)
	}
	direct := func() {
		r, err := convert.FromBody([]byte(body()), convert.Options{Name: fmt.Sprintf("direct-%d", n.Add(1)), Namespace: d.namespace})
		if err == nil {
			err = c.Create(b.Context(), r.Job)
		}
		if err != nil {
			b.Error(err)
		}
	}
	var last atomic.Value
	submit := func() {
		var out struct{ JobID string }
		if _, err := d.call("SubmitJob", body(), &out); err != nil {
			b.Error(err)
		}
		last.Store(out.JobID)
	}
	for b.Loop() {
		// In turns, so that both see the same machine.
		var directs, submits, describes []time.Duration
		for range benchCalls {
			directs, submits = append(directs, timed(direct)), append(submits, timed(submit))
		}
		text, _ := json.Marshal(map[string]any{"JobId": last.Load()})
		for range benchCalls {
			describes = append(describes, timed(func() { d.must("DescribeJob", string(text), nil) }))
		}
		b.ReportMetric(float64(median(submits))/float64(median(directs)), "submit/direct-p50")
		b.ReportMetric(float64(median(describes).Microseconds())/1000, "describe-p50-ms")
		// Half of each in turns, for the same reason.
		var rates [2]time.Duration
		for i := range 4 {
			rates[i%2] += timed(func() { atOnce([]func(){direct, submit}[i%2]) })
		}
		b.ReportMetric(float64(rates[0])/float64(rates[1]), "submit/direct-rate")
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// atOnce does f benchSubmits/2 times, by benchClients at once.
func atOnce(f func()) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(benchSubmits / 2)
	for range benchClients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	wg.Wait()
}
