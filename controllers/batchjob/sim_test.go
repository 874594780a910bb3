// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package batchjob

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// How much is simulated; make sim asks for more than go test does.
var (
	simRuns       = flag.Int("sim.runs", 1500, "random runs of the simulation")
	simSeed       = flag.Uint64("sim.seed", 0, "seed of the random runs; 0 takes one from the clock")
	simDeviations = flag.Int("sim.deviations", 2, "deviations in one run of the exhaustive search")
	simTime       = flag.Duration("sim.time", 8*time.Second, "time for the exhaustive search")
)

// simJobs are the jobs that are searched exhaustively.
func simJobs() map[string]*testutil.JobBuilder {
	job := func(rule v1alpha1.TaskExecutionDependOn) *testutil.JobBuilder {
		return testutil.Job("sim").DependOn(rule)
	}
	n, again := testutil.Instances, testutil.Retries
	return map[string]*testutil.JobBuilder{
		"1 one":      job("").Task("a"),
		"1 retried":  job("").Task("a", again(1)),
		"1 timeout":  job("").Task("a", again(1), testutil.Timeout(30)),
		"2 in turn":  job("").Task("a", n(2), testutil.Concurrent(1), again(1)),
		"2 at once":  job("").Task("a", n(2), again(1)),
		"2 chain":    job("").Task("a").Task("b").Edges("a->b"),
		"3 partly":   job(v1alpha1.PreTaskAtLeastPartlySucceed).Task("a", n(2)).Task("b").Edges("a->b"),
		"4 finished": job(v1alpha1.PreTaskFinished).Task("a", n(2)).Task("b", n(2), testutil.Concurrent(1)).Edges("a->b"),
		"5 join":     job("").Task("a", n(2)).Task("b").Task("c", n(2)).Edges("a->c b->c"),
		"6 line":     job("").Task("a", n(2)).Task("b", n(2), again(1)).Task("c", n(2)).Edges("a->b b->c"),
	}
}

// simDeviation says what is chosen at the at-th choice; all others are 0.
type simDeviation struct{ at, pick int }

// simSearch plays all runs of one job that have at most a number of deviations, wherever
// they are: those with fewer come first. A run that comes to a state from which as many
// deviations were tried already is given up there.
type simSearch struct {
	setup      simSetup
	deviations int
	seen       map[string]int
	queue      [][]simDeviation

	runs, pruned, steps int
	// depth is how many deviations the first run has that was not played; 0 is none.
	depth int
}

// play plays one run, and puts those into the queue that have a further deviation.
func (x *simSearch) play(script []simDeviation) error {
	at := 0
	var arity []int // of the choices after the script's last
	left := x.deviations - len(script)
	next := func(n int) int {
		defer func() { at++ }()
		for _, d := range script {
			if d.at == at {
				return d.pick
			}
		}
		if len(script) == 0 || at > script[len(script)-1].at {
			arity = append(arity, n)
		}
		return 0
	}
	s := newSimulation(x.setup, next)
	past := func() bool { return len(script) == 0 || at > script[len(script)-1].at }
	s.free = func() bool { return left > 0 || !past() }
	s.boundary = func() bool {
		if !past() {
			return true
		}
		key := s.fingerprint(left > 0)
		if was, ok := x.seen[key]; ok && was >= left+1 {
			return false
		}
		x.seen[key] = left + 1
		return true
	}
	err := play(s, maxRounds)
	x.runs++
	x.steps += s.steps
	if err == errPruned {
		x.pruned++
	} else if err != nil {
		return fmt.Errorf("with the deviations %v: %w", script, err)
	}
	if left == 0 {
		return nil
	}
	first := at - len(arity)
	for i, n := range arity {
		for pick := 1; pick < n; pick++ {
			x.queue = append(x.queue, append(slices.Clone(script), simDeviation{first + i, pick}))
		}
	}
	return nil
}

// TestSimSearch plays small jobs with every combination of a few deviations.
func TestSimSearch(t *testing.T) {
	jobs := simJobs()
	each := *simTime * time.Duration(min(runtime.GOMAXPROCS(0), len(jobs))) / time.Duration(len(jobs))
	for name, job := range jobs {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			x := &simSearch{setup: simSetup{jobs: []*v1alpha1.BatchJob{job.Obj()}, representatives: true, digesting: true}, deviations: *simDeviations, seen: map[string]int{}}
			x.queue = [][]simDeviation{nil}
			end := time.Now().Add(each)
			for len(x.queue) > 0 {
				script := x.queue[0]
				if time.Now().After(end) {
					x.depth = len(script)
					break
				}
				x.queue = x.queue[1:]
				if err := x.play(script); err != nil {
					t.Fatal(err)
				}
			}
			complete := fmt.Sprintf("complete for %d deviations", x.deviations)
			if x.depth > 0 {
				complete = fmt.Sprintf("complete for %d deviations; %d runs with %d or more left out", x.depth-1, len(x.queue), x.depth)
			}
			t.Logf("search: %d runs, %d of them joined others, %d steps, %d states; %s", x.runs, x.pruned, x.steps, len(x.seen), complete)
		})
	}
}

// TestSimRandom plays random jobs with random deviations.
func TestSimRandom(t *testing.T) {
	runs, steps, deviations := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := randomSimulation(t)
		err := play(s, rapid.IntRange(5, 60).Draw(t, "rounds"))
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
	t.Logf("random: %d runs, %d steps, %d deviations", runs, steps, deviations)
}

func randomSimulation(t *rapid.T) *simulation {
	odds := make([]bool, 100)
	for i := range rapid.SampledFrom([]int{3, 10, 30}).Draw(t, "odds") {
		odds[99-i] = true
	}
	var s *simulation
	s = newSimulation(simSetup{jobs: []*v1alpha1.BatchJob{randomJob(t)}}, func(n int) int {
		if n == 1 || !rapid.SampledFrom(odds).Draw(t, "deviate") {
			return 0
		}
		return 1 + rapid.IntRange(0, n-2).Draw(t, "how")
	})
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
			testutil.Timeout(rapid.SampledFrom([]int64{0, 30}).Draw(t, "timeout")))
		for p := range i {
			if rapid.Bool().Draw(t, "edge") {
				job.Edges(fmt.Sprintf("t%d->%s", p, name))
			}
		}
	}
	return job.Obj()
}
