// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/retry"
)

// Start sends events until ctx ends, and then waits for the turns that run.
func (d *Dispatcher) Start(ctx context.Context) error {
	ended := make(chan struct{}, maxTurns)
	running := 0
	for {
		s, wait := d.next(d.config.Clock.Now())
		if s != nil {
			running++
			go func() {
				d.turn(ctx, s)
				ended <- struct{}{}
			}()
			continue
		}
		if wait == 0 {
			wait = time.Hour // until something changes
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			for ; running > 0; running-- {
				<-ended
			}
			return nil
		case <-ended:
			running--
		case <-d.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// NeedLeaderElection is that of manager.LeaderElectionRunnable: only the leader sends.
func (d *Dispatcher) NeedLeaderElection() bool { return true }

// Step runs one turn if one is due, and reports whether there was one; if not, wait is how long it is until one is due, and
// 0 if none is known. It is for tests that use it instead of Start.
func (d *Dispatcher) Step(ctx context.Context) (ran bool, wait time.Duration) {
	s, wait := d.next(d.config.Clock.Now())
	if s == nil {
		return false, wait
	}
	d.turn(ctx, s)
	return true, 0
}

// result is how a turn ended.
type result struct {
	// acked and givenUp are events that were acknowledged, and that will not be sent again.
	acked, givenUp backlog.Acks
	// more says that the stream has more to send.
	more bool
	// err is why no more was acknowledged; refused says that the receiver refused an event.
	err     error
	refused bool
	// stale says that the cached object is too old, and gone that there is nothing to send.
	stale, gone bool
	// timeout is that of the topic: how long after an event it is sent.
	timeout time.Duration
}

// turn sends events of a stream, and notes what became of them.
func (d *Dispatcher) turn(ctx context.Context, s *stream) {
	limited, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	r := d.send(limited, s)
	if ctx.Err() != nil {
		r.err = nil // not the receiver's fault
	}
	for _, name := range d.end(s, &r) {
		d.config.Wake(name)
	}
	if r.err != nil {
		log.FromContext(ctx).V(1).Info("Sending events failed", "object", s.owner.name, "topic", s.slot.topic, "error", r.err.Error())
	}
}

// send sends events of a stream.
func (d *Dispatcher) send(ctx context.Context, s *stream) result {
	d.mu.Lock()
	version, skip := s.owner.version, s.acked.Clone()
	for k, set := range s.givenUp {
		skip.Add(k, set)
	}
	at := s.slot
	d.mu.Unlock()
	o, err := d.config.Read(ctx, s.owner.name)
	switch {
	case apierrors.IsNotFound(err), err == nil && o.UID != s.owner.uid:
		return result{gone: true}
	case err != nil, lookup.IsOlder(o.Version, version):
		return result{stale: true}
	}
	pending, err := pendingOf(o, s.position)
	if err != nil || len(pending) == 0 {
		return result{gone: true} // the reconciler says so in the status
	}
	to, err := d.config.Topics.Open(at.namespace, at.topic, at.sinkURL)
	if err != nil {
		return result{err: err, more: true, timeout: d.config.Topics.DeliveryTimeout()}
	}
	defer to.Release()
	out := d.sendPending(ctx, to.Sink, pending.Events(o.Source, &o.Notifications[s.position], skip))
	out.timeout = to.DeliveryTimeout
	return out
}

// pendingOf returns the pending events of a notification of an object.
func pendingOf(o *Object, position int) (backlog.Backlog, error) {
	if o.Status == nil || position >= len(o.Notifications) {
		return nil, nil
	}
	for i := range o.Status.Topics {
		if t := &o.Status.Topics[i]; int(t.Notification) == position {
			return backlog.Parse(t.Pending, o.Source.Numbers())
		}
	}
	return nil, nil
}

// sendPending sends the first events.
func (d *Dispatcher) sendPending(ctx context.Context, to sink.Sink, events iter.Seq[backlog.Due]) result {
	out := result{acked: backlog.Acks{}}
	var due []backlog.Due
	var list []event.Event
	for e := range events {
		if out.more = len(due) == turnEvents; out.more {
			break
		}
		due, list = append(due, e), append(list, e.Event)
	}
	if len(due) == 0 {
		return result{gone: true}
	}
	sent := len(due)
	if out.err = to.Send(ctx, list); out.err != nil {
		sent, out.more = sink.SentBefore(out.err), true
		class, _ := retry.Of(out.err)
		out.refused = class == retry.Terminal && sent < len(due)
	}
	now := d.config.Clock.Now()
	byKey := map[backlog.Key][]int{}
	for i := range due[:sent] {
		byKey[due[i].Key] = append(byKey[due[i].Key], due[i].Number)
		d.config.Observer.Sent(now.Sub(due[i].Event.Time))
	}
	for k, numbers := range byKey {
		out.acked.Add(k, ranges.Of(numbers...))
	}
	if out.refused {
		out.givenUp = backlog.Acks{due[sent].Key: ranges.Of(due[sent].Number)} // if it has been refused for long
	}
	if errors.Is(out.err, context.DeadlineExceeded) && sent > 0 {
		out.err = nil // the receiver is slow
	}
	return out
}

// end notes how a turn ended, gives the stream its next turn, and returns the objects that the reconciler must look at.
func (d *Dispatcher) end(s *stream, r *result) []types.NamespacedName {
	now := d.config.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wakeUp()
	from, again := s.receiver, s.again || r.more
	s.busy, s.again = false, false
	from.running--
	d.running--
	if s.owner.streams[s.position] != s { // dropped meanwhile
		d.release(s)
		return nil
	}
	next := now
	var wake []types.NamespacedName
	switch {
	case r.stale:
		again, next = true, now.Add(cacheWait)
	case r.gone:
	case r.refused:
		from.succeeded()
		next = d.endRefused(s, r, now)
	case r.err != nil:
		d.config.Observer.Failed(false)
		if len(r.acked) > 0 {
			from.succeeded() // and then it failed for the first time
		}
		from.timeout = r.timeout
		from.failed(now, r.err.Error(), waitOf(r.err))
	default:
		from.succeeded()
		s.refusals, s.refusedSince, s.refusal = 0, time.Time{}, ""
	}
	for k, set := range r.acked {
		s.acked.Add(k, set)
		s.sent = true
	}
	if again {
		d.enqueueAt(s, from, next)
	} else {
		d.release(s)
	}
	if r.acked.Len()+s.givenUp.Len() > 0 {
		wake = append(wake, s.owner.name)
	}
	return append(wake, d.reports(s, from, now)...)
}

// endRefused notes that the receiver refused an event, and returns when the stream is tried again. An event that has
// been refused for refusalWait is dropped, and then each that follows until one is accepted.
func (d *Dispatcher) endRefused(s *stream, r *result, now time.Time) time.Time {
	d.config.Observer.Failed(true)
	if len(r.acked) > 0 {
		s.refusals, s.refusedSince = 0, time.Time{}
	}
	if s.refusals == 0 {
		s.refusedSince = now
	}
	s.refusals++
	s.refusal = r.err.Error()
	if now.Sub(s.refusedSince) < refusalWait {
		return now.Add(max(waitOf(r.err), backoff(s.refusals)))
	}
	for k, set := range r.givenUp {
		s.givenUp.Add(k, set)
		d.config.Observer.Dropped(set.Len())
	}
	return now.Add(cacheWait)
}

// waitOf returns the delay that the receiver asked for; 0 if it did not.
func waitOf(err error) time.Duration {
	if class, wait := retry.Of(err); class == retry.Wait {
		return wait
	}
	return 0
}

// reports returns the objects whose status must say something new of a stream, or of those that wait for its receiver.
func (d *Dispatcher) reports(s *stream, r *receiver, now time.Time) []types.NamespacedName {
	list := []*stream{s}
	if r.failures > 0 {
		list = append(list, r.queue...)
	}
	var out []types.NamespacedName
	for _, s := range list {
		since, text := s.failing(now)
		text = withoutDigits(text)
		overdue := !since.IsZero() && s.oldest.Before(r.giveUpBefore(now))
		if text != s.reported || overdue {
			s.reported = text
			out = append(out, s.owner.name)
		}
	}
	return out
}

// withoutDigits returns a text without digits, such as those of a port or a time, which are new each time.
func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}
