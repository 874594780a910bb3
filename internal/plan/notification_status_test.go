// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/cputime"
)

// ofJob are the acknowledgements of events of the job in its first run.
func ofJob(names ...event.Name) backlog.Acks {
	acks := backlog.Acks{}
	for _, name := range names {
		acks.Add(backlog.Key{Name: name}, ranges.Of(0))
	}
	return acks
}

// deliver reports to the planner what became of the events of the first topic.
func (l *listener) deliver(d TopicDelivery) *listener {
	l.delivery = &Delivery{Topics: []TopicDelivery{d}}
	l.world.step()
	return l
}

// wantNotified compares the condition, and the counts as "1 pending, 2 sent, 0 given up".
func (l *listener) wantNotified(condition, counts string) *listener {
	l.t.Helper()
	l.wantCondition(v1alpha1.ConditionNotified, condition)
	n := v1alpha1.NotificationStatus{}
	if s := l.world.job.Status.Notifications; s != nil {
		n = *s
	}
	if got := fmt.Sprintf("%d pending, %d sent, %d given up", n.Pending, n.Sent, n.GivenUp); got != counts {
		l.t.Errorf("got %s; want %s", got, counts)
	}
	return l
}

// wantWarnings compares the events of the last pass that are about notifications.
func (l *listener) wantWarnings(want ...string) *listener {
	l.t.Helper()
	var got []string
	for _, e := range l.last.Events {
		if e.Reason == v1alpha1.ReasonDeliveryFailing || e.Reason == v1alpha1.ReasonEventsGivenUp {
			got = append(got, e.Message)
		}
	}
	if !slices.Equal(got, want) {
		l.t.Errorf("warnings are %q, want %q", got, want)
	}
	return l
}

// hasRunJob is a job that has run and ended, and whose events nobody has got yet.
func hasRunJob(t *testing.T) *listener {
	l := newListener(t, testutil.Job("j").Task("a"), notification("t", "JOB_"))
	l.step().on(func(w *world) { w.start("a/0") }).step().wantNotified("", "1 pending, 0 sent, 0 given up")
	l.on(func(w *world) { w.finish("a/0", 0) }).step().step().wantNotified("", "2 pending, 0 sent, 0 given up")
	return l
}

func TestAcknowledged(t *testing.T) {
	l := hasRunJob(t)
	l.deliver(TopicDelivery{Acknowledged: ofJob(event.JobRunning)}).wantNotified("", "1 pending, 1 sent, 0 given up")
	l.deliver(TopicDelivery{Acknowledged: ofJob(event.JobRunning)}).wantNotified("", "1 pending, 1 sent, 0 given up")
	if l.last.Changed(&l.world.job.Status) {
		t.Error("the same acknowledgement changes the status again")
	}
	if !OwesEvents(&l.world.job.Status) {
		t.Error("the job owes nothing")
	}
	l.deliver(TopicDelivery{Acknowledged: ofJob(event.JobRunning, event.JobSucceed, event.JobFailed)}).wantNotified("True Delivered", "0 pending, 2 sent, 0 given up")
	if s := l.world.job.Status.Notifications; len(s.Topics) != 0 || OwesEvents(&l.world.job.Status) || len(l.last.Events) != 0 {
		t.Errorf("the status has %+v, the events are %+v", s, l.last.Events)
	}
}

func TestGivenUp(t *testing.T) {
	l := hasRunJob(t)
	l.deliver(TopicDelivery{GivenUp: ofJob(event.JobRunning), LastError: "it is down"}).wantNotified("False EventsGivenUp", "1 pending, 0 sent, 1 given up")
	l.wantWarnings(`topic "t": gave up 1 event that the receiver did not acknowledge in time; it is down`)
	l.deliver(TopicDelivery{GivenUp: ofJob(event.JobRunning), Acknowledged: ofJob(event.JobSucceed)}).wantNotified("False EventsGivenUp", "0 pending, 1 sent, 1 given up").wantWarnings()
	if c := meta.FindStatusCondition(l.world.job.Status.Conditions, v1alpha1.ConditionNotified); c.Message != "1 event given up, 1 sent" {
		t.Errorf("message is %q", c.Message)
	}
}

