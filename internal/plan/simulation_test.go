// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// TestSimulation plays a random job on a cluster where everything goes wrong: caches
// lag, controllers crash between any two steps and work side by side, answers get lost,
// Pods fail, are deleted, edited, and vanish. Whatever happens, the rules that
// simulation.check and checkStore hold must hold, and once the faults end so does the
// job.
func TestSimulation(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		rapid.Check(t, func(t *rapid.T) {
			s := newSimulation(t)
			defer s.stop()
			t.Repeat(map[string]func(*rapid.T){
				"":                   s.check,
				"a step of a pass":   s.stepPass,
				"a whole pass":       s.wholePass,
				"a cache catches up": s.catchUp,
				"a crash":            s.crash,
				"the cluster works":  s.work,
				"a Pod is deleted":   s.deletePod,
				"a Pod is edited":    s.editPod,
				"a Pod vanishes":     s.vanishPod,
				"time passes":        s.pause,
				"the job is deleted": s.deleteJob,
			})
			s.calm(t)
		})
	}
}

// simulation is a cluster with a past, and the controllers that work on it.
type simulation struct {
	*cluster
	t       *rapid.T
	history []view
	// controllers are one or two. Between a controller's look at the job and its creation
	// of a Pod there is no lock, only the Pod's name: where one is overtaken there by the
	// other, and the Pod is gone by then, it makes a stray, which is stopped once seen.
	// Where there are two, nothing takes Pods away in spite of their finalizers.
	controllers []*controller
	strays      map[string]bool
	// floor is how far back a cache of Pods may be: not before a Pod vanished. The Pod
	// that takes its place has the same name, and an old view of the one would be taken
	// for news of the other.
	floor int
	// instances are the attempts that Pods were made for, and ends how these ended.
	instances map[string]resolve.Instance
	ends      map[string][]ending
	writes    int
	faults    bool
}

// view is what a cache shows: the job, nil when it is gone, and the tracked Pods.
type view struct {
	job  *v1alpha1.BatchJob
	pods []*corev1.Pod
}

// ending is how a Pod really ended: with this code, or because it was deleted.
type ending struct {
	code    int32
	deleted bool
}

// controller is a process that carries plans out. It dies with all that it knows.
type controller struct {
	jobAt, podsAt int             // what its caches show, as positions in the history
	version       int             // of its last write
	created       map[string]bool // Pods that it made and has not seen
	next          func() (string, bool)
	cancel        func()
}

