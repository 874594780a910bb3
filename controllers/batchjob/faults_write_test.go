// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/flow"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/controlplane"
)

// scenario is a job, how its Pods end, what its user does while it runs, and how the job ends.
type scenario struct {
	job func(name string) *testutil.JobBuilder
	// courses has the attempts that do not exit with 0, by "task/index/attempt", and "task/index/attempt/run" for runs
	// after the first.
	courses map[string]controlplane.Course
	// refused is the prefix of the names of the Pods that the cluster refuses to create; "" for none.
	refused string
	// steps are what the user does, in this order.
	steps []step
	// end is the short form of the job at its end, see brief.
	end []string
}

// step is something that the user does once: when the condition when is true, or, with afterDeletion, when the job does
// not exist.
type step struct {
	when          func(*v1alpha1.BatchJob) bool
	afterDeletion bool
	// patch is merged into the job. If it is empty, the job is created again.
	patch string
}

var (
	crashes = controlplane.Course{Code: 3}
	evicted = controlplane.Course{Reason: "Evicted"}
	hangs   = controlplane.Course{Hangs: true}
	endless = controlplane.Course{Hangs: true, Since: time.Minute}
)

func isState(s v1alpha1.JobState) func(*v1alpha1.BatchJob) bool {
	return func(job *v1alpha1.BatchJob) bool { return job.Status.State == s }
}

// hasRunning returns a condition for a step: n instances of the job run.
func hasRunning(n int64) func(*v1alpha1.BatchJob) bool {
	return func(job *v1alpha1.BatchJob) bool { return job.Status.TaskInstanceMetrics.RunningCount == n }
}

func isSuspended(job *v1alpha1.BatchJob) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == v1alpha1.ConditionSuspended {
			return c.Status == "True"
		}
	}
	return false
}

func machineRetries(n int64) testutil.TaskOption {
	return func(t *v1alpha1.Task) { t.ResourceMaxRetryCount = &n }
}

func onFailure(a v1alpha1.FailedAction) testutil.TaskOption {
	return func(t *v1alpha1.Task) { t.FailedAction = a }
}

