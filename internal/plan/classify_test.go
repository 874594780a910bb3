// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// stage returns what the stages of a world's next plan start with.
func (w *world) stage() (*job, []lists) {
	w.t.Helper()
	obs := w.observation()
	j, at, err := load(&obs, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return &j, at
}

// TestClassify is the class of the Pods of one instance by what the status says of it. The job is in its
// second run.
func TestClassify(t *testing.T) {
	one, r1 := ranges.Of(0), history{retries: 1}
	for name, tc := range map[string]struct {
		status       lists
		attempt, run int
		draining     bool
		change       func(*corev1.Pod)
		want, live   class // by a cached job, and by a live one
	}{
		"claimed":                       {lists{active: groups{{r1, one}}}, 1, 1, false, nil, current, current},
		"the attempt before":            {lists{active: groups{{r1, one}}}, 0, 1, false, nil, past, past},
		"the attempt after":             {lists{active: groups{{r1, one}}}, 2, 1, false, nil, ahead, current},
		"the run before":                {lists{active: groups{{r1, one}}}, 1, 0, false, nil, past, past},
		"the run after":                 {lists{active: groups{{r1, one}}}, 1, 2, false, nil, ahead, past},
		"succeeded":                     {lists{succeeded: one}, 0, 1, false, nil, past, past},
		"failed":                        {lists{failed: one}, 3, 1, false, nil, past, past},
		"to be retried, the one before": {lists{retrying: groups{{r1, one}}}, 0, 1, false, nil, past, past},
		"to be retried, the next":       {lists{retrying: groups{{r1, one}}}, 1, 1, false, nil, ahead, current},
		"to be retried, and it drains":  {lists{retrying: groups{{r1, one}}}, 1, 1, true, nil, ahead, past},
		"not issued":                    {lists{}, 0, 1, false, nil, ahead, current},
		"interrupted":                   {lists{interrupted: groups{{history{run: 1}, one}}}, 0, 1, false, nil, lastOfInterrupted, lastOfInterrupted},
		"interrupted in the run before": {lists{interrupted: groups{{history{}, one}}}, 0, 1, false, nil, past, past},
		"without a label": {
			lists{active: groups{{history{}, one}}}, 0, 1, false,
			func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelRun) }, ahead, unidentified,
		},
		"an index that is not there": {
			lists{}, 0, 1, false, func(pod *corev1.Pod) { pod.Labels[v1alpha1.LabelTaskInstanceIndex] = "2" }, ahead, unidentified,
		},
		"another name": {lists{}, 0, 1, false, func(pod *corev1.Pod) { pod.Name = "other" }, ahead, unidentified},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2), testutil.Retries(3)))
			in := resolve.Instance{Attempt: tc.attempt, Run: tc.run}
			w.create(in)
			pod := w.tracked()[0]
			if tc.change != nil {
				tc.change(pod)
			}
			for _, live := range []bool{false, true} {
				j, at := w.stage()
				j.obs.Live, j.mode.run, j.mode.draining = live, 1, tc.draining
				at[0] = tc.status
				a := attempt{job: j, pod: pod}
				want := tc.want
				if live {
					want = tc.live
				}
				if got := a.classify(at); got != want {
					t.Errorf("live %t: the class is %d, want %d", live, got, want)
				}
				if h, ok := at[0].active.find(0); live && want == current && (!ok || h != a.history || h.attempt() != tc.attempt) {
					t.Errorf("the claim has the history %+v, %t; the attempt %+v", h, ok, a.history)
				}
				if adopted := live && tc.want == ahead && want == current; at[0].adopted != adopted {
					t.Errorf("adopted is %t, want %t", at[0].adopted, adopted)
				}
			}
		})
	}
}