func newSimulation(t *rapid.T) *simulation {
	c, err := newCluster(randomJob(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &simulation{cluster: c, t: t, instances: map[string]resolve.Instance{}, ends: map[string][]ending{}, strays: map[string]bool{}, faults: true}
	for range rapid.IntRange(1, 2).Draw(t, "controllers") {
		s.controllers = append(s.controllers, &controller{created: map[string]bool{}})
	}
	s.remember()
	return s
}

func randomJob(t *rapid.T) *v1alpha1.BatchJob {
	job := testutil.Job("sim").DependOn(rapid.SampledFrom([]v1alpha1.TaskExecutionDependOn{
		v1alpha1.PreTaskSucceed, v1alpha1.PreTaskAtLeastPartlySucceed, v1alpha1.PreTaskFinished,
	}).Draw(t, "rule"))
	for i := range rapid.IntRange(1, 4).Draw(t, "tasks") {
		name := "t" + strconv.Itoa(i)
		job.Task(name,
			testutil.Instances(rapid.Int64Range(1, 3).Draw(t, "instances")),
			testutil.Concurrent(rapid.Int64Range(0, 2).Draw(t, "concurrent")),
			testutil.Retries(rapid.Int64Range(0, 2).Draw(t, "retries")),
			testutil.Timeout(rapid.SampledFrom([]int64{0, 30}).Draw(t, "timeout")))
		for p := range i {
			if rapid.Bool().Draw(t, "edge") {
				job.Edges(fmt.Sprintf("t%d->%s", p, name))
			}
		}
	}
	return job.Obj()
}

func (s *simulation) stop() {
	for _, c := range s.controllers {
		c.abort()
	}
}

// remember adds what the cluster is now to the history, if it is another one.
func (s *simulation) remember() {
	now := view{s.job, s.tracked()}
	if n := len(s.history); n == 0 || s.history[n-1].job != now.job || !slices.Equal(s.history[n-1].pods, now.pods) {
		s.history = append(s.history, now)
	}
}

// check is what holds at any time.
func (s *simulation) check(t *rapid.T) {
	s.remember()
	live := map[resolve.Instance]string{}
	for name, pod := range s.pods {
		in := s.instances[name]
		if in.Attempt > s.spec.Tasks[in.Task].MaxRetryCount {
			t.Fatalf("%s is a retry too many", name)
		}
		if hasFinished(pod) || s.strays[name] {
			continue
		}
		in.Attempt = 0
		if other := live[in]; other != "" {
			t.Fatalf("%s and %s live at once", name, other)
		}
		live[in] = name
	}
}

// checkStore is what holds for every status that is stored.
func (s *simulation) checkStore(old, next *v1alpha1.BatchJobStatus) {
	s.checkSums(next)
	for i := range s.spec.Tasks {
		before, after := s.standing(old, i), s.standing(next, i)
		if len(before) == 0 && len(after) > 0 {
			s.checkRule(next, i)
		}
		for index := range s.spec.Tasks[i].InstanceNum {
			s.checkMove(i, index, before[index], after[index])
		}
	}
	if isTerminal(old.State) {
		s.t.Fatalf("the status of a job that was %s is written again", old.State)
	}
	if isTerminal(next.State) && len(s.tracked()) > 0 && len(s.controllers) == 1 {
		s.t.Fatalf("the job is %s, and these are tracked: %q", next.State, podNames(s.tracked()))
	}
}

// standing is where the instances of a task are: "succeeded", "failed", "active 1" and so
// on; those that have not been issued are left out.
func (s *simulation) standing(status *v1alpha1.BatchJobStatus, task int) map[int]string {
	out := map[int]string{}
	add := func(indexes, where string) {
		set, err := ranges.Parse(indexes)
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range set.All() {
			if out[i] != "" {
				s.t.Fatalf("instance %d is in two lists", i)
			}
			out[i] = where
		}
	}
	for _, t := range status.Tasks {
		if t.Name != s.spec.Tasks[task].Name {
			continue
		}
		add(t.Succeeded, "succeeded")
		add(t.Failed, "failed")
		for _, g := range t.Active {
			add(g.Indexes, fmt.Sprintf("active %d", g.Retries))
		}
		for _, g := range t.Retrying {
			add(g.Indexes, fmt.Sprintf("retrying %d", g.Retries))
		}
	}
	return out
}

// checkMove: an attempt is counted once, by how a Pod of it really ended.
func (s *simulation) checkMove(task, index int, before, after string) {
	if before == after {
		return
	}
	in := resolve.Instance{Task: task, Index: index}
	if n, ok := strings.CutPrefix(before, "active "); ok {
		in.Attempt, _ = strconv.Atoi(n)
	}
	retry := in.Attempt + 1
	ended := s.ends[s.spec.PodName(in)]
	succeeded := slices.Contains(ended, ending{})
	failed := slices.ContainsFunc(ended, func(e ending) bool { return e != ending{} })
	budget := in.Attempt < s.spec.Tasks[task].MaxRetryCount
	claimed := strings.HasPrefix(before, "active ")
	ok := false
	switch after {
	case "succeeded":
		ok = claimed && succeeded
	case "failed":
		ok = claimed && failed && !budget || before == "" // its predecessors failed
	case "active 0":
		ok = before == ""
	case fmt.Sprintf("retrying %d", retry):
		ok = claimed && failed && budget
	case fmt.Sprintf("active %d", retry):
		ok = claimed && failed && budget
	default:
		n, retried := strings.CutPrefix(before, "retrying ")
		ok = retried && after == "active "+n
	}
	if !ok {
		s.t.Fatalf("instance %d of task %d moves from %q to %q; attempt %d ended %+v", index, task, before, after, in.Attempt, ended)
	}
}

// checkRule: the tasks before one that begins, or fails without having begun, allow that.
func (s *simulation) checkRule(status *v1alpha1.BatchJobStatus, task int) {
	start := true
	for _, p := range s.spec.Graph.Predecessors(task) {
		succeeded, failed := 0, 0
		for _, where := range s.standing(status, int(p)) {
			switch where {
			case "succeeded":
				succeeded++
			case "failed":
				failed++
			}
		}
		start = start && succeeded+failed == s.spec.Tasks[p].InstanceNum
		switch s.spec.DependOn {
		case v1alpha1.PreTaskSucceed:
			start = start && failed == 0
		case v1alpha1.PreTaskAtLeastPartlySucceed:
			start = start && succeeded > 0
		}
	}
	for index, where := range s.standing(status, task) {
		if held := where == "failed"; held == start {
			s.t.Fatalf("task %d: instance %d is %q, and that the task may start is %t", task, index, where, start)
		}
	}
}

// checkSums: the counts are those of the lists, and nothing is counted twice or left out.
func (s *simulation) checkSums(status *v1alpha1.BatchJobStatus) {
	count := map[string]int64{}
	for i := range s.spec.Tasks {
		for _, where := range s.standing(status, i) {
			count[strings.Fields(where)[0]]++
		}
	}
	m := status.TaskInstanceMetrics
	sum := func(m v1alpha1.StateMetrics) int64 {
		return m.SubmittedCount + m.PendingCount + m.RunnableCount + m.StartingCount + m.RunningCount + m.SucceedCount + m.FailedCount + m.FailedInterruptedCount
	}
	if m.SucceedCount != count["succeeded"] || m.FailedCount != count["failed"] || m.StartingCount+m.RunningCount > count["active"] ||
		sum(m) != int64(s.spec.InstanceNum) || sum(status.TaskMetrics) != int64(len(s.spec.Tasks)) ||
		status.TaskInstanceProgress != fmt.Sprintf("%d/%d", count["succeeded"], s.spec.InstanceNum) {
		s.t.Fatalf("counts do not add up: %v, %+v", count, status)
	}
}

// pass is one pass of a controller, as package batchjob does it. It yields before every
// call of the API server: there it may be overtaken, or die.
func (s *simulation) pass(c *controller) iter.Seq[string] {
	return func(yield func(string) bool) {
		obs := Observation{Job: s.history[c.jobAt].job, Spec: s.spec, Pods: s.history[c.podsAt].pods, Pending: func(name string) bool { return c.created[name] }}
		for _, pod := range obs.Pods {
			delete(c.created, pod.Name)
		}
		if obs.Job == nil {
			if yield("read the job") && s.job == nil {
				s.releaseAll(obs.Pods, yield)
			}
			return
		}
		if version(obs.Job) < c.version {
			return // it has not seen its own write yet
		}
		p := s.compute(obs)
		if p.NeedLive {
			if obs.Job, obs.Live = s.job, true; !yield("read the job") || obs.Job == nil {
				return
			}
			p = s.compute(obs)
		}
		if p.Changed(&obs.Job.Status) {
			if !yield("store the status") || !s.write(func() bool {
				if s.store(obs.Job.ResourceVersion, &p.Status) != nil {
					return false
				}
				s.checkStore(&obs.Job.Status, &p.Status)
				c.version = version(s.job)
				return true
			}) {
				return
			}
			obs.Live = true
		}
		if s.createAll(c, obs, &p, yield) {
			s.releaseAll(p.Release, yield)
		}
	}
}

// createAll creates and deletes what the plan says. It is false when the pass is over.
func (s *simulation) createAll(c *controller, obs Observation, p *Plan, yield func(string) bool) bool {
	for _, pod := range p.Delete {
		if !yield("delete "+pod.Name) || !s.write(func() bool { s.askToStop(pod); return true }) {
			return false
		}
	}
	wanted := slices.Concat(p.Create, p.Adopt)
	if len(wanted) > 0 && !obs.Live {
		if !yield("read the job") || s.job == nil || s.job.ResourceVersion != obs.Job.ResourceVersion {
			return false
		}
	}
	for _, in := range wanted {
		name := s.spec.PodName(in)
		if !yield("create "+name) || !s.write(func() bool {
			s.instances[name] = in
			made := s.create(in)
			if s.job == nil {
				s.strays[name] = made || s.strays[name] // for the garbage collector
			} else if made && s.standing(&s.job.Status, in.Task)[in.Index] != fmt.Sprintf("active %d", in.Attempt) {
				if s.strays[name] = true; len(s.controllers) == 1 {
					s.t.Fatalf("%s was made, and is not claimed", name)
				}
			}
			return true
		}) {
			return false
		}
		c.created[name] = true
	}
	return true
}

func (s *simulation) releaseAll(pods []*corev1.Pod, yield func(string) bool) {
	for _, pod := range pods {
		if !yield("release "+pod.Name) || !s.write(func() bool { s.release(pod); return true }) {
			return
		}
	}
}

// compute asks for the plan, and holds that it is of one piece: the plan of its own
// status is to do the same again.
func (s *simulation) compute(obs Observation) Plan {
	p, err := Compute(obs, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	if p.NeedLive {
		return p
	}
	again := obs
	again.Live, again.Pending = true, nil
	again.Job = obs.Job.DeepCopy()
	again.Job.Status = p.Status
	q, err := Compute(again, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	if q.Changed(&p.Status) || len(q.Create) > 0 || !slices.Equal(podNames(p.Release), podNames(q.Release)) {
		s.t.Fatalf("the plan is not of one piece:\n%+v\n%+v", p, q)
	}
	return p
}

// write does a write, or does not, and reports whether the controller knows that it did.
func (s *simulation) write(do func() bool) bool {
	s.writes++
	fate := "done"
	if s.faults {
		fate = rapid.SampledFrom([]string{"done", "done", "done", "done", "refused", "answer lost"}).Draw(s.t, "write")
	}
	if fate == "refused" {
		return false
	}
	done := do()
	s.remember()
	return done && fate == "done"
}

func version(job *v1alpha1.BatchJob) int {
	n, _ := strconv.Atoi(job.ResourceVersion)
	return n
}

func (c *controller) abort() {
	if c.cancel != nil {
		c.cancel()
	}
	c.next, c.cancel = nil, nil
}

// step goes on with the pass of a controller to its next call. It is false at the end.
func (s *simulation) step(c *controller) bool {
	if c.next == nil {
		c.next, c.cancel = iter.Pull(s.pass(c))
	}
	if _, more := c.next(); more {
		return true
	}
	c.abort()
	return false
}

func (s *simulation) any(t *rapid.T) *controller {
	return rapid.SampledFrom(s.controllers).Draw(t, "controller")
}

func (s *simulation) stepPass(t *rapid.T) { s.t = t; s.step(s.any(t)) }

func (s *simulation) wholePass(t *rapid.T) {
	s.t = t
	for c := s.any(t); s.step(c); {
	}
}

func (s *simulation) catchUp(t *rapid.T) {
	c, last := s.any(t), len(s.history)-1
	c.jobAt = rapid.IntRange(c.jobAt, last).Draw(t, "job")
	c.podsAt = rapid.IntRange(c.podsAt, last).Draw(t, "pods")
}

// crash ends a controller. The caches of the next one may begin far behind.
func (s *simulation) crash(t *rapid.T) {
	c, last := s.any(t), len(s.history)-1
	c.abort()
	*c = controller{jobAt: rapid.IntRange(0, last).Draw(t, "job"), podsAt: rapid.IntRange(s.floor, last).Draw(t, "pods"), created: map[string]bool{}}
}

// pick draws a Pod that is fit, or skips the action.
func (s *simulation) pick(t *rapid.T, fit func(*corev1.Pod) bool) string {
	var out []string
	for _, name := range names(s.pods) {
		if fit(s.pods[name]) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		t.Skip("no such Pod")
	}
	return rapid.SampledFrom(out).Draw(t, "pod")
}

// work is what scheduler and kubelet do next with some Pod.
func (s *simulation) work(t *rapid.T) {
	name := s.pick(t, func(pod *corev1.Pod) bool { return !hasFinished(pod) })
	switch pod := s.pods[name]; {
	case pod.Spec.NodeName == "":
		s.change(name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
	case pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil:
		s.change(name, func(pod *corev1.Pod) { testutil.Start(pod, s.now) })
	default:
		s.finishPod(name, rapid.SampledFrom([]int32{0, 1, 143}).Draw(t, "code"))
	}
}

func (s *simulation) finishPod(name string, code int32) {
	pod := s.pods[name]
	s.ends[name] = append(s.ends[name], ending{code, pod.DeletionTimestamp != nil && askedToStop(pod).Before(s.now.Truncate(time.Second))})
	if pod.DeletionTimestamp != nil && code == 0 && !askedToStop(pod).Before(s.now.Truncate(time.Second)) {
		s.ends[name] = append(s.ends[name], ending{deleted: true}) // both in one second: either may be told
	}
	s.change(name, func(pod *corev1.Pod) { testutil.Finish(pod, code, s.now) })
}

// idle says that no pass is under way.
func (s *simulation) idle() bool {
	return !slices.ContainsFunc(s.controllers, func(c *controller) bool { return c.next != nil })
}

// deletePod is a user's, or what clears up finished Pods.
func (s *simulation) deletePod(t *rapid.T) {
	name := s.pick(t, func(pod *corev1.Pod) bool {
		return pod.DeletionTimestamp == nil && (len(pod.Finalizers) > 0 || s.idle())
	})
	s.stopPod(name)
}

func (s *simulation) stopPod(name string) {
	pod := s.pods[name]
	justEnded := terminated(pod) != nil && terminated(pod).FinishedAt.Time.Equal(s.now)
	if !hasFinished(pod) && pod.Spec.NodeName == "" || justEnded { // in one second either may be told
		s.ends[name] = append(s.ends[name], ending{deleted: true})
	}
	s.askToStop(s.pods[name])
}

func (s *simulation) editPod(t *rapid.T) {
	name := s.pick(t, func(pod *corev1.Pod) bool { return len(pod.Finalizers) > 0 })
	label := rapid.SampledFrom([]string{v1alpha1.LabelTracked, v1alpha1.LabelAttempt, v1alpha1.LabelTaskName}).Draw(t, "label")
	s.change(name, func(pod *corev1.Pod) { delete(pod.Labels, label) })
}

// vanishPod is somebody who takes the finalizer off and the Pod away.
func (s *simulation) vanishPod(t *rapid.T) {
	name := s.pick(t, func(pod *corev1.Pod) bool {
		return len(pod.Finalizers) == 0 && s.idle() || len(s.controllers) == 1
	})
	delete(s.pods, name)
	s.remember()
	s.floor = len(s.history) - 1
	for _, c := range s.controllers {
		c.podsAt = s.floor
	}
}

func (s *simulation) pause(t *rapid.T) {
	s.now = s.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 40 * time.Second}).Draw(t, "for"))
}

func (s *simulation) deleteJob(t *rapid.T) {
	if s.job == nil || rapid.IntRange(0, 9).Draw(t, "really") > 0 {
		t.Skip("not now")
	}
	if s.job.DeletionTimestamp == nil && rapid.Bool().Draw(t, "foreground") {
		s.changeJob(func(job *v1alpha1.BatchJob) { job.DeletionTimestamp = new(metav1.NewTime(s.now)) })
		return
	}
	s.job = nil
}

// calm ends the faults, lets the cluster work until nothing changes any more, and looks
// at what is left.
func (s *simulation) calm(t *rapid.T) {
	s.t, s.faults = t, false
	for _, c := range s.controllers {
		c.abort()
	}
	for round, quiet := 0, 0; quiet < 3; round++ {
		if round > 500 {
			t.Fatalf("the job does not come to an end: %q", brief(&s.job.Status))
		}
		s.remember()
		before, writes := len(s.history), s.writes
		for _, c := range s.controllers {
			clear(c.created) // 30 s have passed
			c.jobAt, c.podsAt = len(s.history)-1, len(s.history)-1
			for s.step(c) {
			}
		}
		s.check(t)
		s.settle()
		s.remember()
		if quiet++; len(s.history) != before || s.writes != writes {
			quiet = 0
		}
	}
	for name, pod := range s.pods {
		if len(pod.Finalizers) > 0 && pod.Labels[v1alpha1.LabelTracked] != "" {
			t.Fatalf("%s is still held", name)
		}
	}
	if s.job != nil && s.job.DeletionTimestamp == nil && !isTerminal(s.job.Status.State) {
		t.Fatalf("the job has not ended: %q", brief(&s.job.Status))
	}
}

// settle ends every Pod that is not finished, half a minute later.
func (s *simulation) settle() {
	s.now = s.now.Add(30 * time.Second)
	for _, name := range names(s.pods) {
		if pod := s.pods[name]; hasFinished(pod) {
			continue
		} else if s.strays[name] && pod.Labels[v1alpha1.LabelTracked] != "" && s.job != nil && s.job.DeletionTimestamp == nil && pod.DeletionTimestamp == nil {
			s.t.Fatalf("%s is a stray, and was not stopped", name)
		} else if pod.Spec.NodeName == "" {
			s.change(name, func(pod *corev1.Pod) { testutil.Bind(pod, "node-1") })
		}
		s.finishPod(name, 0)
	}
}
