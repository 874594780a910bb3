// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
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
	// GiveUpBefore gives up all events that are older; zero gives up none.
	GiveUpBefore time.Time
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
	// announced are the events of this run by name, as v1alpha1.NotificationStatus has them, and fresh the numbers that
	// this pass adds to them.
	announced map[event.Name]ranges.Set
	fresh     map[event.Name][]int
	// before are the lists before this pass, by the position of the task; nil if no topic wants what they are for, see
	// addUnattempted.
	before []lists
	due    []backlog.Entry
	// counted are the indexes of the instances whose failure is in due, by the position of their task, and left the
	// numbers of those of which an attempt has ended.
	counted map[int][]int
	left    []int
}

// newAnnouncer returns the announcer for a pass; nil if the job has no notifications or none are sent.
func newAnnouncer(j *job, at []lists) *announcer {
	if j.obs.Delivery == nil || len(j.obs.Spec.Notifications) == 0 {
		return nil
	}
	own := *j // so that the job of other passes needs no memory
	a := &announcer{
		job: &own, numbering: numberingOf(j.obs.Spec), levels: map[event.Level]bool{}, names: map[event.Name]bool{},
		announced: map[event.Name]ranges.Set{}, fresh: map[event.Name][]int{}, counted: map[int][]int{},
	}
	for i := range j.obs.Spec.Notifications {
		for _, c := range j.obs.Spec.Notifications[i].EventConfigs {
			name := event.Name(c.EventName)
			a.names[name], a.levels[name.Level()] = true, true
		}
	}
	if a.names[event.TaskInstanceFailed] || a.names[event.ComputeNodeDeleting] {
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

// once adds an event that can be seen in several passes, unless it was announced before this one. A pass calls it once at
// most for a name and number.
func (a *announcer) once(e backlog.Entry, number int) {
	if !a.names[e.Name] || a.announced[e.Name].Contains(number) {
		return
	}
	a.fresh[e.Name] = append(a.fresh[e.Name], number)
	e.Numbers = ranges.Of(number)
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
	if end.started {
		a.started(t, e, number)
	}
	e.ExitCode, e.Reason, e.Message = end.exitCode, end.reason, end.message
	a.nodeEnded(t, e, number, end, next)
	switch next {
	case succeeded:
		e.Name = event.TaskInstanceSucceed
	case interrupted:
		e.Name = event.TaskInstanceFailedInterrupted
	case failed:
		e.Name = event.TaskInstanceFailed
		a.counted[in.Task] = append(a.counted[in.Task], in.Index)
	default:
		return
	}
	a.add(e)
}

// nodeEnded adds what becomes of the node of an attempt that has ended. A ComputeEnv keeps its nodes, whichever machines
// instances lose.
func (a *announcer) nodeEnded(t *task, e backlog.Entry, number int, end *outcome, next verdict) {
	if end.kind == byMachine && end.reason != v1alpha1.ReasonTerminated && next != returned {
		// Of a Pod that is gone, or that took the place of another, only what was announced says that the node had run.
		if e.Name = event.ComputeNodeCreationFailed; end.ran || a.announced[event.ComputeNodeRunning].Contains(number) || a.announced[event.TaskInstanceRunning].Contains(number) {
			e.Name = event.ComputeNodeAbnormal
		}
		a.add(e)
	}
	if t.EnvID == "" && (end.nodeName != "" || a.announced[event.ComputeNodeCreated].Contains(number)) && next != interrupted {
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
	e := backlog.Entry{Time: seconds(a.now).Time}
	old, state := a.obs.Job.Status.State, s.state
	if hasRun(v1alpha1.TaskState(state), ran) {
		e.Name = event.JobRunning
		a.once(e, 0)
	} else {
		a.setJobState(old, state)
	}
	if state != old {
		e.Reason, e.Message = s.reason, s.message
		a.ends(e, string(state), "JOB_", 0)
	}
	for name, numbers := range a.fresh {
		a.announced[name] = a.announced[name].Union(ranges.Of(numbers...))
	}
	left := ranges.Of(a.left...)
	for _, name := range []event.Name{event.TaskInstanceRunning, event.ComputeNodeCreated, event.ComputeNodeRunning} {
		a.announced[name] = a.announced[name].Minus(left)
	}
}

// setJobState says of the events so far in which state the job is that is not RUNNING: its next one, or the last one before
// its end.
func (a *announcer) setJobState(old, next v1alpha1.JobState) {
	state := next
	if isTerminal(next) {
		state = cmp.Or(old, v1alpha1.JobSubmitted)
	}
	if state == v1alpha1.JobRunning {
		return
	}
	for i := range a.due {
		a.due[i].JobState = string(state)
	}
}

// hasRun reports whether what has this state runs or has run; ran says that an attempt of it was found ended now that has.
// What starts and ends between two passes is never RUNNING in the status.
func hasRun(state v1alpha1.TaskState, ran bool) bool {
	return ran || state == v1alpha1.TaskRunning || state == v1alpha1.TaskSucceed
}

// addTask adds what the state of a task brings.
func (a *announcer) addTask(s *summary, pos int) {
	if !a.levels[event.Task] {
		return
	}
	was, x, ran := v1alpha1.TaskPending, &s.tasks[pos], s.pods.tasks[pos].ran
	if old := a.tasks[pos].old; old != nil {
		was = old.State
	}
	if x.state == was && x.state != v1alpha1.TaskRunning && !ran {
		return
	}
	e := backlog.Entry{Time: seconds(a.now).Time}
	if hasRun(x.state, ran) {
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
// they waited or were interrupted, somebody deleted the Pods of interrupted ones, or tasks before them do not let them
// start.
func (a *announcer) addUnattempted(s *summary, pos int) {
	if a.before == nil {
		return
	}
	was, is := &a.before[pos], &s.at[pos]
	if is.failed.Len() == was.failed.Len() {
		return
	}
	left := is.failed.Minus(was.failed).Minus(ranges.Of(a.counted[pos]...))
	for _, g := range was.interrupted {
		set := g.set.Intersect(left)
		a.addFailed(s, pos, g.attempt(), set)
		a.deleting(pos, g, set)
		left = left.Minus(set)
	}
	for _, g := range was.retrying {
		set := g.set.Intersect(left)
		a.addFailed(s, pos, g.attempt(), set)
		left = left.Minus(set)
	}
	a.addFailed(s, pos, 0, left)
}

// addFailed adds the instances with these indexes that failed without an attempt that ended now. attempt is the last one of
// interrupted instances; of others, the one that they will not have.
func (a *announcer) addFailed(s *summary, pos, attempt int, indexes ranges.Set) {
	t, start := &a.tasks[pos], a.numbering.Start(pos)
	add := func(set ranges.Set, reason, message string) {
		if !set.Empty() {
			a.add(backlog.Entry{
				Key: backlog.Key{Name: event.TaskInstanceFailed, Attempt: attempt}, Numbers: set.Shift(start), Time: seconds(a.now).Time,
				Details: backlog.Details{Reason: reason, Message: message},
			})
		}
	}
	if s.ready.tasks[pos] == impossible {
		add(indexes, s.tasks[pos].reason, s.tasks[pos].message)
		return
	}
	terminated := indexes
	if !a.mode.terminating {
		terminated = indexes.Intersect(t.terminated)
	}
	add(terminated, v1alpha1.ReasonTerminated, "terminated")
	add(indexes.Minus(terminated), v1alpha1.ReasonPodDeleted, "the Pod of the interrupted instance was deleted")
}

// deleting adds that the nodes of interrupted instances, which kept them, are given back. They may be of an earlier run.
func (a *announcer) deleting(pos int, g group, indexes ranges.Set) {
	if name := event.ComputeNodeDeleting; a.names[name] && a.tasks[pos].EnvID == "" && !indexes.Empty() {
		a.due = append(a.due, backlog.Entry{
			Key:     backlog.Key{Name: name, Run: g.run, Attempt: g.attempt()},
			Numbers: indexes.Shift(a.numbering.Start(pos)), Time: seconds(a.now).Time,
		})
	}
}
