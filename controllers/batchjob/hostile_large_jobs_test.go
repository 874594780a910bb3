// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/membudget"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/validation"
)

// largeTasks is the number of tasks of a job of nearly 1 MiB. They are few, with long commands, so that the API server
// needs little time for the tests.
const largeTasks = 64

// largeJob returns a job whose spec is nearly as large as admission allows. It starts with one instance, "t0/0"; all other
// tasks depend on it.
func largeJob(name string, options ...testutil.TaskOption) *testutil.JobBuilder {
	b := testutil.Job(name)
	for i := range largeTasks {
		b.Task(fmt.Sprint("t", i), slices.Concat(options, []testutil.TaskOption{func(t *v1alpha1.Task) {
			t.Application.Command = "true #" + strings.Repeat("x", 16_000)
		}})...)
		if i > 0 {
			b.Edges(fmt.Sprint("t0->t", i))
		}
	}
	return b
}

// TestLargeJobIsAdmitted: admission accepts the jobs of these tests.
func TestLargeJobIsAdmitted(t *testing.T) {
	found := func(string) validation.EnvState { return validation.EnvFound }
	for _, options := range [][]testutil.TaskOption{nil, {testutil.EnvID("pool")}} {
		job := largeJob("j", options...).Obj()
		for _, p := range (validation.Validator{Envs: found}).ValidateCreate(job) {
			t.Errorf("admission refuses the job: %s: %s", p.Field, p.Detail)
		}
		t.Logf("%d bytes as JSON, %d in memory, %d when it has started", validation.SpecSize(&job.Spec), plan.MemorySize(job), plan.StartedSize(job))
	}
}

// createMany creates jobs, four at the same time.
func (e *testEnv) createMany(build func(name string) *testutil.JobBuilder, names []string) {
	e.t.Helper()
	var wg sync.WaitGroup
	errs, next := make([]error, len(names)), make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range next {
				errs[i] = e.Create(context.Background(), build(names[i]).New(e.ns))
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		e.t.Fatal(err)
	}
}

func jobNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("large-", i)
	}
	return names
}

// syncLarge is sync without reading whole jobs.
func (e *testEnv) syncLarge() {
	e.t.Helper()
	kinds := map[string]*metav1.PartialObjectMetadataList{"BatchJobList": {}, "PodList": {}}
	kinds["BatchJobList"].SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BatchJobList"))
	kinds["PodList"].SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	ctx := context.Background()
	if err := errors.Join(e.List(ctx, kinds["BatchJobList"], client.InNamespace(e.ns)),
		e.List(ctx, kinds["PodList"], client.InNamespace(e.ns), client.MatchingLabels{v1alpha1.LabelTracked: "true"})); err != nil {
		e.t.Fatal(err)
	}
	e.eventually("the cache has what the API server has", func() bool {
		var pods corev1.PodList
		var jobs v1alpha1.BatchJobList
		if err := errors.Join(e.cache.List(ctx, &pods), e.cache.List(ctx, &jobs)); err != nil {
			e.t.Fatal(err)
		}
		shown := map[string]bool{}
		for i := range pods.Items {
			shown["PodList/"+pods.Items[i].Name+"@"+pods.Items[i].ResourceVersion] = true
		}
		for i := range jobs.Items {
			shown["BatchJobList/"+jobs.Items[i].Name+"@"+jobs.Items[i].ResourceVersion] = true
		}
		n := 0
		for kind, list := range kinds {
			for i := range list.Items {
				n++
				if !shown[kind+"/"+list.Items[i].Name+"@"+list.Items[i].ResourceVersion] {
					return false
				}
			}
		}
		return n == len(shown)
	})
}