// scenarios together use all features of a job. Each is short, since a test that injects a fault into every write takes
// time that grows with the square of the number of writes.
var scenarios = map[string]scenario{
	// Both budgets, one after the other, a Pod whose creation is refused, and PRE_TASK_SUCCEED.
	"budgets": {
		job: func(name string) *testutil.JobBuilder {
			return testutil.Job(name).
				Task("a", testutil.Instances(2), testutil.Retries(1), machineRetries(1)).
				Task("b", machineRetries(1)).
				Task("c").
				Edges("a->c b->c")
		},
		courses: map[string]controlplane.Course{
			"a/0/0": crashes, "a/0/1": evicted,
			"a/1/0": evicted, "a/1/1": crashes, "a/1/2": crashes,
			"b/0/0": evicted,
		},
		refused: "ref-b-0-r1-",
		end: []string{
			"FAILED 0/3 1/4",
			"a FAILED succeeded=0 failed=1 reason=TaskInstanceFailed",
			"b FAILED failed=0 reason=TaskInstanceFailed",
			"c FAILED failed=0 reason=PredecessorFailed",
			"failure a/0/0 CommandFailed 3", "failure a/0/1 Evicted 137", "failure a/1/0 Evicted 137",
			"failure a/1/1 CommandFailed 3", "failure a/1/2 CommandFailed 3", "failure b/0/0 Evicted 137", "failure b/0/1 PodCreationRefused",
		},
	},
	// INTERRUPT, an interrupted instance that uses up maxConcurrentNum, its termination, a task after it, a timeout, and
	// PRE_TASK_FINISHED.
	"interrupt": {
		job: func(name string) *testutil.JobBuilder {
			return testutil.Job(name).
				Task("a", testutil.Instances(2), testutil.Concurrent(1), testutil.Retries(1), onFailure(v1alpha1.FailedActionInterrupt)).
				Task("b", testutil.Timeout(30)).
				Task("c").
				Edges("a->c b->c").DependOn(v1alpha1.PreTaskFinished)
		},
		courses: map[string]controlplane.Course{"a/0/0": crashes, "a/0/1": crashes, "b/0/0": endless},
		steps: []step{{
			when: func(job *v1alpha1.BatchJob) bool {
				return job.Status.TaskInstanceMetrics.FailedInterruptedCount == 1 && len(job.Status.Tasks) == 2 && job.Status.Tasks[1].State == v1alpha1.TaskFailed
			},
			patch: `{"metadata":{"annotations":{"` + v1alpha1.AnnotationTerminate + `":"a/0"}}}`,
		}},
		end: []string{
			"FAILED 1/3 2/4",
			"a FAILED succeeded=1 failed=0 reason=Terminated",
			"b FAILED failed=0 reason=TaskInstanceFailed",
			"c SUCCEED succeeded=0",
			"failure a/0/0 CommandFailed 3", "failure a/0/1 CommandFailed 3", "failure b/0/0 Timeout 137",
		},
	},
	// suspend and resume, a running instance that is terminated, and PRE_TASK_AT_LEAST_PARTLY_SUCCEED.
	"suspend": {
		job: func(name string) *testutil.JobBuilder {
			return testutil.Job(name).
				Task("a", testutil.Instances(3)).
				Task("b").
				Edges("a->b").DependOn(v1alpha1.PreTaskAtLeastPartlySucceed)
		},
		courses: map[string]controlplane.Course{"a/1/0": hangs, "a/2/0": hangs, "a/2/0/1": hangs},
		steps: []step{
			{when: hasRunning(2), patch: `{"spec":{"suspend":true}}`},
			{when: isSuspended, patch: `{"spec":{"suspend":false}}`},
			{when: func(job *v1alpha1.BatchJob) bool {
				return job.Status.Run == 1 && job.Status.TaskInstanceMetrics.RunningCount == 1 && job.Status.TaskInstanceMetrics.SucceedCount == 2
			}, patch: `{"metadata":{"annotations":{"` + v1alpha1.AnnotationTerminate + `":"a/2"}}}`},
		},
		end: []string{
			"FAILED 1/2 3/4 run=1",
			"a FAILED succeeded=0-1 failed=2 reason=Terminated",
			"b SUCCEED succeeded=0",
			"failure a/2/0 Terminated 137",
		},
	},
	// retryToken, then ttlSecondsAfterFinished, and the same request again.
	"retry": {
		job: func(name string) *testutil.JobBuilder {
			return testutil.Job(name).Task("a", testutil.Instances(2)).Task("b").Edges("a->b")
		},
		courses: map[string]controlplane.Course{"a/1/0": crashes},
		steps: []step{
			{when: isState(v1alpha1.JobFailed), patch: `{"spec":{"retryToken":"again"}}`},
			{when: isState(v1alpha1.JobSucceed), patch: `{"spec":{"ttlSecondsAfterFinished":2}}`},
			{afterDeletion: true},
		},
		end: []string{"SUCCEED   reason=AlreadyRan"},
	},
	// terminate, while there are claims without a Pod.
	"terminate": {
		job: func(name string) *testutil.JobBuilder {
			return testutil.Job(name).Task("a", testutil.Instances(3), testutil.Concurrent(2)).Task("b").Edges("a->b")
		},
		courses: map[string]controlplane.Course{"a/0/0": hangs, "a/1/0": hangs},
		steps:   []step{{when: hasRunning(2), patch: `{"spec":{"terminate":true}}`}},
		end: []string{
			"FAILED 0/2 0/4",
			"a FAILED failed=0-2 reason=Terminated",
			"b FAILED failed=0 reason=Terminated",
			"failure a/0/0 Terminated 137", "failure a/1/0 Terminated 137",
		},
	},
}

// course returns how a Pod ends.
func (s *scenario) course(pod *corev1.Pod) controlplane.Course {
	l := pod.Labels
	key := strings.Join([]string{l[v1alpha1.LabelTaskName], l[v1alpha1.LabelTaskInstanceIndex], l[v1alpha1.LabelAttempt]}, "/")
	if run := l[v1alpha1.LabelRun]; run != "0" {
		key += "/" + run
	}
	return s.courses[key]
}

