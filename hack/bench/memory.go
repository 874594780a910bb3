// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"batchcompute.dev/operator/api/v1alpha1"
)

// measureMemory finds what the manager keeps for each Pod that lives, and for each job of ten
// tasks that has ended.
func (b *bench) measureMemory(ctx context.Context) error {
	n := part(b.small)
	pods, jobs := shape{jobs: 1, tasks: single(5000 / n)}, shape{jobs: 1000 / n, tasks: layers([]int{1, 4, 4, 1}, all)}
	for _, m := range []struct {
		name  string
		units int
		make  func(context.Context, string) error
	}{
		{livePod, pods.total(), func(ctx context.Context, ns string) error { return b.keepRunning(ctx, ns, pods) }},
		{finishedJob, jobs.jobs, func(ctx context.Context, ns string) error {
			_, err := b.batchJobs(ctx, ns, jobs)
			return err
		}},
	} {
		bytes, err := b.growth(ctx, m.make)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", m.name, err)
		}
		b.figure(figure{Name: m.name, Value: bytes / float64(m.units), Unit: "B"})
	}
	return nil
}

// growth is by how much the manager's heap is larger once things have been made.
func (b *bench) growth(ctx context.Context, makeThings func(context.Context, string) error) (bytes float64, err error) {
	namespace, err := b.namespace(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.clear(ctx, namespace)) }()
	limited, cancel := context.WithTimeout(ctx, timeout(10_000))
	defer cancel()
	before, err := b.heapAtRest(limited)
	if err != nil {
		return 0, err
	}
	if err := makeThings(limited, namespace); err != nil {
		return 0, err
	}
	after, err := b.heapAtRest(limited)
	return after - before, err
}

// heapAtRest is the manager's heap once it does not change any more: behind a status there are
// events to be sent and caches to be brought up to date.
func (b *bench) heapAtRest(ctx context.Context) (float64, error) {
	last, err := b.heap(ctx)
	for err == nil {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		var now float64
		if now, err = b.heap(ctx); err == nil && math.Abs(now-last) < last/200 {
			return now, nil
		}
		last = now
	}
	return 0, err
}

// keepRunning has all Pods of a job run, and returns when they do. They end when they are
// cleared away.
func (b *bench) keepRunning(ctx context.Context, namespace string, s shape) error {
	wait, err := b.follow(ctx, namespace, &v1alpha1.BatchJobList{}, func(e watch.Event) (bool, error) {
		job, ok := e.Object.(*v1alpha1.BatchJob)
		if ok && job.Status.EndTime != nil {
			return false, fmt.Errorf("a job is %s: %s", job.Status.State, job.Status.Message)
		}
		return ok && job.Status.TaskInstanceMetrics.RunningCount == int64(s.total()), nil
	})
	if err != nil {
		return err
	}
	if err := b.kube.Create(ctx, batchJob(namespace, 0, s, "1h")); err != nil {
		return fmt.Errorf("creating a BatchJob: %w", err)
	}
	return wait()
}

// figure keeps a number that stands alone.
func (b *bench) figure(f figure) {
	b.figures = append(b.figures, f)
	fmt.Fprintf(os.Stderr, "%s: %.4g %s\n", f.Name, f.Value, f.Unit)
}
