// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func status(state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: state}
}

func ended(code int32) corev1.ContainerStatus {
	return status(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}})
}

var (
	pending = status(waiting("ContainerCreating", ""))
	running = status(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	backOff = corev1.ContainerStatus{State: waiting("CrashLoopBackOff", ""), RestartCount: 1}
)

func TestSummarize(t *testing.T) {
	type list = []corev1.ContainerStatus
	for name, tc := range map[string]struct {
		inits, main list
		want        corev1.PodPhase
		wantReason  string // of Ready being false
	}{
		"nothing started":      {nil, list{pending}, corev1.PodPending, "ContainersNotReady"},
		"one of two started":   {nil, list{running, pending}, corev1.PodPending, "ContainersNotReady"},
		"running":              {list{ended(0)}, list{running}, corev1.PodRunning, ""},
		"one ended":            {nil, list{running, ended(1)}, corev1.PodRunning, "ContainersNotReady"},
		"succeeded":            {list{ended(0)}, list{ended(0), ended(0)}, corev1.PodSucceeded, "PodCompleted"},
		"one failed":           {nil, list{ended(0), ended(1)}, corev1.PodFailed, "PodFailed"},
		"init runs":            {list{running}, list{pending}, corev1.PodPending, "ContainersNotReady"},
		"init done":            {list{ended(0)}, list{pending}, corev1.PodPending, "ContainersNotReady"},
		"init failed":          {list{ended(1)}, list{pending}, corev1.PodFailed, "PodFailed"},
		"init to be restarted": {list{backOff}, list{pending}, corev1.PodPending, "ContainersNotReady"},
		"to be restarted":      {nil, list{backOff}, corev1.PodRunning, "ContainersNotReady"},
	} {
		t.Run(name, func(t *testing.T) {
			s := corev1.PodStatus{InitContainerStatuses: tc.inits, ContainerStatuses: tc.main}
			summarize(&s)
			ready := s.Conditions[0]
			if s.Phase != tc.want || ready.Reason != tc.wantReason || (ready.Status == corev1.ConditionTrue) != (tc.wantReason == "") {
				t.Errorf("got %s, %+v", s.Phase, ready)
			}
		})
	}
}

func TestSummarizeTransitionTime(t *testing.T) {
	before := metav1.NewTime(time.Now().Add(-time.Hour))
	s := corev1.PodStatus{
		ContainerStatuses: []corev1.ContainerStatus{running},
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: before}},
	}
	summarize(&s)
	if !s.Conditions[0].LastTransitionTime.Equal(&before) {
		t.Error("the transition time changed though the condition did not")
	}
	s.ContainerStatuses[0] = ended(0)
	summarize(&s)
	if s.Conditions[0].LastTransitionTime.Equal(&before) {
		t.Error("the transition time did not change with the condition")
	}
}

func TestWriteTail(t *testing.T) {
	for lines, want := range map[string]string{"0": "", "1": "three", "2": "two\nthree", "99": "one\ntwo\nthree"} {
		var out strings.Builder
		if err := writeTail(&out, strings.NewReader("one\ntwo\nthree"), lines); err != nil || out.String() != want {
			t.Errorf("%s lines: got %q, %v, want %q", lines, out.String(), err, want)
		}
	}
	for _, bad := range []string{"x", "-1"} {
		if err := writeTail(io.Discard, strings.NewReader(""), bad); err == nil {
			t.Errorf("%s lines are accepted", bad)
		}
	}
}
