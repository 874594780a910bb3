// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/notify/backlog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/testutil"
)

// notification announces the events whose names begin with one of the prefixes.
func notification(topic string, prefixes ...string) v1alpha1.Notification {
	n := v1alpha1.Notification{TopicName: topic}
	for _, name := range event.Names() {
		if name.Level() != event.ComputeEnv && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(string(name), p) }) {
			n.EventConfigs = append(n.EventConfigs, v1alpha1.EventConfig{EventName: string(name)})
		}
	}
	return n
}

// listener is a world of a job with notifications. It notes what every pass records.
type listener struct {
	*world
	job   backlog.Job
	lists []v1alpha1.Notification
	// heard are the events of each topic, in the order in which they were recorded.
	heard [][]backlog.Due
	// seen are the ids of heard, by topic, and acked those of the events that were acknowledged.
	seen, acked []map[string]bool
}

func newListener(t *testing.T, b *testutil.JobBuilder, lists ...v1alpha1.Notification) *listener {
	t.Helper()
	job := b.Obj()
	job.Spec.Job.Notifications = lists
	c, err := newCluster(job)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{world: &world{cluster: c, t: t, delivery: &Delivery{}}, job: backlog.JobOf(job), lists: lists}
	l.delivery.Topics = make([]TopicDelivery, len(lists))
	for range lists {
		l.heard, l.seen, l.acked = append(l.heard, nil), append(l.seen, map[string]bool{}), append(l.acked, map[string]bool{})
	}
	return l
}

