// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
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

// TestStoredWait: what a Pod waited for is read from its own entry; another instance stands for it only if the list of
// instances is full, and only if it waits for its start, too.
func TestStoredWait(t *testing.T) {
	wait := func(task, pod, reason string) v1alpha1.TaskInstanceWait {
		return v1alpha1.TaskInstanceWait{TaskName: task, PodName: pod, Reason: reason, Message: "of " + pod}
	}
	full := make([]v1alpha1.TaskInstanceWait, v1alpha1.MaxWaiting)
	for i := range full {
		full[i] = wait("a", "other", v1alpha1.ReasonNodeLost)
	}
	image := slices.Clone(full)
	image[7] = wait("a", "second", v1alpha1.ReasonImagePull)
	another := slices.Clone(full)
	another[7] = wait("b", "second", v1alpha1.ReasonImagePull)
	for name, tc := range map[string]struct {
		waiting []v1alpha1.TaskInstanceWait
		want    string
	}{
		"none":                       {nil, ""},
		"its own":                    {[]v1alpha1.TaskInstanceWait{wait("a", "other", v1alpha1.ReasonImagePull), wait("a", "mine", v1alpha1.ReasonContainerConfig)}, "ContainerConfigError of mine"},
		"its own, of something else": {[]v1alpha1.TaskInstanceWait{wait("a", "mine", v1alpha1.ReasonNodeLost)}, ""},
		"another's, with space left": {[]v1alpha1.TaskInstanceWait{wait("a", "other", v1alpha1.ReasonImagePull)}, ""},
		"full":                       {image, "ImagePullFailed of second"},
		"full, of nodes":             {full, ""},
		"full, of another task":      {another, ""},
	} {
		stored := testutil.Job("j").Obj()
		stored.Status.Waiting = tc.waiting
		pod := &corev1.Pod{}
		pod.Name = "mine"
		a := attempt{job: &job{obs: Observation{Job: stored}}, pod: pod, task: &task{Task: &resolve.Task{Name: "a"}}}
		reason, detail := a.storedWait()
		if got := strings.TrimSpace(reason + " " + detail); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