// countReads counts the jobs that a process reads from the API server.
func (e *testEnv) countReads(p *process) *int {
	n, mu := new(int), &sync.Mutex{}
	p.live = interceptor.NewClient(e.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*v1alpha1.BatchJob); ok {
				mu.Lock()
				*n++
				mu.Unlock()
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	return n
}

// passEach does one pass over each job, with a cache that is up to date before and after.
func (p *process) passEach(names ...string) {
	p.e.t.Helper()
	p.e.syncLarge()
	for _, name := range names {
		if _, err := p.Reconcile(context.Background(), p.request(name)); err != nil {
			p.e.t.Fatal(err)
		}
	}
	p.e.syncLarge()
}

// changeAndPass changes a job, and does passes over it until a delayed status write is done: that of a large job is delayed
// by up to four seconds, which are two ticks. It returns the job; nil if it was deleted.
func (p *process) changeAndPass(name string, change func(*v1alpha1.BatchJob)) *v1alpha1.BatchJob {
	p.e.t.Helper()
	job := p.e.job(name)
	change(job)
	if err := p.e.Update(context.Background(), job); err != nil {
		p.e.t.Fatal(err)
	}
	for range 5 {
		p.e.tick()
		p.passEach(name)
	}
	if err := p.e.Get(context.Background(), client.ObjectKeyFromObject(job), job); client.IgnoreNotFound(err) != nil {
		p.e.t.Fatal(err)
	} else if err != nil {
		return nil
	}
	return job
}

// TestHostileLargeSuspendedJobs: jobs of about 1 MiB that are suspended, or wait for nodes, take a few KiB each in the
// manager. They are read from the API server when they are new, and not again before they change. All changes of such a job
// have their effect.
func TestHostileLargeSuspendedJobs(t *testing.T) {
	const n, most = 40, 8 << 10
	for name, tc := range map[string]struct {
		options []testutil.TaskOption
		suspend bool
		then    func(p *process, names []string)
	}{
		"suspended":         {nil, true, changeLarge},
		"waiting for nodes": {[]testutil.TaskOption{testutil.EnvID("pool")}, false, grantNodeToLarge},
	} {
		t.Run(name, func(t *testing.T) {
			e := newTestEnv(t)
			e.pool("pool", 0)
			p := e.start(nil)
			reads := e.countReads(p)
			one := func(name string) *testutil.JobBuilder {
				b := largeJob(name, tc.options...)
				if tc.suspend {
					b.Suspended()
				}
				return b
			}
			p.e.createMany(one, []string{"first"})
			for range 3 {
				p.passEach("first")
				e.tick()
			}
			before, names := heap(), jobNames(n)
			e.createMany(one, names)
			p.passEach(names...)
			p.passEach(names...) // for the event of the last write
			each := int(heap()-before) / n
			t.Logf("a job of %d bytes takes %d bytes; %d reads for %d jobs", plan.StartedSize(e.job(names[0])), each, *reads, n+1)
			if each > most {
				t.Errorf("a job takes %d bytes of memory, want %d at most", each, most)
			}
			if *reads > 2*(n+1) { // once when it is new, and once after its first status write
				t.Errorf("%d reads for %d jobs", *reads, n+1)
			}
			done := *reads
			for range 3 {
				p.passEach(names...)
				e.tick()
			}
			if *reads != done {
				t.Errorf("%d reads though nothing has changed", *reads-done)
			}
			if used, waiting := p.large.started.Used(); used != 0 || waiting != 0 {
				t.Errorf("%d bytes are reserved for jobs that have started, and %d jobs wait for memory", used, waiting)
			}
			tc.then(p, names)
		})
	}
}

// changeLarge makes every kind of change to suspended large jobs.
func changeLarge(p *process, names []string) {
	e, t := p.e, p.e.t
	t.Helper()
	again := e.start(nil)
	reads := e.countReads(again)
	if again.passEach(names...); *reads != 0 || len(again.states.byName) != 0 {
		t.Errorf("a new process reads %d of the suspended jobs, and remembers %d", *reads, len(again.states.byName))
	}
	p = again

	name, key := names[0], p.request(names[0]).NamespacedName
	got := p.changeAndPass(name, func(job *v1alpha1.BatchJob) { job.Spec.Suspend = false })
	used, _ := p.large.started.Used()
	if len(e.Pods(t, e.ns)) != 1 || got.Status.Tasks[0].Active != "0" || used < 1<<20 || p.states.byName[key].spec == nil {
		t.Fatalf("a resumed job is %s, with %d Pods; %d bytes are reserved for it", got.Status.State, len(e.Pods(t, e.ns)), used)
	}
	cached := &v1alpha1.BatchJob{}
	if err := e.cache.Get(t.Context(), key, cached); err != nil || !plan.IsOutline(cached) || plan.IsIdle(cached) {
		t.Errorf("the cache has %d tasks of a running job; idle %t; error %v", len(cached.Spec.Job.Tasks), plan.IsIdle(cached), err)
	}
	before := *reads
	for range 3 {
		e.tick()
		p.passEach(name)
	}
	if *reads != before {
		t.Errorf("a running job was read %d times", *reads-before)
	}
	e.Finish(t, e.pod("t0/0"), 1, e.clock.Now())
	got = p.changeAndPass(name, func(*v1alpha1.BatchJob) {})
	if used, _ := p.large.started.Used(); got.Status.State != v1alpha1.JobFailed || used != 0 || p.states.byName[key] != nil {
		t.Fatalf("a job whose command failed is %s; %d bytes are reserved for it", got.Status.State, used)
	}
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) { job.Spec.RetryToken = "again" })
	if got.Status.Run != 1 || got.Status.RetryToken != "again" || got.Status.EndTime != nil || len(e.Pods(t, e.ns)) != 2 {
		t.Fatalf("a job with a new retryToken is %s, in run %d, with %d Pods", got.Status.State, got.Status.Run, len(e.Pods(t, e.ns)))
	}
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) { job.Spec.Suspend = true })
	if used, _ := p.large.started.Used(); got.Status.Reason != v1alpha1.ReasonSuspended || !plan.IsIdle(got) || used != 0 || p.states.byName[key].spec != nil {
		t.Fatalf("a job that was suspended again is %s; %d bytes are reserved for it", got.Status.State, used)
	}
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true })
	if got.Status.State != v1alpha1.JobFailed || got.Status.EndTime == nil {
		t.Fatalf("a terminated job is %s", got.Status.State)
	}

	name = names[1]
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) {
		job.Annotations = map[string]string{v1alpha1.AnnotationTerminate: "t0/0 nowhere/1"}
	})
	if got.Status.TaskInstanceMetrics.FailedCount == 0 || !hasCondition(got, v1alpha1.ConditionInvalidAnnotation) {
		t.Errorf("the annotation did not terminate the instance: %+v", got.Status.TaskInstanceMetrics)
	}
	name = names[2]
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) {
		job.Annotations = map[string]string{v1alpha1.AnnotationTerminate: "nowhere/1"}
	})
	if !hasCondition(got, v1alpha1.ConditionInvalidAnnotation) {
		t.Error("an annotation that names an unknown task is not reported")
	}
	if got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) { job.Annotations = nil }); hasCondition(got, v1alpha1.ConditionInvalidAnnotation) {
		t.Error("the condition is not removed with the annotation")
	}
	got = p.changeAndPass(name, func(job *v1alpha1.BatchJob) {
		job.Spec.Terminate, job.Spec.TTLSecondsAfterFinished = true, new(int64(1))
	})
	if got != nil {
		t.Errorf("a job still exists after its TTL: %s", got.Status.State)
	}
}