// pending returns what the stored status has of a topic.
func (l *listener) pending(topic int) backlog.Backlog {
	l.t.Helper()
	s := l.world.job.Status.Notifications
	if s == nil {
		return nil
	}
	at := slices.IndexFunc(s.Topics, func(t v1alpha1.TopicStatus) bool { return t.Notification == int64(topic) })
	if at < 0 {
		return nil
	}
	b, err := backlog.Parse(s.Topics[at].Pending, l.job.Numbering)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// hear notes what the last pass has recorded, and compares the counts of the status with what was acknowledged.
func (l *listener) hear() []backlog.Due {
	l.t.Helper()
	pending, sent, all := 0, 0, []backlog.Due{}
	for i := range l.lists {
		left := map[string]bool{}
		for due := range l.pending(i).Events(&l.job, &l.lists[i], nil) {
			id := due.Event.ID()
			if left[id] || l.acked[i][id] {
				l.t.Fatalf("%s is pending twice, or was acknowledged", id)
			}
			left[id] = true
			if err := due.Event.Validate(); err != nil {
				l.t.Fatal(err)
			}
			if !l.seen[i][id] {
				l.seen[i][id] = true
				l.heard[i] = append(l.heard[i], due)
				all = append(all, due)
			}
		}
		pending, sent = pending+len(left), sent+len(l.acked[i])
		if len(left)+len(l.acked[i]) != len(l.seen[i]) {
			l.t.Fatalf("topic %d: %d events are pending and %d acknowledged, of %d", i, len(left), len(l.acked[i]), len(l.seen[i]))
		}
	}
	if s := l.world.job.Status.Notifications; s != nil && (int(s.Pending) != pending || int(s.Sent) != sent || s.GivenUp != 0) || s == nil && pending+sent > 0 {
		l.t.Fatalf("the status counts %+v, want %d pending, %d sent", s, pending, sent)
	}
	return all
}

func (l *listener) step() *listener {
	l.t.Helper()
	l.world.step()
	l.hear()
	now, again := &l.world.job.Status, l.compute().Status
	noted := again.Notifications
	again.Notifications = now.Notifications
	if apiequality.Semantic.DeepEqual(*now, again) && !apiequality.Semantic.DeepEqual(now.Notifications, noted) {
		l.t.Fatalf("a pass in which nothing happens changes %+v to %+v", now.Notifications, noted)
	}
	return l
}

// on lets things happen in the world.
func (l *listener) on(happens func(w *world)) *listener {
	l.t.Helper()
	happens(l.world)
	return l
}

// acknowledge has the receiver of a topic acknowledge events.
func (l *listener) acknowledge(topic int, list []backlog.Due) {
	acks := backlog.Acks{}
	for i := range list {
		acks.Add(list[i].Key, ranges.Of(list[i].Number))
		l.acked[topic][list[i].Event.ID()] = true
	}
	l.delivery = &Delivery{Topics: slices.Clone(l.delivery.Topics)}
	l.delivery.Topics[topic].Acknowledged = acks
}

// text is an event such as "TASK_INSTANCE_FAILED a/0/r1/x1 STARTING Reason": its name, subject, attempt and run where these
// are not 0, the state of the job if it is not RUNNING, and the reason.
func text(d *backlog.Due) string {
	e := &d.Event
	out := string(e.Name)
	if s := &e.Subject; s.Task != "" {
		out += " " + s.Task
		if e.Name.Level() != event.Task {
			out += "/" + strconv.FormatInt(s.Index, 10)
		}
		if s.Attempt > 0 {
			out += "/r" + strconv.FormatInt(s.Attempt, 10)
		}
	}
	if e.Subject.Run > 0 {
		out += "/x" + strconv.FormatInt(e.Subject.Run, 10)
	}
	if state := e.Details.JobState; state != string(v1alpha1.JobRunning) && e.Name.Level() != event.Job {
		out += " " + state
	}
	if e.Details.Reason != "" {
		out += " " + e.Details.Reason
	}
	return out
}

// want compares what the first topic has heard since the last call.
func (l *listener) want(want ...string) *listener {
	l.t.Helper()
	var got []string
	for i := range l.heard[0] {
		got = append(got, text(&l.heard[0][i]))
	}
	l.heard[0] = nil
	if !slices.Equal(got, want) {
		l.t.Errorf("heard\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return l
}

// TestAnnounce: what happens is announced in the pass that sees it, once, and in order.
func TestAnnounce(t *testing.T) {
	all := []string{"JOB_", "TASK_"}
	for name, tc := range map[string]struct {
		job      *testutil.JobBuilder
		prefixes []string
		story    func(l *listener)
	}{
		"success": {testutil.Job("j").Task("a", testutil.Instances(2)), all, func(l *listener) {
			l.step().want()
			l.on(func(w *world) { w.start("a/0") }).step().want("JOB_RUNNING", "TASK_RUNNING a", "TASK_INSTANCE_RUNNING a/0")
			l.on(func(w *world) { w.start("a/1").finish("a/0", 0) }).step().want("TASK_INSTANCE_RUNNING a/1", "TASK_INSTANCE_SUCCEED a/0")
			l.on(func(w *world) { w.finish("a/1", 0) }).step().step().want("TASK_INSTANCE_SUCCEED a/1", "TASK_SUCCEED a", "JOB_SUCCEED")
		}},
		"a fast Pod is seen only when it has ended": {testutil.Job("j").Task("a"), all, func(l *listener) {
			l.step().on(func(w *world) { w.finish("a/0", 0) }).step().step().want("JOB_RUNNING", "TASK_RUNNING a", "TASK_INSTANCE_RUNNING a/0",
				"TASK_INSTANCE_SUCCEED a/0", "TASK_SUCCEED a", "JOB_SUCCEED")
		}},
		"a retry": {testutil.Job("j").Task("a", testutil.Retries(1)), all, func(l *listener) {
			l.step().on(func(w *world) { w.finish("a/0", 1) }).step().want("JOB_RUNNING", "TASK_RUNNING a", "TASK_INSTANCE_RUNNING a/0")
			l.on(func(w *world) { w.finish("a/0/r1", 1) }).step().step().want("TASK_INSTANCE_RUNNING a/0/r1", "TASK_INSTANCE_FAILED a/0/r1 CommandFailed",
				"TASK_FAILED a TaskInstanceFailed", "JOB_FAILED JobFailed")
		}},
		"terminated before the first pass": {testutil.Job("j").Task("a").Task("b").Edges("a->b"), all, func(l *listener) {
			l.on(func(w *world) { w.terminate() }).step().want("TASK_INSTANCE_FAILED a/0 SUBMITTED Terminated", "TASK_INSTANCE_FAILED b/0 SUBMITTED Terminated",
				"TASK_FAILED a SUBMITTED Terminated", "TASK_FAILED b SUBMITTED Terminated", "JOB_FAILED Terminated")
		}},
		"terminated while it starts": {testutil.Job("j").Task("a"), all, func(l *listener) {
			l.step().on(func(w *world) { w.bind("a/0").terminate() }).step().on(func(w *world) { w.finish("a/0", 143).vanish("a/0") }).step().step().want(
				"TASK_INSTANCE_FAILED a/0 STARTING Terminated", "TASK_FAILED a STARTING Terminated", "JOB_FAILED Terminated")
		}},
		"a predecessor failed": {testutil.Job("j").Task("a").Task("b", testutil.Instances(2)).Edges("a->b"), all, func(l *listener) {
			l.step().on(func(w *world) { w.finish("a/0", 1) }).step().step().want("JOB_RUNNING", "TASK_RUNNING a", "TASK_INSTANCE_RUNNING a/0",
				"TASK_INSTANCE_FAILED a/0 CommandFailed", "TASK_INSTANCE_FAILED b/0 PredecessorFailed", "TASK_INSTANCE_FAILED b/1 PredecessorFailed",
				"TASK_FAILED a TaskInstanceFailed", "TASK_FAILED b PredecessorFailed", "JOB_FAILED JobFailed")
		}},
		"single instances are terminated": {testutil.Job("j").Task("a", testutil.Instances(4), testutil.Concurrent(2), testutil.Retries(1)), []string{"TASK_INSTANCE_FAILED"}, func(l *listener) {
			l.step().on(func(w *world) {
				w.do("a/0", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") }).start("a/1").annotate("a/1,3")
			}).step().want("TASK_INSTANCE_FAILED a/3 Terminated")
			l.on(func(w *world) { w.wait(2*time.Second).finish("a/1", 143) }).step().want("TASK_INSTANCE_FAILED a/1 Terminated")
		}},
		"an interrupted instance": {testutil.Job("j").Task("a", testutil.FailedAction(v1alpha1.FailedActionInterrupt)), []string{"JOB_", "TASK_", "COMPUTE_NODE_"}, func(l *listener) {
			l.step().on(func(w *world) { w.start("a/0").finish("a/0", 1) }).step().want("JOB_RUNNING", "TASK_RUNNING a",
				"COMPUTE_NODE_CREATED a/0", "COMPUTE_NODE_RUNNING a/0", "TASK_INSTANCE_RUNNING a/0", "TASK_INSTANCE_FAILED_INTERRUPTED a/0 CommandFailed",
				"TASK_FAILED_INTERRUPTED a Interrupted", "JOB_FAILED_INTERRUPTED Interrupted")
			l.on(func(w *world) { w.stop("a/0") }).step().step().want("COMPUTE_NODE_DELETING a/0 FAILED_INTERRUPTED",
				"TASK_INSTANCE_FAILED a/0 FAILED_INTERRUPTED PodDeleted", "TASK_FAILED a FAILED_INTERRUPTED TaskInstanceFailed", "JOB_FAILED JobFailed")
		}},
		"of an earlier run, and terminated": {testutil.Job("j").Task("a", testutil.Instances(2), testutil.FailedAction(v1alpha1.FailedActionInterrupt)), []string{"COMPUTE_NODE_DEL", "TASK_INSTANCE_FAILED"}, func(l *listener) {
			l.step().on(func(w *world) { w.finish("a/0", 1).suspend(true).stop("a/1") }).step().step().want("TASK_INSTANCE_FAILED_INTERRUPTED a/0 CommandFailed")
			l.on(func(w *world) { w.suspend(false) }).step().on(func(w *world) { w.annotate("a/0") }).step().step().want(
				"COMPUTE_NODE_DELETING a/0", "TASK_INSTANCE_FAILED a/0/x1 Terminated")
		}},
		"suspended before a pass saw it run": {testutil.Job("j").Task("a"), all, func(l *listener) {
			l.step().on(func(w *world) { w.start("a/0").suspend(true).stop("a/0").wait(time.Second).finish("a/0", 143) }).step().want("JOB_RUNNING", "TASK_RUNNING a", "TASK_INSTANCE_RUNNING a/0")
			l.step().on(func(w *world) { w.suspend(false) }).step().want()
			l.on(func(w *world) { w.finish("a/0/x1", 0) }).step().step().want("JOB_RUNNING/x1", "TASK_RUNNING a/x1", "TASK_INSTANCE_RUNNING a/0/x1",
				"TASK_INSTANCE_SUCCEED a/0/x1", "TASK_SUCCEED a/x1", "JOB_SUCCEED/x1")
		}},
		"retryToken": {testutil.Job("j").Task("a").Task("b").Edges("b->a"), []string{"JOB_", "TASK_S", "TASK_F", "TASK_R"}, func(l *listener) {
			l.step().on(func(w *world) { w.finish("b/0", 0) }).step().on(func(w *world) { w.finish("a/0", 1) }).step().step().want(
				"JOB_RUNNING", "TASK_RUNNING b", "TASK_SUCCEED b", "TASK_RUNNING a", "TASK_FAILED a TaskInstanceFailed", "JOB_FAILED JobFailed")
			l.on(func(w *world) { w.retry("again") }).step().want("JOB_RUNNING/x1") // as its status says: b has ended
			l.on(func(w *world) { w.finish("a/0/x1", 0) }).step().step().want("TASK_RUNNING a/x1", "TASK_SUCCEED a/x1", "JOB_SUCCEED/x1")
		}},
		"nodes": {testutil.Job("j").Task("a", testutil.ResourceRetries(1)), []string{"COMPUTE_NODE_"}, func(l *listener) {
			l.step().on(func(w *world) { w.bind("a/0") }).step().want("COMPUTE_NODE_CREATED a/0 STARTING")
			l.on(func(w *world) { w.start("a/0") }).step().want("COMPUTE_NODE_RUNNING a/0")
			l.on(func(w *world) { w.stop("a/0").wait(30*time.Second + confirmWait) }).on(func(w *world) {
				w.do("a/0", func(pod *corev1.Pod) { testutil.Fail(pod, "", ""); testutil.Disrupt(pod, "DeletionByTaintManager", "") })
			}).step().want("COMPUTE_NODE_ABNORMAL a/0 NodeLost", "COMPUTE_NODE_DELETING a/0")
			l.on(func(w *world) { w.finish("a/0/r1", 0) }).step().want("COMPUTE_NODE_CREATED a/0/r1", "COMPUTE_NODE_RUNNING a/0/r1", "COMPUTE_NODE_DELETING a/0/r1")
		}},
		"a machine that is not acquired": {testutil.Job("j").Task("a"), []string{"COMPUTE_NODE_"}, func(l *listener) {
			l.step().on(func(w *world) {
				w.do("a/0", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "full") }).wait(DefaultResourceWait)
			}).step().step().want("COMPUTE_NODE_CREATION_FAILED a/0 RUNNABLE Unschedulable")
		}},
	} {
		t.Run(name, func(t *testing.T) { tc.story(newListener(t, tc.job, notification("t", tc.prefixes...))) })
	}
}

// TestNodesOfComputeEnvs: the nodes of a ComputeEnv are not the job's, which announces only that an instance has lost one.
func TestNodesOfComputeEnvs(t *testing.T) {
	l := newListener(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.EnvID("pool")), notification("t", "COMPUTE_NODE_", "TASK_INSTANCE_R"))
	env := *resolved(t, testutil.Job("other").Task("a")).Tasks[0].Env
	env.Name, env.ID = "pool", "env-1"
	l.envs = map[string]EnvView{"pool": {Env: &env, Size: 2, Limit: 2}}
	l.step().on(func(w *world) { w.bind("a/0 a/1") }).step().want()
	l.on(func(w *world) { w.start("a/0").finish("a/1", 1) }).step().want("TASK_INSTANCE_RUNNING a/0", "TASK_INSTANCE_RUNNING a/1")
	l.on(func(w *world) {
		w.do("a/0", func(pod *corev1.Pod) { testutil.Fail(pod, "", ""); testutil.Disrupt(pod, "DeletionByTaintManager", "") })
	}).step().step().want("COMPUTE_NODE_ABNORMAL a/0 NodeLost").wantCondition(v1alpha1.ConditionFailed, "True JobFailed")
}

// fate is what random histories do to a job, and what must have been announced of it.
type fate struct {
	*listener
	random *rand.Rand
	// due are the ids of the events that must have been recorded; ran are those of TASK_INSTANCE_RUNNING, for attempts
	// that a pass saw run.
	due, ran map[string]bool
}

// id is that of an event about a subject such as "", "a" or "a/0/1".
func (f *fate) id(name event.Name, run int64, subject string) string {
	if subject != "" {
		subject = "/" + subject
	}
	return fmt.Sprintf("%s/%d%s/%s", f.listener.job.JobID, run, subject, name)
}

// note adds what must be announced of a pass that took the status from old to next.
func (f *fate) note(old, next *v1alpha1.BatchJobStatus, pods []*corev1.Pod) {
	for _, pod := range pods {
		for _, s := range pod.Status.ContainerStatuses {
			if s.State.Running != nil || s.State.Terminated != nil {
				task, run := pod.Labels[v1alpha1.LabelTaskName], pod.Labels[v1alpha1.LabelRun]
				n, _ := strconv.ParseInt(run, 10, 64)
				f.ran[f.id(event.TaskInstanceRunning, n, task+"/"+pod.Labels[v1alpha1.LabelTaskInstanceIndex]+"/"+pod.Labels[v1alpha1.LabelAttempt])] = true
			}
		}
	}
	retried := next.RetryToken != old.RetryToken && old.State != ""
	for i := range next.Tasks {
		is := &next.Tasks[i]
		was := v1alpha1.TaskStatus{State: v1alpha1.TaskPending}
		if at := slices.IndexFunc(old.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Name == is.Name }); at >= 0 {
			was = old.Tasks[at]
		}
		if retried && was.State != v1alpha1.TaskSucceed {
			was = v1alpha1.TaskStatus{State: v1alpha1.TaskPending, Succeeded: was.Succeeded}
		}
		f.noteTask(&was, is, next.Run)
	}
	was := old.State
	if retried {
		was = v1alpha1.JobSubmitted
	}
	if next.State == v1alpha1.JobRunning {
		f.due[f.id(event.JobRunning, next.Run, "")] = true
	}
	if name := event.Name("JOB_" + next.State); next.State != was && name.Level() == event.Job {
		f.due[f.id(name, next.Run, "")] = true
	}
}

