// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery sends the pending events of jobs or ComputeEnvs, here called objects, to the receivers of their topics.
//
// The status of an object is the only store of its events. The dispatcher keeps in memory which objects have pending events,
// and what became of those that it has sent; the reconciler puts that into the status with its next write. After a restart
// of the process the events that the status still has are sent again.
//
// The events of one notification of one object form a stream. A stream is sent in turns: it has one at a time, so its events
// arrive in order. Streams with the same receiver share its queue, its limit of concurrent turns and its backoff.
package delivery

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/plan"
)

const (
	// turnEvents is how many events a turn sends at most. They share the variables and the texts of the object.
	turnEvents = 1000
	// turnTime bounds a turn, so that a slow receiver shows progress in the status.
	turnTime = time.Minute
	// maxTurns is how many turns run at the same time, and maxTurnsOf how many for one receiver. A receiver that fails
	// has one.
	maxTurns, maxTurnsOf = 64, 4
	// minBackoff and maxBackoff bound the wait after a failed turn.
	minBackoff, maxBackoff = 200 * time.Millisecond, time.Minute
	// keyTime is how long the receiver of a topic is known before the catalogue is asked again.
	keyTime = 10 * time.Second
	// cacheWait is when a turn is tried again that has found the cached object older than its last write.
	cacheWait = 100 * time.Millisecond
	// reportAfter is how long a receiver fails before the status of its objects says so.
	reportAfter = 10 * time.Second
	// refusalWait is how long an event is sent again that its receiver refuses, and minFailing how long a receiver must
	// have failed before overdue events are dropped: the operator may have been down for long.
	refusalWait, minFailing = 10 * time.Minute, 10 * time.Minute
)

// Topics finds receivers. See topic.Topics.
type Topics interface {
	Open(namespace, name, sinkURL string) (*topic.Topic, error)
	DeliveryTimeout() time.Duration
	Enabled() bool
}

// Observer counts, for metrics. Its methods may be called concurrently.
type Observer interface {
	// Sent counts an event that was acknowledged a time after it happened.
	Sent(lag time.Duration)
	// Failed counts a turn that failed; refused says that the receiver refused an event.
	Failed(refused bool)
	// Dropped counts events that are not sent again.
	Dropped(n int)
}

// Config is what a Dispatcher needs. All fields are required.
type Config struct {
	Topics Topics
	// Read returns the object of a name, with its Source; the error is NotFound if there is none.
	Read func(context.Context, types.NamespacedName) (*Object, error)
	// Wake has the reconciler look at an object, for which Report has something new.
	Wake     func(types.NamespacedName)
	Observer Observer
	Clock    clock.PassiveClock
}

// Object is what sending needs of a job or a ComputeEnv.
type Object struct {
	UID types.UID
	// Version is the resource version that Status has.
	Version string
	// SinkURL is that of v1alpha1.AnnotationNotificationSink; "" if it has none.
	SinkURL string
	// Notifications are those of the spec. Update does not need them.
	Notifications []v1alpha1.Notification
	// Status has the pending events; nil if there are none.
	Status *v1alpha1.NotificationStatus
	// Source makes the events. Update does not need it.
	Source backlog.Source
}

// owesEvents reports whether events are pending.
func (o *Object) owesEvents() bool { return o.Status != nil && o.Status.Pending > 0 }

// Dispatcher sends the pending events of the objects of one kind. Its methods may be called concurrently.
type Dispatcher struct {
	config Config
	// changed gets a value when there may be a turn to run.
	changed chan struct{}

	mu        sync.Mutex
	owners    map[types.NamespacedName]*owner
	receivers map[string]*receiver
	keys      map[slot]knownKey
	running   int
	// sequence orders streams that may have their turn at the same time.
	sequence int
}

// slot is what finds a receiver.
type slot struct{ namespace, topic, sinkURL string }

// knownKey is the key of the receiver of a slot, as it was at a time.
type knownKey struct {
	key string
	at  time.Time
}

// owner is an object with pending events, or with acknowledged ones that its status still has.
type owner struct {
	name types.NamespacedName
	uid  types.UID
	// version is the resource version of the last status that Update has seen.
	version string
	// streams are by the position of the notification.
	streams map[int]*stream
}

// stream is the events of one notification of an object.
type stream struct {
	owner    *owner
	position int
	slot     slot
	receiver *receiver // nil while the stream has nothing to send
	// busy says that a turn of the stream runs, and again that it has more to send than that turn knows.
	busy, again bool
	// oldest is when the oldest pending event happened.
	oldest time.Time
	// acked and givenUp are what the status may still have as pending.
	acked, givenUp backlog.Acks
	// notBefore and order order the streams of a receiver, and index is the position in its heap; -1 if it is not there.
	notBefore    time.Time
	order, index int
	// refusedSince is since when the receiver has refused the events of this stream, and refusals how often;
	// refusal is its last answer. Zero if it does not.
	refusedSince time.Time
	refusals     int
	refusal      string
	// sent says that events were sent by this process.
	sent bool
	// reported is the error that the reconciler was woken for.
	reported string
}

