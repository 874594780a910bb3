// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

// server has one processor, on which a call takes work on average, and is so far away that each
// takes way on average beside. Times vary: some calls take several times as long as most.
type server struct {
	sync.Mutex
	work, way time.Duration
	rand      *rand.Rand
	processor chan struct{}
	calls     int // that were admitted
}

func newServer(seed uint64, work, way time.Duration) *server {
	return &server{work: work, way: way, rand: rand.New(rand.NewPCG(seed, 0)), processor: make(chan struct{}, 1)}
}

func (s *server) call() {
	s.Lock()
	s.calls++
	work, way := time.Duration(float64(s.work)*s.rand.ExpFloat64()), time.Duration(float64(s.way)*(0.3+0.7*s.rand.ExpFloat64()))
	s.Unlock()
	time.Sleep(way)
	s.processor <- struct{}{}
	time.Sleep(work)
	<-s.processor
}

func (s *server) set(work, way time.Duration) {
	s.Lock()
	defer s.Unlock()
	s.work, s.way = work, way
}

func (s *server) made() int {
	s.Lock()
	defer s.Unlock()
	return s.calls
}

// load makes calls, waiting with one at a time, until it is stopped.
func load(l *Limiter, s *server) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			release := l.Acquire()
			wg.Go(func() {
				s.call()
				release(true)
			})
		}
	})
	return func() { close(done); wg.Wait() }
}

func (l *Limiter) current() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.limit)
}

// average is that of the limit in the next d.
func average(l *Limiter, d time.Duration) float64 {
	const every = 50 * time.Millisecond
	sum, n := 0, 0
	for range d / every {
		time.Sleep(every)
		sum += l.current()
		n++
	}
	return float64(sum) / float64(n)
}

const (
	testMin = 4
	testMax = 64
)

// TestBusy: where the server is the bottleneck few calls are in flight, and its throughput is that of
// many.
func TestBusy(t *testing.T) {
	const runs, minute = 10, 12_000
	var sum float64
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(seed, 5*time.Millisecond, 0)
			l := NewLimiter(testMin, testMax, clock.RealClock{})
			stop := load(l, s)
			defer stop()
			sum += average(l, time.Minute)
			if got := s.made(); got < 0.92*minute {
				t.Errorf("seed %d: got %d calls in a minute, want about %d", seed, got, minute)
			}
		})
	}
	if got := sum / runs; got > 2*testMin {
		t.Errorf("got %.1f calls in flight on average, want about %d", got, testMin)
	}
}

// TestFar: where calls take long but are no burden, there are soon many.
func TestFar(t *testing.T) {
	const runs = 10
	var sum float64
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			l := NewLimiter(testMin, testMax, clock.RealClock{})
			stop := load(l, newServer(seed, 100*time.Microsecond, 100*time.Millisecond))
			defer stop()
			time.Sleep(20 * time.Second)
			sum += average(l, time.Minute)
		})
	}
	if got := sum / runs; got < 0.75*testMax {
		t.Errorf("got %.1f calls in flight on average, want about %d", got, testMax)
	}
}

// TestChange: what calls take in themselves may change, for better or worse.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const times = 10
		s := newServer(1, time.Millisecond, 0)
		l := NewLimiter(testMin, testMax, clock.RealClock{})
		stop := load(l, s)
		defer stop()
		var busy, far float64
		for range times {
			s.set(3*time.Millisecond, 0)
			time.Sleep(time.Minute)
			busy += average(l, time.Minute)
			s.set(100*time.Microsecond, 200*time.Millisecond)
			time.Sleep(2 * minRTTWindow)
			far += average(l, time.Minute)
		}
		if got := busy / times; got > 2.5*testMin {
			t.Errorf("busy: got %.1f calls in flight on average, want about %d", got, testMin)
		}
		if got := far / times; got < 0.7*testMax {
			t.Errorf("far: got %.1f calls in flight on average, want about %d", got, testMax)
		}
	})
}