func TestDeliveryFails(t *testing.T) {
	l := hasRunJob(t)
	since := l.now
	fails := TopicDelivery{Known: true, FailingSince: since, LastError: "https://user:secret-token@host\nconnection refused" + strings.Repeat("x", 1000)}
	l.deliver(fails).wantNotified("False DeliveryFailing", "2 pending, 0 sent, 0 given up")
	if len(l.last.Events) != 1 {
		t.Fatalf("the events are %+v", l.last.Events)
	}
	topic := l.world.job.Status.Notifications.Topics[0]
	message := meta.FindStatusCondition(l.world.job.Status.Conditions, v1alpha1.ConditionNotified).Message
	for _, text := range []string{topic.LastError, message, l.last.Events[0].Message} {
		if len(text) > v1alpha1.MaxMessageSize || strings.ContainsAny(text, "\n") || strings.Contains(text, "secret-token") {
			t.Errorf("a text is %q", text)
		}
	}
	if !strings.HasPrefix(message, `topic "t": sending has failed since 2026-01-02T03:04:05Z: `) {
		t.Errorf("message is %q", message)
	}
	fails.FailingSince = since.Add(time.Hour) // another process has started since
	l.deliver(fails).wantWarnings()
	if got := l.world.job.Status.Notifications.Topics[0].FailingSince; !got.Time.Equal(since) || l.last.Changed(&l.world.job.Status) {
		t.Errorf("failing since %s", got)
	}
	l.deliver(TopicDelivery{}).wantNotified("False DeliveryFailing", "2 pending, 0 sent, 0 given up") // and has not tried yet
	fails.Acknowledged = ofJob(event.JobRunning)
	l.deliver(fails) // it has succeeded meanwhile
	if got := l.world.job.Status.Notifications.Topics[0].FailingSince; !got.Time.Equal(since.Add(time.Hour)) {
		t.Errorf("failing since %s after a success", got)
	}
	l.deliver(TopicDelivery{Known: true}).wantNotified("", "1 pending, 1 sent, 0 given up")
	l.deliver(TopicDelivery{Known: true, FailingSince: since, LastError: "x", Acknowledged: ofJob(event.JobSucceed)}).wantNotified("True Delivered", "0 pending, 2 sent, 0 given up")
}

// TestNotified: a retry takes the condition back, and the counts are those of all runs.
func TestNotified(t *testing.T) {
	l := newListener(t, testutil.Job("j").Task("a"), notification("t", "JOB_"))
	l.step().on(func(w *world) { w.finish("a/0", 1) }).step()
	l.deliver(TopicDelivery{Acknowledged: ofJob(event.JobRunning, event.JobFailed)}).wantNotified("True Delivered", "0 pending, 2 sent, 0 given up")
	l.retry("again")
	l.deliver(TopicDelivery{}).wantNotified("", "0 pending, 2 sent, 0 given up")
	l.on(func(w *world) { w.finish("a/0/x1", 0) })
	l.deliver(TopicDelivery{}).wantNotified("", "2 pending, 2 sent, 0 given up")
}

// TestUnwanted: a job of which nothing was announced yet, or is, has no part about notifications.
func TestUnwanted(t *testing.T) {
	l := newListener(t, testutil.Job("j").Task("a"), notification("t", "JOB_FAILED"))
	l.step().on(func(w *world) { w.start("a/0") }).step()
	if s := l.world.job.Status.Notifications; s != nil {
		t.Errorf("the status has %+v", s)
	}
	l.on(func(w *world) { w.finish("a/0", 0) }).step().step().wantNotified("True Delivered", "0 pending, 0 sent, 0 given up")
	for name, delivery := range map[string]*Delivery{"none are sent": nil, "there are no notifications": {}} {
		var lists []v1alpha1.Notification
		if delivery == nil {
			lists = append(lists, notification("t", "JOB_", "TASK_", "COMPUTE_NODE_"))
		}
		l := newListener(t, testutil.Job("j").Task("a", testutil.Instances(2)), lists...)
		l.delivery = delivery
		l.world.step().start("a/0").step().finish("a/0", 0).finish("a/1", 1).step().step()
		l.wantCondition(v1alpha1.ConditionNotified, "").wantCondition(v1alpha1.ConditionFailed, "True JobFailed")
		if s := l.world.job.Status.Notifications; s != nil {
			t.Errorf("%s: the status has %+v", name, s)
		}
	}
}

