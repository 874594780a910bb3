// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/plan"
	"batchcompute.dev/operator/internal/resolve"
)

// simulation runs the Reconciler against an API server in memory, with a schedule that is
// a function of what choose answers. As long as that is 0 all goes well: caches are up to
// date, calls are done, and every command ends with 0. Any other answer is a deviation:
// a fault, a switch to the other controller, or something that users or the cluster do.
//
// One goroutine runs at a time: that of the schedule, or that of one pass up to its next
// call. So a run is repeated exactly by the same answers.
type simulation struct {
	*simAPI
	setup simSetup
	// logger gets what the reconcilers log; the zero value gets nothing.
	logger logr.Logger
	// choose returns a number below n, and free says that it can be other than 0.
	choose func(n int) int
	free   func() bool
	// boundary is called between rounds, and ends the run when it returns false.
	boundary func() bool

	specs       map[string]*resolve.Job
	controllers []*simController
	current     int
	simPods     []*simPod
	// floor is how far back a cache of Pods may be: not before a Pod was gone that had not
	// been let go of. The Pod that takes its place has the same name, and an old view of
	// the one would be taken for news of the other.
	floor int
	// script are the beginnings of the labels of options, to be taken in this order, each
	// as soon as there is one; "running" waits until a command is, "idle" until no pass is due. With a
	// script choose is not asked.
	script []string
	// squatter is the name of a Pod that is a user's, "" for none.
	foreignPod string
	// calm says that there are no deviations any more.
	calm bool
	// passes counts those since the cluster moved last.
	passes                int
	rounds, steps, writes int
	trace                 []string
}

// simSetup is what a run begins with.
type simSetup struct {
	jobs []*v1alpha1.BatchJob
	// outlines says that a cache has but outlines of all jobs, as if they were large.
	outlines bool
	// representatives says that of Pods that differ only in their index one is acted on.
	representatives bool
	digesting       bool
}

// simFailure is what a run that broke an invariant ends with.
type simFailure string

// errPruned ends a run in a state from which all was played already.
var errPruned = errors.New("played already")

var (
	errSimRefused = errors.New("the API server refused the call")
	errSimLost    = errors.New("the answer was lost")
	errSimDead    = errors.New("the process is dead")
)

// simController is a process. Its Reconciler dies with it.
type simController struct {
	s             *simulation
	id            int
	r             *Reconciler
	jobAt, podsAt int // what its caches show
	due           map[string]*simDue
	used          bool
	// began is the last UID that was given out before the pass under way.
	began int
	// written is the version of its last write of a status whose answer it got.
	written string

	calls   chan *simCall
	answers chan struct{}
	ended   chan simEndOfPass
	passing string // the job of the pass under way
	pending *simCall
}

// simDue is when a job is to be looked at: now, for an event or an error, or at a time.
type simDue struct {
	now bool
	at  time.Time
}

type simEndOfPass struct {
	result   ctrl.Result
	err      error
	panicked any
}

func newSimulation(setup simSetup) *simulation {
	s := &simulation{simAPI: newSimAPI(setup.digesting), setup: setup, specs: map[string]*resolve.Job{}}
	if s.large = plan.LargeJob; setup.outlines {
		s.large = 0
	}
	s.free = func() bool { return true }
	s.boundary = func() bool { return true }
	s.remember() // a cache may be from before the job
	for _, job := range setup.jobs {
		s.submit(job)
		spec, err := resolve.Resolve(s.jobs[job.Name])
		if err != nil {
			panic(err)
		}
		s.specs[job.Name] = spec
	}
	for i := range 2 {
		c := &simController{s: s, id: i}
		s.controllers = append(s.controllers, c)
		s.start(c, s.last(), s.last())
	}
	return s
}

