// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package computeenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/lookup"
	"batchcompute.dev/operator/internal/metrics"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/nodepool"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/testutil"
)

// listener is a ComputeEnv whose events are sent to a receiver in memory, with an API server in memory.
type listener struct {
	t      *testing.T
	key    types.NamespacedName
	server client.WithWatch
	clock  *testingclock.FakePassiveClock
	ledger *nodepool.Ledger
	r      *Reconciler
	id     string
	// got are the events in the order in which they were received for the first time; repeats are how many came again.
	got     []event.Event
	repeats int
	// down says that the receiver does not answer, and disabled that there are no topics.
	down, disabled bool
	// due are the ids of the events of stored changes, in the order of the writes.
	due []string
	// writes counts writes. fault, if not nil, is called for each and returns errors for before and after the write.
	writes int
	fault  func() (before, after error)
	// stale, if not nil, is what the cache has.
	stale  *v1alpha1.ComputeEnv
	events []string
}

func (l *listener) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	l.events = append(l.events, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

func (l *listener) Enabled() bool                  { return !l.disabled }
func (l *listener) DeliveryTimeout() time.Duration { return 24 * time.Hour }

func (l *listener) Open(_, name, _ string) (*topic.Topic, error) {
	return &topic.Topic{Sink: l, Key: name, DeliveryTimeout: 24 * time.Hour, Release: func() {}}, nil
}

var errDown = errors.New("the receiver does not answer")

func (l *listener) Send(_ context.Context, list []event.Event) error {
	if l.down {
		return errDown
	}
	for i := range list {
		if err := list[i].Validate(); err != nil {
			l.t.Error(err)
		}
		if slices.ContainsFunc(l.got, func(e event.Event) bool { return e.ID() == list[i].ID() }) {
			l.repeats++
			continue
		}
		l.got = append(l.got, list[i])
	}
	return nil
}

// allEvents announces all events of ComputeEnvs to a topic.
func allEvents(name string) v1alpha1.Notification {
	n := v1alpha1.Notification{TopicName: name}
	for _, e := range event.Names() {
		if level := e.Level(); level == event.ComputeNode || level == event.ComputeEnv {
			n.EventConfigs = append(n.EventConfigs, v1alpha1.EventConfig{EventName: string(e), EventVars: []v1alpha1.EventVar{{Name: "is", Value: string(e)}}})
		}
	}
	return n
}

func newListener(t *testing.T, size int64, notifications ...v1alpha1.Notification) *listener {
	t.Helper()
	l := &listener{
		t: t, key: types.NamespacedName{Namespace: "default", Name: "pool"},
		clock: testingclock.NewFakePassiveClock(time.Now()), ledger: nodepool.NewLedger(),
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ComputeEnv{}, &v1alpha1.BatchJob{})
	for _, x := range lookup.Indexes() {
		b = b.WithIndex(x.Object, x.Field, x.Values)
	}
	l.server = b.Build()
	env := &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: l.key.Namespace, Name: l.key.Name, UID: "uid-1", Generation: 1}}
	env.Spec.EnvName, env.Spec.DesiredComputeNodeCount, env.Spec.Notifications = "Pool", &size, notifications
	env.Spec.EnvData = &v1alpha1.EnvData{InstanceTypeOptions: &v1alpha1.InstanceTypeOptions{CPU: new(int64(4)), Memory: new(int64(8))}}
	if err := l.server.Create(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	l.id = naming.EnvID(env.UID)
	l.restart()
	return l
}

