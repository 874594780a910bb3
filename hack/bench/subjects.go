// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// workers is how many calls a client of ours has in flight at once.
const workers = 32

// inParallel calls do with the numbers from 0 to n-1 and returns the first error.
func inParallel(n int, do func(int) error) error {
	next, errs := make(chan int), make(chan error, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	close(errs)
	return <-errs
}

// follow calls saw with every change of the objects of a namespace until it says that it has
// seen enough. An API server that is busy cuts watches off; this one resumes where it was.
func (b *bench) follow(ctx context.Context, namespace string, list client.ObjectList, saw func(watch.Event) (bool, error)) (wait func() error, err error) {
	if err := b.kube.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return b.kube.Watch(ctx, list, &client.ListOptions{Namespace: namespace, Raw: &o})
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		defer w.Stop()
		for e := range w.ResultChan() {
			if e.Type == watch.Error {
				done <- apierrors.FromObject(e.Object)
				return
			}
			enough, err := saw(e)
			if enough || err != nil {
				done <- err
				return
			}
		}
		done <- errors.Join(errors.New("the watch has ended"), context.Cause(ctx))
	}()
	return func() error { return <-done }, nil
}

// seen is what a subject's work showed on its way.
type seen struct {
	hops        []time.Duration
	statusBytes int // the largest status
}

// do has a subject do the work of a shape in a namespace of its own.
func (b *bench) do(ctx context.Context, subject, namespace string, s shape) (seen, error) {
	switch subject {
	case floor, floor2:
		return seen{}, b.bare(ctx, namespace, s, subject == floor2)
	case job:
		return seen{}, b.coreJobs(ctx, namespace, s)
	}
	return b.batchJobs(ctx, namespace, s)
}

// bare creates the Pods, and waits until all have succeeded; when each is to be patched, until
// that is done.
func (b *bench) bare(ctx context.Context, namespace string, s shape, patch bool) error {
	finished := make(chan string, s.total())
	known := map[types.UID]bool{}
	wait, err := b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok || pod.Status.Phase != corev1.PodSucceeded || known[pod.UID] {
			return false, nil
		}
		known[pod.UID] = true
		finished <- pod.Name
		return len(known) == s.total(), nil
	})
	if err != nil {
		return err
	}
	patched := make(chan error, 1)
	go func() {
		if !patch {
			patched <- nil
			return
		}
		patched <- inParallel(s.total(), func(int) error { return b.removeFinalizer(ctx, namespace, finished) })
	}()
	err = inParallel(s.total(), func(i int) error { return b.kube.Create(ctx, barePod(b.pod, namespace, i, patch)) })
	if err != nil {
		return fmt.Errorf("creating Pods: %w", err)
	}
	if err := wait(); err != nil {
		return err
	}
	return <-patched
}

// removeFinalizer patches the next Pod that has finished, as the operator does.
func (b *bench) removeFinalizer(ctx context.Context, namespace string, finished <-chan string) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case name := <-finished:
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		body := fmt.Appendf(nil, `{"metadata":{"$deleteFromPrimitiveList/finalizers":[%q]}}`, v1alpha1.FinalizerTracking)
		return b.kube.Patch(ctx, pod, client.RawPatch(types.StrategicMergePatchType, body))
	}
}

// batchJobs has the operator do the work.
func (b *bench) batchJobs(ctx context.Context, namespace string, s shape) (seen, error) {
	var result seen
	var sized time.Time
	ended := map[string]bool{}
	wait, err := b.follow(ctx, namespace, &v1alpha1.BatchJobList{}, func(e watch.Event) (bool, error) {
		job, ok := e.Object.(*v1alpha1.BatchJob)
		if !ok {
			return false, nil
		}
		// To encode every status of a large job would take time that is not the operator's.
		if time.Since(sized) > 100*time.Millisecond {
			data, err := json.Marshal(job.Status)
			if err != nil {
				return false, fmt.Errorf("encoding a status: %w", err)
			}
			result.statusBytes, sized = max(result.statusBytes, len(data)), time.Now()
		}
		if job.Status.EndTime == nil {
			return false, nil
		}
		if job.Status.State != v1alpha1.JobSucceed {
			return false, fmt.Errorf("a job is %s: %s", job.Status.State, job.Status.Message)
		}
		ended[job.Name] = true
		return len(ended) == s.jobs, nil
	})
	if err != nil {
		return seen{}, err
	}
	times, err := b.timeHops(ctx, namespace, s)
	if err != nil {
		return seen{}, err
	}
	err = inParallel(s.jobs, func(i int) error { return b.kube.Create(ctx, batchJob(namespace, i, s, atOnce)) })
	if err != nil {
		return seen{}, fmt.Errorf("creating BatchJobs: %w", err)
	}
	if err := wait(); err != nil {
		return seen{}, err
	}
	if err := b.finalizersRemoved(ctx, namespace); err != nil {
		return seen{}, err
	}
	result.hops, err = times()
	return result, err
}

// finalizersRemoved waits until no Pod has the operator's finalizer any more. The end of a job does not wait for
// that, but floor2 does, and so does the core Job controller.
func (b *bench) finalizersRemoved(ctx context.Context, namespace string) error {
	var err error
	none := func() bool {
		pods := &corev1.PodList{}
		err = b.kube.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelTracked: "true"}, client.Limit(1))
		return err != nil || len(pods.Items) == 0
	}
	return errors.Join(poll(ctx, none), err)
}

// timeHops watches the Pods of a shape that has dependences, and has the time of each hop,
// from when the one change is heard of to when the other is. times waits for the last.
func (b *bench) timeHops(ctx context.Context, namespace string, s shape) (times func() ([]time.Duration, error), err error) {
	if len(s.tasks) == 1 {
		return func() ([]time.Duration, error) { return nil, nil }, nil
	}
	h := newHops(s)
	made, ended := map[types.UID]bool{}, map[types.UID]bool{}
	wait, err := b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, nil
		}
		number, _ := strings.CutPrefix(pod.Labels[v1alpha1.LabelTaskName], "task-")
		task, err := strconv.Atoi(number)
		if err != nil {
			return false, fmt.Errorf("a Pod of no task of ours: %w", err)
		}
		name := pod.Annotations[v1alpha1.AnnotationJobName]
		if !made[pod.UID] {
			made[pod.UID] = true
			h.made(name, task, time.Now())
		}
		if pod.Status.Phase == corev1.PodSucceeded && !ended[pod.UID] {
			ended[pod.UID] = true
			return h.end(name, task, time.Now()), nil
		}
		return false, nil
	})
	return func() ([]time.Duration, error) {
		err := wait()
		return h.times, err
	}, err
}

// coreJobs has the cluster's own Job controller do the work: an indexed Job for each job.
func (b *bench) coreJobs(ctx context.Context, namespace string, s shape) error {
	complete := map[string]bool{}
	wait, err := b.follow(ctx, namespace, &batchv1.JobList{}, func(e watch.Event) (bool, error) {
		job, ok := e.Object.(*batchv1.Job)
		if ok && job.Status.CompletionTime != nil {
			complete[job.Name] = true
		}
		return len(complete) == s.jobs, nil
	})
	if err != nil {
		return err
	}
	if err := inParallel(s.jobs, func(i int) error { return b.kube.Create(ctx, coreJob(b.pod, namespace, i, s)) }); err != nil {
		return fmt.Errorf("creating Jobs: %w", err)
	}
	return wait()
}
