// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// newQueue returns a queue that is shut down at the end of the test.
func newQueue(t testing.TB, workers int, edit ...func(*Options)) *Queue {
	o := Options{
		Workers: workers, Clock: clock.RealClock{},
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute),
	}
	for _, f := range edit {
		f(&o)
	}
	q := New(o)
	t.Cleanup(q.ShutDown)
	return q
}

func request(namespace string, n int) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(n)}}
}

func add(q *Queue, priority int, requests ...reconcile.Request) {
	q.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, requests...)
}

func addAfter(q *Queue, priority int, after time.Duration, r reconcile.Request) {
	q.AddWithOpts(priorityqueue.AddOpts{Priority: &priority, After: after}, r)
}

// available returns the requests that idle workers are given now, in order.
func available(q *Queue) (out []reconcile.Request) {
	for {
		q.mu.Lock()
		ok := q.servable() != nil && len(q.processing) < q.workers
		q.mu.Unlock()
		if !ok {
			return out
		}
		r, _ := q.Get()
		out = append(out, r)
	}
}

// oneByOne hands out all that is ready, one after the other.
func oneByOne(q *Queue) (out []string) {
	for q.Len() > 0 {
		r, _ := q.Get()
		out = append(out, r.String())
		q.Done(r)
	}
	return out
}

func want[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// TestOrder: by priority and then as they came within a namespace, and in turn between them.
func TestOrder(t *testing.T) {
	q := newQueue(t, 1)
	add(q, 100, request("a", 1), request("a", 2))
	add(q, 1, request("b", 1))
	add(q, 2, request("b", 2))
	add(q, 100, request("a", 3))
	add(q, -100, request("c", 1))
	want(t, "order", oneByOne(q), "a/1", "b/2", "c/1", "a/2", "b/1", "a/3")

	add(q, -100, request("a", 1))
	add(q, 1, request("a", 2), request("a", 3), request("a", 4))
	add(q, 7, request("a", 1), request("a", 3))
	add(q, 0, request("a", 3)) // does not lower it
	want(t, "with priorities raised", oneByOne(q), "a/1", "a/3", "a/2", "a/4")

	q.Add(request("a", 1))
	if _, priority, _ := q.GetWithPriority(); priority != 0 {
		t.Errorf("got priority %d of Add, want 0", priority)
	}
}

// TestOnce: a request is handed out once, however often it was added, and not to two at once.
func TestOnce(t *testing.T) {
	q := newQueue(t, 8)
	r := request("a", 1)
	q.Add(r)
	q.Add(r)
	want(t, "added twice", available(q), r)
	q.Add(r)
	add(q, 5, r)
	if q.Len() != 0 {
		t.Errorf("got length %d while it is processed, want 0", q.Len())
	}
	want(t, "added while it is processed", available(q))
	q.Done(r)
	want(t, "done", available(q), r)
	q.Done(r)
	q.Done(r) // once too often
	want(t, "done again", available(q))
	if len(q.items)+len(q.processing)+len(q.namespaces)+len(q.active) != 0 {
		t.Errorf("left behind: %v %v %v", q.items, q.processing, q.namespaces)
	}
}

// TestAfter: the earliest time counts, and the highest priority.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 8)
		begin := time.Now()
		one, two, three := request("a", 1), request("a", 2), request("b", 3)
		get := func(what string, after time.Duration, r reconcile.Request) {
			t.Helper()
			got, shutdown := q.Get()
			if got != r || shutdown || time.Since(begin) != after {
				t.Errorf("%s: got %s after %s, want %s after %s", what, got, time.Since(begin), r, after)
			}
		}
		q.AddAfter(one, 3*time.Second)
		q.AddAfter(one, 2*time.Second)
		q.AddAfter(one, 4*time.Second)
		get("the earliest of three times", 2*time.Second, one)

		q.AddAfter(one, time.Second)
		q.AddAfter(two, time.Second)
		q.Add(two)
		get("now is the earliest", 2*time.Second, two)
		time.Sleep(2 * time.Second)
		want(t, "ready, but being processed", available(q))
		q.Done(one)
		get("when it is done", 4*time.Second, one)
		q.Done(one)
		q.Done(two)

		q.Add(two)
		q.AddAfter(two, time.Second) // is ready already
		get("now, and later", 4*time.Second, two)
		q.Done(two)
		addAfter(q, 1, time.Second, one)
		addAfter(q, 2, time.Second, two)
		addAfter(q, 3, 2*time.Second, one)
		addAfter(q, 0, 500*time.Millisecond, three)
		get("the first", 4500*time.Millisecond, three)
		get("by priority", 5*time.Second, one)
		get("and the other", 5*time.Second, two)
		q.AddAfter(request("c", 1), -time.Second)
		get("a time that is past", 5*time.Second, request("c", 1))
		if len(q.delayed) != 0 || q.timer != nil {
			t.Errorf("%d requests wait for a timer %v", len(q.delayed), q.timer)
		}
	})
}

