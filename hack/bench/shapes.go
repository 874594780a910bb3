// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// shape is a kind of work: so many jobs of so many tasks in a chain, each of so many instances.
type shape struct {
	name                   string
	jobs, tasks, instances int
	subjects               []subject
}

// total is how many Pods it takes.
func (s shape) total() int { return s.jobs * s.tasks * s.instances }

// subject is who does the work.
type subject struct {
	name string
	// do does it in a namespace of its own, and returns the time of each hop from the end of a
	// task to the first Pod of the next, if the shape has any.
	do func(ctx context.Context, b *bench, namespace string, s shape) ([]time.Duration, error)
}

var (
	floor = subject{"floor", func(ctx context.Context, b *bench, ns string, s shape) ([]time.Duration, error) {
		return nil, b.bare(ctx, ns, s, false)
	}}
	floor2 = subject{"floor2", func(ctx context.Context, b *bench, ns string, s shape) ([]time.Duration, error) {
		return nil, b.bare(ctx, ns, s, true)
	}}
	ours = subject{"ours", func(ctx context.Context, b *bench, ns string, s shape) ([]time.Duration, error) {
		return b.batchJobs(ctx, ns, s)
	}}
	job = subject{"job", func(ctx context.Context, b *bench, ns string, s shape) ([]time.Duration, error) {
		return nil, b.coreJobs(ctx, ns, s)
	}}
)

// shapes are S1, many instances of one task; S4, many jobs of one instance; and S5, a chain.
func shapes(small bool) []shape {
	n := 1
	if small {
		n = 10
	}
	return []shape{
		{"S1", 1, 1, 2000 / n, []subject{floor, floor2, ours, job}},
		{"S4", 1000 / n, 1, 1, []subject{floor, floor2, ours, job}},
		{"S5", 1, 50, 1, []subject{ours}},
	}
}

// workers is how many calls a bare client has under way at once.
const workers = 32

// zone is that of the pretended nodes.
const zone = "ap-guangzhou-2"

// atOnce is what has a pretended Pod end as soon as it runs.
var atOnce = map[string]string{"sim/duration": "0s"}

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
// seen enough. An API server that is busy cuts watches off; this one goes on where it was.
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

// bare creates the Pods, and waits until all have succeeded; when each is to be patched, until
// that is done.
func (b *bench) bare(ctx context.Context, namespace string, s shape, patch bool) error {
	finished := make(chan string, s.total())
	seen := map[types.UID]bool{}
	wait, err := b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok || pod.Status.Phase != corev1.PodSucceeded || seen[pod.UID] {
			return false, nil
		}
		seen[pod.UID] = true
		finished <- pod.Name
		return len(seen) == s.total(), nil
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
		patched <- inParallel(s.total(), func(int) error {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: <-finished}}
			body := []byte(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["batchcompute.dev/tracking"]}}`)
			return b.kube.Patch(ctx, pod, client.RawPatch(types.StrategicMergePatchType, body))
		})
	}()
	err = inParallel(s.total(), func(i int) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("pod-", i), Annotations: atOnce}, Spec: podSpec()}
		if patch {
			pod.Finalizers = []string{v1alpha1.FinalizerTracking}
		}
		return b.kube.Create(ctx, pod)
	})
	if err != nil {
		return fmt.Errorf("creating Pods: %w", err)
	}
	if err := wait(); err != nil {
		return err
	}
	return <-patched
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: new(false),
		Containers: []corev1.Container{{Name: "task", Image: "busybox:1.37", Command: []string{"true"}}},
	}
}

// batchJobs has the operator do the work.
func (b *bench) batchJobs(ctx context.Context, namespace string, s shape) ([]time.Duration, error) {
	ended := map[string]bool{}
	wait, err := b.follow(ctx, namespace, &v1alpha1.BatchJobList{}, func(e watch.Event) (bool, error) {
		job, ok := e.Object.(*v1alpha1.BatchJob)
		if !ok || job.Status.EndTime == nil {
			return false, nil
		}
		if job.Status.State != v1alpha1.JobSucceed {
			return false, fmt.Errorf("a job is %s: %s", job.Status.State, job.Status.Message)
		}
		ended[job.Name] = true
		return len(ended) == s.jobs, nil
	})
	if err != nil {
		return nil, err
	}
	hops, err := b.timeHops(ctx, namespace, s)
	if err != nil {
		return nil, err
	}
	err = inParallel(s.jobs, func(i int) error { return b.kube.Create(ctx, batchJob(namespace, i, s)) })
	if err != nil {
		return nil, fmt.Errorf("creating BatchJobs: %w", err)
	}
	if err := wait(); err != nil {
		return nil, err
	}
	return hops()
}

func batchJob(namespace string, i int, s shape) *v1alpha1.BatchJob {
	job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("job-", i)}}
	job.Spec.Placement.Zone = zone
	for t := range s.tasks {
		job.Spec.Job.Tasks = append(job.Spec.Job.Tasks, v1alpha1.Task{
			TaskName: fmt.Sprint("task-", t), TaskInstanceNum: new(int64(s.instances)),
			Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
			ComputeEnv:  &v1alpha1.AnonymousComputeEnv{Kubernetes: &v1alpha1.KubernetesOptions{Annotations: atOnce}},
		})
		if t > 0 {
			job.Spec.Job.Dependences = append(job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: fmt.Sprint("task-", t-1), EndTask: fmt.Sprint("task-", t)})
		}
	}
	return job
}

// timeHops measures, in a chain, the time from when the end of a Pod is heard of to when the
// next one is. hops waits for the last.
func (b *bench) timeHops(ctx context.Context, namespace string, s shape) (hops func() ([]time.Duration, error), err error) {
	if s.tasks == 1 {
		return func() ([]time.Duration, error) { return nil, nil }, nil
	}
	var times []time.Duration
	var end time.Time
	made, ended := map[types.UID]bool{}, map[types.UID]bool{}
	wait, err := b.follow(ctx, namespace, &corev1.PodList{}, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, nil
		}
		if !made[pod.UID] {
			made[pod.UID] = true
			if len(made) > 1 {
				times = append(times, time.Since(end))
			}
		}
		if pod.Status.Phase == corev1.PodSucceeded && !ended[pod.UID] {
			ended[pod.UID], end = true, time.Now()
		}
		return len(ended) == s.tasks, nil
	})
	return func() ([]time.Duration, error) {
		err := wait()
		slices.Sort(times)
		return times, err
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
	n, indexed := int32(s.instances), batchv1.IndexedCompletion
	err = inParallel(s.jobs, func(i int) error {
		return b.kube.Create(ctx, &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("job-", i)},
			Spec: batchv1.JobSpec{
				Completions: &n, Parallelism: &n, CompletionMode: &indexed,
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: atOnce}, Spec: podSpec()},
			},
		})
	})
	if err != nil {
		return fmt.Errorf("creating Jobs: %w", err)
	}
	return wait()
}