func hasCondition(job *v1alpha1.BatchJob, kind string) bool {
	return meta.IsStatusConditionTrue(job.Status.Conditions, kind)
}

// grantNodeToLarge: when a ComputeEnv gets a node, the first job in the queue gets it, and no other job is read. Of the jobs
// that were created in the same second, any one may be the first.
func grantNodeToLarge(p *process, names []string) {
	e, t := p.e, p.e.t
	t.Helper()
	reads := e.countReads(p)
	pool := e.pool("pool", 1)
	p.pool.EnvChanged(pool)
	p.passEach(append([]string{"first"}, names...)...)
	if pods := e.Pods(t, e.ns); len(pods) != 1 || *reads != 1 {
		t.Errorf("for one node %d jobs were read, and there are %d Pods", *reads, len(pods))
	}
}

// TestHostileLargeJobsAtStart: a starting manager reads large jobs one by one, and never has many of them in memory, neither
// from a stream nor from a list of an API server that cannot stream.
func TestHostileLargeJobsAtStart(t *testing.T) {
	const n = 100
	e := newTestEnv(t)
	e.createMany(func(name string) *testutil.JobBuilder { return largeJob(name).Suspended() }, jobNames(n))
	whole := plan.MemorySize(e.job("large-0"))
	for name, most := range map[string]int64{"stream": 16 << 20, "list": 40 << 20} {
		t.Run(name, func(t *testing.T) {
			config := rest.CopyConfig(e.Config)
			if name == "list" {
				config.Wrap(refuseStreams)
			}
			options := cacheOf(e.ns)
			options.Scheme, options.NewInformer = e.Scheme, NewInformer
			c, err := cache.New(config, options)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.GetInformer(t.Context(), &v1alpha1.BatchJob{}, cache.BlockUntilSynced(false)); err != nil {
				t.Fatal(err)
			}
			// With frequent garbage collections the heap is close to what is needed at once.
			defer debug.SetGCPercent(debug.SetGCPercent(10))
			before := heap()
			ctx, cancel := context.WithCancel(t.Context())
			peak, ended := make(chan int64), make(chan error)
			go func() { peak <- peakHeap(ctx) }()
			go func() { ended <- c.Start(ctx) }()
			synced := c.WaitForCacheSync(ctx)
			var list v1alpha1.BatchJobList
			err = c.List(ctx, &list, client.InNamespace(e.ns))
			cancel()
			grew := <-peak - before
			if err := errors.Join(err, <-ended); err != nil || !synced || len(list.Items) != n {
				t.Fatalf("synced %t, %d jobs, %v", synced, len(list.Items), err)
			}
			for i := range list.Items {
				if !plan.IsOutline(&list.Items[i]) {
					t.Fatalf("job %s is whole", list.Items[i].Name)
				}
			}
			t.Logf("%d jobs of %d bytes in memory each: at most %d MiB at once", n, whole, grew>>20)
			if all := int64(n * whole); grew > most || all < 2*most {
				t.Errorf("%d MiB are needed at once, want at most %d; all jobs take %d", grew>>20, most>>20, all>>20)
			}
		})
	}
}

