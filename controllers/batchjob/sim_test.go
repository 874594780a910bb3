// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// How much is simulated; make sim simulates more than go test.
var (
	simRuns       = flag.Int("sim.runs", 500, "random runs of the simulation")
	simSeed       = flag.Uint64("sim.seed", 1, "seed of the random runs; 0 takes one from the clock")
	simDeviations = flag.Int("sim.deviations", 2, "deviations in one run of the exhaustive search")
	simTime       = flag.Duration("sim.time", 6*time.Second, "time for the exhaustive search")
)

// simJobs returns the jobs of the exhaustive search.
func simJobs() map[string]*testutil.JobBuilder {
	job := func(rule v1alpha1.TaskExecutionDependOn) *testutil.JobBuilder {
		return testutil.Job("sim").DependOn(rule)
	}
	n, again := testutil.Instances, testutil.Retries
	return map[string]*testutil.JobBuilder{
		"1 one": job("").Task("a"),
		// Jobs with "outlined" in the name are played with caches that have only outlines.
		"1 one outlined":       job("").Task("a"),
		"2 in turn outlined":   job("").Task("a", n(2), testutil.Concurrent(1), again(1)),
		"2 chain outlined":     job("").Task("a").Task("b").Edges("a->b"),
		"2 suspended outlined": job("").Task("a").Suspended().Task("b"),
		"1 retried":            job("").Task("a", again(1)),
		"1 timeout":            job("").Task("a", again(1), testutil.Timeout(30)),
		"1 interrupted":        job("").Task("a", action(v1alpha1.FailedActionInterrupt), again(1)),
		"1 machine":            job("").Task("a", machines(1), again(1)),
		"2 in turn":            job("").Task("a", n(2), testutil.Concurrent(1), again(1)),
		"2 at once":            job("").Task("a", n(2), again(1)),
		"2 chain":              job("").Task("a").Task("b").Edges("a->b"),
		"3 partly":             job(v1alpha1.PreTaskAtLeastPartlySucceed).Task("a", n(2)).Task("b").Edges("a->b"),
		"4 finished":           job(v1alpha1.PreTaskFinished).Task("a", n(2)).Task("b", n(2), testutil.Concurrent(1)).Edges("a->b"),
		"5 join":               job("").Task("a", n(2)).Task("b").Task("c", n(2)).Edges("a->c b->c"),
		"1 inputs":             job("").Task("a", inputs, machines(1), again(1)),
		"1 outputs":            job("").Task("a", outputs, machines(1), again(1)),
		"1 outputs timeout":    job("").Task("a", outputs, testutil.Timeout(30), again(1)),
		"1 data interrupted":   job("").Task("a", inputs, outputs, action(v1alpha1.FailedActionInterrupt)),
		"2 data outlined":      job("").Task("a", inputs, outputs).Task("b", outputs).Edges("a->b"),
		"6 line":               job("").Task("a", n(2)).Task("b", n(2), again(1)).Task("c", n(2)).Edges("a->b b->c"),
	}
}

// TestSimRandom plays random jobs with random deviations.
func TestSimRandom(t *testing.T) {
	seed := *simSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	setFlag(t, "rapid.checks", strconv.Itoa(*simRuns))
	setFlag(t, "rapid.seed", strconv.FormatUint(seed, 10))
	runs, steps, deviations := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := randomSimulation(t)
		err := s.play(rapid.IntRange(5, 60).Draw(t, "rounds"))
		runs++
		steps += s.steps
		for _, line := range s.trace {
			if strings.HasPrefix(line, "! ") {
				deviations++
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("sim: random: seed %d, %d runs, %d steps, %d deviations", seed, runs, steps, deviations)
}

func setFlag(t *testing.T, name, value string) {
	t.Helper()
	old := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set(name, old) })
}

// inputs and outputs give the task data.
func inputs(t *v1alpha1.Task)  { testutil.Inputs("cos://b-1.cos.ap-x.myqcloud.com/in/", "/in")(t) }
func outputs(t *v1alpha1.Task) { testutil.Outputs("/out", "cos://b-1.cos.ap-x.myqcloud.com/out/")(t) }

func noData(*v1alpha1.Task) {}

func bothData(t *v1alpha1.Task) {
	inputs(t)
	outputs(t)
}

// machines sets resourceMaxRetryCount.
func machines(n int64) testutil.TaskOption {
	return func(t *v1alpha1.Task) { t.ResourceMaxRetryCount = &n }
}

// action sets failedAction.
func action(a v1alpha1.FailedAction) testutil.TaskOption {
	return func(t *v1alpha1.Task) { t.FailedAction = a }
}

// simDeviation is the pick of the at-th choice; all other choices are 0.
type simDeviation struct{ at, pick int }

// simBranch is a run to play: from a state between two rounds, before which there were some deviations, with the deviations of
// the script.
type simBranch struct {
	from   *simulation
	before int
	script []simDeviation
}

// simSearch plays all runs of one job with at most a number of deviations, those with fewer first. It stops a run in a state from
// which as many deviations were played already.
type simSearch struct {
	deviations int
	seen       map[string]int
	queue      []simBranch

	runs, joined, steps int
}

func newSimSearch(setup simSetup, deviations int) *simSearch {
	setup.representatives, setup.digesting = true, true
	return &simSearch{deviations: deviations, seen: map[string]int{}, queue: []simBranch{{from: newSimulation(setup)}}}
}