// play runs a scenario to its end. It returns the short form of the job, and the attempts that had Pods.
func (s *scenario) play(p *process, name string) (end, attempts []string) {
	e := p.e
	e.t.Helper()
	if err := e.Create(context.Background(), s.job(name).New(e.ns)); err != nil {
		e.t.Fatal(err)
	}
	player := controlplane.Player{ControlPlane: e.ControlPlane, Namespace: e.ns, Course: s.course, Quick: true}
	e.clock.SetTime(time.Now())
	p.alsoRefuse(s.refused)
	steps, seen := s.steps, map[string]bool{}
	for range 80 {
		if _, err := p.pass(name); err != nil && !p.dead && !errors.Is(err, errLost) && !errors.Is(err, errRefused) {
			e.t.Fatal(err)
		}
		if p.dead {
			p.revive()
			p.alsoRefuse(s.refused)
			continue
		}
		pods, hasFinalizer := e.Pods(e.t, e.ns), false
		for i := range pods {
			seen[attemptOf(&pods[i])] = true
			hasFinalizer = hasFinalizer || slices.Contains(pods[i].Finalizers, v1alpha1.FinalizerTracking)
		}
		job := s.find(e, name)
		switch {
		case len(steps) > 0 && (job == nil && steps[0].afterDeletion || job != nil && !steps[0].afterDeletion && steps[0].when(job)):
			s.do(e, steps[0], name)
			steps = steps[1:]
		case len(steps) == 0 && job != nil && job.Status.EndTime != nil && !hasFinalizer:
			return inOrder(brief(job)), slices.Sorted(maps.Keys(seen))
		}
		if err := player.Play(context.Background(), pods); err != nil {
			e.t.Fatal(err)
		}
		if job == nil {
			e.CollectGarbage(e.t, e.ns)
		}
		// Pods have the system's time, so the clock must not run far ahead of it: just long enough for informational
		// updates.
		e.clock.SetTime(e.clock.Now().Add(flow.InformationalInterval + 100*time.Millisecond))
	}
	last := "the job does not exist"
	if job := s.find(e, name); job != nil {
		last = strings.Join(brief(job), "\n")
	}
	e.t.Fatalf("the job has not ended; %d steps are left; writes: %q\n%s", len(steps), p.log, last)
	return nil, nil
}

// inOrder sorts the failures of a short form. The status has them in the order of time, which a fault may change.
func inOrder(lines []string) []string {
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "failure ") })
	if first >= 0 {
		slices.Sort(lines[first:])
	}
	return lines
}

// bare returns a short form without the explanations, which a status that is too large does not have.
func bare(lines []string) []string {
	return slices.DeleteFunc(withoutReasons(lines), func(l string) bool { return strings.HasPrefix(l, "failure ") })
}

// withoutReasons returns a short form without the reasons of tasks. Which of several reasons a task keeps depends on
// whether it waited in between.
func withoutReasons(lines []string) (out []string) {
	for _, l := range lines {
		l, _, _ = strings.Cut(l, " reason=")
		out = append(out, l)
	}
	return out
}

// find returns the job; nil if it does not exist.
func (s *scenario) find(e *testEnv, name string) *v1alpha1.BatchJob {
	e.t.Helper()
	job := &v1alpha1.BatchJob{}
	err := e.Get(context.Background(), client.ObjectKey{Namespace: e.ns, Name: name}, job)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return job
}

func (s *scenario) do(e *testEnv, st step, name string) {
	e.t.Helper()
	job := s.job(name).New(e.ns)
	if st.afterDeletion {
		job.Spec.TTLSecondsAfterFinished = new(int64(10))
		if err := e.Create(context.Background(), job); err != nil {
			e.t.Fatal(err)
		}
		return
	}
	if err := e.Patch(context.Background(), job, client.RawPatch(types.MergePatchType, []byte(st.patch))); err != nil {
		e.t.Fatal(err)
	}
}