// New returns a dispatcher that has nothing to send.
func New(c Config) *Dispatcher {
	return &Dispatcher{
		config: c, changed: make(chan struct{}, 1),
		owners: map[types.NamespacedName]*owner{}, receivers: map[string]*receiver{}, keys: map[slot]knownKey{},
	}
}

// Update takes the pending events of an object from its stored status: they are sent from now on, and what is not in the
// status any more is forgotten. Cost: O(notifications of the object) if nothing is to be sent.
func (d *Dispatcher) Update(name types.NamespacedName, o *Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.owners[name]
	if w != nil && w.uid != o.UID {
		d.remove(w)
		w = nil
	}
	if !o.owesEvents() {
		if w != nil {
			d.remove(w)
		}
		return
	}
	if w == nil {
		w = &owner{name: name, uid: o.UID, streams: map[int]*stream{}}
		d.owners[name] = w
	}
	w.version = o.Version
	pending := map[int]bool{}
	for i := range o.Status.Topics {
		if t := &o.Status.Topics[i]; len(t.Pending) > 0 {
			pending[int(t.Notification)] = true
			d.updateStream(w, t, o.SinkURL)
		}
	}
	for position, s := range w.streams {
		if !pending[position] {
			d.drop(s)
			delete(w.streams, position)
		}
	}
}

// updateStream takes the pending events of one notification.
func (d *Dispatcher) updateStream(w *owner, t *v1alpha1.TopicStatus, sinkURL string) {
	s := w.streams[int(t.Notification)]
	if s == nil {
		s = &stream{owner: w, position: int(t.Notification), index: -1, acked: backlog.Acks{}, givenUp: backlog.Acks{}}
		w.streams[s.position] = s
	}
	s.slot = slot{w.name.Namespace, t.TopicName, sinkURL}
	s.oldest = t.Pending[0].Time.Time
	s.acked, s.givenUp = keep(t, s.acked), keep(t, s.givenUp)
	n := 0
	for i := range t.Pending {
		s.oldest = earlier(s.oldest, t.Pending[i].Time.Time)
		n += backlog.Count(&t.Pending[i])
	}
	if n > s.acked.Len()+s.givenUp.Len() {
		d.enqueue(s, d.config.Clock.Now())
	}
}

// keep returns those of the events that the status has as pending.
func keep(t *v1alpha1.TopicStatus, acks backlog.Acks) backlog.Acks {
	if len(acks) == 0 {
		return acks
	}
	return backlog.KeepStored(t.Pending, acks)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// remove forgets an object. A turn of it that runs has no effect when it ends.
func (d *Dispatcher) remove(w *owner) {
	for _, s := range w.streams {
		d.drop(s)
	}
	delete(d.owners, w.name)
}

// Forget forgets an object that was deleted.
func (d *Dispatcher) Forget(name types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.owners[name]; w != nil {
		d.remove(w)
	}
}

// Knows reports whether Update has given the dispatcher events of an object that are still pending.
func (d *Dispatcher) Knows(name types.NamespacedName, uid types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.owners[name]
	return w != nil && w.uid == uid
}

// Queue returns how many objects have events to be sent, and the age of the oldest of these. Cost: linear.
func (d *Dispatcher) Queue() (objects int, oldest time.Duration) {
	now := d.config.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.owners {
		for _, s := range w.streams {
			oldest = max(oldest, now.Sub(s.oldest))
		}
	}
	return len(d.owners), oldest
}

// Enabled reports whether the events of new objects are to be sent.
func (d *Dispatcher) Enabled() bool { return d.config.Topics.Enabled() }

// Report returns what became of the events of an object, for its next status.
func (d *Dispatcher) Report(name types.NamespacedName, uid types.UID) *plan.Delivery {
	out := &plan.Delivery{}
	now := d.config.Clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.owners[name]
	if w == nil || w.uid != uid {
		return out
	}
	for position, s := range w.streams {
		for len(out.Topics) <= position {
			out.Topics = append(out.Topics, plan.TopicDelivery{})
		}
		t := &out.Topics[position]
		t.Acknowledged, t.GivenUp = s.acked.Clone(), s.givenUp.Clone()
		t.FailingSince, t.LastError = s.failing(now)
		t.Known = s.sent || !t.FailingSince.IsZero()
		if s.receiver != nil {
			t.GiveUpBefore = s.receiver.giveUpBefore(now)
		}
	}
	return out
}

// failing returns since when sending the stream has failed, and the last error; the zero time if it does not fail, or
// not for long.
func (s *stream) failing(now time.Time) (time.Time, string) {
	if s.refusals > 1 {
		return s.refusedSince, s.refusal
	}
	if r := s.receiver; r != nil && r.failures > 1 && now.Sub(r.failingSince) >= reportAfter {
		return r.failingSince, r.lastError
	}
	return time.Time{}, ""
}