// TestLittle: calls below the limit do not raise it.
func TestLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(testMin, testMax, clock.RealClock{})
		for range 1000 {
			release := l.Acquire()
			time.Sleep(time.Millisecond)
			release(true)
		}
		if got := l.current(); got != testMin {
			t.Errorf("got a limit of %d, want %d", got, testMin)
		}
	})
}

// TestFailed: calls that fail at once are no reason to make more of them.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(testMin, testMax, clock.RealClock{})
		var wg sync.WaitGroup
		for range 1000 {
			release := l.Acquire()
			wg.Go(func() {
				time.Sleep(time.Microsecond)
				release(false)
			})
		}
		wg.Wait()
		if got := l.current(); got != testMin {
			t.Errorf("got a limit of %d, want %d", got, testMin)
		}
	})
}

// TestSetMinLimit: a limit that is the min limit follows it at once, and waiting calls are admitted; one that has
// grown stays.
func TestSetMinLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(16, testMax, clock.RealClock{})
		stop := load(l, newServer(1, 5*time.Millisecond, 0))
		defer stop()
		time.Sleep(10 * time.Second)
		for range 3 {
			l.SetMinLimit(2)
			time.Sleep(time.Second) // those in flight end
			if got := average(l, 5*time.Second); got > 4 {
				t.Errorf("got %.1f calls in flight with a min limit of 2", got)
			}
			l.SetMinLimit(16)
			if got := average(l, 5*time.Second); got < 16 || got > 32 {
				t.Errorf("got %.1f calls in flight with a min limit of 16", got)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(2, testMax, clock.RealClock{})
		var releases []func(bool)
		for range 2 {
			releases = append(releases, l.Acquire())
		}
		admitted := 0
		for range 3 {
			go func() {
				l.Acquire()
				admitted++
			}()
			synctest.Wait()
		}
		l.SetMinLimit(4)
		synctest.Wait()
		if admitted != 2 {
			t.Errorf("%d of those who waited were served, want 2", admitted)
		}
		for _, release := range releases {
			release(true)
		}
		synctest.Wait()
		if admitted != 3 {
			t.Errorf("%d of those who waited were served, want 3", admitted)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(16, testMax, clock.RealClock{})
		stop := load(l, newServer(1, 100*time.Microsecond, 100*time.Millisecond))
		defer stop()
		time.Sleep(20 * time.Second)
		l.SetMinLimit(2)
		if got := average(l, 5*time.Second); got < 0.75*testMax {
			t.Errorf("got %.1f calls in flight with a server that is far away, want about %d", got, testMax)
		}
	})
}

// TestTurns: a caller with one call waits for one call of each other caller, however many those have,
// and no more calls are in flight than the limit allows.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const others = 5
		l := NewLimiter(2, 2, clock.RealClock{})
		var mu sync.Mutex
		var inFlight, highest int
		call := func() {
			mu.Lock()
			inFlight++
			highest = max(highest, inFlight)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			inFlight--
			mu.Unlock()
		}
		var wg sync.WaitGroup
		for range others {
			wg.Go(func() {
				for range 1000 {
					release := l.Acquire()
					wg.Go(func() {
						call()
						release(true)
					})
				}
			})
		}
		time.Sleep(15 * time.Millisecond)
		begin := time.Now()
		release := l.Acquire()
		waited := time.Since(begin)
		call()
		release(true)
		wg.Wait()
		// Two at once: those in flight, and then one of each other caller.
		if want := (1 + (others+1)/2) * 10 * time.Millisecond; waited > want {
			t.Errorf("waited for %v, want at most %v", waited, want)
		}
		if highest != 2 {
			t.Errorf("got %d calls in flight, want 2", highest)
		}
		if got, want := time.Since(begin), others*1000/2*10*time.Millisecond; got > want {
			t.Errorf("all took %v, want at most %v: slots were lost", got, want)
		}
	})
}

func BenchmarkAcquire(b *testing.B) {
	l := NewLimiter(testMin, testMax, clock.RealClock{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Acquire()(true)
		}
	})
}
