// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package fairqueue

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Options are what a Queue is made of.
type Options struct {
	// Name names the queue in the metrics.
	Name string
	// Workers is how many requests are processed at once, which is how many goroutines call
	// Get. At least 1.
	Workers int
	// RateLimiter says how long AddRateLimited waits. Required.
	RateLimiter workqueue.TypedRateLimiter[reconcile.Request]
	// Metrics makes the metrics. nil: there are none.
	Metrics workqueue.MetricsProvider
	// Clock is the time. Required.
	Clock clock.WithDelayedExecution
}

// Queue is a work queue. Its methods may be called at the same time.
type Queue struct {
	workers     int
	rateLimiter workqueue.TypedRateLimiter[reconcile.Request]
	clock       clock.WithDelayedExecution
	metrics     *metrics

	mu         sync.Mutex
	changed    *sync.Cond // wakes goroutines in Get
	idle       *sync.Cond // wakes goroutines in ShutDownWithDrain
	items      map[reconcile.Request]*item
	processing map[reconcile.Request]time.Time // since when
	namespaces map[string]*namespace
	active     heapOf[*namespace] // those that have ready requests
	delayed    heapOf[*item]      // those that are not ready yet
	ready      int                // requests in namespaces
	sequence   uint64
	timer      clock.Timer // calls addDelayed
	timerAt    time.Time   // when; zero: not at all
	shutDown   bool
	draining   bool
}

var _ priorityqueue.PriorityQueue[reconcile.Request] = (*Queue)(nil)

// item is a request that is to be handed out.
type item struct {
	request  reconcile.Request
	priority int
	sequence uint64 // orders items of the same priority
	// readyAt is when it becomes ready; zero: it is ready, since the time since.
	readyAt, since time.Time
	// index in the heap that the item is in: that of its namespace, or Queue.delayed. -1: it is in
	// none, since the request is ready and being processed.
	index int
}

func (i *item) less(o *item) bool {
	switch {
	case !i.readyAt.Equal(o.readyAt): // both are zero in the heap of a namespace
		return i.readyAt.Before(o.readyAt)
	case i.priority != o.priority:
		return i.priority > o.priority
	}
	return i.sequence < o.sequence
}

func (i *item) setIndex(n int) { i.index = n }

// namespace has the requests of one namespace.
type namespace struct {
	name  string
	ready heapOf[*item]
	// busy is how many of its requests are being processed.
	busy int
	// sequence orders namespaces that have equally many: it is renewed when the namespace is served,
	// and when it gets something to do.
	sequence uint64
	index    int // in Queue.active; -1: it is not in there
}

func (n *namespace) less(o *namespace) bool {
	if n.busy != o.busy {
		return n.busy < o.busy
	}
	return n.sequence < o.sequence
}

func (n *namespace) setIndex(i int) { n.index = i }

// New returns an empty queue.
func New(o Options) *Queue {
	q := &Queue{
		workers: max(o.Workers, 1), rateLimiter: o.RateLimiter, clock: o.Clock, metrics: newMetrics(o.Metrics, o.Name),
		items: map[reconcile.Request]*item{}, processing: map[reconcile.Request]time.Time{}, namespaces: map[string]*namespace{},
	}
	q.changed, q.idle = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	if q.metrics != nil {
		q.clock.AfterFunc(unfinishedInterval, q.reportUnfinished)
	}
	return q
}

// Add adds a request with priority 0.
func (q *Queue) Add(r reconcile.Request) { q.AddWithOpts(priorityqueue.AddOpts{}, r) }

// AddAfter adds a request with priority 0 after some time.
func (q *Queue) AddAfter(r reconcile.Request, after time.Duration) {
	q.AddWithOpts(priorityqueue.AddOpts{After: after}, r)
}

// AddRateLimited adds a request with priority 0 when the rate limiter says so.
func (q *Queue) AddRateLimited(r reconcile.Request) {
	q.AddWithOpts(priorityqueue.AddOpts{RateLimited: true}, r)
}

