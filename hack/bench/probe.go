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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// small is what another user submits while a large job runs.
var small = shape{jobs: 1, tasks: chain(3)}

// prober submits a small job every second and times how long each waits for its first Pod. Between
// them it makes a bare Pod, which never runs, and times that: so long does the cluster alone take to
// make a Pod and to tell of it.
type prober struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	jobs waits // by name
	bare waits // by name of the Pod
	made map[types.UID]bool
}

func (b *bench) probe(ctx context.Context, namespace string) (*prober, error) {
	pod, err := operatorsPod()
	if err != nil {
		return nil, err
	}
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.GroupVersion.Group + "/never"}}
	ctx, cancel := context.WithCancel(ctx)
	p := &prober{cancel: cancel, jobs: newWaits(), bare: newWaits(), made: map[types.UID]bool{}}
	_, err = b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		if pod, ok := e.Object.(*corev1.Pod); ok {
			p.saw(pod, time.Now())
		}
		return false, nil
	})
	if err != nil {
		cancel()
		return nil, err
	}
	p.wg.Go(func() {
		tick := time.NewTicker(time.Second / 2)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if i > 0 && i%120 == 0 {
				fmt.Fprintln(os.Stderr, p)
			}
			if i%2 == 0 {
				p.submit(ctx, b, p.jobs, batchJob(namespace, i/2, small, atOnce))
			} else {
				p.submit(ctx, b, p.bare, barePod(pod, namespace, i/2, false))
			}
		}
	})
	return p, nil
}

func (p *prober) submit(ctx context.Context, b *bench, as waits, o client.Object) {
	p.mu.Lock()
	as.started[o.GetName()] = time.Now()
	p.mu.Unlock()
	if err := b.kube.Create(ctx, o); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "submitting beside:", err) // it waits for ever, and counts as that
	}
}

func (p *prober) saw(pod *corev1.Pod, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	job, ok := pod.Annotations[v1alpha1.AnnotationJobName]
	if !ok {
		p.bare.end(pod.Name, now)
		return
	}
	p.made[pod.UID] = true
	p.jobs.end(job, now)
}

// stop ends it and returns how long each job has waited, and each bare Pod.
func (p *prober) stop() (jobs, bare []time.Duration) {
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jobs.all(), p.bare.all()
}

// pods is how many Pods the small jobs have had.
func (p *prober) pods() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.made)
}

func (p *prober) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	jobs, bare := p.jobs.all(), p.bare.all()
	return fmt.Sprintf("%d small jobs until now: first Pod after %.0f ms at the median, %.0f at the 99th percentile; a bare Pod %.0f and %.0f",
		len(jobs), milliseconds(percentile(jobs, 50)), milliseconds(percentile(jobs, 99)),
		milliseconds(percentile(bare, 50)), milliseconds(percentile(bare, 99)))
}

// waits are when things started, by name, and how long each took.
type waits struct {
	started map[string]time.Time
	took    map[string]time.Duration
}

func newWaits() waits {
	return waits{started: map[string]time.Time{}, took: map[string]time.Duration{}}
}

// end says that it is there. Only the first time counts.
func (w waits) end(name string, now time.Time) {
	if _, ok := w.took[name]; !ok {
		w.took[name] = now.Sub(w.started[name])
	}
}

// all is how long each took; for what has not ended, so far.
func (w waits) all() (out []time.Duration) {
	for name, since := range w.started {
		d, ok := w.took[name]
		if !ok {
			d = time.Since(since)
		}
		out = append(out, d)
	}
	return out
}
