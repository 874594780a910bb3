// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/delivery"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/topic"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/retry"
)

// simReceiver is the receiver of the events of all jobs, which ask for all events of jobs, tasks and instances. The
// invariants:
//
//	N1 every event of a change that a status has stored is received before the job is gone    checkReceived
//	N2 events are received in the order of these changes                                       checkReceived
//	N3 no event is received of what did not happen                                             checkReceived
type simReceiver struct {
	// got has the ids of the events in the order in which they were received for the first time, and repeats how many
	// were received again.
	got     []string
	repeats int
	// due has the ids of the events of stored changes, in the order of the writes, with the number of the write.
	due []simDueEvent
	// largest is the most entries that a status had.
	largest int
	// down says that nothing is received.
	down bool
}

// simDueEvent is an event of the change that a write has stored.
type simDueEvent struct {
	id    string
	write int
}

// notified returns a job that asks for all events.
func notified(job *v1alpha1.BatchJob) *v1alpha1.BatchJob {
	var configs []v1alpha1.EventConfig
	for _, name := range event.Names() {
		if level := name.Level(); level == event.Job || level == event.Task || level == event.TaskInstance {
			configs = append(configs, v1alpha1.EventConfig{EventName: string(name)})
		}
	}
	job.Spec.Job.Notifications = []v1alpha1.Notification{{TopicName: "films", EventConfigs: configs}}
	return job
}

// dispatcherOf returns a dispatcher whose turns the schedule runs.
func (c *simController) newDispatcher() *delivery.Dispatcher {
	return delivery.New(delivery.Config{
		Topics: simTopics{c}, Observer: simObserver{}, Clock: simClock{s: c.s},
		Wake: func(name types.NamespacedName) { c.r.states.wake(name); c.dueOf(name.Name).now = true },
		Read: func(_ context.Context, name types.NamespacedName) (*delivery.Object, error) {
			for _, job := range c.cachedJobs() {
				if job.Name != name.Name {
					continue
				}
				if live := c.s.jobs[job.Name]; plan.IsOutline(job) && live != nil && live.UID == job.UID {
					return sourceOf(live.DeepCopy()), nil
				} else if !plan.IsOutline(job) {
					return sourceOf(job), nil
				}
			}
			return nil, apierrors.NewNotFound(jobResource, name.Name)
		},
	})
}

type simObserver struct{}

func (simObserver) Sent(time.Duration) {}
func (simObserver) Failed(bool)        {}
func (simObserver) Dropped(int)        {}

// simTopics opens the receiver.
type simTopics struct{ c *simController }

func (t simTopics) Enabled() bool                  { return true }
func (t simTopics) DeliveryTimeout() time.Duration { return 24 * time.Hour }

func (t simTopics) Open(_, _, _ string) (*topic.Topic, error) {
	return &topic.Topic{Sink: t, Key: "films", DeliveryTimeout: 24 * time.Hour, Release: func() {}}, nil
}

var errSimDown = errors.New("the receiver does not answer")

// Send receives events, unless the schedule chooses otherwise.
func (t simTopics) Send(_ context.Context, events []event.Event) (err error) {
	s := t.c.s
	deviates := s.deviate(func() []simOption {
		return []simOption{
			{"the receiver does not answer", func() { err = errSimDown }},
			{"the answer of the receiver is lost", func() { s.receive(events); err = errSimDown }},
			{"the receiver stops after the first event", func() { s.receive(events[:1]); err = errSimDown }},
			{"the receiver refuses an event", func() { err = retry.AsTerminal(errSimDown) }},
			{"the receiver is down", func() { s.receiver.down = true; err = errSimDown }},
			{"the process ends after it has sent events", func() { s.receive(events); t.c.ends = true }},
		}
	})
	switch {
	case deviates:
		return err
	case s.receiver.down:
		return errSimDown
	}
	s.receive(events)
	return nil
}

