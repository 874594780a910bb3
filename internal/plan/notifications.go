// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// Delivery is what became of the events of a job's notifications, as far as the stored status may not show it.
type Delivery struct {
	// Topics are by the position of the notification; those behind the last are as the zero value.
	Topics []TopicDelivery
}

// TopicDelivery is the part of a Delivery for one notification.
type TopicDelivery struct {
	// Acknowledged are events that the receiver has acknowledged, and GivenUp those that will not be sent again.
	Acknowledged, GivenUp backlog.Acks
	// Known says that sending was tried, so that the rest says how it ended. FailingSince is when it failed for the first
	// time since the last success; zero if it does not fail. LastError is the last error.
	Known        bool
	FailingSince time.Time
	LastError    string
}

func (d *Delivery) topic(i int) TopicDelivery {
	if i < len(d.Topics) {
		return d.Topics[i]
	}
	return TopicDelivery{}
}

// announcer finds the events of the job's notifications that the next status brings. It is nil for a job without
// notifications: its methods do nothing then.
//
// What happens to a job, a task or an instance can be seen in several passes: announced has what was announced before,
// where the lists of the status do not say it.
type announcer struct {
	*job
	numbering backlog.Numbering
	// levels and names are what any topic wants.
	levels map[event.Level]bool
	names  map[event.Name]bool
	// announced are the events of this run by name, as v1alpha1.NotificationStatus has them.
	announced map[event.Name]ranges.Set
	// before are the lists before this pass, by the position of the task; nil if no topic wants failed instances.
	before []lists
	due    []backlog.Entry
	// counted are the instances whose failure is in due, and left those of which an attempt has ended, by number.
	counted, left []int
}

// newAnnouncer returns the announcer for a pass; nil if the job has no notifications or none are sent.
func newAnnouncer(j *job, at []lists) *announcer {
	if j.obs.Delivery == nil || len(j.obs.Spec.Notifications) == 0 {
		return nil
	}
	a := &announcer{
		job: j, numbering: numberingOf(j.obs.Spec), levels: map[event.Level]bool{}, names: map[event.Name]bool{},
		announced: map[event.Name]ranges.Set{},
	}
	for i := range j.obs.Spec.Notifications {
		for _, c := range j.obs.Spec.Notifications[i].EventConfigs {
			name := event.Name(c.EventName)
			a.names[name], a.levels[name.Level()] = true, true
		}
	}
	if a.names[event.TaskInstanceFailed] {
		a.before = append([]lists(nil), at...)
	}
	if stored := j.obs.Job.Status.Notifications; stored != nil && int(j.obs.Job.Status.Run) == j.mode.run {
		for _, s := range stored.Announced {
			name := event.Name(s.EventName)
			if set, err := backlog.ParseNumbers(name, s.Numbers, a.numbering); err == nil { // else it may be announced again
				a.announced[name] = set
			}
		}
	}
	return a
}

func numberingOf(spec *resolve.Job) backlog.Numbering {
	return backlog.NewNumbering(len(spec.Tasks), func(i int) int { return spec.Tasks[i].InstanceNum })
}

// add adds an event if a topic wants it.
func (a *announcer) add(e backlog.Entry) {
	if a.names[e.Name] {
		e.Run = a.mode.run
		a.due = append(a.due, e)
	}
}

// once adds an event that can be seen in several passes, unless it was announced.
func (a *announcer) once(e backlog.Entry, number int) {
	if !a.names[e.Name] || a.announced[e.Name].Contains(number) {
		return
	}
	e.Numbers = ranges.Of(number)
	a.announced[e.Name] = a.announced[e.Name].Union(e.Numbers)
	a.add(e)
}

// isWatched reports whether a topic wants events of instances or their nodes.
func (a *announcer) isWatched() bool {
	return a != nil && (a.levels[event.TaskInstance] || a.levels[event.ComputeNode])
}

// follow adds what an attempt whose Pod has not ended brings.
func (a *announcer) follow(t *task, in resolve.Instance, pod *corev1.Pod, p phase) {
	if !a.isWatched() || p == phaseNone {
		return
	}
	number := a.numbering.Start(in.Task) + in.Index
	e := backlog.Entry{Key: backlog.Key{Attempt: in.Attempt}, Time: seconds(a.now).Time, Details: backlog.Details{Node: pod.Spec.NodeName}}
	a.placed(t, e, number)
	if p == phaseRunning {
		if started := startedAt(pod); started != nil {
			e.Time = started.Time
		}
		a.started(t, e, number)
	}
}

// placed adds that an attempt has a node. The nodes of ComputeEnvs are not the job's.
func (a *announcer) placed(t *task, e backlog.Entry, number int) {
	if t.EnvID == "" {
		e.Name = event.ComputeNodeCreated
		a.once(e, number)
	}
}

// started adds that the command of an attempt runs.
func (a *announcer) started(t *task, e backlog.Entry, number int) {
	if t.EnvID == "" {
		e.Name = event.ComputeNodeRunning
		a.once(e, number)
	}
	e.Name = event.TaskInstanceRunning
	a.once(e, number)
}