// restart starts another process: all that the reconciler has in memory is lost.
func (l *listener) restart() {
	l.t.Helper()
	reg := prometheus.NewRegistry()
	figures, err := metrics.NewEnvs(reg)
	sent, err2 := metrics.NewNotifications(reg)
	if err := errors.Join(err, err2); err != nil {
		l.t.Fatal(err)
	}
	l.r = NewReconciler(interceptor.NewClient(l.server, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if env, ok := obj.(*v1alpha1.ComputeEnv); ok && l.stale != nil {
				l.stale.DeepCopyInto(env)
				return nil
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return l.write(func() error { return c.Patch(ctx, obj, patch, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			before := l.env()
			return l.write(func() error {
				err := c.SubResource(sub).Patch(ctx, obj, patch, opts...)
				if err == nil {
					l.note(before, l.env())
				}
				return err
			})
		},
	}), l, Options{Ledger: l.ledger, Metrics: figures, Clock: l.clock, Topics: l, NotificationMetrics: sent})
}

func (l *listener) write(do func() error) error {
	l.writes++
	var before, after error
	if l.fault != nil {
		before, after = l.fault()
	}
	if before != nil {
		return before
	}
	if err := do(); err != nil {
		return err
	}
	return after
}

// note adds the events that are due for the change that a write of the status has stored.
func (l *listener) note(before, after *v1alpha1.ComputeEnv) {
	l.t.Helper()
	if v := conditions.Violation(conditions.ComputeEnv, after.Status.Conditions); v != "" {
		l.t.Error(v)
	}
	if len(after.Spec.Notifications) == 0 || l.disabled {
		return
	}
	if !slices.Contains(after.Finalizers, v1alpha1.FinalizerNotifications) {
		l.t.Error("events are stored without the finalizer")
	}
	add := func(id string) {
		if !slices.Contains(l.due, id) {
			l.due = append(l.due, id)
		}
	}
	nodes := func(from, to int64, names ...event.Name) {
		for _, name := range names {
			for i := from; i < to; i++ {
				add(l.nodeID(i, after.Status.ObservedGeneration, name))
			}
		}
	}
	if before.Status.ObservedGeneration == 0 {
		add(l.id + "/COMPUTE_ENV_CREATED")
	}
	was, is := before.Status.DesiredComputeNodeCount, after.Status.DesiredComputeNodeCount
	deleted := l.id + "/COMPUTE_ENV_DELETED"
	switch {
	case slices.Contains(l.due, deleted):
		return
	case after.DeletionTimestamp != nil && len(l.users()) == 0:
		nodes(0, was, event.ComputeNodeDeleting)
		add(deleted)
		return
	}
	nodes(was, is, event.ComputeNodeCreated, event.ComputeNodeRunning)
	nodes(is, was, event.ComputeNodeDeleting)
}

func (l *listener) nodeID(number, generation int64, name event.Name) string {
	return fmt.Sprintf("%s/%s/%d/%s", l.id, naming.NodeID("uid-1", fmt.Sprint(number)), generation, name)
}

// env returns the stored ComputeEnv, nil if it is gone.
func (l *listener) env() *v1alpha1.ComputeEnv {
	l.t.Helper()
	env := &v1alpha1.ComputeEnv{}
	if err := l.server.Get(context.Background(), l.key, env); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		l.t.Fatal(err)
	}
	return env
}

func (l *listener) users() []v1alpha1.BatchJob {
	l.t.Helper()
	jobs, err := lookup.UnfinishedJobs(context.Background(), l.server, &v1alpha1.ComputeEnv{ObjectMeta: metav1.ObjectMeta{Namespace: l.key.Namespace, Name: l.key.Name, UID: "uid-1"}})
	if err != nil {
		l.t.Fatal(err)
	}
	return jobs
}

// edit changes the spec as a user does.
func (l *listener) edit(change func(*v1alpha1.ComputeEnvSpec)) {
	l.t.Helper()
	env := l.env()
	change(&env.Spec)
	env.Generation++
	if err := l.server.Update(l.t.Context(), env); err != nil {
		l.t.Fatal(err)
	}
}

func (l *listener) scale(size int64) {
	l.t.Helper()
	l.edit(func(s *v1alpha1.ComputeEnvSpec) { s.DesiredComputeNodeCount = &size })
}

func (l *listener) delete() {
	l.t.Helper()
	if err := l.server.Delete(l.t.Context(), l.env()); err != nil {
		l.t.Fatal(err)
	}
}

// pass calls Reconcile.
func (l *listener) pass() (ctrl.Result, error) {
	return l.r.Reconcile(l.t.Context(), ctrl.Request{NamespacedName: l.key})
}

// settle lets passes and turns of the dispatcher take place, two seconds apart.
func (l *listener) settle(rounds int) {
	l.t.Helper()
	for range rounds {
		if _, err := l.pass(); err != nil {
			l.t.Fatal(err)
		}
		l.send()
	}
}

// send moves the clock by two seconds and runs the turns that are due.
func (l *listener) send() {
	l.clock.SetTime(l.clock.Now().Add(2 * time.Second))
	for range 100 {
		if ran, _ := l.r.notifier.dispatcher.Step(l.t.Context()); !ran {
			return
		}
	}
	l.t.Error("the dispatcher does not come to rest")
}

func ids(list []event.Event) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].ID()
	}
	return out
}