func (s *simulation) receive(events []event.Event) {
	for i := range events {
		id := events[i].ID()
		s.note("  received " + id)
		if slices.Contains(s.receiver.got, id) {
			s.receiver.repeats++
			continue
		}
		s.receiver.got = append(s.receiver.got, id)
	}
}

// stepDispatcher runs a turn of a dispatcher, if one is due. wait is when the next one is due; 0 means never.
func (s *simulation) stepDispatcher(c *simController) (ran bool, wait time.Duration) {
	if !s.setup.notified {
		return false, 0
	}
	ran, wait = c.r.notifier.dispatcher.Step(context.Background())
	if ran {
		s.note(fmt.Sprintf("controller %d has sent events", c.id))
		s.passes = 0
	}
	if c.ends {
		c.ends = false
		s.crash(c, s.last(), s.last())
	}
	return ran, wait
}

// noteDue adds the events of a change that a write has stored.
func (s *simulation) noteDue(before, after *v1alpha1.BatchJob) {
	if !s.setup.notified || before.Status.State == "" && after.Status.State == v1alpha1.JobSubmitted {
		return
	}
	if n := after.Status.Notifications; n != nil {
		for _, t := range n.Topics {
			s.receiver.largest = max(s.receiver.largest, len(t.Pending))
		}
	}
	prefix := fmt.Sprintf("%s/%d/", naming.JobID(after.UID), after.Status.Run)
	restarted := after.Status.Run > before.Status.Run && after.Status.RetryToken != before.Status.RetryToken
	if isFinal(before) && !restarted {
		return
	}
	was := map[string]v1alpha1.TaskState{}
	for _, t := range before.Status.Tasks {
		if !restarted || t.State == v1alpha1.TaskSucceed {
			was[t.Name] = t.State
		}
	}
	for _, t := range after.Status.Tasks {
		s.noteState(prefix+t.Name+"/TASK_", string(was[t.Name]), string(t.State))
	}
	for i := range s.specs[after.Name].Tasks {
		s.noteInstances(prefix, before, after, i, restarted)
	}
	state := string(before.Status.State)
	if restarted {
		state = ""
	}
	s.noteState(prefix+"JOB_", state, string(after.Status.State))
}

func (s *simulation) noteState(prefix, was, is string) {
	switch is {
	case string(v1alpha1.JobSucceed):
		if was != is {
			s.addDue(prefix + string(v1alpha1.JobRunning))
			s.addDue(prefix + is)
		}
	case string(v1alpha1.JobRunning):
		s.addDue(prefix + is)
	case string(v1alpha1.JobFailed), string(v1alpha1.JobFailedInterrupted):
		if was != is {
			s.addDue(prefix + is)
		}
	}
}

func (s *simulation) noteInstances(prefix string, before, after *v1alpha1.BatchJob, task int, restarted bool) {
	old, next := s.records(before, task), s.records(after, task)
	for index := range s.specs[after.Name].Tasks[task].InstanceNum {
		from, to := old[index], next[index]
		if restarted && from.where != simSucceeded {
			from = simRecord{}
		}
		if from.where == to.where {
			continue
		}
		id := fmt.Sprintf("%s%s/%d/%d/TASK_INSTANCE_", prefix, s.specs[after.Name].Tasks[task].Name, index, from.attempt())
		switch to.where {
		case simSucceeded:
			s.addDue(id + "RUNNING")
			s.addDue(id + "SUCCEED")
		case simFailed:
			s.addDue(id + "FAILED")
		case simInterrupted:
			s.addDue(id + "FAILED_INTERRUPTED")
		}
	}
}

func (s *simulation) addDue(id string) {
	r := s.receiver
	if !slices.ContainsFunc(r.due, func(d simDueEvent) bool { return d.id == id }) {
		r.due = append(r.due, simDueEvent{id, s.writes})
	}
}

