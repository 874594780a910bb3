// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package limit

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
	calls     int // that were begun
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
			end := l.Begin()
			wg.Go(func() {
				s.call()
				end(true)
			})
		}
	})
	return func() { close(done); wg.Wait() }
}

func (l *Limiter) limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.size)
}

// average is that of the limit in the next d.
func average(l *Limiter, d time.Duration) float64 {
	const every = 50 * time.Millisecond
	sum, n := 0, 0
	for range d / every {
		time.Sleep(every)
		sum += l.limit()
		n++
	}
	return float64(sum) / float64(n)
}

const (
	testLeast = 4
	testMost  = 64
)

// TestBusy: where the server is the bottleneck there are few calls under way, and it has as much
// to do as with many.
func TestBusy(t *testing.T) {
	const runs, minute = 10, 12_000
	var sum float64
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(seed, 5*time.Millisecond, 0)
			l := New(testLeast, testMost, clock.RealClock{})
			stop := load(l, s)
			defer stop()
			sum += average(l, time.Minute)
			if got := s.made(); got < 0.92*minute {
				t.Errorf("seed %d: got %d calls in a minute, want about %d", seed, got, minute)
			}
		})
	}
	if got := sum / runs; got > 2*testLeast {
		t.Errorf("got %.1f calls under way on average, want about %d", got, testLeast)
	}
}

// TestFar: where calls take long but are no burden, there are soon many.
func TestFar(t *testing.T) {
	const runs = 10
	var sum float64
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			l := New(testLeast, testMost, clock.RealClock{})
			stop := load(l, newServer(seed, 100*time.Microsecond, 100*time.Millisecond))
			defer stop()
			time.Sleep(20 * time.Second)
			sum += average(l, time.Minute)
		})
	}
	if got := sum / runs; got < 0.75*testMost {
		t.Errorf("got %.1f calls under way on average, want about %d", got, testMost)
	}
}

// TestChange: what calls take in themselves may change, for better or worse.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const times = 10
		s := newServer(1, time.Millisecond, 0)
		l := New(testLeast, testMost, clock.RealClock{})
		stop := load(l, s)
		defer stop()
		var busy, far float64
		for range times {
			s.set(3*time.Millisecond, 0)
			time.Sleep(time.Minute)
			busy += average(l, time.Minute)
			s.set(100*time.Microsecond, 200*time.Millisecond)
			time.Sleep(2 * memory)
			far += average(l, time.Minute)
		}
		if got := busy / times; got > 2.5*testLeast {
			t.Errorf("busy: got %.1f calls under way on average, want about %d", got, testLeast)
		}
		if got := far / times; got < 0.7*testMost {
			t.Errorf("far: got %.1f calls under way on average, want about %d", got, testMost)
		}
	})
}

// TestLittle: who makes fewer calls at once than he may says nothing about more.
func TestLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(testLeast, testMost, clock.RealClock{})
		for range 1000 {
			end := l.Begin()
			time.Sleep(time.Millisecond)
			end(true)
		}
		if got := l.limit(); got != testLeast {
			t.Errorf("got a limit of %d, want %d", got, testLeast)
		}
	})
}

// TestFailed: calls that fail at once are no reason to make more of them.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(testLeast, testMost, clock.RealClock{})
		var wg sync.WaitGroup
		for range 1000 {
			end := l.Begin()
			wg.Go(func() {
				time.Sleep(time.Microsecond)
				end(false)
			})
		}
		wg.Wait()
		if got := l.limit(); got != testLeast {
			t.Errorf("got a limit of %d, want %d", got, testLeast)
		}
	})
}

// TestSetLeast: a limit that is the least follows it at once, and who waits with it; one that has
// grown stays.
func TestSetLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(16, testMost, clock.RealClock{})
		stop := load(l, newServer(1, 5*time.Millisecond, 0))
		defer stop()
		time.Sleep(10 * time.Second)
		for range 3 {
			l.SetLeast(2)
			time.Sleep(time.Second) // those under way end
			if got := average(l, 5*time.Second); got > 4 {
				t.Errorf("got %.1f calls under way with a least of 2", got)
			}
			l.SetLeast(16)
			if got := average(l, 5*time.Second); got < 16 || got > 32 {
				t.Errorf("got %.1f calls under way with a least of 16", got)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := New(2, testMost, clock.RealClock{})
		var ends []func(bool)
		for range 2 {
			ends = append(ends, l.Begin())
		}
		begun := 0
		for range 3 {
			go func() {
				l.Begin()
				begun++
			}()
			synctest.Wait()
		}
		l.SetLeast(4)
		synctest.Wait()
		if begun != 2 {
			t.Errorf("%d of those who waited were served, want 2", begun)
		}
		for _, end := range ends {
			end(true)
		}
		synctest.Wait()
		if begun != 3 {
			t.Errorf("%d of those who waited were served, want 3", begun)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := New(16, testMost, clock.RealClock{})
		stop := load(l, newServer(1, 100*time.Microsecond, 100*time.Millisecond))
		defer stop()
		time.Sleep(20 * time.Second)
		l.SetLeast(2)
		if got := average(l, 5*time.Second); got < 0.75*testMost {
			t.Errorf("got %.1f calls under way with a server that is far away, want about %d", got, testMost)
		}
	})
}

// TestTurns: who has one call to make waits for one of everybody else, however many they have,
// and never are more under way than may be.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const others = 5
		l := New(2, 2, clock.RealClock{})
		var mu sync.Mutex
		var underWay, most int
		call := func() {
			mu.Lock()
			underWay++
			most = max(most, underWay)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			underWay--
			mu.Unlock()
		}
		var wg sync.WaitGroup
		for range others {
			wg.Go(func() {
				for range 1000 {
					end := l.Begin()
					wg.Go(func() {
						call()
						end(true)
					})
				}
			})
		}
		time.Sleep(15 * time.Millisecond)
		begin := time.Now()
		end := l.Begin()
		waited := time.Since(begin)
		call()
		end(true)
		wg.Wait()
		// Two at once: those under way, and then one of each other.
		if want := (1 + (others+1)/2) * 10 * time.Millisecond; waited > want {
			t.Errorf("waited for %v, want at most %v", waited, want)
		}
		if most != 2 {
			t.Errorf("got %d calls under way, want 2", most)
		}
		if got, want := time.Since(begin), others*1000/2*10*time.Millisecond; got > want {
			t.Errorf("all took %v, want at most %v: slots were lost", got, want)
		}
	})
}

func BenchmarkBegin(b *testing.B) {
	l := New(testLeast, testMost, clock.RealClock{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Begin()(true)
		}
	})
}