func (f *fate) noteTask(was, is *v1alpha1.TaskStatus, run int64) {
	if is.State == v1alpha1.TaskRunning {
		f.due[f.id(event.TaskRunning, run, is.Name)] = true
	}
	if name := event.Name("TASK_" + is.State); is.State != was.State && name.Level() == event.Task {
		f.due[f.id(name, run, is.Name)] = true
	}
	for name, lists := range map[event.Name][2]string{event.TaskInstanceSucceed: {was.Succeeded, is.Succeeded}, event.TaskInstanceFailed: {was.Failed, is.Failed}} {
		before, _ := ranges.Parse(lists[0])
		after, _ := ranges.Parse(lists[1])
		for i := range after.Minus(before).All() {
			f.due[f.id(name, run, fmt.Sprintf("%s/%d/*", is.Name, i))] = true
		}
	}
	before, _ := parseGroups(was.Interrupted)
	after, _ := parseGroups(is.Interrupted)
	for _, g := range after.minus(before.all()) {
		for i := range g.set.All() {
			f.due[f.id(event.TaskInstanceFailedInterrupted, run, fmt.Sprintf("%s/%d/%d", is.Name, i, g.attempt()))] = true
		}
	}
}

// pass takes one pass and notes what it must have announced. Before it, there may be passes whose writes fail, and receivers
// acknowledge some events.
func (f *fate) pass() {
	f.t.Helper()
	if f.random.IntN(3) == 0 {
		f.compute()
	}
	for i := range f.lists {
		var list []backlog.Due
		for due := range f.pending(i).Events(&f.listener.job, &f.lists[i], nil) {
			if f.random.IntN(4) == 0 {
				list = append(list, due)
			}
		}
		if f.random.IntN(2) == 0 { // else the last acknowledgements are reported again
			f.acknowledge(i, list)
		}
	}
	old, pods := f.world.job.Status, f.tracked()
	f.world.step()
	next := &f.world.job.Status
	f.note(&old, next, pods)
	for _, due := range f.hear() {
		f.checkState(&due, &old, next)
	}
}

