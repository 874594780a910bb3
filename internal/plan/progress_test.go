// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
)

// TestProgress is what is made of a Pod that has not ended, some time after it was made.
func TestProgress(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod, time.Time)
		mode   mode
		after  time.Duration
		want   progress // without the detail
		detail string
	}{
		"new":                                {nil, mode{}, time.Second, progress{lookAgain: 19 * time.Second}, ""},
		"no scheduler":                       {nil, mode{}, time.Minute, progress{lookAgain: 9 * time.Minute, reason: v1alpha1.ReasonNoScheduler}, "default-scheduler"},
		"timed out":                          {nil, mode{}, time.Hour, progress{stop: true, reason: v1alpha1.ReasonNoScheduler}, "default-scheduler"},
		"on a node, nobody knows since when": {func(p *corev1.Pod, _ time.Time) { testutil.Bind(p, "n") }, mode{}, time.Second, progress{phase: phaseStarting}, ""},
		"no node fits":                       {func(p *corev1.Pod, _ time.Time) { testutil.Unschedulable(p, "full") }, mode{}, time.Minute, progress{lookAgain: 9 * time.Minute, reason: v1alpha1.ReasonUnschedulable}, "full"},
		"runs":                               {started, mode{}, time.Second, progress{phase: phaseRunning, lookAgain: time.Minute}, ""},
		"runs for too long":                  {started, mode{}, time.Hour, progress{phase: phaseRunning, stop: true}, ""},
		"job terminated":                     {started, mode{terminating: true}, time.Second, progress{phase: phaseRunning, stop: true}, ""},
		"job suspended":                      {started, mode{draining: true}, time.Second, progress{phase: phaseRunning, stop: true}, ""},
		"is being stopped":                   {func(p *corev1.Pod, now time.Time) { started(p, now); testutil.AskToStop(p, now) }, mode{}, time.Second, progress{phase: phaseRunning, lookAgain: 89 * time.Second}, ""},
		"does not stop":                      {func(p *corev1.Pod, now time.Time) { started(p, now); testutil.AskToStop(p, now) }, mode{}, time.Hour, progress{phase: phaseRunning, reason: v1alpha1.ReasonNodeLost}, "out-of-service"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(60))).step()
			w.do("a/0", func(pod *corev1.Pod) {
				if tc.change != nil {
					tc.change(pod, w.now)
				}
			}).wait(tc.after)
			j, at := w.stage()
			j.mode = tc.mode
			a := attempt{job: j, pod: w.tracked()[0]}
			if got := a.classify(at); got != current {
				t.Fatalf("the place is %d", got)
			}
			got := a.progress()
			if !strings.Contains(got.detail, tc.detail) {
				t.Errorf("detail is %q, want %q in it", got.detail, tc.detail)
			}
			if got.detail = ""; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func started(pod *corev1.Pod, now time.Time) {
	testutil.Bind(pod, "n")
	testutil.Start(pod, now)
}