// check compares what was received with what was due.
func (l *listener) check() {
	l.t.Helper()
	if diff := cmp.Diff(l.due, ids(l.got), cmpopts.EquateEmpty()); diff != "" {
		l.t.Errorf("received (-due +got):\n%s", diff)
	}
}

// want checks the ids that were received, without the one of the ComputeEnv in front; node N of generation G is N@G.
func (l *listener) want(list ...string) {
	l.t.Helper()
	l.check()
	for i, text := range list {
		name, node, ok := strings.Cut(text, " ")
		list[i] = l.id + "/" + name
		if ok {
			var n, g int64
			if _, err := fmt.Sscanf(node, "%d@%d", &n, &g); err != nil {
				l.t.Fatal(err)
			}
			list[i] = l.nodeID(n, g, event.Name(name))
		}
	}
	if diff := cmp.Diff(list, ids(l.got)); diff != "" {
		l.t.Errorf("received (-want +got):\n%s", diff)
	}
}

func (l *listener) wantNotified(want string) {
	l.t.Helper()
	got := ""
	if c := meta.FindStatusCondition(l.env().Status.Conditions, v1alpha1.ConditionNotified); c != nil {
		got = string(c.Status) + " " + c.Reason
	}
	if got != want {
		l.t.Errorf("the condition Notified is %q, want %q", got, want)
	}
}

// TestEvents: a ComputeEnv and its nodes are announced when it is created, scaled and deleted, and after that it is gone.
func TestEvents(t *testing.T) {
	l := newListener(t, 2, allEvents("t"))
	l.settle(3)
	list := []string{
		"COMPUTE_ENV_CREATED", "COMPUTE_NODE_CREATED 0@1", "COMPUTE_NODE_CREATED 1@1", "COMPUTE_NODE_RUNNING 0@1", "COMPUTE_NODE_RUNNING 1@1",
	}
	l.want(slices.Clone(list)...)
	l.wantNotified("True Delivered")
	if s := l.env().Status.Notifications; s.Sent != 5 || s.Pending != 0 || len(s.Topics) != 0 {
		t.Errorf("the status is %+v", s)
	}
	node := l.got[1]
	want := event.Event{
		Name: event.ComputeNodeCreated, Occurrence: 1, Time: node.Time, Vars: []v1alpha1.EventVar{{Name: "is", Value: "COMPUTE_NODE_CREATED"}},
		Subject: event.Subject{Namespace: "default", Object: "pool", EnvID: l.id, Node: naming.NodeID("uid-1", "0")},
		Details: event.Details{DisplayName: "Pool", CPU: 4, Memory: 8},
	}
	if diff := cmp.Diff(want, node); diff != "" {
		t.Errorf("the event of a node (-want +got):\n%s", diff)
	}
	l.scale(1)
	l.settle(3)
	l.scale(2)
	l.settle(3)
	list = append(list, "COMPUTE_NODE_DELETING 1@2", "COMPUTE_NODE_CREATED 1@3", "COMPUTE_NODE_RUNNING 1@3")
	l.want(slices.Clone(list)...)
	writes := l.writes
	if l.settle(3); l.writes != writes {
		t.Errorf("%d writes though nothing has changed", l.writes-writes)
	}
	l.delete()
	l.settle(3)
	l.want(append(list, "COMPUTE_NODE_DELETING 0@3", "COMPUTE_NODE_DELETING 1@3", "COMPUTE_ENV_DELETED")...)
	if l.env() != nil {
		t.Errorf("the ComputeEnv is still there, with the finalizers %q", l.env().Finalizers)
	}
	if l.repeats > 0 {
		t.Errorf("%d events were sent again", l.repeats)
	}
}