// peakHeap returns the largest size of the heap until ctx ends.
func peakHeap(ctx context.Context) (most int64) {
	for ctx.Err() == nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, int64(m.HeapAlloc))
		time.Sleep(time.Millisecond)
	}
	return most
}

// TestHostileLargeJobsStarted: the large jobs of one namespace start only while there is memory left. The others report what
// they wait for, and are not read while they wait. A job of another namespace starts immediately. When a job has ended the
// next one starts.
func TestHostileLargeJobsStarted(t *testing.T) {
	e := newTestEnv(t)
	p := e.start(nil)
	names := jobNames(4)
	for _, name := range names { // one after the other, since their age orders the queue
		if err := e.Create(context.Background(), largeJob(name).New(e.ns)); err != nil {
			t.Fatal(err)
		}
	}
	size := plan.StartedSize(e.job(names[0]))
	p.limitStarted(5 * size)
	started := func() (out []string) {
		for _, name := range names {
			if job := e.job(name); plan.HasClaims(&job.Status) {
				out = append(out, name)
			}
		}
		return out
	}
	p.passEach(names...)
	p.passEach(names...)
	if got := started(); !slices.Equal(got, names[:2]) { // with a third job less memory would be left than one job needs
		t.Fatalf("%q have started", got)
	}
	waits := e.job(names[3]).Status
	if waits.State != v1alpha1.JobRunnable || waits.Reason != v1alpha1.ReasonOperatorMemory {
		t.Errorf("a waiting job is %s, %s", waits.State, waits.Reason)
	}
	t.Logf("%s", waits.Message)
	if want := fmt.Sprintf("task \"t0\": %s", noMemory(size, 5*size)); waits.Message != want {
		t.Errorf("the message is %q, want %q", waits.Message, want)
	}
	reads := e.countReads(p)
	for range 3 {
		e.clock.SetTime(e.clock.Now().Add(2 * memoryRetry))
		p.passEach(names[2:]...)
	}
	if *reads != 0 {
		t.Errorf("waiting jobs were read %d times", *reads)
	}
	other := membudget.Job{Name: types.NamespacedName{Namespace: "another", Name: "large"}, Size: size}
	if !p.large.started.Ask(other) {
		t.Error("the first job of another namespace waits")
	}
	p.large.started.Release(other.Name)

	// A new process continues with all started jobs, however much memory they take.
	p = e.start(nil)
	p.limitStarted(1)
	p.passEach(names...)
	if used, waiting := p.large.started.Used(); used != 2*size || waiting != 2 {
		t.Errorf("a new process has reserved %d bytes, and %d jobs wait; want %d and 2", used, waiting, 2*size)
	}
	p = e.start(nil)
	p.limitStarted(5 * size)
	p.passEach(names...)
	p.changeAndPass(names[0], func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true })
	if p.passEach(names...); !slices.Equal(started(), names[1:3]) {
		t.Errorf("when the first has ended, %q have started", started())
	}
}

// limitStarted sets how much memory the large jobs that have started may take.
func (p *process) limitStarted(bytes int) {
	p.large.started = membudget.NewShares(bytes)
	p.large.started.OnWake(func(j membudget.Job) { p.queue.wake(j.Name, j.Priority) })
}

// refuseStreams wraps a transport so that the API server looks like one that cannot stream lists.
func refuseStreams(rt http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Query().Get("sendInitialEvents") == "" {
			return rt.RoundTrip(req)
		}
		body := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"sendInitialEvents is forbidden"}`
		return &http.Response{
			StatusCode: http.StatusUnprocessableEntity, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
			Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
