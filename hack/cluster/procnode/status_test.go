// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package procnode

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var testTime = metav1.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func waiting() *record { return &record{} }

func running() *record {
	return &record{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: testTime}}}
}

func ended(code int32) *record {
	return &record{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
}

func backingOff(code int32) *record {
	return &record{Last: ended(code).State, State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}
}

// testFacts returns a Pod with as many containers as there are records.
func testFacts(policy corev1.RestartPolicy, inits, main []*record) facts {
	p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy}}
	for i := range inits {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "init-" + string(rune('a'+i))})
	}
	for i := range main {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "main-" + string(rune('a'+i))})
	}
	return facts{pod: p, ip: "10.0.0.1", start: testTime, inits: inits, main: main}
}

func TestComputePhase(t *testing.T) {
	const never, onFailure, always = corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure, corev1.RestartPolicyAlways
	type list = []*record
	for name, tc := range map[string]struct {
		policy      corev1.RestartPolicy
		inits, main list
		stopped     bool
		deadline    bool
		want        corev1.PodPhase
	}{
		"nothing started":               {policy: never, main: list{waiting()}, want: corev1.PodPending},
		"one of two started":            {policy: never, main: list{running(), waiting()}, want: corev1.PodPending},
		"running":                       {policy: never, main: list{running()}, want: corev1.PodRunning},
		"one ended":                     {policy: never, main: list{running(), ended(1)}, want: corev1.PodRunning},
		"succeeded":                     {policy: never, main: list{ended(0), ended(0)}, want: corev1.PodSucceeded},
		"one failed":                    {policy: never, main: list{ended(0), ended(1)}, want: corev1.PodFailed},
		"init runs":                     {policy: never, inits: list{running()}, main: list{waiting()}, want: corev1.PodPending},
		"init done":                     {policy: never, inits: list{ended(0)}, main: list{waiting()}, want: corev1.PodPending},
		"init done, running":            {policy: always, inits: list{ended(0)}, main: list{running()}, want: corev1.PodRunning},
		"init failed":                   {policy: never, inits: list{ended(1)}, main: list{waiting()}, want: corev1.PodFailed},
		"init failed, to restart":       {policy: onFailure, inits: list{backingOff(1)}, main: list{waiting()}, want: corev1.PodPending},
		"restarting after failure":      {policy: onFailure, main: list{backingOff(1)}, want: corev1.PodRunning},
		"no restart after success":      {policy: onFailure, main: list{ended(0)}, want: corev1.PodSucceeded},
		"restarting after success":      {policy: always, main: list{backingOff(0)}, want: corev1.PodRunning},
		"stopped, all exited with 0":    {policy: always, main: list{ended(0)}, stopped: true, want: corev1.PodSucceeded},
		"stopped, one failed":           {policy: always, main: list{ended(0), ended(143)}, stopped: true, want: corev1.PodFailed},
		"stopped before start":          {policy: never, main: list{waiting()}, stopped: true, want: corev1.PodFailed},
		"stopped while initializing":    {policy: always, inits: list{ended(143)}, main: list{waiting()}, stopped: true, want: corev1.PodFailed},
		"deadline, all exited with 0":   {policy: never, main: list{ended(0)}, stopped: true, deadline: true, want: corev1.PodFailed},
		"deadline, not yet all stopped": {policy: never, main: list{running()}, deadline: true, want: corev1.PodRunning},
	} {
		t.Run(name, func(t *testing.T) {
			f := testFacts(tc.policy, tc.inits, tc.main)
			f.stopped, f.deadline = tc.stopped, tc.deadline
			if got := computePhase(f); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestComputeStatusConditions(t *testing.T) {
	type list = []*record
	for name, tc := range map[string]struct {
		inits, main list
		want        map[corev1.PodConditionType]string
	}{
		"initializing": {list{ended(0), running()}, list{waiting()}, map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "True",
			corev1.PodInitialized:            "False ContainersNotInitialized containers with incomplete status: [init-b]",
			corev1.PodReady:                  "False ContainersNotReady containers with unready status: [main-a]",
			corev1.ContainersReady:           "False ContainersNotReady containers with unready status: [main-a]",
		}},
		"running": {list{ended(0)}, list{running()}, map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "True", corev1.PodInitialized: "True",
			corev1.PodReady: "True", corev1.ContainersReady: "True",
		}},
		"succeeded": {nil, list{ended(0)}, map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "False PodSandboxNotReady", corev1.PodInitialized: "True PodCompleted",
			corev1.PodReady: "False PodCompleted", corev1.ContainersReady: "False PodCompleted",
		}},
		"failed": {nil, list{ended(1)}, map[corev1.PodConditionType]string{
			corev1.PodReadyToStartContainers: "False PodSandboxNotReady", corev1.PodInitialized: "True",
			corev1.PodReady: "False PodFailed", corev1.ContainersReady: "False PodFailed",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[corev1.PodConditionType]string{}
			for _, c := range computeStatus(testFacts(corev1.RestartPolicyNever, tc.inits, tc.main), corev1.PodStatus{}, testTime).Conditions {
				got[c.Type] = string(c.Status)
				for _, s := range []string{c.Reason, c.Message} {
					if s != "" {
						got[c.Type] += " " + s
					}
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestComputeStatusTransitionTime(t *testing.T) {
	f := testFacts(corev1.RestartPolicyNever, nil, []*record{running()})
	before := computeStatus(f, corev1.PodStatus{}, testTime)
	f.main = []*record{ended(1)}
	later := metav1.NewTime(testTime.Add(time.Minute))
	for _, c := range computeStatus(f, before, later).Conditions {
		want := later
		if c.Type == corev1.PodInitialized {
			want = testTime // the only one that stays as it was
		}
		if !c.LastTransitionTime.Equal(&want) {
			t.Errorf("%s: transition at %s, want %s", c.Type, c.LastTransitionTime, want)
		}
	}
}

func TestComputeStatusContainers(t *testing.T) {
	run := running()
	run.Pid, run.Start, run.Restarts, run.Image = 12, "34.ab", 1, "/images/x"
	f := testFacts(corev1.RestartPolicyNever, []*record{ended(0), waiting()}, []*record{run, waiting()})
	f.pod.Spec.Containers[0].Image = "x:1"
	got := computeStatus(f, corev1.PodStatus{}, testTime)
	want := []corev1.ContainerStatus{
		{
			Name: "main-a", State: run.State, Ready: true, Started: new(true), RestartCount: 1,
			Image: "x:1", ImageID: "process:///images/x", ContainerID: "process://12-34.ab",
		},
		{
			Name: "main-b", Started: new(false),
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}},
		},
	}
	if d := cmp.Diff(want, got.ContainerStatuses); d != "" {
		t.Error(d)
	}
	if !got.InitContainerStatuses[0].Ready || got.InitContainerStatuses[1].Ready {
		t.Errorf("init containers: %+v", got.InitContainerStatuses)
	}
}

// A condition that becomes true loses its reason, which a merge patch has to say.
func TestStatusPatch(t *testing.T) {
	from := computeStatus(testFacts(corev1.RestartPolicyNever, nil, []*record{waiting()}), corev1.PodStatus{}, testTime)
	to := from.DeepCopy()
	to.Conditions[2].Status, to.Conditions[2].Reason = corev1.ConditionTrue, ""
	got, err := statusPatch("uid-1", &from, to)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"metadata":{"uid":"uid-1"},"status":{"$setElementOrder/conditions":[` +
		`{"type":"PodReadyToStartContainers"},{"type":"Initialized"},{"type":"Ready"},{"type":"ContainersReady"}],` +
		`"conditions":[{"reason":null,"status":"True","type":"Ready"}]}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