// TestSwitchedOff: if notifications are sent no more, what is stored stays, and keeps no job.
func TestSwitchedOff(t *testing.T) {
	l := hasRunJob(t)
	l.steer(func(job *v1alpha1.BatchJob) { job.Spec.TTLSecondsAfterFinished = new(int64(0)) })
	if l.wait(time.Second); l.compute().Expire {
		t.Error("a job expires that owes events")
	}
	l.delivery = nil
	if p := l.compute(); !p.Expire || p.Status.Notifications == nil {
		t.Errorf("expires: %t, %+v", p.Expire, p.Status.Notifications)
	}
}

// TestRefusedJobs: a rejected job announces its failure, and one that runs nothing announces nothing.
func TestRefusedJobs(t *testing.T) {
	l := newListener(t, testutil.Job("j").Task("a"), notification("t", "JOB_", "TASK_"), notification("other", "JOB_S"),
		notification(strings.Repeat("t", 1<<20), "JOB_"))
	reject := func(spec *resolve.Job) Plan {
		obs := l.observation()
		obs.Spec = spec
		return Reject(obs, "InvalidParameterValue", strings.Repeat("no ", 1000), l.now)
	}
	for _, spec := range []*resolve.Job{l.spec, nil} {
		p := reject(spec)
		s := p.Status.Notifications
		if s == nil || s.Pending != 1 || len(s.Topics) != 1 || s.Topics[0].Pending[0].EventName != "JOB_FAILED" ||
			s.Topics[0].Pending[0].Reason != "InvalidParameterValue" || s.Topics[0].Pending[0].Message != p.Status.Message {
			t.Errorf("the status has %+v", s)
		}
	}
	p := reject(nil)
	if err := l.store(l.world.job.ResourceVersion, &p.Status); err != nil {
		t.Fatal(err)
	}
	l.delivery = &Delivery{Topics: []TopicDelivery{{Acknowledged: ofJob(event.JobFailed)}}}
	if p = reject(nil); p.Status.Notifications.Pending != 0 || p.Status.Notifications.Sent != 1 {
		t.Errorf("after the acknowledgement it has %+v", p.Status.Notifications)
	}
	l.changeJob(func(job *v1alpha1.BatchJob) { job.Status = v1alpha1.BatchJobStatus{} })
	original := testutil.Job("original").Task("a").Obj()
	for name, p := range map[string]Plan{
		"duplicate":   Duplicate(l.observation(), original, l.now),
		"already ran": AlreadyRan(l.observation(), Tombstone{JobID: "job-00000000", State: v1alpha1.JobFailed}, l.now),
	} {
		if p.Status.Notifications != nil || meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionNotified) != nil {
			t.Errorf("%s: %+v", name, p.Status)
		}
	}
}