// TestEventsOfUsed: while a job uses a ComputeEnv that is to be deleted, its deletion is not announced.
func TestEventsOfUsed(t *testing.T) {
	l := newListener(t, 1, allEvents("t"))
	job := testutil.Job("j").Task("a", testutil.EnvID("pool")).New("default")
	if err := l.server.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	l.settle(2)
	l.delete()
	l.settle(3)
	list := []string{"COMPUTE_ENV_CREATED", "COMPUTE_NODE_CREATED 0@1", "COMPUTE_NODE_RUNNING 0@1"}
	l.want(slices.Clone(list)...)
	l.clock.SetTime(l.clock.Now().Add(time.Hour)) // the wait for the receivers starts when the events are stored
	job.Status.State, job.Status.EndTime = v1alpha1.JobSucceed, new(metav1.Now())
	if err := l.server.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	l.down = true
	l.settle(2)
	if ready := meta.FindStatusCondition(l.env().Status.Conditions, v1alpha1.ConditionReady); ready.Reason != v1alpha1.ReasonEventsPending {
		t.Errorf("Ready is %+v", ready)
	}
	l.down = false
	for range 5 {
		l.settle(1)
	}
	l.want(append(list, "COMPUTE_NODE_DELETING 0@1", "COMPUTE_ENV_DELETED")...)
	if l.env() != nil {
		t.Error("the ComputeEnv is still there")
	}
}

// TestReceiverDown: what happens while the receiver is down arrives when it is up again, in order, also after a restart.
func TestReceiverDown(t *testing.T) {
	l := newListener(t, 2, allEvents("t"))
	l.down = true
	l.settle(10)
	l.wantNotified("False DeliveryFailing")
	l.scale(3)
	l.settle(1)
	l.scale(0)
	l.settle(1)
	l.restart()
	l.settle(2)
	l.delete()
	l.settle(2)
	if !slices.Contains(l.env().Finalizers, v1alpha1.FinalizerNotifications) || len(l.got) > 0 {
		t.Errorf("the finalizers are %q, and %d events were received", l.env().Finalizers, len(l.got))
	}
	warned := slices.ContainsFunc(l.events, func(e string) bool { return strings.HasPrefix(e, "Warning DeliveryFailing: topic \"t\": ") })
	if !warned {
		t.Errorf("the Events are %q", l.events)
	}
	l.down = false
	l.settle(20)
	l.check()
	if l.env() != nil || len(l.due) != 1+2*3+3+1 {
		t.Errorf("the ComputeEnv is still there, or %q were due", l.due)
	}
}

// TestDeletionWaits: a receiver that stays down delays the deletion for DeletionWait, and then an Event says so.
func TestDeletionWaits(t *testing.T) {
	l := newListener(t, 1, allEvents("t"))
	l.settle(2)
	l.down = true
	l.delete()
	res, err := l.pass()
	if err != nil || res.RequeueAfter <= 0 || res.RequeueAfter > plan.DeletionWait+time.Second {
		t.Errorf("the next pass is due in %s, %v", res.RequeueAfter, err)
	}
	l.settle(50)
	if l.env() == nil {
		t.Fatal("the ComputeEnv is gone after 100 seconds")
	}
	l.events = nil
	if l.settle(15); l.env() != nil {
		t.Errorf("the ComputeEnv is still there")
	}
	if len(l.events) != 1 || !strings.HasPrefix(l.events[0], "Warning EventsGivenUp: the ComputeEnv is deleted, and 2 events of its notifications were not sent in 2m0s: topic \"t\": the receiver does not answer") {
		t.Errorf("the Events are %q", l.events)
	}
}

// TestNothingExtra: without notifications, or without topics, there is no finalizer and one write.
func TestNothingExtra(t *testing.T) {
	for name, l := range map[string]*listener{"no notifications": newListener(t, 2), "no topics": newListener(t, 2, allEvents("t"))} {
		l.disabled = name == "no topics"
		l.settle(3)
		if env := l.env(); l.writes != 1 || len(env.Finalizers) > 0 || env.Status.Notifications != nil || len(l.got) > 0 {
			t.Errorf("%s: %d writes, finalizers %q, %+v", name, l.writes, env.Finalizers, env.Status.Notifications)
		}
		if l.delete(); l.env() != nil {
			t.Errorf("%s: the deletion waits", name)
		}
		l.settle(1)
	}
}

