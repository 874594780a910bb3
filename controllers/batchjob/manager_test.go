// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/testutil"
)

// cacheOf returns the cache options of a manager of one namespace. The cache is of the same kind as that of a manager of all
// namespaces.
func cacheOf(namespace string) cache.Options {
	all := CacheOptions()
	for o, by := range all {
		if _, ok := o.(*corev1.Node); !ok {
			by.Field = fields.OneTermEqualSelector("metadata.namespace", namespace)
			all[o] = by
		}
	}
	return cache.Options{ByObject: all}
}

// manage starts a manager of the test's namespace, which is driven only by events.
func (e *testEnv) manage() (stop func()) {
	e.t.Helper()
	mgr, err := ctrl.NewManager(e.Config, ctrl.Options{
		Scheme:     e.Scheme,
		Logger:     logr.Discard(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Cache:      cacheOf(e.ns),
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err == nil {
		err = errors.Join(lookup.AddIndexes(e.t.Context(), mgr.GetFieldIndexer()), Setup(mgr, Options{Catalog: catalog.Default, Validate: validate}))
	}
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	}
	return stop
}

// TestManager: jobs end driven only by events, also through a restart, and a deleted job leaves nothing behind.
func TestManager(t *testing.T) {
	e := newTestEnv(t)
	stop := e.manage()
	end := func(name string) {
		t.Helper()
		e.eventually(name+" has ended", func() bool {
			e.clock.SetTime(time.Now())
			e.work()
			return e.job(name).Status.EndTime != nil && len(e.tracked()) == 0
		})
	}
	e.submit(e.reference("ref"))
	end("ref")
	e.wantReference("ref")
	e.clear()

	e.submit(e.reference("ref"))
	e.eventually("Pods are created", func() bool { return len(e.Pods(t, e.ns)) == 2 })
	stop()
	e.work() // while no manager runs
	stop = e.manage()
	defer func() { stop() }()
	end("ref")
	e.wantReference("ref")
	e.clear()

	job := e.submit(testutil.Job("deleted").Task("a", testutil.Instances(5)))
	e.eventually("Pods are created", func() bool { return len(e.Pods(t, e.ns)) == 5 })
	if err := e.Delete(context.Background(), job, client.PropagationPolicy("Background")); err != nil {
		t.Fatal(err)
	}
	e.eventually("no Pod is left", func() bool {
		e.CollectGarbage(t, e.ns)
		return len(e.Pods(t, e.ns)) == 0
	})
}

// TestLatency logs the time from the end of a task's Pod to the creation of its successor's Pod.
func TestLatency(t *testing.T) {
	e := newTestEnv(t)
	defer e.manage()()
	const tasks = 20
	job := testutil.Job("chain")
	for i := range tasks {
		job.Task(string(rune('a' + i)))
		if i > 0 {
			job.Edges(string(rune('a'+i-1)) + "->" + string(rune('a'+i)))
		}
	}
	e.submit(job)
	var waits []time.Duration
	for i := range tasks {
		var list corev1.PodList
		at := time.Now()
		e.eventually("the next Pod exists", func() bool {
			err := e.List(context.Background(), &list, client.InNamespace(e.ns), client.MatchingLabels{v1alpha1.LabelTaskName: string(rune('a' + i))})
			return err == nil && len(list.Items) == 1
		})
		if i > 0 {
			waits = append(waits, time.Since(at))
		}
		e.Finish(t, &list.Items[0], 0, time.Now())
	}
	slices.Sort(waits)
	t.Logf("from a Pod's end to its successor's Pod: median %s, longest %s", waits[len(waits)/2], waits[len(waits)-1])
}