// TestRateLimited: failures in a row wait ever longer, until they are forgotten.
func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 8)
		r := request("a", 1)
		for n, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			begin := time.Now()
			q.AddRateLimited(r)
			if got, _ := q.Get(); got != r || time.Since(begin) != wait || q.NumRequeues(r) != n+1 {
				t.Errorf("failure %d: got %s after %s, %d requeues; want a wait of %s", n+1, got, time.Since(begin), q.NumRequeues(r), wait)
			}
			q.Done(r)
		}
		q.Forget(r)
		begin := time.Now()
		q.AddWithOpts(priorityqueue.AddOpts{RateLimited: true, After: time.Hour}, r)
		if _, _ = q.Get(); time.Since(begin) != time.Second || q.NumRequeues(r) != 1 {
			t.Errorf("got it after %s, want the earlier time, 1 s", time.Since(begin))
		}
	})
}

// TestShutDown: those who wait go home, and nothing is added or handed out any more.
func TestShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 4)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if r, shutdown := q.Get(); !shutdown {
					t.Errorf("got %s", r)
				}
			})
		}
		synctest.Wait()
		q.AddAfter(request("a", 1), time.Second)
		q.ShutDown()
		wg.Wait()
		q.Add(request("a", 2))
		time.Sleep(2 * time.Second)
		if r, shutdown := q.Get(); !shutdown || q.Len() != 0 || !q.ShuttingDown() {
			t.Errorf("got %s of %d", r, q.Len())
		}

		q = newQueue(t, 4)
		q.Add(request("a", 1))
		q.ShutDown()
		if r, shutdown := q.Get(); !shutdown {
			t.Errorf("got %s, want what was ready to stay", r)
		}
	})
}

// TestDrain: all that was added before is processed, and what was added again meanwhile.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 4)
		for n := range 10 {
			q.Add(request("a", n))
		}
		processed := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					r, shutdown := q.Get()
					if shutdown {
						return
					}
					mu.Lock()
					processed++
					if processed == 1 {
						q.Add(r)
					}
					mu.Unlock()
					time.Sleep(time.Second)
					q.Done(r)
				}
			})
		}
		synctest.Wait()
		q.ShutDownWithDrain()
		wg.Wait()
		if processed != 11 || q.Len() != 0 {
			t.Errorf("got %d processed and %d left, want 11 and 0", processed, q.Len())
		}

		q = newQueue(t, 4)
		q.Add(request("a", 1))
		go q.ShutDownWithDrain() // nobody processes it
		synctest.Wait()
		q.ShutDown()
		synctest.Wait() // else the bubble deadlocks
	})
}

// busy returns for how many requests of each namespace workers are busy.
func busy(requests []reconcile.Request) map[string]int {
	out := map[string]int{}
	for _, r := range requests {
		out[r.Namespace]++
	}
	return out
}

// TestShares: what part of the workers each of n namespaces gets that could use all of them.
func TestShares(t *testing.T) {
	for _, tc := range []struct{ workers, namespaces, least, most, idle int }{
		{32, 1, 16, 16, 16},
		{32, 2, 11, 11, 10},
		{32, 3, 8, 8, 8},
		{32, 31, 1, 1, 1},
		{32, 32, 1, 1, 0},
		{32, 40, 0, 1, 0},
		{1, 1, 1, 1, 0},
		{2, 1, 1, 1, 1},
		{3, 1, 2, 2, 1},
		{1, 5, 0, 1, 0},
	} {
		q := newQueue(t, tc.workers)
		for n := range tc.namespaces {
			for i := range 2 * tc.workers {
				add(q, n*1000, request(fmt.Sprint(n), i))
			}
		}
		got := available(q)
		by := busy(got)
		for n := range tc.namespaces {
			if b := by[fmt.Sprint(n)]; b < tc.least || b > tc.most {
				t.Errorf("%d workers, %d namespaces: one has %d, want %d to %d", tc.workers, tc.namespaces, b, tc.least, tc.most)
			}
		}
		if idle := tc.workers - len(got); idle != tc.idle {
			t.Errorf("%d workers, %d namespaces: %d are idle, want %d", tc.workers, tc.namespaces, idle, tc.idle)
		}
	}
}

