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
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// simulation runs the Reconciler against an API server in memory. The function choose determines the schedule. While it
// returns 0, nothing fails: caches are up to date, calls succeed, and every command exits with 0. Any other result is a
// deviation: a fault, a switch to the other controller, or an action of users or the cluster.
//
// Only one goroutine runs at a time: the schedule, or one pass until its next call. So the same results of choose repeat
// a run exactly.
type simulation struct {
	*simAPI
	setup simSetup
	// logger gets what the reconcilers log; the zero value gets nothing.
	logger logr.Logger
	// choose returns a number below n, and free reports whether it may return another one than 0.
	choose func(n int) int
	free   func() bool
	// boundary is called between rounds; the run ends when it returns false.
	boundary func() bool

	specs       map[string]*resolve.Job
	controllers []*simController
	current     int
	simPods     []*simPod
	// floor is the oldest view that a cache of Pods may have: the one after the last deletion of a Pod that still had the
	// tracking label. The next Pod has the same name, and an older view would be an event of the wrong Pod.
	floor int
	// script has prefixes of labels of options. Each is chosen in this order, as soon as there is such an option. "running"
	// waits until a command runs, "idle" until no pass is due, and "pending create" until a controller is about to create a Pod.
	// With a script choose is not called.
	script []string
	// receiver receives the events of jobs, and known are the jobs as they were last.
	receiver *simReceiver
	known    map[types.UID]*v1alpha1.BatchJob
	// foreignPod is the name of a Pod that a user has created; "" for none.
	foreignPod string
	// deviationsEnded says that there are no more deviations.
	deviationsEnded bool
	// passes counts the passes since the cluster last changed.
	passes                int
	rounds, steps, writes int
	trace                 []string
}

// simSetup is the start of a run.
type simSetup struct {
	jobs []*v1alpha1.BatchJob
	// outlines says that the caches have only outlines of all jobs, as of large ones.
	outlines bool
	// representatives says that of several Pods that differ only in their index, one is the target of actions.
	representatives bool
	digesting       bool
	// notified says that the jobs ask for events.
	notified bool
}

// simFailure is the panic of a run that violates an invariant.
type simFailure string

// errPruned ends a run in a state from which all runs were played already.
var errPruned = errors.New("this state was played already")

var (
	errSimRefused = errors.New("the API server refused the call")
	errSimLost    = errors.New("the answer was lost")
	errSimDead    = errors.New("the process is dead")
)

// simController is a process with its Reconciler and caches.
type simController struct {
	s             *simulation
	id            int
	r             *Reconciler
	jobAt, podsAt int // the views that its caches have
	due           map[string]*simDue
	used          bool
	// ends says that the process ends after the turn of its dispatcher, and turnAt is when the next one is due.
	ends   bool
	turnAt time.Time
	// lastUID is the last UID before the running pass.
	lastUID int
	// written is the version after its last status write, of those with an answer.
	written string

	calls   chan *simCall
	answers chan struct{}
	ended   chan simEndOfPass
	passing string // the job of the running pass
	pending *simCall
}

// simDue says when a pass over a job is due: now, after an event or an error, or at a time.
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
	s := &simulation{simAPI: newSimAPI(setup.digesting), setup: setup, specs: map[string]*resolve.Job{}, receiver: &simReceiver{}, known: map[types.UID]*v1alpha1.BatchJob{}}
	if s.large = plan.LargeJob; setup.outlines {
		s.large = 0
	}
	s.free = func() bool { return true }
	s.boundary = func() bool { return true }
	s.remember() // a cache may be older than the job
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

