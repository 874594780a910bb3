// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/testutil/cputime"
)

// sixteenTimes is by how much the time may grow with sixteen times as much to do. It would be by 256 if it
// grew with the square of that.
const sixteenTimes = 64

// resolved returns what the job resolves to.
func resolved(t *testing.T, b *testutil.JobBuilder) *resolve.Job {
	t.Helper()
	spec, err := resolve.Resolve(b.Obj())
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// terminations are n parts of an annotation, none next to another, from the last to the first.
func terminations(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a/%d ", 2*(n-1-i))
	}
	return b.String()
}

// TestReadTerminations: a text costs what its length is worth, once; one that is too long is not
// read.
func TestReadTerminations(t *testing.T) {
	spec := resolved(t, testutil.Job("j").Task("a", testutil.Instances(99_000)).Task("b", testutil.Instances(3)))
	few, many := terminations(500), terminations(8000)
	read := ReadTerminations(spec, many, nil)
	if got := read.byTask[0].Len(); got != 8000 || read.complaint != "" {
		t.Fatalf("got %d instances, %q; want 8000", got, read.complaint)
	}
	if got := cputime.Ratio(func() { ReadTerminations(spec, many, nil) }, func() { ReadTerminations(spec, few, nil) }); got > sixteenTimes {
		t.Errorf("a text of sixteen times as many parts takes %.1f times as long", got)
	}
	unknown := func(n int) string { return strings.Repeat("x ", n) }
	if got := cputime.Ratio(func() { ReadTerminations(spec, unknown(32_000), nil) }, func() { ReadTerminations(spec, unknown(2000), nil) }); got > sixteenTimes {
		t.Errorf("a text of sixteen times as many unknown tasks takes %.1f times as long", got)
	}
	same := strings.Clone(many)
	if again := ReadTerminations(spec, same, read); again != read {
		t.Error("the same text was read again")
	}
	if n := testing.AllocsPerRun(10, func() { ReadTerminations(spec, same, read) }); n > 0 {
		t.Errorf("to find that a text is the same takes %v allocations", n)
	}
	if other := ReadTerminations(spec, "b/1", read); other == read || other.byTask[1].String() != "1" || len(other.byTask) != 1 {
		t.Errorf("another text: got %v", other.byTask)
	}

	longest := "b/1" + strings.Repeat(" ", v1alpha1.MaxTerminateLength-3)
	if got := ReadTerminations(spec, longest, nil); got.byTask[1].Len() != 1 || got.complaint != "" {
		t.Errorf("the longest text: got %v, %q", got.byTask, got.complaint)
	}
	got := ReadTerminations(spec, longest+" ", nil)
	if len(got.byTask) != 0 || !strings.Contains(got.complaint, "must be at most 65536 bytes long; all of it is ignored") {
		t.Errorf("a longer text: got %v, %q", got.byTask, got.complaint)
	}
	if message := "annotation " + v1alpha1.AnnotationTerminate + ": " + got.complaint; cut(message) != message {
		t.Errorf("%q does not fit into a condition", message)
	}
}

// TestTerminateTooLong: what a user does who wrote too much is in the condition, and nothing ends.
func TestTerminateTooLong(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step().start("a/0 a/1")
	w.annotate(strings.Repeat("a/0 ", v1alpha1.MaxTerminateLength/4+1)).step()
	w.wantCondition(v1alpha1.ConditionInvalidAnnotation, "True InvalidAnnotation")
	w.want("RUNNING", "a RUNNING active=0-1 running=2")
	w.annotate("a/0").step().wantCondition(v1alpha1.ConditionInvalidAnnotation, "")
}

// TestCostOfHistories: a user who deletes Pods gives instances as many histories as there can be. To
// read the groups of a status and to issue instances of them costs by their indexes, and not by the
// number of groups as well.
func TestCostOfHistories(t *testing.T) {
	const instances = 30_000
	retrying := func(n int) func() {
		sets := make([][]int, n)
		for i := range instances {
			sets[i%n] = append(sets[i%n], 2*i)
		}
		var g groups
		for i, set := range sets {
			g = append(g, group{history{retries: (i + 1) / 101, machines: (i + 1) % 101}, ranges.Of(set...)})
		}
		job := testutil.Job("j").Task("a", testutil.Instances(100_000), testutil.Retries(5)).Status(v1alpha1.BatchJobStatus{
			State: v1alpha1.JobRunning, Tasks: []v1alpha1.TaskStatus{{Name: "a", State: v1alpha1.TaskRunning, Retrying: g.String()}},
		}).Obj()
		c, err := newCluster(job)
		if err != nil {
			t.Fatal(err)
		}
		obs := Observation{Job: c.job, Spec: c.spec}
		return func() {
			if p, err := Compute(obs, c.now); err != nil || len(p.Create) != MaxBatchSize {
				t.Errorf("got %d instances, %v", len(p.Create), err)
			}
		}
	}
	most := (v1alpha1.MaxRetryCountLimit+1)*(v1alpha1.MaxResourceRetryCount+1) - 1
	if got := cputime.Ratio(retrying(most), retrying(5)); got > 6 {
		t.Errorf("%d groups take %.1f times as long as 5 of as many instances", most, got)
	}
}