// simulation is workers that take a while for each request.
type simulation struct {
	*Queue
	takes func(reconcile.Request) time.Duration

	mu      sync.Mutex
	started []reconcile.Request
	wg      sync.WaitGroup
}

func simulate(t *testing.T, workers int, takes func(reconcile.Request) time.Duration) *simulation {
	s := &simulation{Queue: newQueue(t, workers), takes: takes}
	for range workers {
		s.wg.Go(func() {
			for {
				r, shutdown := s.Get()
				if shutdown {
					return
				}
				s.mu.Lock()
				s.started = append(s.started, r)
				s.mu.Unlock()
				time.Sleep(s.takes(r))
				s.Done(r)
			}
		})
	}
	return s
}

// startedAfter returns how many requests were started after the first n, up to the first of r, and
// whether that is among them.
func (s *simulation) startedAfter(n int, r reconcile.Request) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.started[n:], r)
	return at, at >= 0
}

func (s *simulation) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.started)
}

// TestHostileProducer: a tenant keeps 10,000 requests of the highest priority in the queue, whose
// processing takes as long as it can make it. Another one's single request of the lowest priority
// begins at once, and so does the next.
func TestHostileProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t, 32, func(r reconcile.Request) time.Duration {
			if r.Namespace == "hostile" {
				return 10 * time.Second
			}
			return 100 * time.Millisecond
		})
		flood := func() {
			for n := range 10_000 {
				add(s.Queue, 100, request("hostile", n))
			}
		}
		flood()
		for n := range 20 {
			time.Sleep(time.Second)
			flood()
			synctest.Wait()
			before := s.count()
			add(s.Queue, -100, request("victim", n))
			synctest.Wait()
			if others, ok := s.startedAfter(before, request("victim", n)); !ok || others > 0 {
				t.Errorf("request %d: started: %t, after %d others; want it first", n, ok, others)
			}
		}
		s.ShutDown()
		s.wg.Wait()
	})
}

// TestHostileNamespaces: with more hostile namespaces than workers, another one's request begins
// after one of each at most.
func TestHostileNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, hostile = 8, 50
		s := simulate(t, workers, func(reconcile.Request) time.Duration { return time.Second })
		for i := range 1000 {
			for n := range hostile {
				add(s.Queue, 100, request(fmt.Sprint("hostile-", n), i))
			}
		}
		for n := range 20 {
			time.Sleep(3*time.Second + time.Millisecond)
			synctest.Wait()
			before := s.count()
			add(s.Queue, 1, request("victim", n))
			time.Sleep(time.Duration(hostile/workers+1) * time.Second)
			synctest.Wait()
			if others, ok := s.startedAfter(before, request("victim", n)); !ok || others > hostile {
				t.Errorf("request %d: started: %t, after %d others; want %d at most", n, ok, others, hostile)
			}
		}
		s.ShutDown()
		s.wg.Wait()
	})
}

// TestAllWorkersWork: no signal is lost: whatever order things come in, everything is processed, as
// often as it must be and by one worker at a time, in the time that the shares allow.
func TestAllWorkersWork(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			random, work := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // work needs mu
			workers := 1 + random.IntN(9)
			var mu sync.Mutex
			at, running := map[reconcile.Request]time.Time{}, map[reconcile.Request]int{}
			s := simulate(t, workers, func(r reconcile.Request) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				at[r] = time.Now()
				if running[r]++; running[r] > 1 {
					t.Errorf("seed %d: %s is processed twice at once", seed, r)
				}
				d := time.Duration(1+work.IntN(50)) * time.Millisecond
				time.AfterFunc(d-1, func() {
					mu.Lock()
					defer mu.Unlock()
					running[r]--
				})
				return d
			})
			due := map[reconcile.Request]time.Time{}
			for range 300 {
				r := request(fmt.Sprint("ns-", random.IntN(4)), random.IntN(8))
				after := time.Duration(random.IntN(3)*random.IntN(200)) * time.Millisecond
				mu.Lock()
				if d, ok := due[r]; !ok || d.Before(time.Now().Add(after)) {
					due[r] = time.Now()
				}
				mu.Unlock()
				addAfter(s.Queue, random.IntN(5), after, r)
				time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
			}
			time.Sleep(time.Minute) // more than all of it takes one worker
			synctest.Wait()
			for r, d := range due {
				if at[r].Before(d) {
					t.Errorf("seed %d: %s was added at %s and last processed at %s", seed, r, d, at[r])
				}
			}
			s.ShutDown()
			s.wg.Wait()
			if len(s.items)+len(s.processing)+len(s.namespaces)+len(s.active)+len(s.delayed)+s.ready != 0 {
				t.Errorf("seed %d: left behind: %d items", seed, len(s.items))
			}
		})
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	q := newQueue(t, 8)
	var producers, consumers sync.WaitGroup
	for p := range 4 {
		producers.Go(func() {
			for n := range 1000 {
				r := request(fmt.Sprint("ns-", n%7), n%50)
				switch (n + p) % 4 {
				case 0:
					q.Add(r)
				case 1:
					add(q, n%3, r)
				case 2:
					addAfter(q, 1, time.Duration(n%5)*time.Microsecond, r)
				case 3:
					q.AddRateLimited(r)
					q.Forget(r)
				}
			}
		})
	}
	for range 8 {
		consumers.Go(func() {
			for {
				r, shutdown := q.Get()
				if shutdown {
					return
				}
				q.Done(r)
			}
		})
	}
	producers.Wait()
	q.ShutDownWithDrain()
	consumers.Wait()
}

