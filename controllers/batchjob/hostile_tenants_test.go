// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/fairrate"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// creations counts the Pods that a client creates, by namespace.
type creations struct {
	http.RoundTripper
	mu    sync.Mutex
	count map[string]int
	// first is called, with the lock held, when a namespace gets its first Pod.
	first func(namespace string)
}

// RoundTrip forwards a request, and counts it if it creates a Pod.
func (c *creations) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	namespace, ok := strings.CutPrefix(req.URL.Path, "/api/v1/namespaces/")
	if namespace, ok2 := strings.CutSuffix(namespace, "/pods"); ok && ok2 && req.Method == http.MethodPost && err == nil && resp.StatusCode == http.StatusCreated {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.count[namespace]++; c.count[namespace] == 1 {
			c.first(namespace)
		}
	}
	return resp, err
}

func (c *creations) of(namespace string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[namespace]
}

// tenants has a control plane of its own, and a manager for all namespaces with the default limits of requests.
type tenants struct {
	*testEnv
	pods *creations
}

func newTenants(t *testing.T, first func(namespace string)) *tenants {
	t.Helper()
	p := controlplane.GetOwn(t)
	n := &tenants{testEnv: &testEnv{ControlPlane: p.ControlPlane, t: t, ns: "default"}, pods: &creations{count: map[string]int{}, first: first}}
	cfg := rest.CopyConfig(p.Config)
	cfg.RateLimiter = fairrate.New(400, 800, clock.RealClock{})
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		n.pods.RoundTripper = rt
		return n.pods
	})
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: p.Scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: CacheOptions()}, Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err == nil {
		err = errors.Join(lookup.AddIndexes(t.Context(), mgr.GetFieldIndexer()), Setup(mgr, Options{Catalog: catalog.Default, Validate: validate}))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

// within waits until ok returns true.
func (n *tenants) within(limit time.Duration, what string, ok func() bool) {
	n.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("timed out after %s: %s", limit, what)
		}
	}
}

// TestHostilePriorityFlood: a tenant submits 60 jobs of 400 instances with the highest priority. The Pod of another tenant's
// job, which has one instance and the lowest priority, is created before the flood gets as many Pods as two of its jobs
// have. If priorities counted between tenants, it would be created after thousands of Pods.
func TestHostilePriorityFlood(t *testing.T) {
	var n *tenants
	var hostile, victim string
	hostilePods := map[string]int{} // when a namespace got its first
	n = newTenants(t, func(namespace string) { hostilePods[namespace] = n.pods.count[hostile] })
	hostile, victim = n.Namespace(t), n.Namespace(t)
	const jobs, instances = 60, 400
	for i := range jobs {
		job := testutil.Job(fmt.Sprint("flood-", i)).Task("a", testutil.Instances(instances)).Priority(100).New(hostile)
		if err := n.Create(context.Background(), job); err != nil {
			t.Fatal(err)
		}
	}
	n.within(2*time.Minute, "the flood has 200 Pods", func() bool { return n.pods.of(hostile) >= 200 })
	const samples, most = 5, 2 * instances
	for i := range samples {
		namespace := victim
		if i > 0 {
			namespace = n.Namespace(t)
		}
		before, start := n.pods.of(hostile), time.Now()
		if err := n.Create(context.Background(), testutil.Job("small").Task("a").Priority(1).New(namespace)); err != nil {
			t.Fatal(err)
		}
		n.within(5*time.Minute, "the small job has its Pod", func() bool { return n.pods.of(namespace) > 0 })
		took := time.Since(start)
		n.pods.mu.Lock()
		others := hostilePods[namespace] - before
		n.pods.mu.Unlock()
		t.Logf("small job %d: first Pod after %d Pods of the flood, %s", i+1, others, took.Round(time.Millisecond))
		if others > most {
			t.Errorf("the first Pod of a small job came after %d Pods of the flood, want at most %d", others, most)
		}
	}
	if got := n.pods.of(hostile); got == jobs*instances {
		t.Error("the flood was over before the end of the test")
	}
}

// TestHostileAnnotations: 12 jobs have annotations that terminate many single instances. Half of the annotations have the
// maximum length, half are longer, and each is patched twice a second. Another tenant's jobs still get their Pods, and the
// jobs whose annotation is too long report it. TestReadTerminations of internal/plan bounds the cost of reading one.
func TestHostileAnnotations(t *testing.T) {
	ctx := context.Background()
	n := newTenants(t, func(string) {})
	hostile, victim := n.Namespace(t), n.Namespace(t)
	text := func(parts int) string {
		var b strings.Builder
		for i := range parts {
			fmt.Fprintf(&b, "a/%d ", 2*(parts-i))
		}
		return b.String()
	}
	texts := []string{text(8000), text(32_000)}
	if len(texts[0]) > v1alpha1.MaxTerminateLength || len(texts[1]) <= v1alpha1.MaxTerminateLength {
		t.Fatalf("the texts have %d and %d bytes", len(texts[0]), len(texts[1]))
	}
	const jobs = 12
	for i := range jobs {
		job := testutil.Job(fmt.Sprint("hostile-", i)).Task("a", testutil.Instances(70_000), testutil.Concurrent(1)).Priority(100).New(hostile)
		job.Annotations = map[string]string{v1alpha1.AnnotationTerminate: texts[i%2]}
		if err := n.Create(ctx, job); err != nil {
			t.Fatal(err)
		}
	}
	stop, patched := make(chan struct{}), make(chan error)
	go func() {
		for k := 0; ; k++ {
			select {
			case <-stop:
				patched <- nil
				return
			case <-time.After(500 * time.Millisecond / jobs):
			}
			job := testutil.Job(fmt.Sprint("hostile-", k%jobs)).New(hostile)
			body := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q,"turn":"%d"}}}`, v1alpha1.AnnotationTerminate, texts[k%2]+strings.Repeat(" ", k%3), k)
			if err := n.Patch(ctx, job, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
				patched <- err
				return
			}
		}
	}()
	for i := range 10 {
		start := time.Now()
		if err := n.Create(ctx, testutil.Job(fmt.Sprint("small-", i)).Task("a").New(victim)); err != nil {
			t.Fatal(err)
		}
		n.within(time.Minute, "the small job has its Pod", func() bool { return n.pods.of(victim) > i })
		t.Logf("small job %d: first Pod after %s", i+1, time.Since(start).Round(time.Millisecond))
	}
	n.within(time.Minute, "the jobs report the long annotations", func() bool {
		var list v1alpha1.BatchJobList
		if err := n.List(ctx, &list, client.InNamespace(hostile)); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			c := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionInvalidAnnotation)
			if long := len(list.Items[i].Annotations[v1alpha1.AnnotationTerminate]) > v1alpha1.MaxTerminateLength; long != (c != nil) {
				return false
			}
		}
		return true
	})
	close(stop)
	if err := <-patched; err != nil {
		t.Error(err)
	}
}