// TestDeletedJobs: acknowledgements count while a job is deleted, though it does not resolve any more, and while its status
// cannot be read.
func TestDeletedJobs(t *testing.T) {
	l := newListener(t, testutil.Job("j").Task("a", testutil.Instances(3)), notification("t", "TASK_"))
	l.step().on(func(w *world) { w.start("a/0 a/1") }).step()
	acks := backlog.Acks{}
	acks.Add(backlog.Key{Name: event.TaskInstanceRunning}, ranges.Of(1))
	l.delivery = &Delivery{Topics: []TopicDelivery{{Acknowledged: acks}}}
	check := func(name string, p Plan) {
		t.Helper()
		if s := p.Status.Notifications; s.Pending != 2 || s.Sent != 1 || s.GivenUp != 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	check("unreadable", Unreadable(l.observation(), ErrUnreadable, l.now))
	l.changeJob(func(job *v1alpha1.BatchJob) { job.DeletionTimestamp = new(seconds(l.now)) })
	obs := l.observation()
	check("deleted", l.must(obs))
	check("rejected and deleted", Reject(obs, "InvalidParameterValue", "no", l.now))
	obs.Spec = nil
	check("without spec", l.must(obs))
}

// TestEditedBacklog: what somebody has written into the status is not sent, once, loudly, and keeps the job from nothing.
func TestEditedBacklog(t *testing.T) {
	l := hasRunJob(t)
	l.changeJob(func(job *v1alpha1.BatchJob) {
		job.Status.Notifications.Topics[0].Pending[0].EventName = strings.Repeat("x", 1<<20)
		job.Status.Notifications.Announced = []v1alpha1.AnnouncedEvents{{EventName: "TASK_RUNNING", Numbers: "0-2147483647"}}
	})
	l.world.step()
	l.wantNotified("False EventsGivenUp", "0 pending, 0 sent, 1 given up")
	if len(l.last.Events) != 1 || len(l.last.Events[0].Message) > v1alpha1.MaxMessageSize {
		t.Errorf("the events are %+v", l.last.Events)
	}
	if l.world.step(); len(l.last.Events) != 0 {
		t.Errorf("then they are %+v", l.last.Events)
	}
}

// worst is more than a job brings in one pass: all events of every second instance, in n attempts of two runs.
func worst(n, tasks, instances int) []backlog.Entry {
	every := func(n, first int) ranges.Set {
		var list []int
		for i := first; i < n; i += 2 {
			list = append(list, i)
		}
		return ranges.Of(list...)
	}
	var out []backlog.Entry
	for _, name := range event.Names() {
		for i := range n {
			e := backlog.Entry{
				Key: backlog.Key{Name: name, Run: i % 2, Attempt: i}, Time: time.Unix(1e9, 0), Numbers: every(instances, i%2), JobState: string(v1alpha1.JobFailedInterrupted),
				Details: backlog.Details{
					ExitCode: new(int32(-1 << 31)), Reason: v1alpha1.ReasonPredecessorFailed,
					Message: strings.Repeat("<", v1alpha1.MaxMessageSize/6), Node: strings.Repeat("n", 253),
				},
			}
			switch name.Level() {
			case event.ComputeEnv:
				continue
			case event.Job:
				e.Numbers = ranges.Of(0)
			case event.Task:
				e.Numbers = every(tasks, i%2)
			}
			out = append(out, e)
		}
	}
	return out
}

// TestNotificationSize: no job gets more into its status than admission reserves for it, whatever it is and has announced;
// and of what does not fit, the end of the job is lost last.
func TestNotificationSize(t *testing.T) {
	for name, tc := range map[string]struct{ attempts, tasks, instances, topics int }{
		"instances":       {8, 1, v1alpha1.MaxTaskInstances, 1},
		"two topics":      {2, 1, v1alpha1.MaxTaskInstances, 2},
		"tasks":           {40, 5000, 1, 1},
		"both":            {8, 5000, 20, 2},
		"many topics":     {40, 2, 10, 30},
		"more topics":     {40, 2, 10, 120},
		"too many topics": {4, 2, 10, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			b := testutil.Job("j")
			for i := range tc.tasks {
				b.Task(fmt.Sprint("task-", i), testutil.Instances(int64(tc.instances)))
			}
			job := b.Obj()
			for i := range tc.topics {
				job.Spec.Job.Notifications = append(job.Spec.Job.Notifications, notification(fmt.Sprintf("%064d", i), "JOB_", "TASK_", "COMPUTE_NODE_"))
			}
			obs := Observation{Job: job, Delivery: &Delivery{Topics: make([]TopicDelivery, tc.topics)}}
			for i := range obs.Delivery.Topics {
				obs.Delivery.Topics[i] = TopicDelivery{Known: true, FailingSince: time.Unix(1e9, 0), LastError: strings.Repeat("<", v1alpha1.MaxMessageSize/6)}
			}
			due, announced := worst(tc.attempts, tc.tasks, tc.tasks*tc.instances), map[event.Name]ranges.Set{}
			for i := range due {
				switch name := due[i].Name; name {
				case event.JobRunning, event.JobFailedInterrupted, event.TaskRunning, event.TaskFailedInterrupted,
					event.TaskInstanceRunning, event.ComputeNodeCreated, event.ComputeNodeRunning:
					announced[name] = due[i].Numbers
				}
			}
			for range 2 {
				e := noteEvents(&obs, &job.Status, due, announced, time.Unix(1e9, 0))
				text, err := json.Marshal(job.Status.Notifications)
				if err != nil {
					t.Fatal(err)
				}
				if len(text) > MaxBacklogSize || len(e) > maxEvents+2 {
					t.Fatalf("%d bytes, want %d; %d events", len(text), MaxBacklogSize, len(e))
				}
				t.Logf("%d bytes", len(text))
			}
			if tc.topics == 1 && !strings.Contains(fmt.Sprint(job.Status.Notifications.Topics), "JOB_FAILED") {
				t.Error("the end of the job is lost")
			}
		})
	}
}