// checkState: the state of the job is the one before or after the pass, and not a final one.
func (f *fate) checkState(due *backlog.Due, old, next *v1alpha1.BatchJobStatus) {
	f.t.Helper()
	state := v1alpha1.JobState(due.Event.Details.JobState)
	if due.Name.Level() == event.Job {
		return
	}
	ok := state == next.State && !isTerminal(state) || state == old.State && !isTerminal(state) || state == v1alpha1.JobSubmitted
	if !ok && !(state == v1alpha1.JobRunning && f.seen[0][f.id(event.JobRunning, next.Run, "")]) {
		f.t.Errorf("%s has the state %s of the job, which is %s and was %s", due.Event.ID(), state, next.State, old.State)
	}
}

// happen changes something: what a kubelet, the cluster or the user does.
func (f *fate) happen() {
	w := f.world
	for _, pod := range w.tracked() {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		ran := len(pod.Status.ContainerStatuses) > 0 && pod.Status.ContainerStatuses[0].State.Running != nil
		w.change(pod.Name, func(pod *corev1.Pod) {
			switch n := f.random.IntN(12); {
			case n < 2 && pod.Spec.NodeName == "":
				testutil.Bind(pod, "node-1")
			case n < 4 && !ran && pod.DeletionTimestamp == nil:
				testutil.Bind(pod, "node-1")
				testutil.Start(pod, w.now)
			case n < 7 && (ran || pod.DeletionTimestamp == nil):
				testutil.Bind(pod, "node-2")
				testutil.Finish(pod, int32(f.random.IntN(2)), w.now)
			case n == 7 && f.random.IntN(2) == 0:
				testutil.AskToStop(pod, w.now)
			case n == 8 && ran:
				testutil.Finish(pod, 137, w.now)
				testutil.Disrupt(pod, "DeletionByTaintManager", "")
			case n == 9 && pod.Spec.NodeName != "" && !ran:
				testutil.Fail(pod, "OutOfcpu", "no")
			}
		})
		if f.random.IntN(30) == 0 && !ran && w.pods[pod.Name] != nil {
			delete(w.pods, pod.Name)
		}
	}
	for _, pod := range w.tracked() { // somebody deletes the Pod of an interrupted instance
		if pod.Status.Phase == corev1.PodFailed && f.random.IntN(12) == 0 {
			w.change(pod.Name, func(pod *corev1.Pod) { testutil.AskToStop(pod, w.now) })
		}
	}
	switch n := f.random.IntN(60); {
	case n < 3:
		w.suspend(true)
	case n < 12:
		w.suspend(false)
	case n < 14:
		w.annotate(fmt.Sprintf("a/%d b/%d", f.random.IntN(4), f.random.IntN(2)))
	case n < 17:
		w.annotate("")
	case n < 22 && w.job.Status.State == v1alpha1.JobFailed:
		w.retry(fmt.Sprint("token-", n, w.job.ResourceVersion))
	case n == 22 && f.random.IntN(4) == 0:
		w.terminate()
	}
	w.wait(time.Duration(f.random.IntN(40)) * time.Second)
}