// clone is a copy of a simulation between two rounds. What never changes is shared.
func (s *simulation) clone() *simulation {
	out := *s
	api := *s.simAPI
	api.jobs, api.pods, api.history = maps.Clone(api.jobs), maps.Clone(api.pods), slices.Clip(api.history)
	out.simAPI, out.trace = &api, slices.Clip(s.trace)
	out.simPods, out.controllers = nil, nil
	for _, b := range s.simPods {
		b := *b
		b.ends = slices.Clip(b.ends)
		out.simPods = append(out.simPods, &b)
	}
	for _, c := range s.controllers {
		twin := &simController{s: &out, id: c.id, used: c.used}
		out.start(twin, c.jobAt, c.podsAt)
		for key, m := range c.r.states.byName {
			m := *m
			m.created, m.finalizersRemoved, m.refusals = maps.Clone(m.created), maps.Clone(m.finalizersRemoved), maps.Clone(m.refusals)
			m.conflicts, m.proven = maps.Clone(m.conflicts), maps.Clone(m.proven)
			for name, t := range m.conflicts {
				m.conflicts[name] = new(*t)
			}
			for task, r := range m.refusals {
				m.refusals[task] = new(*r)
			}
			twin.r.states.byName[key] = &m
		}
		maps.Copy(twin.r.tokens.holders, c.r.tokens.holders)
		for ns, queue := range c.r.quotas.byNamespace {
			if twin.r.quotas.byNamespace == nil {
				twin.r.quotas.byNamespace = map[string]map[types.UID]plan.QueuePosition{}
			}
			twin.r.quotas.byNamespace[ns] = maps.Clone(queue)
		}
		twin.written = c.written
		twin.due = map[string]*simDue{}
		for job, d := range c.due {
			twin.due[job] = new(*d)
		}
		out.controllers = append(out.controllers, twin)
	}
	return &out
}

// begin starts a process that knows nothing, with caches that show these views.
func (s *simulation) start(c *simController, jobAt, podsAt int) {
	c.r = NewReconciler(&simClient{c: c}, c.podsOf, &simClient{c: c, live: true}, simEventRecorder{}, Options{
		Catalog: catalog.Default, Validate: func(*v1alpha1.BatchJob) (string, string) { return "", "" }, Clock: simClock{s: s}, PodKey: testKey,
	})
	c.r.limits = flow.NewCalls(flow.Limits{Min: 1, Contended: 1, Max: 1}, simClock{s: s})
	c.jobAt, c.podsAt, c.due, c.written = jobAt, podsAt, map[string]*simDue{}, ""
	for _, job := range c.cachedJobs() {
		c.dueOf(job.Name).now = true
	}
	for _, pod := range c.cachedPods() {
		c.dueOf(jobOf(pod)).now = true
	}
}

// simClock is the simulation's time.
type simClock struct{ s *simulation }

var _ clock.PassiveClock = simClock{}

// Now is the time.
func (c simClock) Now() time.Time { return c.s.now }

// Since is how long ago t is.
func (c simClock) Since(t time.Time) time.Duration { return c.s.now.Sub(t) }

func (c *simController) cachedJobs() []*v1alpha1.BatchJob { return c.s.history[c.jobAt].jobs }
func (c *simController) cachedPods() []*corev1.Pod        { return c.s.history[c.podsAt].pods }

func (c *simController) dueOf(job string) *simDue {
	d := c.due[job]
	if d == nil {
		d = &simDue{}
		c.due[job] = d
	}
	return d
}

// catchUp moves the caches on. What changed in them is an event, as the watches of Setup
// make it.
func (c *simController) catchUp(jobAt, podsAt int) {
	before, after := c.cachedJobs(), c.s.history[jobAt].jobs
	for _, lists := range [][2][]*v1alpha1.BatchJob{{before, after}, {after, before}} {
		for _, job := range lists[0] {
			if !slices.Contains(lists[1], job) {
				c.dueOf(job.Name).now = true
			}
		}
	}
	podsBefore, podsAfter := c.cachedPods(), c.s.history[podsAt].pods
	for _, lists := range [][2][]*corev1.Pod{{podsBefore, podsAfter}, {podsAfter, podsBefore}} {
		for _, pod := range lists[0] {
			if slices.Contains(lists[1], pod) {
				continue
			}
			c.dueOf(requestForPod(pod).Name).now = true
		}
	}
	c.jobAt, c.podsAt = jobAt, podsAt
}

// next is the job that is to be looked at now, "" for none.
func (c *simController) next() string {
	for _, job := range slices.Sorted(maps.Keys(c.due)) {
		if d := c.due[job]; d.now || !d.at.IsZero() && !d.at.After(c.s.now) {
			return job
		}
	}
	return ""
}

// ask hands a call to the schedule, and waits. It is called by the pass.
func (c *simController) ask(call *simCall) error {
	c.calls <- call
	<-c.answers
	return call.err
}