// Forget has the rate limiter forget that a request failed.
func (q *Queue) Forget(r reconcile.Request) { q.rateLimiter.Forget(r) }

// NumRequeues returns how often the request was added by AddRateLimited since Forget.
func (q *Queue) NumRequeues(r reconcile.Request) int { return q.rateLimiter.NumRequeues(r) }

// AddWithOpts adds requests: with a priority, a higher one before a lower; after some time, and
// when the rate limiter says so, whichever is earlier. After ShutDown it does nothing.
func (q *Queue) AddWithOpts(o priorityqueue.AddOpts, requests ...reconcile.Request) {
	priority := 0
	if o.Priority != nil {
		priority = *o.Priority
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shutDown {
		return
	}
	for _, r := range requests {
		after := o.After
		if o.RateLimited {
			if limited := q.rateLimiter.When(r); after <= 0 || limited < after {
				after = limited
			}
		}
		q.add(r, priority, after)
	}
	q.setTimer()
}

func (q *Queue) add(r reconcile.Request, priority int, after time.Duration) {
	var readyAt time.Time
	if after > 0 {
		readyAt = q.clock.Now().Add(after)
		q.metrics.delayed()
	}
	i := q.items[r]
	if i == nil {
		i = &item{request: r, priority: priority, readyAt: readyAt, index: -1, sequence: q.next()}
		q.items[r] = i
		if after > 0 {
			q.delayed.push(i)
		} else {
			q.becomeReady(i)
		}
		return
	}
	raised := priority > i.priority
	if raised { // and comes after those that have this priority already
		i.priority, i.sequence = priority, q.next()
	}
	switch {
	case i.readyAt.IsZero(): // as early as can be
		if raised && i.index >= 0 {
			q.namespaces[r.Namespace].ready.fix(i.index)
		}
	case after <= 0:
		q.delayed.remove(i.index)
		q.becomeReady(i)
	case raised || readyAt.Before(i.readyAt):
		if readyAt.Before(i.readyAt) {
			i.readyAt = readyAt
		}
		q.delayed.fix(i.index)
	}
}

func (q *Queue) next() uint64 {
	q.sequence++
	return q.sequence
}

// becomeReady makes an item ready that is in no heap.
func (q *Queue) becomeReady(i *item) {
	i.readyAt, i.since, i.sequence = time.Time{}, q.clock.Now(), q.next()
	q.metrics.added()
	if _, ok := q.processing[i.request]; !ok {
		q.push(i)
	}
}

// push gives a ready item to its namespace.
func (q *Queue) push(i *item) {
	n := q.namespaces[i.request.Namespace]
	if n == nil {
		n = &namespace{name: i.request.Namespace, index: -1}
		q.namespaces[n.name] = n
	}
	n.ready.push(i)
	q.ready++
	if n.index < 0 {
		n.sequence = q.next()
		q.active.push(n)
	}
	q.changed.Signal()
}

// servable returns the namespace whose request is to be handed out next; nil if there is none.
func (q *Queue) servable() *namespace {
	if len(q.active) == 0 {
		return nil
	}
	// The first namespace has the fewest workers: if it may not have another, none may.
	if n := q.active[0]; n.busy == 0 || n.busy < q.workers-len(q.processing) {
		return n
	}
	return nil
}

// Get waits for a request and returns it; Done must be called with it when it has been
// processed. shutdown says that there is none, and that there will be none.
func (q *Queue) Get() (r reconcile.Request, shutdown bool) {
	r, _, shutdown = q.GetWithPriority()
	return r, shutdown
}

// GetWithPriority is like Get, and returns the priority of the request as well.
func (q *Queue) GetWithPriority() (r reconcile.Request, priority int, shutdown bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.servable()
	for ; n == nil && !q.shutDown; n = q.servable() {
		q.changed.Wait()
	}
	// When drained, what is left of a namespace that has its share of workers is for them.
	if n == nil || q.shutDown && !q.draining {
		return reconcile.Request{}, 0, true
	}
	i := n.ready.remove(0)
	q.ready--
	delete(q.items, i.request)
	n.busy++
	n.sequence = q.next()
	if len(n.ready) > 0 {
		q.active.fix(n.index)
	} else {
		q.active.remove(n.index)
	}
	now := q.clock.Now()
	q.processing[i.request] = now
	q.metrics.handedOut(now.Sub(i.since))
	if q.servable() != nil { // one signal may stand for several changes
		q.changed.Signal()
	}
	return i.request, i.priority, false
}

// Done says that a request has been processed that Get returned.
func (q *Queue) Done(r reconcile.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	since, ok := q.processing[r]
	if !ok {
		return
	}
	delete(q.processing, r)
	q.metrics.done(q.clock.Since(since))
	n := q.namespaces[r.Namespace]
	n.busy--
	if n.index >= 0 {
		q.active.fix(n.index)
	}
	if i := q.items[r]; i != nil && i.readyAt.IsZero() {
		q.push(i)
	}
	if n.busy == 0 && len(n.ready) == 0 {
		delete(q.namespaces, n.name)
	}
	q.changed.Signal()
	if len(q.processing) == 0 && q.ready == 0 {
		q.idle.Broadcast()
	}
}

// Len returns how many requests could be handed out if there were enough workers.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ready
}