// provider has the metrics of one queue.
type provider struct {
	depth, adds, retries, unfinished, longest gauge
	latency, work                             gauge
}

type gauge struct{ value, count float64 }

func (g *gauge) Inc()              { g.value++ }
func (g *gauge) Dec()              { g.value-- }
func (g *gauge) Set(x float64)     { g.value = x }
func (g *gauge) Observe(x float64) { g.value += x; g.count++ }

func (p *provider) NewDepthMetric(string) workqueue.GaugeMetric            { return &p.depth }
func (p *provider) NewAddsMetric(string) workqueue.CounterMetric           { return &p.adds }
func (p *provider) NewRetriesMetric(string) workqueue.CounterMetric        { return &p.retries }
func (p *provider) NewLatencyMetric(string) workqueue.HistogramMetric      { return &p.latency }
func (p *provider) NewWorkDurationMetric(string) workqueue.HistogramMetric { return &p.work }
func (p *provider) NewUnfinishedWorkSecondsMetric(string) workqueue.SettableGaugeMetric {
	return &p.unfinished
}
func (p *provider) NewLongestRunningProcessorSecondsMetric(string) workqueue.SettableGaugeMetric {
	return &p.longest
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		q := newQueue(t, 4, func(o *Options) { o.Metrics = p })
		check := func(when string, depth, adds, retries, latencies, works float64) {
			t.Helper()
			q.mu.Lock()
			defer q.mu.Unlock()
			got := []float64{p.depth.value, p.adds.value, p.retries.value, p.latency.count, p.work.count}
			want := []float64{depth, adds, retries, latencies, works}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", when, got, want)
			}
		}
		a, b := request("a", 1), request("a", 2)
		q.Add(a)
		q.Add(a)
		q.AddAfter(b, time.Second)
		check("one ready and one delayed", 1, 1, 1, 0, 0)
		time.Sleep(2 * time.Second)
		check("both ready", 2, 2, 1, 0, 0)
		q.Get()
		q.Get()
		q.Add(a)
		check("both processed and one added again", 1, 3, 1, 2, 0)
		if p.latency.value != 3 {
			t.Errorf("got %v s in the queue, want 3", p.latency.value)
		}
		time.Sleep(3 * time.Second)
		q.Done(b)
		time.Sleep(time.Second)
		synctest.Wait()
		check("one done", 1, 3, 1, 2, 1)
		if p.unfinished.value != 4 || p.longest.value != 4 || p.work.value != 3 {
			t.Errorf("got %v s unfinished, %v s the longest, %v s done; want 4, 4 and 3", p.unfinished.value, p.longest.value, p.work.value)
		}
		q.Done(a)
		q.Get()
		q.Done(a)
		check("all done", 0, 3, 1, 3, 3)
		q.ShutDown()
	})
}

// BenchmarkQueue hands out one request and adds it again, among so many in 100 namespaces.
func BenchmarkQueue(b *testing.B) {
	for _, size := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			q := newQueue(b, 32)
			requests := make([]reconcile.Request, size)
			for n := range requests {
				requests[n] = request(fmt.Sprint("ns-", n%100), n)
				add(q, n%101, requests[n])
			}
			b.ReportAllocs()
			for b.Loop() {
				r, priority, _ := q.GetWithPriority()
				add(q, priority, r)
				q.Done(r)
			}
		})
	}
}