// clone returns a copy of the simulation between two rounds. The copies share what never changes.
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
		for ns, queue := range c.r.creator.quotas.byNamespace {
			if twin.r.creator.quotas.byNamespace == nil {
				twin.r.creator.quotas.byNamespace = map[string]map[types.UID]plan.QueuePosition{}
			}
			twin.r.creator.quotas.byNamespace[ns] = maps.Clone(queue)
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

// start starts a process that remembers nothing, with caches that have these views.
func (s *simulation) start(c *simController, jobAt, podsAt int) {
	c.r = NewReconciler(&simClient{c: c}, c.podsOf, &simClient{c: c, live: true}, simEventRecorder{}, Options{
		Catalog: catalog.Default, Validate: func(*v1alpha1.BatchJob) (string, string) { return "", "" }, Clock: simClock{s: s}, PodKey: testKey,
		Agent: func() podspec.Agent { return podspec.Agent{Image: "agent", ImageVolumes: true} },
	})
	if s.setup.notified {
		c.r.notifier.dispatcher = c.newDispatcher()
	}
	c.r.podClient.limits = flow.NewCalls(flow.Limits{Min: 1, Contended: 1, Max: 1}, simClock{s: s})
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

// Now returns the time.
func (c simClock) Now() time.Time { return c.s.now }

// Since returns how long ago t is.
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

// catchUp moves the caches to newer views. The changes are events, as from the watches of Setup.
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

// next returns the job of which a pass is due now; "" for none.
func (c *simController) next() string {
	for _, job := range slices.Sorted(maps.Keys(c.due)) {
		if d := c.due[job]; d.now || !d.at.IsZero() && !d.at.After(c.s.now) {
			return job
		}
	}
	return ""
}

// ask passes a call of the running pass to the schedule, and waits for the answer.
func (c *simController) ask(call *simCall) error {
	c.calls <- call
	<-c.answers
	return call.err
}

// startPass starts a pass over a job.
func (s *simulation) startPass(c *simController, job string) {
	s.note(fmt.Sprintf("controller %d starts a pass over %s (job %d, Pods %d of %d)", c.id, job, c.jobAt, c.podsAt, s.last()))
	s.passes++
	c.used = true
	d := c.dueOf(job)
	if d.now = false; !d.at.After(s.now) {
		d.at = time.Time{}
	}
	c.passing, c.pending, c.lastUID = job, nil, s.uids
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

// runPasses continues the running passes until all have ended.
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

// stepPass runs a pass up to its next call, and lets the schedule decide the answer.
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

// toCall runs a pass up to its next call. It returns false if the pass has ended.
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

// answer answers the pending call: with err, or if err is nil, with the answer of the API server. With do it does the call.
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
		c.written = job.ResourceVersion // the old one, if nothing has changed
	}
	c.pending = nil // after the checks: if one ends the run, stop answers the call
	c.answers <- struct{}{}
}

func suffix(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// crash ends a process, in the middle of a pass or not, and starts the next one.
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

// stop ends the running passes, so that no goroutine is left.
func (s *simulation) stop() {
	for _, c := range s.controllers {
		s.crash(c, s.last(), s.last())
	}
}

func (s *simulation) note(line string) { s.trace = append(s.trace, line) }

func (s *simulation) fail(format string, args ...any) {
	panic(simFailure(fmt.Sprintf(format, args...)))
}

// pick returns the result of choose, or the position of the next option of the script, if there is one.
func (s *simulation) pick(list []simOption) int {
	if s.script == nil {
		return s.choose(len(list) + 1)
	}
	if len(s.script) > 0 {
		if reached, waits := s.conditions()[s.script[0]]; waits {
			if !reached() {
				return 0
			}
			s.script = s.script[1:]
		}
	}
	for i, o := range list {
		if len(s.script) > 0 && strings.HasPrefix(o.label, s.script[0]) {
			s.script = s.script[1:]
			return i + 1
		}
	}
	return 0
}

// conditions returns what a script can wait for.
func (s *simulation) conditions() map[string]func() bool {
	return map[string]func() bool{
		"running": func() bool {
			return slices.ContainsFunc(s.simPods, func(b *simPod) bool { return b.ran && b.live })
		},
		"idle": s.idle,
		"pending create": func() bool {
			return slices.ContainsFunc(s.controllers, func(c *simController) bool {
				return c.pending != nil && strings.HasPrefix(c.pending.name, "create ")
			})
		},
	}
}

// idle reports whether the caches of the first controller are up to date, and no pass is due now.
func (s *simulation) idle() bool {
	c := s.controllers[0]
	return !s.passing() && c.jobAt == s.last() && c.podsAt == s.last() && c.next() == ""
}

// simOption is one possible deviation.
type simOption struct {
	label string
	do    func()
}

// deviate chooses a deviation, and does it. It returns false if there is none.
func (s *simulation) deviate(options func() []simOption) bool {
	if s.deviationsEnded || !s.free() {
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

// callOptions returns the possible faults of the pending call of a controller, and what can happen before it. After a
// deviation that leaves the call pending the schedule chooses again.
func (s *simulation) callOptions(c *simController) []simOption {
	call := c.pending
	out := []simOption{
		{"refused", func() { c.answer(false, errSimRefused) }},
	}
	if !s.setup.representatives { // otherwise it equals the crash after the last call, or between passes
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
			c.answer(false, apierrors.NewConflict(jobResource, c.passing, errors.New("another write came first")))
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
			c.answer(false, apierrors.NewForbidden(podResource, call.name, errors.New("denied by a policy")))
		}})
	}
	other := s.controllers[1-c.id]
	if other.passing != "" {
		out = append(out, simOption{"the other continues", func() { s.current = other.id }})
	} else {
		out = append(out,
			simOption{"the other starts a pass", func() { other.catchUp(s.last(), s.last()); s.startPass(other, c.passing); s.current = other.id }},
			simOption{"the other starts a pass, with old caches", func() { s.startPass(other, c.passing); s.current = other.id }})
	}
	return append(out, s.clusterOptions(true)...)
}

// roundOptions returns what can happen while no pass runs.
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
				continue // equals far behind
			}
			out = append(out,
				simOption{fmt.Sprintf("crash, cache of jobs %d behind", n), func() { s.crash(c, max(1, last-n), last) }},
				simOption{fmt.Sprintf("crash, cache of Pods %d behind", n), func() { s.crash(c, last, max(s.floor, last-n)) }})
		}
	}
	if c.jobAt < last {
		out = append(out, simOption{"cache of jobs stale", pass(c.jobAt, last)})
	}
	if c.podsAt < last {
		out = append(out, simOption{"cache of Pods stale", pass(last, c.podsAt)},
			simOption{"caches half stale", pass(c.jobAt+(last-c.jobAt)/2, c.podsAt+(last-c.podsAt+1)/2)})
	}
	out = append(out,
		simOption{"a pass without need", pass(c.jobAt, c.podsAt)},
		simOption{"the other controller", func() {
			other := s.controllers[1]
			other.catchUp(last, last)
			s.startPass(other, job)
			s.current = 1
			s.runPasses()
		}},
		simOption{"time passes", func() { s.now = s.now.Add(40 * time.Second) }},
		simOption{"much time passes", func() { s.now = s.now.Add(700 * time.Second) }})
	return append(out, s.clusterOptions(false)...)
}