// ShutDown has Get hand out nothing any more, and Add do nothing. As with controller-runtime's
// queue, and unlike client-go's, what is in the queue stays there: a controller shuts down when its
// context has ended, and could only fail to process it.
func (q *Queue) ShutDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shutDown, q.draining = true, false
	q.stopTimer()
	q.changed.Broadcast()
	q.idle.Broadcast()
}

// ShutDownWithDrain has Add do nothing, and waits until all that was ready has been processed, or
// ShutDown is called.
func (q *Queue) ShutDownWithDrain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shutDown, q.draining = true, true
	q.stopTimer()
	q.changed.Broadcast()
	for q.draining && (len(q.processing) > 0 || q.ready > 0) {
		q.idle.Wait()
	}
}

// ShuttingDown reports whether ShutDown or ShutDownWithDrain was called.
func (q *Queue) ShuttingDown() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.shutDown
}

// setTimer has addDelayed called when the first of the delayed items becomes ready.
func (q *Queue) setTimer() {
	if len(q.delayed) == 0 || !q.timerAt.IsZero() && !q.delayed[0].readyAt.Before(q.timerAt) {
		return
	}
	q.stopTimer()
	q.timerAt = q.delayed[0].readyAt
	q.timer = q.clock.AfterFunc(q.timerAt.Sub(q.clock.Now()), q.addDelayed)
}

func (q *Queue) stopTimer() {
	if q.timer != nil {
		q.timer.Stop()
	}
	q.timer, q.timerAt = nil, time.Time{}
}

// addDelayed makes the items ready whose time has come.
func (q *Queue) addDelayed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shutDown {
		return
	}
	q.timer, q.timerAt = nil, time.Time{}
	for now := q.clock.Now(); len(q.delayed) > 0 && !q.delayed[0].readyAt.After(now); {
		q.becomeReady(q.delayed.remove(0))
	}
	q.setTimer()
}

// reportUnfinished tells the metrics for how long requests have been processed that are not done.
func (q *Queue) reportUnfinished() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shutDown {
		return
	}
	var sum, longest time.Duration
	for _, since := range q.processing {
		d := q.clock.Since(since)
		sum, longest = sum+d, max(longest, d)
	}
	q.metrics.unfinished(sum, longest)
	q.clock.AfterFunc(unfinishedInterval, q.reportUnfinished)
}

// Factory returns a function that makes the queue of a controller with so many workers, for
// controller-runtime's option NewQueue.
func Factory(workers int, m workqueue.MetricsProvider, c clock.WithDelayedExecution) func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return func(name string, limiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
		return New(Options{Name: name, Workers: workers, RateLimiter: limiter, Metrics: m, Clock: c})
	}
}