// startPass begins a pass over a job.
func (s *simulation) startPass(c *simController, job string) {
	s.note(fmt.Sprintf("controller %d looks at %s (job %d, Pods %d of %d)", c.id, job, c.jobAt, c.podsAt, s.last()))
	s.passes++
	c.used = true
	d := c.dueOf(job)
	if d.now = false; !d.at.After(s.now) {
		d.at = time.Time{}
	}
	c.passing, c.pending, c.began = job, nil, s.uids
	c.calls, c.answers, c.ended = make(chan *simCall), make(chan struct{}), make(chan simEndOfPass, 1)
	r, ended := c.r, c.ended
	go func() {
		var end simEndOfPass
		defer func() {
			end.panicked = recover()
			ended <- end
		}()
		end.result, end.err = r.Reconcile(logr.NewContext(context.Background(), s.logger), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: simNamespace, Name: job}})
	}()
}

// runPasses goes on with the passes that are under way until all have ended.
func (s *simulation) runPasses() {
	for {
		c := s.controllers[s.current]
		if c.passing == "" {
			other := slices.IndexFunc(s.controllers, func(c *simController) bool { return c.passing != "" })
			if other < 0 {
				s.current = 0
				return
			}
			s.current = other
			continue
		}
		s.stepPass(c)
	}
}

// stepPass lets a pass make its next call, and the schedule decide about it.
func (s *simulation) stepPass(c *simController) {
	if c.pending == nil && !c.toCall() {
		return
	}
	s.steps++
	if c.pending.versioned {
		s.checkAwaited(c)
	}
	if !s.deviate(func() []simOption { return s.callOptions(c) }) {
		c.answer(true, nil)
	}
}

// toCall runs a pass up to its next call. It is false when it has ended.
func (c *simController) toCall() bool {
	select {
	case c.pending = <-c.calls:
		return true
	case end := <-c.ended:
		c.endPass(end)
		return false
	}
}

func (c *simController) endPass(end simEndOfPass) {
	job := c.passing
	c.passing = ""
	if end.panicked != nil {
		c.s.fail("controller %d panics: %v", c.id, end.panicked)
	}
	d := c.dueOf(job)
	switch {
	case end.err != nil:
		c.s.note("its pass ends with: " + end.err.Error())
		d.now = true
	case end.result.RequeueAfter > 0:
		if at := c.s.now.Add(end.result.RequeueAfter); d.at.IsZero() || at.Before(d.at) {
			d.at = at
		}
	}
	if !d.now && d.at.IsZero() {
		delete(c.due, job)
	}
}

// answer does the pending call, or not, and gives the pass its answer: err, or if that is
// nil, what the API server says.
func (c *simController) answer(do bool, err error) {
	call := c.pending
	if do {
		if call.write {
			c.s.writes++
		}
		call.err = call.do()
		c.s.note(fmt.Sprintf("  %d: %s%s", c.id, call.name, suffix(call.err)))
		if call.err == nil && call.write {
			c.s.afterWrite()
		}
	}
	if err != nil {
		call.err = err
	}
	if job := c.s.jobs[c.passing]; call.versioned && call.err == nil && job != nil {
		c.written = job.ResourceVersion // no new one, if nothing has changed
	}
	c.pending = nil // only now: a broken invariant ends the run above, and stop answers
	c.answers <- struct{}{}
}