// attemptOf returns the attempt of a Pod, without its job.
func attemptOf(pod *corev1.Pod) string {
	l := pod.Labels
	return fmt.Sprintf("%s/%s/%s run %s", l[v1alpha1.LabelTaskName], l[v1alpha1.LabelTaskInstanceIndex], l[v1alpha1.LabelAttempt], l[v1alpha1.LabelRun])
}

// revive replaces a dead process by a new one, which remembers nothing. With always it keeps the fault function.
func (p *process) revive() {
	again := p.e.start(&faultClient{cached: p.cached})
	again.faultClient.calls = p.calls
	if p.always {
		again.faultClient.fault, again.faultClient.always = p.faultClient.fault, true
	}
	p.Reconciler, p.faultClient = again.Reconciler, again.faultClient
}

// alsoRefuse has the cluster refuse to create Pods whose names have the prefix.
func (p *process) alsoRefuse(prefix string) {
	before := p.refusal
	p.refusal = func(n int, call, name string) error {
		if prefix != "" && call == "create pod" && strings.HasPrefix(name, prefix) {
			return refusals["403"](name)
		}
		if before != nil {
			return before(n, call, name)
		}
		return nil
	}
}

// isForSize reports whether the n-th write is refused for its size, so that explanations may be missing at the end.
func isForSize(n int) bool {
	kind := refusalKinds[n%len(refusalKinds)]
	return kind == "413" || kind == "too large for etcd"
}

var refusalKinds = slices.Sorted(maps.Keys(refusals))

// writeFaults has the faults that are injected into every single write of a scenario.
var writeFaults = map[string]func(p *process, n int){
	"dies before": func(p *process, n int) { p.fault = only(n, diesBefore) },
	"dies after":  func(p *process, n int) { p.fault = only(n, diesAfter) },
	"answer lost": func(p *process, n int) { p.fault = only(n, answerLost) },
	"refused": func(p *process, n int) {
		p.refusal = func(i int, _, name string) error {
			if i != n {
				return nil
			}
			return refusals[refusalKinds[n%len(refusalKinds)]](name)
		}
	},
}

func only(n int, f fault) func(int, string) fault {
	return func(i int, _ string) fault {
		if i == n {
			return f
		}
		return noFault
	}
}

// TestFaultsEveryWrite: whichever single write of a scenario fails, and however, the job ends as without the fault: the same
// status, the same failures, the same attempts, no finalizer left, and never two live Pods of an instance.
func TestFaultsEveryWrite(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestEnv(t)
			end, attempts, writes := s.reference(t, e.in(t))
			t.Logf("%d writes: %v", len(writes), tally(writes))
			for fault, set := range writeFaults {
				t.Run(fault, func(t *testing.T) {
					t.Parallel()
					e := newTestEnv(t)
					witness := e.Watch(t, e.ns)
					runs := 0
					for n := 1; n <= len(writes); n++ {
						runs++
						if !t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
							e := e.in(t)
							p := e.start(nil)
							set(p, n)
							s.check(t, p, end, attempts, comparison(fault, n, writes[n-1]))
						}) {
							t.Logf("write %d is %q", n, writes[n-1])
						}
						e.clear()
					}
					f := witness.Figures()
					t.Logf("%d runs, each with 1 fault: %d Pods, overlaps: %d, names given twice: %d", runs, f.Pods, len(f.Overlaps), len(f.Remade))
					if len(f.Overlaps)+len(f.Remade) > 0 || f.Err != nil {
						t.Errorf("overlaps %q, names given twice %q, error %v", f.Overlaps, f.Remade, f.Err)
					}
				})
			}
			t.Run("many at random", func(t *testing.T) {
				t.Parallel()
				e := newTestEnv(t)
				witness, faults := e.Watch(t, e.ns), 0
				const runs = 5
				for seed := range uint64(runs) {
					t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
						e := e.in(t)
						p := e.start(nil)
						var mu sync.Mutex
						random := rand.New(rand.NewPCG(seed, 2))
						p.always = true
						p.fault = func(int, string) fault {
							mu.Lock()
							defer mu.Unlock()
							if random.IntN(3) > 0 {
								return noFault
							}
							faults++
							return []fault{diesBefore, diesAfter, answerLost, callFails}[random.IntN(4)]
						}
						s.check(t, p, end, attempts, slices.Clone[[]string])
					})
					e.clear()
				}
				f := witness.Figures()
				t.Logf("%d runs, %d faults: %d Pods, overlaps: %d, names given twice: %d", runs, faults, f.Pods, len(f.Overlaps), len(f.Remade))
				if len(f.Overlaps)+len(f.Remade) > 0 || f.Err != nil {
					t.Errorf("overlaps %q, names given twice %q, error %v", f.Overlaps, f.Remade, f.Err)
				}
			})
		})
	}
}

