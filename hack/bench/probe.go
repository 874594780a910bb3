// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"batchcompute.dev/operator/api/v1alpha1"
)

// small is what another user submits while a large job runs.
var small = shape{jobs: 1, tasks: chain(3)}

// prober submits a small job every second and times how long each waits for its first Pod.
type prober struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	submitted map[string]time.Time
	waits     map[string]time.Duration
	made      map[types.UID]bool
}

func (b *bench) probe(ctx context.Context, namespace string) (*prober, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &prober{cancel: cancel, submitted: map[string]time.Time{}, waits: map[string]time.Duration{}, made: map[types.UID]bool{}}
	_, err := b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		if pod, ok := e.Object.(*corev1.Pod); ok {
			p.saw(pod.Annotations[v1alpha1.AnnotationJobName], pod.UID, time.Now())
		}
		return false, nil
	})
	if err != nil {
		cancel()
		return nil, err
	}
	p.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if i > 0 && i%60 == 0 {
				waits := p.all()
				fmt.Fprintf(os.Stderr, "%d small jobs until now: first Pod after %.0f ms at the median, %.0f at the 99th percentile\n",
					len(waits), milliseconds(percentile(waits, 50)), milliseconds(percentile(waits, 99)))
			}
			job := batchJob(namespace, i, small, atOnce)
			p.submit(job.Name, time.Now())
			if err := b.kube.Create(ctx, job); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "submitting a small job:", err) // it waits for ever, and counts as that
			}
		}
	})
	return p, nil
}

func (p *prober) submit(job string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.submitted[job] = now
}

func (p *prober) saw(job string, pod types.UID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[pod] = true
	if _, ok := p.waits[job]; !ok {
		p.waits[job] = now.Sub(p.submitted[job])
	}
}

// stop ends it and returns how long each job has waited.
func (p *prober) stop() []time.Duration {
	p.cancel()
	p.wg.Wait()
	return p.all()
}

// all is how long each job has waited; for one that still waits, so far.
func (p *prober) all() (waits []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for job, since := range p.submitted {
		wait, ok := p.waits[job]
		if !ok {
			wait = time.Since(since)
		}
		waits = append(waits, wait)
	}
	return waits
}

// pods is how many Pods the small jobs have had.
func (p *prober) pods() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.made)
}