// end brings the job to its end, and has all acknowledged.
func (f *fate) end() {
	f.t.Helper()
	f.world.suspend(false).annotate("b/0-1")
	for range 100 {
		if f.pass(); HasEnded(&f.world.job.Status) && len(f.tracked()) == 0 {
			break
		}
		for _, pod := range f.tracked() {
			f.change(pod.Name, func(pod *corev1.Pod) {
				if !HasFinished(pod) {
					testutil.Bind(pod, "node-1")
					testutil.Finish(pod, 0, f.now)
				}
			})
		}
		f.wait(time.Minute)
	}
	if !HasEnded(&f.world.job.Status) {
		f.t.Fatalf("the job does not end: %s", brief(&f.world.job.Status))
	}
	for i := range f.lists {
		f.acknowledge(i, slices.Collect(f.pending(i).Events(&f.listener.job, &f.lists[i], nil)))
	}
	f.step().wantCondition(v1alpha1.ConditionNotified, "True Delivered")
	if s := f.world.job.Status.Notifications; s.Pending != 0 || len(s.Topics) != 0 || OwesEvents(&f.world.job.Status) {
		f.t.Errorf("after all was acknowledged the status has %+v", s)
	}
}

// check compares what the first topic, which announces all, has heard with what was due.
func (f *fate) check() {
	f.t.Helper()
	missing, extra := map[string]bool{}, map[string]bool{}
	for _, want := range []map[string]bool{f.due, f.ran} {
		for id := range want {
			missing[id] = true
		}
	}
	for i := range f.heard[0] {
		due := &f.heard[0][i]
		id, s := due.Event.ID(), &due.Event.Subject
		if due.Name == event.TaskInstanceSucceed || due.Name == event.TaskInstanceFailed {
			id = f.id(due.Name, s.Run, fmt.Sprintf("%s/%d/*", s.Task, s.Index))
		}
		switch {
		case missing[id]:
			delete(missing, id)
		case due.Name == event.JobRunning, due.Name == event.TaskRunning:
			// of attempts that ended before the status said that anything runs
			if !f.hasRun(s.Run, s.Task) {
				extra[id] = true
			}
		case due.Name.Level() != event.ComputeNode:
			extra[id] = true
		}
	}
	if len(missing)+len(extra) > 0 {
		f.t.Errorf("missing are %v, and too much are %v", missing, extra)
	}
	f.checkOrder()
	f.checkNodes()
	for i := range f.heard[1] { // the other topic has a part of it
		if id := f.heard[1][i].Event.ID(); !f.seen[0][id] {
			f.t.Errorf("only the second topic has %s", id)
		}
	}
}