// TestNotificationsEdited: pending events stay with their topic if the list changes; those of a topic that was removed are
// dropped, with an Event.
func TestNotificationsEdited(t *testing.T) {
	l := newListener(t, 0, allEvents("a"), allEvents("b"))
	l.down = true
	l.settle(2)
	l.events = nil
	l.edit(func(s *v1alpha1.ComputeEnvSpec) {
		s.Notifications = []v1alpha1.Notification{allEvents("c"), allEvents("b")}
	})
	l.settle(1)
	l.edit(func(s *v1alpha1.ComputeEnvSpec) { s.Notifications = []v1alpha1.Notification{allEvents("b")} })
	l.settle(1)
	s := l.env().Status.Notifications
	if s.GivenUp != 1 || s.Pending != 1 || len(s.Topics) != 1 || s.Topics[0].TopicName != "b" || s.Topics[0].Notification != 0 {
		t.Errorf("the status is %+v", s)
	}
	if want := `Warning EventsGivenUp: topic "a": 1 pending event will not be sent, since the notifications do not have the topic any more`; !slices.Contains(l.events, want) {
		t.Errorf("the Events are %q", l.events)
	}
	l.down = false
	l.settle(10)
	l.want("COMPUTE_ENV_CREATED")
	l.edit(func(s *v1alpha1.ComputeEnvSpec) { s.Notifications = nil })
	l.settle(2)
	if f := l.env().Finalizers; len(f) > 0 {
		t.Errorf("the finalizers are %q", f)
	}
}

// TestStaleCache: a pass with a ComputeEnv from before the last write changes nothing.
func TestStaleCache(t *testing.T) {
	l := newListener(t, 1, allEvents("t"))
	for range 6 { // each pass again with what the cache had before it
		before := l.env()
		l.settle(1)
		now := l.env()
		l.stale = before
		l.settle(1)
		l.stale = nil
		if got := l.env(); got.ResourceVersion != now.ResourceVersion && before.ResourceVersion != now.ResourceVersion {
			t.Fatalf("a pass with version %s has changed version %s", before.ResourceVersion, now.ResourceVersion)
		}
	}
	l.settle(2)
	l.want("COMPUTE_ENV_CREATED", "COMPUTE_NODE_CREATED 0@1", "COMPUTE_NODE_RUNNING 0@1")
	if l.repeats > 0 || l.env().Status.Notifications.Sent != 3 {
		t.Errorf("%d repeated, status %+v", l.repeats, l.env().Status.Notifications)
	}
}

// TestCrashes: whatever a write or the receiver does, and whenever the process ends, all that a stored status shows is
// received, in order, and nothing else.
func TestCrashes(t *testing.T) {
	errWrite, repeats := errors.New("no answer"), 0
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l, random := newListener(t, 3, allEvents("t")), rand.New(rand.NewPCG(seed, 1))
			l.fault = func() (before, after error) {
				switch random.IntN(8) {
				case 0:
					return errWrite, nil
				case 1:
					return nil, errWrite
				}
				return nil, nil
			}
			copies := []*v1alpha1.ComputeEnv{l.env()}
			for range 30 {
				env := l.env()
				if env == nil {
					break
				}
				copies = append(copies, env)
				switch n := random.IntN(20); {
				case n < 6:
					l.scale(int64(random.IntN(6)))
				case n == 6 && env.DeletionTimestamp == nil:
					l.delete()
				case n < 10:
					l.restart()
				case n < 12:
					l.down = !l.down
				}
				if random.IntN(4) == 0 {
					l.stale = copies[max(0, len(copies)-1-random.IntN(3))]
				}
				_, _ = l.pass() // its error repeats the pass
				if random.IntN(3) > 0 {
					l.send()
				}
				l.stale = nil
			}
			l.fault, l.down = nil, false
			if l.env() != nil && l.env().DeletionTimestamp == nil {
				l.settle(2)
				l.delete()
			}
			for range 60 { // the backoff of the receiver
				l.settle(1)
			}
			if l.env() != nil {
				t.Errorf("the ComputeEnv is still there, with the finalizers %q", l.env().Finalizers)
			}
			l.check()
			repeats += l.repeats
		})
	}
	if repeats == 0 {
		t.Error("no crash has repeated an event")
	}
}