// step plays the next run, and adds the runs with one more deviation to the queue.
func (x *simSearch) step() error {
	branch := x.queue[0]
	x.queue[0] = simBranch{}
	x.queue = x.queue[1:]
	s := branch.from.clone()
	left := x.deviations - branch.before - len(branch.script)
	at, end := 0, -1 // the next choice, and the script's last
	if n := len(branch.script); n > 0 {
		end = branch.script[n-1].at
	}
	s.free = func() bool { return left > 0 || at <= end }
	s.choose = func(n int) int {
		defer func() { at++ }()
		if at > end {
			for pick := 1; pick < n; pick++ {
				x.queue = append(x.queue, simBranch{branch.from, branch.before, append(slices.Clone(branch.script), simDeviation{at, pick})})
			}
			return 0
		}
		for _, d := range branch.script {
			if d.at == at {
				return d.pick
			}
		}
		return 0
	}
	s.boundary = func() bool {
		if at <= end {
			return true
		}
		key := s.fingerprint(left > 0)
		if x.seen[key] > left {
			return false
		}
		x.seen[key] = left + 1
		if left > 0 && !s.deviationsEnded {
			branch, at, end = simBranch{from: s.clone(), before: x.deviations - left}, 0, -1
		}
		return true
	}
	before := s.steps
	err := s.play(200)
	x.runs++
	x.steps += s.steps - before
	if errors.Is(err, errPruned) {
		x.joined++
		return nil
	}
	return err
}

// depth returns the number of deviations of the next run.
func (x *simSearch) depth() int { return x.queue[0].before + len(x.queue[0].script) }

// TestSimSearch plays small jobs with every combination of a few deviations.
func TestSimSearch(t *testing.T) {
	jobs := simJobs()
	each := *simTime * time.Duration(min(runtime.GOMAXPROCS(0), len(jobs))) / time.Duration(len(jobs))
	var mu sync.Mutex
	runs, joined, steps, states := 0, 0, 0, 0
	t.Cleanup(func() {
		t.Logf("sim: search: %d jobs, %d runs that differ, %d of them up to a state that was known, %d steps, %d states", len(jobs), runs, joined, steps, states)
	})
	for name, job := range jobs {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			x := newSimSearch(simSetup{jobs: []*v1alpha1.BatchJob{job.Obj()}, outlines: strings.Contains(name, "outlined")}, *simDeviations)
			for end := time.Now().Add(each); len(x.queue) > 0 && time.Now().Before(end); {
				if err := x.step(); err != nil {
					t.Fatal(err)
				}
			}
			complete := fmt.Sprintf("complete for %d deviations", x.deviations)
			if len(x.queue) > 0 {
				complete = fmt.Sprintf("complete for %d deviations; %d runs with more left out", x.depth()-1, len(x.queue))
			}
			mu.Lock()
			defer mu.Unlock()
			runs, joined, steps, states = runs+x.runs, joined+x.joined, steps+x.steps, states+len(x.seen)
			t.Logf("search: %d runs, %d of them joined others, %d steps, %d states; %s", x.runs, x.joined, x.steps, len(x.seen), complete)
		})
	}
}

func randomSimulation(t *rapid.T) *simulation {
	odds := make([]bool, 100)
	for i := range rapid.SampledFrom([]int{5, 20, 50}).Draw(t, "odds") {
		odds[99-i] = true
	}
	job, notifies := randomJob(t), rapid.Bool().Draw(t, "notified")
	if notifies {
		job = notified(job)
	}
	s := newSimulation(simSetup{jobs: []*v1alpha1.BatchJob{job}, outlines: rapid.Bool().Draw(t, "outlines"), notified: notifies})
	s.choose = func(n int) int {
		if n == 1 || !rapid.SampledFrom(odds).Draw(t, "deviate") {
			return 0
		}
		return 1 + rapid.IntRange(0, n-2).Draw(t, "how")
	}
	return s
}

func randomJob(t *rapid.T) *v1alpha1.BatchJob {
	job := testutil.Job("sim").DependOn(rapid.SampledFrom([]v1alpha1.TaskExecutionDependOn{
		v1alpha1.PreTaskSucceed, v1alpha1.PreTaskAtLeastPartlySucceed, v1alpha1.PreTaskFinished,
	}).Draw(t, "rule"))
	for i := range rapid.IntRange(1, 5).Draw(t, "tasks") {
		name := fmt.Sprintf("t%d", i)
		job.Task(name,
			testutil.Instances(rapid.Int64Range(1, 4).Draw(t, "instances")),
			testutil.Concurrent(rapid.Int64Range(0, 2).Draw(t, "concurrent")),
			testutil.Retries(rapid.Int64Range(0, 2).Draw(t, "retries")),
			machines(rapid.Int64Range(0, 2).Draw(t, "machines")),
			action(rapid.SampledFrom([]v1alpha1.FailedAction{v1alpha1.FailedActionTerminate, v1alpha1.FailedActionInterrupt, v1alpha1.FailedActionFastInterrupt}).Draw(t, "action")),
			testutil.Timeout(rapid.SampledFrom([]int64{0, 30}).Draw(t, "timeout")),
			rapid.SampledFrom([]testutil.TaskOption{noData, inputs, outputs, bothData}).Draw(t, "data"))
		for p := range i {
			if rapid.Bool().Draw(t, "edge") {
				job.Edges(fmt.Sprintf("t%d->%s", p, name))
			}
		}
	}
	out := job.Obj()
	out.Spec.Job.StateIfCreateCvmFailed = rapid.SampledFrom([]v1alpha1.StateIfCreateCvmFailed{"", v1alpha1.CreateCvmFailedRunnable}).Draw(t, "refused")
	return out
}