// hasRun reports whether an attempt of the task, or of any, ran in a run.
func (f *fate) hasRun(run int64, task string) bool {
	prefix := strings.TrimSuffix(f.id("", run, task), "/") + "/"
	for id := range f.ran {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// checkOrder: what runs is announced before its end, an attempt before the next one, and nothing after the end of an
// instance, a task or the job.
func (f *fate) checkOrder() {
	f.t.Helper()
	ended, attempts, running := map[string]string{}, map[string]int64{}, map[string]bool{}
	for i := range f.heard[0] {
		due := &f.heard[0][i]
		s, id := &due.Event.Subject, due.Event.ID()
		instance := fmt.Sprintf("%d/%s/%d", s.Run, s.Task, s.Index)
		task, job := fmt.Sprintf("%d/%s", s.Run, s.Task), fmt.Sprint(s.Run)
		var own string
		switch due.Name.Level() {
		case event.TaskInstance, event.ComputeNode:
			if own = instance; s.Attempt < attempts[instance] {
				f.t.Errorf("%s comes after a later attempt", id)
			}
			attempts[instance] = s.Attempt
		case event.Task:
			own, instance = task, ""
		default:
			own, instance, task = job, "", ""
		}
		for _, of := range []string{instance, task, job} {
			if of != "" && ended[of] != "" {
				f.t.Errorf("%s comes after %s", id, ended[of])
			}
		}
		switch state := due.Name.State(); {
		case due.Name.Level() == event.ComputeNode:
		case state == "RUNNING":
			running[own] = true
			if instance != "" && (!running[task] || !running[job]) {
				f.t.Errorf("%s comes before its task and job run", id)
			}
		case state == "SUCCEED" && !running[own]:
			f.t.Errorf("%s had not run", id)
		case state == "SUCCEED", state == "FAILED":
			ended[own] = id
		}
	}
}

// checkNodes: each node of an attempt is created, runs and goes in this order, and none stays.
func (f *fate) checkNodes() {
	f.t.Helper()
	at := map[string]map[event.Name]int{}
	for i := range f.heard[0] {
		due := &f.heard[0][i]
		if due.Name.Level() == event.ComputeNode {
			node := due.Event.Subject.Node
			if at[node] == nil {
				at[node] = map[event.Name]int{}
			}
			at[node][due.Name] = i + 1
		}
	}
	for node, x := range at {
		created, running, deleting := x[event.ComputeNodeCreated], x[event.ComputeNodeRunning], x[event.ComputeNodeDeleting]
		abnormal, never := x[event.ComputeNodeAbnormal], x[event.ComputeNodeCreationFailed]
		switch {
		case created == 0 && (running > 0 || deleting > 0 || abnormal > 0),
			running > 0 && running < created, abnormal > 0 && (running == 0 || abnormal < running), never > 0 && running > 0,
			created > 0 && (deleting < created || deleting < running || deleting < abnormal || deleting < never):
			f.t.Errorf("node %s has %v", node, x)
		}
	}
}

// TestRandomLives: whatever happens to a job, all that its status shows is announced, once, in order, and no more.
func TestRandomLives(t *testing.T) {
	rules := []v1alpha1.TaskExecutionDependOn{"", v1alpha1.PreTaskFinished, v1alpha1.PreTaskAtLeastPartlySucceed}
	heard := map[event.Name]int{}
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			job := testutil.Job("j").
				Task("a", testutil.Instances(4), testutil.Concurrent(3), testutil.Retries(1), testutil.ResourceRetries(1)).
				Task("b", testutil.Instances(2), testutil.FailedAction(v1alpha1.FailedActionInterrupt)).
				Task("c").Edges("a->c").DependOn(rules[seed%3])
			f := &fate{newListener(t, job, notification("all", "JOB_", "TASK_", "COMPUTE_NODE_"), notification("some", "JOB_F", "TASK_INSTANCE_R")),
				rand.New(rand.NewPCG(seed, 1)), map[string]bool{}, map[string]bool{}}
			for range 20 + f.random.IntN(40) {
				f.happen()
				f.pass()
			}
			f.end()
			f.check()
			for i := range f.heard[0] {
				heard[f.heard[0][i].Name]++
			}
			if t.Failed() {
				for i := range f.heard[0] {
					t.Log(text(&f.heard[0][i]))
				}
			}
		})
	}
	for _, name := range event.Names() {
		if name.Level() != event.ComputeEnv && heard[name] < 10 {
			t.Errorf("%s was announced %d times only", name, heard[name])
		}
	}
}
