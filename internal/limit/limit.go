// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package limit bounds how many calls of one kind are under way at once, going by how long they
// take.
//
// Where calls take long for a reason that is not the server's load, as with a webhook that is far
// away, more of them at once get more done. Where the server is busy they do not: each only
// waits for all others, and the calls of everybody else wait with them. So what counts is how
// much longer a call takes than it took at best in the last minutes. To know that, the limit
// falls to its least from time to time: how long calls take in themselves changes.
package limit

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// growth is by what part the limit grows after a round of calls that took no longer than at
	// best. Where they take 1/(1-growth) times as long it stays as it is. An average of a round
	// may be a quarter off, and should not stop the growth for that.
	growth = 0.35
	// A round has so many calls, or takes so long if it has twice as many as may be under way.
	fewestSamples = 64
	longestRound  = 2 * time.Second
	// remeasureAfter is how often the limit falls to the least for a round, and memory how long
	// what was found is kept at least. Until then a server whose calls have become slow for good
	// is taken for one that is busy.
	remeasureAfter = 30 * time.Second
	memory         = 2 * time.Minute
)

// Limiter bounds the calls of one kind. Its methods may be called at the same time.
type Limiter struct {
	least, most int
	clock       clock.PassiveClock

	mu       sync.Mutex
	underWay int
	line     []chan struct{} // who waits, in order
	size     float64         // how many may be under way, rounded down
	epoch    int             // counts the changes of that
	count    int             // calls that were timed in this round
	took     time.Duration   // their sum
	best     lowest          // average of a round, in nanoseconds
	measured time.Time       // when the size was the least
	resume   float64         // the size before it was made the least to measure; 0 otherwise
}

// New returns a limiter of least to most calls at once, which begins with least. It needs
// 1 <= least <= most.
func New(least, most int, c clock.PassiveClock) *Limiter {
	return &Limiter{least: least, most: most, clock: c, size: float64(least), measured: c.Now()}
}

// SetLeast changes the least. The limit becomes the new one at once, unless it has grown to twice
// the old one, as it does only where calls take no longer for that.
func (l *Limiter) SetLeast(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == l.least {
		return
	}
	size := max(l.size, float64(n))
	if max(l.size, l.resume) < 2*float64(l.least) {
		size, l.resume = float64(n), 0
	}
	l.least = n
	if int(size) != int(l.size) {
		l.epoch++
		l.count, l.took, l.measured = 0, 0, l.clock.Now()
	}
	l.size = size
	l.serve()
}

// Begin waits until one more call may be under way, and returns what must be called once when it
// has ended. timed says that it took as long as calls of its kind do; one that failed need not.
//
// Those who wait are served in the order in which they came. Who has many calls to make should
// wait with one of them at a time: then all take turns.
func (l *Limiter) Begin() (end func(timed bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) > 0 || l.underWay >= int(l.size) {
		turn := make(chan struct{})
		l.line = append(l.line, turn)
		l.mu.Unlock()
		<-turn
		l.mu.Lock()
	} else {
		l.underWay++
	}
	begin, epoch := l.clock.Now(), l.epoch
	// Calls tell what it costs to have so many under way only where there are so many.
	full := l.underWay >= int(l.size)
	return func(timed bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.underWay--
		if timed && full && epoch == l.epoch {
			now := l.clock.Now()
			l.time(now, now.Sub(begin))
		}
		l.serve()
	}
}

// serve lets those go on who waited and need not any more.
func (l *Limiter) serve() {
	for len(l.line) > 0 && l.underWay < int(l.size) {
		close(l.line[0])
		l.line = l.line[1:]
		l.underWay++
	}
}

// time takes account of one call, and decides after each round.
func (l *Limiter) time(now time.Time, took time.Duration) {
	l.count++
	l.took += took
	lasted := l.took / time.Duration(l.size) // the calls of a round are under way size at a time
	if l.count < 2*int(l.size) || l.count < fewestSamples && lasted < longestRound {
		return
	}
	each := max(float64(l.took)/float64(l.count), 1)
	l.count, l.took = 0, 0
	l.best.add(now, each)
	if int(l.size) == l.least {
		l.measured = now
	}
	next := l.size
	switch {
	case l.resume > 0:
		next, l.resume = l.resume, 0
	case now.Sub(l.measured) >= remeasureAfter:
		next, l.resume = float64(l.least), l.size
	default:
		next *= l.best.value()/each + growth
	}
	next = min(max(next, float64(l.least)), float64(l.most))
	if int(next) != int(l.size) {
		l.epoch++
	}
	l.size = next
}

// lowest is the least of the numbers of the last memory or two. The zero value has none.
type lowest struct {
	before, recent float64 // 0 for none
	since          time.Time
}

func (l *lowest) add(now time.Time, x float64) {
	switch {
	case l.recent == 0:
		l.recent, l.since = x, now
	case now.Sub(l.since) >= memory:
		l.before, l.recent, l.since = l.recent, x, now
	default:
		l.recent = min(l.recent, x)
	}
}

func (l *lowest) value() float64 {
	if l.before == 0 {
		return l.recent
	}
	return min(l.before, l.recent)
}
