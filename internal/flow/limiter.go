// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// tolerance is by what part the limit grows after a round of calls that took no longer than minRTT.
	// Where they take 1/(1-tolerance) times as long, the limit stays as it is. The average of a round
	// may be a quarter off, and must not stop the growth for that.
	tolerance = 0.35
	// A round has this many samples, or takes this long if it has twice as many as the limit.
	minSamples = 64
	maxRound   = 2 * time.Second
	// minRTTInterval is how often the limit falls to the min limit for one round, to measure minRTT, and
	// minRTTWindow how long a measurement counts at least. Until then a server whose calls have become
	// slow for good is taken for an overloaded one.
	minRTTInterval = 30 * time.Second
	minRTTWindow   = 2 * time.Minute
)

// Limiter is an adaptive concurrency limit: it bounds how many calls of one kind are in flight, by a
// gradient of their latency. Its methods may be called concurrently.
//
// Where calls take long for a reason that is not the server's load, as with a webhook that is far
// away, more concurrency means more throughput. Where the server is overloaded it does not: each call
// only waits for all others, and the calls of everybody else wait with them. So the limit follows the
// ratio of minRTT, the lowest average latency of the last minutes, to the latency now. The limit falls
// to the min limit from time to time to measure minRTT again, because the latency of calls that wait
// for nothing can change as well.
type Limiter struct {
	minLimit, maxLimit int
	clock              clock.PassiveClock

	mu       sync.Mutex
	inFlight int
	queue    []chan struct{} // the calls that wait, in order
	limit    float64         // rounded down
	epoch    int             // counts the changes of limit
	samples  int             // the calls that were measured in this round
	sum      time.Duration   // of their latencies
	minRTT   windowedMin     // of the average latency of a round, in nanoseconds
	measured time.Time       // when limit was minLimit
	resume   float64         // the limit before it was lowered to measure minRTT; 0 otherwise
}

// NewLimiter returns a limiter of minLimit to maxLimit concurrent calls, which starts with minLimit. It
// needs 1 <= minLimit <= maxLimit.
func NewLimiter(minLimit, maxLimit int, c clock.PassiveClock) *Limiter {
	return &Limiter{minLimit: minLimit, maxLimit: maxLimit, clock: c, limit: float64(minLimit), measured: c.Now()}
}

// SetMinLimit changes the min limit. The limit follows it at once, unless it has grown to twice the
// old min limit, as it does only where more concurrency does not slow the calls down.
func (l *Limiter) SetMinLimit(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == l.minLimit {
		return
	}
	limit := max(l.limit, float64(n))
	if max(l.limit, l.resume) < 2*float64(l.minLimit) {
		limit, l.resume = float64(n), 0
	}
	l.minLimit = n
	if int(limit) != int(l.limit) {
		l.epoch++
		l.samples, l.sum, l.measured = 0, 0, l.clock.Now()
	}
	l.limit = limit
	l.admit()
}

// Acquire waits until one more call may be in flight, and returns a function that must be called once,
// when the call has ended. sampled says that the latency of the call is typical of its kind; that of a
// failed call may not be.
//
// Calls are admitted first come, first served. A caller with many calls should wait with one of them
// at a time: then all callers take turns.
func (l *Limiter) Acquire() (release func(sampled bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 || l.inFlight >= int(l.limit) {
		admitted := make(chan struct{})
		l.queue = append(l.queue, admitted)
		l.mu.Unlock()
		<-admitted
		l.mu.Lock()
	} else {
		l.inFlight++
	}
	start, epoch := l.clock.Now(), l.epoch
	// A latency says something about the limit only where the limit is reached.
	full := l.inFlight >= int(l.limit)
	return func(sampled bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.inFlight--
		if sampled && full && epoch == l.epoch {
			now := l.clock.Now()
			l.sample(now, now.Sub(start))
		}
		l.admit()
	}
}

// Do makes the calls do(0) to do(n-1), as many concurrently as the limiter allows, and joins the errors.
func (l *Limiter) Do(n int, do func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		release := l.Acquire()
		wg.Go(func() {
			errs[i] = do(i)
			release(errs[i] == nil)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// admit admits calls from the queue up to the limit.
func (l *Limiter) admit() {
	for len(l.queue) > 0 && l.inFlight < int(l.limit) {
		close(l.queue[0])
		l.queue = l.queue[1:]
		l.inFlight++
	}
}

// sample adds the latency of one call, and sets a new limit at the end of each round.
func (l *Limiter) sample(now time.Time, latency time.Duration) {
	l.samples++
	l.sum += latency
	elapsed := l.sum / time.Duration(l.limit) // limit calls are in flight at a time
	if l.samples < 2*int(l.limit) || l.samples < minSamples && elapsed < maxRound {
		return
	}
	average := max(float64(l.sum)/float64(l.samples), 1)
	l.samples, l.sum = 0, 0
	l.minRTT.add(now, average)
	if int(l.limit) == l.minLimit {
		l.measured = now
	}
	next := l.limit
	switch {
	case l.resume > 0:
		next, l.resume = l.resume, 0
	case now.Sub(l.measured) >= minRTTInterval:
		next, l.resume = float64(l.minLimit), l.limit
	default:
		next *= l.minRTT.value()/average + tolerance
	}
	next = min(max(next, float64(l.minLimit)), float64(l.maxLimit))
	if int(next) != int(l.limit) {
		l.epoch++
	}
	l.limit = next
}

// windowedMin is the lowest of the numbers of the last one or two minRTTWindows. The zero value has none.
type windowedMin struct {
	previous, current float64 // 0 for none
	since             time.Time
}

func (w *windowedMin) add(now time.Time, x float64) {
	switch {
	case w.current == 0:
		w.current, w.since = x, now
	case now.Sub(w.since) >= minRTTWindow:
		w.previous, w.current, w.since = w.current, x, now
	default:
		w.current = min(w.current, x)
	}
}

func (w *windowedMin) value() float64 {
	if w.previous == 0 {
		return w.current
	}
	return min(w.previous, w.current)
}