// reference plays a scenario without faults, and returns its end and its writes. It also checks the order of writes: a claim
// is stored before its Pod is created, and an outcome before the finalizer of its Pod is removed.
func (s *scenario) reference(t *testing.T, e *testEnv) (end, attempts, writes []string) {
	t.Helper()
	p := e.start(nil)
	p.fault = func(_ int, call string) fault {
		name := p.log[len(p.log)-1][len(call)+1:]
		switch claims := s.claims(e); {
		case call == "create pod" && !claims[name]:
			t.Errorf("Pod %s is created, and the status does not claim it", name)
		case call == "patch pod" && claims[name]:
			t.Errorf("the finalizer of Pod %s is removed, and the status still claims it", name)
		}
		return noFault
	}
	end, attempts = s.play(p, "ref")
	if diff := cmp.Diff(s.end, end); diff != "" {
		t.Fatalf("the end of the job without faults (-want, +got):\n%s", diff)
	}
	e.clear()
	return end, attempts, p.log
}

// comparison returns a function that selects what is compared of a short form when the n-th write had a fault: everything,
// except what a refusal adds to the status or removes from it.
func comparison(fault string, n int, write string) func([]string) []string {
	switch {
	case fault == "refused" && isForSize(n):
		return bare
	case fault == "refused" && strings.HasPrefix(write, "create pod "):
		return withoutReasons
	}
	return slices.Clone[[]string]
}

// check plays a scenario under the faults of p, and compares the part of its end that part selects.
func (s *scenario) check(t *testing.T, p *process, end, attempts []string, part func([]string) []string) {
	t.Helper()
	gotEnd, gotAttempts := s.play(p, "ref")
	if diff := cmp.Diff(part(end), part(gotEnd)); diff != "" {
		t.Errorf("the job ends differently (-want, +got):\n%s", diff)
	}
	if diff := cmp.Diff(attempts, gotAttempts); diff != "" {
		t.Errorf("other Pods were created (-want, +got):\n%s", diff)
	}
}

var groupOf = regexp.MustCompile(`^(?:x(\d+))?(?:r(\d+))?(?:m(\d+))?:?([\d,-]+)$`)

// claims returns the names of the Pods that the stored status claims.
func (s *scenario) claims(e *testEnv) map[string]bool {
	e.t.Helper()
	out := map[string]bool{}
	job := s.find(e, "ref")
	if job == nil {
		return out
	}
	spec, err := resolve.Resolve(job)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, task := range job.Status.Tasks {
		for group := range strings.SplitSeq(task.Active, ";") {
			m := groupOf.FindStringSubmatch(group)
			if m == nil {
				continue // no active instances
			}
			retries, _ := strconv.Atoi(m[2])
			machines, _ := strconv.Atoi(m[3])
			set, err := ranges.Parse(m[4])
			if err != nil {
				e.t.Fatal(err)
			}
			for i := range set.All() {
				out[spec.PodName(resolve.Instance{Task: spec.TaskByLabel(task.Name), Index: i, Attempt: retries + machines, Run: int(job.Status.Run)})] = true
			}
		}
	}
	return out
}

// tally counts writes by their kind.
func tally(writes []string) map[string]int {
	out := map[string]int{}
	for _, w := range writes {
		out[w[:strings.LastIndex(w, " ")]]++
	}
	return out
}

// in returns the same namespace for another test.
func (e *testEnv) in(t testing.TB) *testEnv {
	return &testEnv{ControlPlane: e.ControlPlane, t: t, ns: e.ns, cache: e.cache, clock: e.clock, resourceWait: 2 * time.Second}
}