// checkReceived checks what was received of the events of a job. complete says that all must have been.
func (s *simulation) checkReceived(uid types.UID, dropped int64, complete bool) {
	r, prefix := s.receiver, naming.JobID(uid)+"/"
	last, lastID, missing := -1, "", 0
	for _, d := range r.due {
		if !strings.HasPrefix(d.id, prefix) {
			continue
		}
		if !slices.Contains(r.got, d.id) {
			if missing++; complete && int64(missing) > dropped {
				s.fail("N1: %s was not received", d.id)
			}
		}
	}
	for _, id := range r.got {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		at := slices.IndexFunc(r.due, func(d simDueEvent) bool { return d.id == id })
		if at < 0 {
			if !s.mayHaveRun(uid, id) {
				s.fail("N3: %s was received, and did not happen", id)
			}
			continue
		}
		if strings.HasSuffix(id, "_RUNNING") { // may be announced before the write that must
			continue
		}
		if w := r.due[at].write; w < last && r.largest <= backlog.MaxEntries {
			s.fail("N2: %s was received after %s", id, lastID)
		} else {
			last, lastID = max(w, last), id
		}
	}
	for _, id := range r.got {
		if running, ok := strings.CutSuffix(id, "RUNNING"); ok && strings.HasPrefix(id, prefix) {
			for _, end := range []string{"SUCCEED", "FAILED", "FAILED_INTERRUPTED"} {
				if at := slices.Index(r.got, running+end); at >= 0 && at < slices.Index(r.got, id) {
					s.fail("N2: %s was received after %s", id, r.got[at])
				}
			}
		}
	}
}

// mayHaveRun reports whether the event is the start of something of which a Pod has run.
func (s *simulation) mayHaveRun(uid types.UID, id string) bool {
	if !strings.HasSuffix(id, "_RUNNING") {
		return false
	}
	return slices.ContainsFunc(s.simPods, func(b *simPod) bool {
		// The node of a Pod that is deleted early reports an exit code, too.
		reported := slices.ContainsFunc(b.ends, func(e simEnding) bool { return e.code != 0 })
		if b.job.UID != uid || !b.ran && !b.stranded && !reported {
			return false
		}
		run := fmt.Sprintf("%s/%d/", naming.JobID(uid), b.in.Run)
		task := run + s.specs[b.job.Name].Tasks[b.in.Task].Name + "/"
		switch id {
		case run + "JOB_RUNNING", task + "TASK_RUNNING", fmt.Sprintf("%s%d/%d/TASK_INSTANCE_RUNNING", task, b.in.Index, b.in.Attempt):
			return true
		}
		return false
	})
}

// checkGone checks what was received of the events of jobs that were removed since the last call.
func (s *simulation) checkGone() {
	if !s.setup.notified {
		return
	}
	for uid, job := range s.known {
		now := s.jobs[job.Name]
		if now == nil || now.UID != uid {
			delete(s.known, uid)
			waited := job.DeletionTimestamp != nil && !s.now.Before(job.DeletionTimestamp.Add(plan.DeletionWait))
			s.checkReceived(uid, droppedOf(job), !waited)
		}
	}
	for _, job := range s.jobs {
		s.known[job.UID] = job
	}
}

// checkAllReceived is for the end of a run.
func (s *simulation) checkAllReceived() {
	if !s.setup.notified {
		return
	}
	for _, job := range s.jobs {
		if isFinal(job) {
			s.checkReceived(job.UID, droppedOf(job), true)
			if plan.OwesEvents(&job.Status) || plan.HasNotificationFinalizer(job) {
				s.fail("N1: the job has ended, and the status has events or the finalizer is left: %+v, %v", job.Status.Notifications, job.Finalizers)
			}
		}
	}
}

func droppedOf(job *v1alpha1.BatchJob) int64 {
	if job.Status.Notifications == nil {
		return 0
	}
	return job.Status.Notifications.GivenUp
}