// maxPasses bounds the passes in a row during which the cluster does not change: more are a hot loop. maxRounds bounds a
// run.
const (
	maxPasses = 12
	maxRounds = 2000
)

// round does one round of the schedule: a deviation, or a pass if one is due, or the next step of the cluster, or sleep until
// a pass is due. It returns false if nothing can happen anymore.
func (s *simulation) round() bool {
	if s.rounds++; s.rounds > maxRounds {
		s.fail("I8: the job does not end: %q", s.brief())
	}
	if s.deviate(s.roundOptions) {
		s.check()
		return true
	}
	for _, c := range s.controllers {
		if c.id > 0 && !(s.deviationsEnded && c.used) {
			continue // it does not lead
		}
		c.catchUp(s.last(), s.last())
		if job := c.next(); job != "" {
			if s.passes >= maxPasses {
				s.fail("I8: hot loop: passes without a change of the cluster")
			}
			s.startPass(c, job)
			s.current = c.id
			s.runPasses()
			s.check()
			return true
		}
	}
	for _, c := range s.controllers {
		if c.turnAt = (time.Time{}); c.id > 0 && !(s.deviationsEnded && c.used) {
			continue
		}
		ran, wait := s.stepDispatcher(c)
		if ran {
			s.check()
			return true
		}
		if wait > 0 {
			c.turnAt = s.now.Add(wait)
		}
	}
	s.checkStopping()
	if s.advanceCluster() {
		s.check()
		return true
	}
	return s.sleep()
}

// sleep moves the clock to the time when the next pass is due. It returns false if none is.
func (s *simulation) sleep() bool {
	var first time.Time
	for _, c := range s.controllers {
		if c.id > 0 && !(s.deviationsEnded && c.used) {
			continue
		}
		for _, d := range c.due {
			if first.IsZero() || d.at.Before(first) {
				first = d.at
			}
		}
		if !c.turnAt.IsZero() && (first.IsZero() || c.turnAt.Before(first)) {
			first = c.turnAt
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

// play runs a simulation to its end, with deviations in the first rounds. The error names the violated invariant.
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
	s.endDeviations()
	for s.boundary() {
		if !s.round() && !s.resumeOrTerminate() {
			s.checkEnd()
			return nil
		}
	}
	return errPruned
}

// resumeOrTerminate resumes a suspended job, or terminates a job with interrupted instances, as a user does when nothing else
// happens. It returns false if there is no such job.
func (s *simulation) resumeOrTerminate() bool {
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		job := s.jobs[name]
		switch {
		case job.DeletionTimestamp != nil || isFinal(job):
			continue
		case job.Spec.Suspend:
			s.checkSuspended(job)
			s.note("resume")
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Spec.Suspend = false; job.Generation++ })
		case job.Status.State == v1alpha1.JobFailedInterrupted && !job.Spec.Terminate:
			s.note("terminate the interrupted instances")
			s.changeJob(name, func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true; job.Generation++ })
		default:
			continue
		}
		s.passes = 0
		return true
	}
	return false
}

// endDeviations ends all deviations: lost nodes come back, foreign Pods are deleted, and Pods that no longer belong to their
// job are deleted, as its status asks for.
func (s *simulation) endDeviations() {
	s.deviationsEnded, s.receiver.down = true, false
	s.note("end of the deviations")
	for _, b := range s.simPods {
		b.lost = false
		if pod := s.pods[b.name]; b.disowned && pod != nil && pod.UID == b.uid {
			_ = s.askToStop(b.name, nil)
		}
	}
	s.deleteForeignPod()
	for _, c := range s.controllers {
		if c.used {
			c.catchUp(s.last(), s.last())
		}
	}
}