func suffix(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// crash ends a process, in the middle of a pass or not, and begins the next one.
func (s *simulation) crash(c *simController, jobAt, podsAt int) {
	for c.passing != "" {
		if c.pending == nil {
			select {
			case c.pending = <-c.calls:
			case <-c.ended:
				c.passing = ""
			}
			continue
		}
		c.answer(false, errSimDead)
	}
	s.start(c, jobAt, podsAt)
}

// stop ends the passes that are under way, so that no goroutine is left.
func (s *simulation) stop() {
	for _, c := range s.controllers {
		s.crash(c, s.last(), s.last())
	}
}

func (s *simulation) note(line string) { s.trace = append(s.trace, line) }

func (s *simulation) fail(format string, args ...any) {
	panic(simFailure(fmt.Sprintf(format, args...)))
}

// pick is what choose says, or what a script wants next, where it is to be had.
func (s *simulation) pick(list []simOption) int {
	if s.script == nil {
		return s.choose(len(list) + 1)
	}
	if len(s.script) > 0 && s.script[0] == "running" {
		if !slices.ContainsFunc(s.simPods, func(b *simPod) bool { return b.ran && b.live }) {
			return 0
		}
		s.script = s.script[1:]
	}
	if len(s.script) > 0 && s.script[0] == "idle" {
		if !s.idle() {
			return 0
		}
		s.script = s.script[1:]
	}
	for i, o := range list {
		if len(s.script) > 0 && strings.HasPrefix(o.label, s.script[0]) {
			s.script = s.script[1:]
			return i + 1
		}
	}
	return 0
}

// idle reports whether the first controller has seen everything and has nothing to do now.
func (s *simulation) idle() bool {
	c := s.controllers[0]
	return !s.passing() && c.jobAt == s.last() && c.podsAt == s.last() && c.next() == ""
}

// simOption is one way to deviate.
type simOption struct {
	label string
	do    func()
}

// deviate asks whether to deviate, and does it. It is false when all goes well.
func (s *simulation) deviate(options func() []simOption) bool {
	if s.calm || !s.free() {
		return false
	}
	list := options()
	pick := s.pick(list)
	if pick == 0 {
		return false
	}
	s.note("! " + list[pick-1].label)
	s.passes = 0
	list[pick-1].do()
	return true
}

// callOptions are what can become of the call that a controller makes, and what can come
// before it. One that leaves the call pending is asked about again.
func (s *simulation) callOptions(c *simController) []simOption {
	call := c.pending
	out := []simOption{
		{"refused", func() { c.answer(false, errSimRefused) }},
	}
	if !s.setup.representatives { // else it is the crash after the call before, or between passes
		out = append(out, simOption{"crash before", func() { s.crash(c, s.last(), s.last()) }})
	}
	if call.write {
		out = append(out,
			simOption{"answer lost", func() { c.answer(true, errSimLost) }},
			simOption{"crash after", func() { c.answer(true, nil); s.crash(c, s.last(), s.last()) }},
			simOption{"crash after, caches far behind", func() { c.answer(true, nil); s.crash(c, 1, max(1, s.floor)) }})
	}
	if call.versioned {
		out = append(out, simOption{"conflict", func() {
			c.answer(false, apierrors.NewConflict(jobResource, c.passing, errors.New("somebody was faster")))
		}})
	}
	if call.versioned {
		out = append(out, simOption{"too large", func() { c.answer(false, apierrors.NewRequestEntityTooLargeError("limit is 3145728")) }})
	}
	if strings.HasPrefix(call.name, "create ") {
		out = append(out, simOption{"no quota", func() {
			c.answer(false, apierrors.NewForbidden(podResource, call.name, errors.New("exceeded quota: pods")))
		}})
		out = append(out, simOption{"forbidden", func() {
			c.answer(false, apierrors.NewForbidden(podResource, call.name, errors.New("a policy says no")))
		}})
	}
	other := s.controllers[1-c.id]
	if other.passing != "" {
		out = append(out, simOption{"the other goes on", func() { s.current = other.id }})
	} else {
		out = append(out,
			simOption{"the other comes", func() { other.catchUp(s.last(), s.last()); s.startPass(other, c.passing); s.current = other.id }},
			simOption{"the other comes, with old caches", func() { s.startPass(other, c.passing); s.current = other.id }})
	}
	return append(out, s.worldOptions(true)...)
}

// roundOptions are what can happen while no pass is under way.
func (s *simulation) roundOptions() []simOption {
	c, last := s.controllers[0], s.last()
	job := s.setup.jobs[0].Name
	pass := func(jobAt, podsAt int) func() {
		return func() { c.catchUp(jobAt, podsAt); s.startPass(c, job); s.runPasses() }
	}
	out := []simOption{{"crash", func() { s.crash(c, last, last) }}}
	if last > 0 {
		out = append(out,
			simOption{"crash, caches far behind", func() { s.crash(c, 1, max(1, s.floor)) }},
			simOption{"crash, caches a bit behind", func() { s.crash(c, max(1, last-2), max(s.floor, last-1)) }},
		)
		out = append(out, simOption{"crash, cache of jobs empty", func() { s.crash(c, 0, last) }})
		for _, n := range []int{2, 4, 8} {
			if n > 2 && s.setup.representatives && n > last {
				continue // that is far behind
			}
			out = append(out,
				simOption{fmt.Sprintf("crash, cache of jobs %d behind", n), func() { s.crash(c, max(1, last-n), last) }},
				simOption{fmt.Sprintf("crash, cache of Pods %d behind", n), func() { s.crash(c, last, max(s.floor, last-n)) }})
		}
	}
	if c.jobAt < last {
		out = append(out, simOption{"cache of jobs late", pass(c.jobAt, last)})
	}
	if c.podsAt < last {
		out = append(out, simOption{"cache of Pods late", pass(last, c.podsAt)},
			simOption{"caches half late", pass(c.jobAt+(last-c.jobAt)/2, c.podsAt+(last-c.podsAt+1)/2)})
	}
	out = append(out,
		simOption{"a pass for nothing", pass(c.jobAt, c.podsAt)},
		simOption{"the other controller", func() {
			other := s.controllers[1]
			other.catchUp(last, last)
			s.startPass(other, job)
			s.current = 1
			s.runPasses()
		}},
		simOption{"time passes", func() { s.now = s.now.Add(40 * time.Second) }},
		simOption{"much time passes", func() { s.now = s.now.Add(700 * time.Second) }})
	return append(out, s.worldOptions(false)...)
}

// maxPasses is how many passes may follow one another with nothing happening: more is a
// loop. maxRounds bounds a run.
const (
	maxPasses = 12
	maxRounds = 2000
)

// round is one round of the schedule: a deviation, or a pass if one is due, or else the
// next step of the cluster, or else sleep until a pass is due. It is false when nothing
// will happen any more.
func (s *simulation) round() bool {
	if s.rounds++; s.rounds > maxRounds {
		s.fail("I8: the job does not come to an end: %q", s.brief())
	}
	if s.deviate(s.roundOptions) {
		s.check()
		return true
	}
	for _, c := range s.controllers {
		if c.id > 0 && !(s.calm && c.used) {
			continue // it leads no more, or not yet
		}
		c.catchUp(s.last(), s.last())
		if job := c.next(); job != "" {
			if s.passes >= maxPasses {
				s.fail("I8: pass follows pass, and nothing happens")
			}
			s.startPass(c, job)
			s.current = c.id
			s.runPasses()
			s.check()
			return true
		}
	}
	s.checkStopping()
	if s.advance() {
		s.check()
		return true
	}
	return s.sleep()
}

// sleep goes to the time when the next pass is due.
func (s *simulation) sleep() bool {
	var first time.Time
	for _, c := range s.controllers {
		if c.id > 0 && !(s.calm && c.used) {
			continue
		}
		for _, d := range c.due {
			if first.IsZero() || d.at.Before(first) {
				first = d.at
			}
		}
	}
	if first.IsZero() {
		return false
	}
	s.passes = 0
	s.now = first
	s.note("sleep until " + first.Format(time.TimeOnly))
	return true
}

// play runs a simulation to its end, with deviations in the first rounds. The error says which invariant it broke, and how.
func (s *simulation) play(rounds int) (err error) {
	defer s.stop()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case simFailure:
			err = fmt.Errorf("%s\n%s\n%s", string(p), strings.Join(s.trace, "\n"), strings.Join(s.brief(), "\n"))
		default:
			panic(p)
		}
	}()
	for range rounds {
		if !s.boundary() {
			return errPruned
		}
		if !s.round() || s.script != nil && len(s.script) == 0 {
			break
		}
	}
	s.settle()
	for s.boundary() {
		if !s.round() && !s.release() {
			s.checkEnd()
			return nil
		}
	}
	return errPruned
}

// release is a user who resumes what is suspended, and terminates what is held when nothing
// else is left. It is false when there is nothing of the kind.
func (s *simulation) release() bool {
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		job := s.jobs[name]
		switch {
		case job.DeletionTimestamp != nil || isFinal(job):
			continue
		case job.Spec.Suspend:
			s.checkAtRest(job)
			s.note("resume")
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Spec.Suspend = false; job.Generation++ })
		case job.Status.State == v1alpha1.JobFailedInterrupted && !job.Spec.Terminate:
			s.note("terminate what is held")
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true; job.Generation++ })
		default:
			continue
		}
		s.passes = 0
		return true
	}
	return false
}

// settle ends all deviations: lost nodes come back, names are free again, and Pods that were taken
// from their job are deleted, as its status asks for.
func (s *simulation) settle() {
	s.calm = true
	s.note("calm")
	for _, b := range s.simPods {
		b.lost = false
		if pod := s.pods[b.name]; b.taken && pod != nil && pod.UID == b.uid {
			_ = s.askToStop(b.name, nil)
		}
	}
	s.leave()
	for _, c := range s.controllers {
		if c.used {
			c.catchUp(s.last(), s.last())
		}
	}
}
