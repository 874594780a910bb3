// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// receiver is one receiver, with the streams that wait for a turn.
type receiver struct {
	key   string
	queue streamHeap
	// users is how many streams refer to the receiver, and running how many of them have a turn.
	users, running int
	// failures is how often sending has failed since the last success, failingSince since when, and lastError how.
	failures     int
	failingSince time.Time
	lastError    string
	// notBefore is when the next turn may start.
	notBefore time.Time
	// timeout is how long after an event it is sent.
	timeout time.Duration
}

// giveUpBefore returns the time before which events are overdue; zero if none are. While a receiver does not fail, or
// has just started to, all are sent: the operator may have been down for long.
func (r *receiver) giveUpBefore(now time.Time) time.Time {
	if r.failures == 0 || now.Sub(r.failingSince) < minFailing {
		return time.Time{}
	}
	return now.Add(-r.timeout)
}

// limit is how many turns the receiver may have at the same time.
func (r *receiver) limit() int {
	if r.failures > 0 {
		return 1
	}
	return maxTurnsOf
}

// succeeded ends a failure.
func (r *receiver) succeeded() {
	r.failures, r.failingSince, r.lastError, r.notBefore = 0, time.Time{}, "", time.Time{}
}

// failed notes a failure, and that the next turn waits for at least that long.
func (r *receiver) failed(now time.Time, text string, wait time.Duration) {
	if r.failures == 0 {
		r.failingSince = now
	}
	r.failures++
	r.lastError = text
	r.notBefore = now.Add(max(wait, backoff(r.failures)))
}

// backoff returns the wait after so many failures: it doubles from minBackoff to maxBackoff, and a fifth of it is random.
func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return d - time.Duration(rand.Int64N(int64(d)/5)) //nolint:gosec // jitter needs no secret
}

// enqueue gives a stream a turn, not before the given time. A stream that has one gets another when that ends.
func (d *Dispatcher) enqueue(s *stream, notBefore time.Time) {
	switch {
	case s.busy:
		s.again = true
		return
	case s.index >= 0:
		return
	}
	d.assign(s, d.keyOf(s.slot))
	d.push(s, notBefore)
}

// enqueueAt is enqueue after a turn with a receiver.
func (d *Dispatcher) enqueueAt(s *stream, r *receiver, notBefore time.Time) {
	if r.failures > 0 { // the catalogue may have another by now
		delete(d.keys, s.slot)
	}
	d.enqueue(s, notBefore)
}

// push adds a stream to the queue of its receiver.
func (d *Dispatcher) push(s *stream, notBefore time.Time) {
	d.sequence++
	s.notBefore, s.order = notBefore, d.sequence
	heap.Push(&s.receiver.queue, s)
	d.wakeUp()
}

// assign makes the stream one of the receiver with that key.
func (d *Dispatcher) assign(s *stream, key string) {
	if s.receiver != nil && s.receiver.key == key {
		return
	}
	d.release(s)
	r := d.receivers[key]
	if r == nil {
		r = &receiver{key: key}
		d.receivers[key] = r
	}
	r.users++
	s.receiver = r
}

// release removes the stream from its receiver.
func (d *Dispatcher) release(s *stream) {
	r := s.receiver
	if r == nil {
		return
	}
	if s.index >= 0 {
		heap.Remove(&r.queue, s.index)
	}
	if r.users--; r.users == 0 {
		delete(d.receivers, r.key)
	}
	s.receiver = nil
}

// drop forgets a stream. If a turn of it runs, that releases the receiver when it ends.
func (d *Dispatcher) drop(s *stream) {
	s.again = false
	if s.owner.streams[s.position] == s {
		delete(s.owner.streams, s.position)
	}
	if !s.busy {
		d.release(s)
	}
}

// keyOf returns the key of the receiver of a slot. A topic that cannot be opened is a receiver of its own.
func (d *Dispatcher) keyOf(at slot) string {
	now := d.config.Clock.Now()
	if known, ok := d.keys[at]; ok && now.Sub(known.at) < keyTime {
		return known.key
	}
	key := "closed " + at.namespace + "/" + at.topic + " " + at.sinkURL
	if t, err := d.config.Topics.Open(at.namespace, at.topic, at.sinkURL); err == nil {
		key = t.Key
		t.Release()
	}
	if len(d.keys) > maxKeys {
		clear(d.keys)
	}
	d.keys[at] = knownKey{key, now}
	return key
}

// maxKeys bounds the receivers of topics that are known.
const maxKeys = 4096

// next returns the stream that has its turn now, and makes it busy; nil if there is none, and then how long it is until
// there may be one; 0 means until Update brings one.
func (d *Dispatcher) next(now time.Time) (*stream, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running >= maxTurns {
		return nil, 0 // the end of a turn looks again
	}
	var first time.Duration
	var best *receiver
	for _, r := range d.receivers {
		if len(r.queue) == 0 || r.running >= r.limit() {
			continue
		}
		wait := max(r.queue[0].notBefore.Sub(now), r.notBefore.Sub(now))
		switch {
		case wait > 0 && (first == 0 || wait < first):
			first = wait
		case wait <= 0 && (best == nil || r.queue.less(r.queue[0], best.queue[0])):
			best = r
		}
	}
	if best == nil {
		return nil, first
	}
	s, _ := heap.Pop(&best.queue).(*stream)
	s.busy, s.again = true, false
	best.running++
	d.running++
	return s, 0
}

// wakeUp has the loop look for a turn.
func (d *Dispatcher) wakeUp() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// streamHeap orders streams by the time of their turn.
type streamHeap []*stream

func (h streamHeap) less(a, b *stream) bool {
	if !a.notBefore.Equal(b.notBefore) {
		return a.notBefore.Before(b.notBefore)
	}
	return a.order < b.order
}

func (h streamHeap) Len() int           { return len(h) }
func (h streamHeap) Less(i, j int) bool { return h.less(h[i], h[j]) }
func (h streamHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is that of heap.Interface.
func (h *streamHeap) Push(x any) {
	s, _ := x.(*stream)
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop is that of heap.Interface.
func (h *streamHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.index = -1
	return s
}