// ended adds what the end of an attempt brings, with what nobody has seen of it before.
func (a *announcer) ended(t *task, in resolve.Instance, end *outcome, next verdict) {
	if !a.isWatched() {
		return
	}
	number := a.numbering.Start(in.Task) + in.Index
	a.left = append(a.left, number)
	e := backlog.Entry{
		Key: backlog.Key{Attempt: in.Attempt}, Numbers: ranges.Of(number), Time: end.time.Time,
		Details: backlog.Details{Node: end.nodeName},
	}
	if end.nodeName != "" {
		a.placed(t, e, number)
	}
	if end.ran || end.kind == success {
		a.started(t, e, number)
	}
	e.ExitCode, e.Reason, e.Message = end.exitCode, end.reason, end.message
	a.nodeEnded(t, e, end, next)
	switch next {
	case succeeded:
		e.Name = event.TaskInstanceSucceed
	case interrupted:
		e.Name = event.TaskInstanceFailedInterrupted
	case failed:
		e.Name = event.TaskInstanceFailed
		a.counted = append(a.counted, number)
	default:
		return
	}
	a.add(e)
}

// nodeEnded adds what becomes of the node of an attempt that has ended.
func (a *announcer) nodeEnded(t *task, e backlog.Entry, end *outcome, next verdict) {
	if t.EnvID != "" {
		return
	}
	if end.kind == byMachine && end.reason != v1alpha1.ReasonTerminated && next != returned {
		if e.Name = event.ComputeNodeCreationFailed; end.ran {
			e.Name = event.ComputeNodeAbnormal
		}
		a.add(e)
	}
	if end.nodeName != "" && next != interrupted {
		e.Name, e.Details = event.ComputeNodeDeleting, backlog.Details{Node: e.Node}
		a.add(e)
	}
}

// summarize adds what the states of the job and its tasks bring, and the instances that failed without an attempt.
func (a *announcer) summarize(s *summary) {
	if a == nil {
		return
	}
	ran := false
	order, _ := a.obs.Spec.Graph.Order()
	for _, i := range order {
		a.addUnattempted(s, int(i))
		a.addTask(s, int(i))
		ran = ran || s.pods.tasks[i].ran
	}
	now := seconds(a.now).Time
	e := backlog.Entry{Time: now}
	old, state := a.obs.Job.Status.State, s.state
	if hasRun(v1alpha1.TaskState(state), ran) {
		e.Name = event.JobRunning
		a.once(e, 0)
	} else if old != v1alpha1.JobRunning {
		for i := range a.due {
			a.due[i].JobState = string(old)
		}
	}
	if state != old {
		e.Reason, e.Message = s.reason, s.message
		a.ends(e, string(state), "JOB_", 0)
	}
	for _, name := range []event.Name{event.TaskInstanceRunning, event.ComputeNodeCreated, event.ComputeNodeRunning} {
		a.announced[name] = a.announced[name].Minus(ranges.Of(a.left...))
	}
}

// hasRun reports whether what has this state runs or has run; ran says that an attempt of it has.
func hasRun(state v1alpha1.TaskState, ran bool) bool {
	switch state {
	case v1alpha1.TaskRunning, v1alpha1.TaskSucceed:
		return true
	case v1alpha1.TaskFailed, v1alpha1.TaskFailedInterrupted:
		return ran
	}
	return false
}

// addTask adds what the state of a task brings.
func (a *announcer) addTask(s *summary, pos int) {
	if !a.levels[event.Task] {
		return
	}
	was, x := v1alpha1.TaskPending, &s.tasks[pos]
	if old := a.tasks[pos].old; old != nil {
		was = old.State
	}
	if x.state == was && x.state != v1alpha1.TaskRunning {
		return
	}
	e := backlog.Entry{Time: seconds(a.now).Time}
	if hasRun(x.state, s.pods.tasks[pos].ran) {
		e.Name = event.TaskRunning
		a.once(e, pos)
	}
	if x.state != was {
		e.Reason, e.Message = x.reason, x.message
		a.ends(e, string(x.state), "TASK_", pos)
	}
}

// ends adds the event for the state at the end of a job or a task.
func (a *announcer) ends(e backlog.Entry, state, prefix string, number int) {
	e.Name = event.Name(prefix + state)
	switch v1alpha1.JobState(state) {
	case v1alpha1.JobFailedInterrupted:
		a.once(e, number)
	case v1alpha1.JobSucceed, v1alpha1.JobFailed:
		if state == string(v1alpha1.JobSucceed) {
			e.Reason, e.Message = "", ""
		}
		e.Numbers = ranges.Of(number)
		a.add(e)
	}
}

// addUnattempted adds the instances of a task that failed, and not by the end of an attempt: they were terminated while
// they waited or were interrupted, or tasks before them do not let them start.
func (a *announcer) addUnattempted(s *summary, pos int) {
	if a.before == nil {
		return
	}
	was, is := &a.before[pos], &s.at[pos]
	if is.failed.Len() == was.failed.Len() {
		return
	}
	start := a.numbering.Start(pos)
	var counted []int
	for _, n := range a.counted {
		if task, index := a.numbering.Find(n); task == pos {
			counted = append(counted, index)
		}
	}
	left := is.failed.Minus(was.failed).Minus(ranges.Of(counted...))
	e := backlog.Entry{Key: backlog.Key{Name: event.TaskInstanceFailed}, Time: seconds(a.now).Time}
	e.Reason, e.Message = s.tasks[pos].reason, s.tasks[pos].message
	for _, groups := range [...]groups{was.interrupted, was.retrying} {
		for _, g := range groups {
			if set := g.set.Intersect(left); !set.Empty() {
				e.Attempt, e.Numbers = g.attempt(), set.Shift(start)
				a.add(e)
				left = left.Minus(set)
			}
		}
	}
	if !left.Empty() {
		e.Attempt, e.Numbers = 0, left.Shift(start)
		a.add(e)
	}
}