// runningJob returns an observation of a job with n instances whose Pods run, or have just succeeded.
func runningJob(t testing.TB, n int, end bool, lists ...v1alpha1.Notification) Observation {
	job := testutil.Job("j").Task("a", testutil.Instances(int64(n))).Status(v1alpha1.BatchJobStatus{
		State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Active: active(0, fmt.Sprintf("0-%d", n-1))}},
	}).Obj()
	job.Spec.Job.Notifications = lists
	c, err := newCluster(job)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		in := resolve.Instance{Index: i}
		c.create(in)
		c.change(c.spec.PodName(in), func(pod *corev1.Pod) {
			testutil.Bind(pod, "node-1")
			testutil.Start(pod, c.now)
			if end {
				testutil.Finish(pod, 0, c.now)
			}
		})
	}
	return Observation{Job: c.job, Spec: c.spec, Pods: c.tracked(), Delivery: &Delivery{}}
}

// allocations returns how many a pass takes.
func allocations(t *testing.T, obs Observation) float64 {
	return testing.AllocsPerRun(10, func() {
		if _, err := Compute(obs, time.Unix(2e9, 0)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCostOfNotifications: a job without notifications pays nothing for them, one with events of jobs and tasks the same for
// any number of instances, and one with events of instances by their number.
func TestCostOfNotifications(t *testing.T) {
	if n := allocations(t, runningJob(t, 1, false)); n > 18 { // as many as before there were notifications
		t.Errorf("a pass over one Pod takes %v allocations", n)
	}
	for _, end := range []bool{false, true} {
		none := runningJob(t, 300, end)
		off := none
		off.Delivery = nil
		if with, without := allocations(t, none), allocations(t, off); with != without {
			t.Errorf("without notifications a pass takes %v allocations, and %v if none are sent", with, without)
		}
		base := allocations(t, none)
		if more := allocations(t, runningJob(t, 300, end, notification("t", "JOB_", "TASK_R"))) - base; more > 60 {
			t.Errorf("events of jobs and tasks take %v allocations", more)
		}
		if more := allocations(t, runningJob(t, 300, end, notification("t", "JOB_", "TASK_", "COMPUTE_NODE_"))) - base; more > 300*10+100 {
			t.Errorf("events of instances take %v allocations for 300 that changed", more)
		}
	}
	compute := func(obs Observation) func() {
		return func() {
			if _, err := Compute(obs, time.Unix(2e9, 0)); err != nil {
				t.Error(err)
			}
		}
	}
	all := notification("t", "JOB_", "TASK_", "COMPUTE_NODE_")
	if got := cputime.Ratio(compute(runningJob(t, 8000, true, all)), compute(runningJob(t, 500, true, all))); got > sixteenTimes {
		t.Errorf("sixteen times as many instances take %.1f times as long", got)
	}
}

// BenchmarkNotifications is one pass over 10,000 Pods that run, or have just ended, by what is announced.
func BenchmarkNotifications(b *testing.B) {
	for _, end := range []bool{false, true} {
		for name, lists := range map[string][]v1alpha1.Notification{
			"nothing": nil, "jobs and tasks": {notification("t", "JOB_", "TASK_R", "TASK_S", "TASK_F")}, "all": {notification("t", "JOB_", "TASK_", "COMPUTE_NODE_")},
		} {
			b.Run(fmt.Sprintf("%s, ended %t", name, end), func(b *testing.B) {
				obs := runningJob(b, 10_000, end, lists...)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Compute(obs, time.Unix(2e9, 0)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
