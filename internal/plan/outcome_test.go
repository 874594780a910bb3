// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/testutil"
)

// story makes a Pod step by step. Its clock begins at a full second.
type story struct {
	*corev1.Pod
	now time.Time
}

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (s story) terminated() *corev1.ContainerStateTerminated {
	return s.Status.ContainerStatuses[0].State.Terminated
}

func after(d time.Duration) time.Time { return begin.Add(d) }

// evictByNode is what a kubelet says of a Pod that it begins to put out.
func evictByNode(s story, at time.Time) {
	testutil.Disrupt(s.Pod, corev1.PodReasonTerminationByKubelet, "The node was low on resource: memory.")
	s.Status.Conditions[len(s.Status.Conditions)-1].LastTransitionTime = metav1.NewTime(at)
}

func TestOutcome(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(s story)
		want string // reason: message, "success", or "" for none yet
		code int32  // -1: there is none
		end  time.Duration
	}{
		"new":                                 {func(story) {}, "", 0, 0},
		"runs":                                {func(s story) { testutil.Start(s.Pod, begin) }, "", 0, 0},
		"is being asked":                      {func(s story) { testutil.Start(s.Pod, begin); testutil.AskToStop(s.Pod, begin) }, "", 0, 0},
		"exit 0":                              {func(s story) { testutil.Finish(s.Pod, 0, after(time.Second)) }, "success", 0, time.Second},
		"exit 0, though no container says so": {func(s story) { s.Status.Phase = corev1.PodSucceeded }, "success", -1, 0},
		"exit 1":                              {func(s story) { testutil.Finish(s.Pod, 1, after(time.Second)) }, "CommandFailed: exit code 1", 1, time.Second},
		"exit 126":                            {func(s story) { testutil.Finish(s.Pod, 126, begin) }, "CommandFailed: exit code 126: the command cannot be executed", 126, 0},
		"exit 127":                            {func(s story) { testutil.Finish(s.Pod, 127, begin) }, "CommandFailed: exit code 127: the command was not found", 127, 0},
		"exit 139":                            {func(s story) { testutil.Finish(s.Pod, 139, begin) }, "CommandFailed: exit code 139: ended by signal 11", 139, 0},
		"exit 255":                            {func(s story) { testutil.Finish(s.Pod, 255, begin) }, `CommandFailed: exit code 255; if kubectl logs says "exec format error", the image is for another architecture than its node`, 255, 0},
		"out of memory": {func(s story) {
			testutil.Finish(s.Pod, 137, begin)
			s.terminated().Reason = "OOMKilled"
		}, "OOMKilled: exit code 137, OOMKilled: the command exceeded its memory limit; use a larger instanceType, or raise computeEnv.kubernetes.resources.limits", 137, 0},
		"no such shell": {func(s story) {
			testutil.Finish(s.Pod, 128, begin)
			s.terminated().Reason, s.terminated().Message = "StartError", "no /bin/sh"
			s.terminated().StartedAt = metav1.Unix(0, 0) // so says containerd
		}, "StartError: the container could not start: no /bin/sh", 128, 0},
		"a runtime that was too slow": {func(s story) {
			testutil.Finish(s.Pod, 128, begin)
			s.terminated().Reason, s.terminated().Message = "StartError", "failed to create shim task: context deadline exceeded"
			s.terminated().StartedAt = metav1.Unix(0, 0)
		}, "StartError: node node-1 could not start the container in time: failed to create shim task: context deadline exceeded", 128, 0},
		"evicted": {func(s story) {
			testutil.Finish(s.Pod, 137, begin)
			s.Status.Reason, s.Status.Message = "Evicted", "The node was low on memory."
		}, "Evicted: evicted: The node was low on memory", 137, 0},
		"evicted, and its container is forgotten": {func(s story) {
			testutil.Fail(s.Pod, "Evicted", "The node was low on memory.")
			testutil.Disrupt(s.Pod, corev1.PodReasonTerminationByKubelet, "")
		}, "Evicted: evicted: The node was low on memory", -1, 0},
		"the node has no disk left": {func(s story) {
			testutil.Fail(s.Pod, "Evicted", "The node had condition: [DiskPressure].")
		}, "MachineRefused: node node-1 rejected the Pod: Evicted: The node had condition: [DiskPressure]", -1, 0},
		"did not fit after all": {func(s story) {
			testutil.Fail(s.Pod, "OutOfcpu", "Node didn't have enough cpu.")
		}, "MachineRefused: node node-1 rejected the Pod: OutOfcpu: Node didn't have enough cpu", -1, 0},
		"taken by a node autoscaler": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, "KarpenterSpot", "spot-interrupted")
			testutil.AskToStop(s.Pod, after(5*time.Second))
			testutil.Finish(s.Pod, 143, after(6*time.Second))
		}, "Evicted: evicted: KarpenterSpot: spot-interrupted", 143, 6 * time.Second},
		"taken by its queue, which others call an eviction": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, "EvictionByEvictionAPI", "evicting")
			s.Status.Conditions = append(s.Status.Conditions, corev1.PodCondition{Type: TerminationTarget, Status: corev1.ConditionTrue, Reason: "Drained"})
			testutil.AskToStop(s.Pod, after(5*time.Second))
			testutil.Finish(s.Pod, 143, after(6*time.Second))
		}, "Preempted: preempted by the queue that had admitted it: Drained; it is queued again, and no retry is used", 143, 6 * time.Second},
		"evicted when the command had failed and a sidecar still ran": {func(s story) {
			testutil.Finish(s.Pod, 3, after(2*time.Second))
			s.Status.Phase = corev1.PodFailed
			testutil.Disrupt(s.Pod, "EvictionByEvictionAPI", "evicting")
			s.Status.Conditions[len(s.Status.Conditions)-1].LastTransitionTime = metav1.NewTime(after(5 * time.Second))
			testutil.AskToStop(s.Pod, after(5*time.Second))
		}, "CommandFailed: exit code 3", 3, 2 * time.Second},
		"drained": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, "EvictionByEvictionAPI", "Eviction API: evicting")
			testutil.AskToStop(s.Pod, after(time.Second))
			testutil.Finish(s.Pod, 143, after(2*time.Second))
		}, "Evicted: evicted: Eviction API: evicting", 143, 2 * time.Second},
		"evicted by its node, and it heeds the signal with exit 0": {func(s story) {
			testutil.Start(s.Pod, begin)
			evictByNode(s, after(4*time.Second))
			testutil.Finish(s.Pod, 0, after(5*time.Second))
		}, "Evicted: evicted: The node was low on resource: memory", 0, 5 * time.Second},
		"evicted by its node, and it heeds the signal with exit 0 at once": {func(s story) {
			testutil.Start(s.Pod, begin)
			evictByNode(s, after(4*time.Second))
			testutil.Finish(s.Pod, 0, after(4*time.Second))
		}, "Evicted: evicted: The node was low on resource: memory", 0, 4 * time.Second},
		"done before its node evicts it": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Finish(s.Pod, 0, after(3*time.Second))
			evictByNode(s, after(4*time.Second))
		}, "success", 0, 3 * time.Second},
		"done, though the scheduler had thought of preempting it": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, corev1.PodReasonPreemptionByScheduler, "")
			testutil.Finish(s.Pod, 0, after(3*time.Second))
		}, "success", 0, 3 * time.Second},
		"preempted": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, corev1.PodReasonPreemptionByScheduler, "default-scheduler: preempting to accommodate a higher priority pod")
			testutil.AskToStop(s.Pod, after(time.Second))
			testutil.Finish(s.Pod, 143, after(2*time.Second))
		}, "Preempted: preempted: default-scheduler: preempting to accommodate a higher priority pod", 143, 2 * time.Second},
		"the node is gone": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Disrupt(s.Pod, "DeletionByPodGC", "PodGC: node no longer exists")
			s.Status.Phase = corev1.PodFailed
			testutil.AskToStop(s.Pod, after(time.Second))
		}, "NodeLost: node node-1 was lost: PodGC: node no longer exists", -1, time.Second},
		"a node that does not answer": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(-91*time.Second))
		}, "NodeLost: node node-1 has not confirmed that the Pod stopped when it was told to", -1, -61 * time.Second},
		"a node that does not answer, past the timeout": {func(s story) {
			testutil.Start(s.Pod, after(-102*time.Second))
			testutil.AskToStop(s.Pod, after(-91*time.Second))
		}, "Timeout: took longer than the timeout of 10 s and was stopped", -1, -61 * time.Second},
		"a node that does not answer, long before the timeout": {func(s story) {
			testutil.Start(s.Pod, after(-95*time.Second))
			testutil.AskToStop(s.Pod, after(-91*time.Second))
		}, "NodeLost: node node-1 has not confirmed that the Pod stopped when it was told to", -1, -61 * time.Second},
		"no node in time": {func(s story) {
			s.Spec.NodeName = ""
			testutil.Unschedulable(s.Pod, "0/3 nodes are available")
			testutil.AskToStop(s.Pod, after(600*time.Second))
		}, "Unschedulable: no machine was acquired within 600 s: no node fits in zone zone-a: 0/3 nodes are available", -1, 600 * time.Second},
		"no image in time": {func(s story) {
			testutil.Wait(s.Pod, "ImagePullBackOff", "no such image")
			testutil.AskToStop(s.Pod, after(600*time.Second))
			s.Status.Phase = corev1.PodFailed
		}, `ImagePullFailed: no machine was acquired within 600 s: the image "" cannot be pulled: no such image`, -1, 630 * time.Second},
		"the node shut down": {func(s story) {
			testutil.Finish(s.Pod, 143, begin)
			s.Status.Reason, s.Status.Message = "Terminated", "Pod was terminated in response to imminent node shutdown."
		}, "PodFailed: the Pod failed: Terminated: Pod was terminated in response to imminent node shutdown", 143, 0},
		"failed without a word": {func(s story) { testutil.Fail(s.Pod, "", "") }, "MachineRefused: node node-1 rejected the Pod", -1, 0},
		"the kubelet lost the container": {func(s story) {
			testutil.Finish(s.Pod, 137, begin)
			*s.terminated() = corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137, Message: "could not be located"}
		}, "PodFailed: the Pod failed", -1, 0},
		"the node died and came back": {func(s story) {
			testutil.Finish(s.Pod, 255, begin)
			s.terminated().Reason = "Unknown" // so says containerd
		}, "PodFailed: the Pod failed", -1, 0},
		"never began": {func(s story) {
			testutil.Finish(s.Pod, 1, begin)
			s.terminated().StartedAt = metav1.Time{}
		}, "MachineRefused: node node-1 rejected the Pod", -1, 0},
		"a container that was injected is none of ours": {func(s story) {
			testutil.Finish(s.Pod, 3, begin)
			s.Status.ContainerStatuses = append([]corev1.ContainerStatus{{Name: "proxy", State: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{StartedAt: metav1.NewTime(begin), FinishedAt: metav1.NewTime(begin)},
			}}}, s.Status.ContainerStatuses...)
		}, "CommandFailed: exit code 3", 3, 0},

		"deleted before it had a node": {func(s story) {
			s.Spec.NodeName = ""
			testutil.AskToStop(s.Pod, after(time.Second))
		}, "PodDeleted: the Pod was deleted before the command had ended", -1, time.Second},
		"deleted after the end": {func(s story) {
			testutil.Finish(s.Pod, 0, begin)
			testutil.AskToStop(s.Pod, after(time.Second))
		}, "success", 0, 0},
		"failed, then deleted": {func(s story) {
			testutil.Finish(s.Pod, 1, begin)
			testutil.AskToStop(s.Pod, after(time.Second))
		}, "CommandFailed: exit code 1", 1, 0},
		"exit 0 when asked to stop": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(time.Second))
			testutil.Finish(s.Pod, 0, after(2*time.Second))
		}, "PodDeleted: the Pod was deleted before the command had ended", 0, 2 * time.Second},
		"killed when asked to stop": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(4*time.Second))
			testutil.Finish(s.Pod, 137, after(34*time.Second))
		}, "PodDeleted: the Pod was deleted before the command had ended", 137, 34 * time.Second},
		"killed when asked to stop, and taken away by the kubelet": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Finish(s.Pod, 137, after(4*time.Second))
			testutil.AskToStop(s.Pod, after(5*time.Second)) // what the API server makes of it
		}, "PodDeleted: the Pod was deleted before the command had ended", 137, 4 * time.Second},
		"killed by nobody, and deleted long after": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Finish(s.Pod, 137, after(4*time.Second))
			testutil.AskToStop(s.Pod, after(2*time.Minute))
		}, "CommandFailed: exit code 137: ended by signal 9", 137, 4 * time.Second},
		"deleted, and nobody knows when it ended": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(time.Second))
			testutil.Finish(s.Pod, 0, begin)
			s.terminated().FinishedAt = metav1.Time{}
		}, "PodDeleted: the Pod was deleted before the command had ended", 0, 31 * time.Second},
		"deleted while it was prepared": {func(s story) {
			testutil.AskToStop(s.Pod, begin)
			testutil.Fail(s.Pod, "", "")
		}, "PodDeleted: the Pod was deleted before the command had ended", -1, 30 * time.Second},
		"exit 1 in the second in which it was asked to stop": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(5*time.Second))
			testutil.Finish(s.Pod, 1, after(5*time.Second))
		}, "CommandFailed: exit code 1", 1, 5 * time.Second},
		"exit 0 in the second in which it was asked to stop": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(5*time.Second))
			testutil.Finish(s.Pod, 0, after(5*time.Second))
		}, "success", 0, 5 * time.Second},
		"killed in the second in which it was asked to stop": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(5*time.Second))
			testutil.Finish(s.Pod, 143, after(5*time.Second))
		}, "PodDeleted: the Pod was deleted before the command had ended", 143, 5 * time.Second},

		"timeout": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(11*time.Second))
			testutil.Finish(s.Pod, 137, after(41*time.Second))
		}, "Timeout: took longer than the timeout of 10 s and was stopped", 137, 41 * time.Second},
		"timeout, and it heeds the signal at once": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(11*time.Second))
			testutil.Finish(s.Pod, 143, after(11*time.Second))
		}, "Timeout: took longer than the timeout of 10 s and was stopped", 143, 11 * time.Second},
		"timeout, and it heeds the signal at once with exit 0": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(11*time.Second))
			testutil.Finish(s.Pod, 0, after(11*time.Second))
		}, "Timeout: took longer than the timeout of 10 s and was stopped", 0, 11 * time.Second},
		"timeout, by a clock that is ahead of the node's": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(7*time.Second))
			testutil.Finish(s.Pod, 143, after(10*time.Second))
		}, "Timeout: took longer than the timeout of 10 s and was stopped", 143, 10 * time.Second},
		"in time by a hair": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.AskToStop(s.Pod, after(11*time.Second))
			testutil.Finish(s.Pod, 0, after(10*time.Second))
		}, "success", 0, 10 * time.Second},
		"late, but nobody stopped it": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Finish(s.Pod, 0, after(time.Hour))
		}, "success", 0, time.Hour},
		"late, and deleted afterwards": {func(s story) {
			testutil.Start(s.Pod, begin)
			testutil.Finish(s.Pod, 0, after(time.Hour))
			testutil.AskToStop(s.Pod, after(2*time.Hour))
		}, "success", 0, time.Hour},
		"deleted while it was started in vain": {func(s story) {
			testutil.AskToStop(s.Pod, begin)
			testutil.Finish(s.Pod, 128, after(time.Second))
			s.terminated().Reason, s.terminated().StartedAt = "StartError", metav1.Unix(0, 0)
		}, "PodDeleted: the Pod was deleted before the command had ended", 128, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := story{&corev1.Pod{}, begin}
			s.CreationTimestamp.Time = begin
			testutil.Bind(s.Pod, "node-1")
			tc.pod(s)
			w, now := newWorld(t, testutil.Job("j").Task("a", testutil.Timeout(10))), begin
			if s.DeletionTimestamp != nil && s.DeletionTimestamp.After(now) {
				now = s.DeletionTimestamp.Time
			}
			obs := w.observation()
			j, _, err := load(&obs, now)
			if err != nil {
				t.Fatal(err)
			}
			end := (&attempt{job: &j, task: &j.tasks[0], pod: s.Pod}).outcome()
			got, code := "", int32(0)
			if end != nil {
				got, code = end.reason+": "+end.message, -1
				if end.kind == success {
					got = "success"
				}
				if end.exitCode != nil {
					code = *end.exitCode
				}
				if !end.time.Time.Equal(after(tc.end)) {
					t.Errorf("it ended after %s, want %s", end.time.Sub(begin), tc.end)
				}
			}
			if got != tc.want || code != tc.code {
				t.Errorf("outcome is %q, code %d; want %q, %d", got, code, tc.want, tc.code)
			}
		})
	}
}

// TestFinishedAtIsKnownFromTheConditions is the time of a Pod whose container is silent.
func TestFinishedAtIsKnownFromTheConditions(t *testing.T) {
	pod := &corev1.Pod{}
	testutil.Bind(pod, "node-1")
	testutil.Fail(pod, "Evicted", "")
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, LastTransitionTime: metav1.NewTime(after(time.Minute))})
	deleted := pod.DeepCopy()
	deleted.DeletionTimestamp = new(metav1.NewTime(after(time.Hour)))
	if got := finishedAt(deleted, after(time.Minute)); !got.Time.Equal(after(time.Minute)) {
		t.Errorf("a Pod whose grace period is not over: finishedAt is %s, want now, %s", got, after(time.Minute))
	}
	if got := finishedAt(pod, after(time.Hour)); !got.Time.Equal(after(time.Minute)) {
		t.Errorf("finishedAt is %s, want %s", got, after(time.Minute))
	}
}

// TestAskedToStop: a Pod that has no grace period was asked at its deletion.
func TestAskedToStop(t *testing.T) {
	pod := &corev1.Pod{}
	pod.DeletionTimestamp = new(metav1.NewTime(begin))
	if got := askedToStop(pod); !got.Equal(begin) {
		t.Errorf("askedToStop is %s, want %s", got, begin)
	}
}

func TestWaits(t *testing.T) {
	unschedulable := func(pod *corev1.Pod) { testutil.Unschedulable(pod, "0/3 nodes are available") }
	gated := func(pod *corev1.Pod) { testutil.Gate(pod, "kueue.x-k8s.io/admission", "example.com/b") }
	waiting := func(reason string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { testutil.Bind(pod, "node-1"); testutil.Wait(pod, reason, "it says so") }
	}
	noLogin := func(pod *corev1.Pod) {
		testutil.Bind(pod, "node-1")
		testutil.Wait(pod, "ErrImagePull", "pull access denied, repository does not exist or may require authorization")
	}
	for name, tc := range map[string]struct {
		zones []string
		pods  []func(*corev1.Pod) // of the instances 0, 1, …
		want  string
	}{
		"nothing":              {nil, []func(*corev1.Pod){waiting("ContainerCreating"), waiting("PodInitializing")}, ": "},
		"no node":              {nil, []func(*corev1.Pod){unschedulable}, "Unschedulable: 1 instance waits: no node fits in zone zone-a: 0/3 nodes are available"},
		"no node in two zones": {[]string{"b", "c"}, []func(*corev1.Pod){unschedulable, unschedulable}, "Unschedulable: 2 instances wait: no node fits in zones b, c: 0/3 nodes are available"},
		"gates":                {nil, []func(*corev1.Pod){gated, gated}, "SchedulingGated: 2 instances wait: the Pod is not scheduled until its scheduling gates are removed: kueue.x-k8s.io/admission, example.com/b"},
		"no image":             {nil, []func(*corev1.Pod){waiting("ImagePullBackOff"), waiting("ErrImagePull"), waiting("InvalidImageName")}, `ImagePullFailed: 3 instances wait: the image "busybox:1.37" cannot be pulled: it says so`},
		"no login": {nil, []func(*corev1.Pod){noLogin}, `ImagePullFailed: 1 instance waits: the image "busybox:1.37" cannot be pulled; if it exists, ` +
			`check the Secret of passwordSecretRef or imagePullSecrets: pull access denied, repository does not exist or may require authorization`},
		"a Secret is missing":   {nil, []func(*corev1.Pod){waiting("CreateContainerConfigError")}, "ContainerConfigError: 1 instance waits: the container cannot be created: it says so"},
		"the first one's words": {nil, []func(*corev1.Pod){waiting("ContainerCreating"), unschedulable, waiting("ErrImagePull"), waiting("ErrImagePull")}, "Unschedulable: 1 instance waits: no node fits in zone zone-a: 0/3 nodes are available"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(int64(len(tc.pods))), testutil.Zones(tc.zones...))).step()
			for i, change := range tc.pods {
				w.change(w.spec.PodName(w.instance("a/"+string(rune('0'+i)))), change)
			}
			w.step()
			if s := w.job.Status.Tasks[0]; s.Reason+": "+s.Message != tc.want {
				t.Errorf("the task says %q, want %q", s.Reason+": "+s.Message, tc.want)
			}
			want := ""
			if tc.want != ": " {
				reason, message, _ := strings.Cut(tc.want, ": ")
				want = reason + `: task "a": ` + message
			}
			if s := w.job.Status; strings.TrimSuffix(s.Reason+": "+s.Message, ": ") != want {
				t.Errorf("the job says %q, want %q", s.Reason+": "+s.Message, want)
			}
		})
	}
	t.Run("a node that takes long", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step().bind("a/0 a/1")
		w.do("a/0 a/1", func(pod *corev1.Pod) { pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(w.now) })
		w.wait(5 * time.Second).step()
		if s := w.job.Status.Tasks[0]; s.Reason != "" || w.last.RequeueAfter != 15*time.Second {
			t.Errorf("the task says %q after 5 s, and is looked at again after %s", s.Message, w.last.RequeueAfter)
		}
		w.start("a/1").wait(15 * time.Second).step()
		want := `1 instance waits: node node-1 has been preparing the container for more than 20 s: pulling the image "busybox:1.37", or mounting volumes`
		if s := w.job.Status.Tasks[0]; s.Reason != v1alpha1.ReasonContainerCreating || s.Message != want {
			t.Errorf("the task says %s: %s\nwant %s", s.Reason, s.Message, want)
		}
		w.do("a/0", func(pod *corev1.Pod) { testutil.Wait(pod, "ErrImagePull", "no") }).step()
		if s := w.job.Status.Tasks[0]; s.Reason != v1alpha1.ReasonImagePull {
			t.Errorf("what the node says itself is not told, but %s: %s", s.Reason, s.Message)
		}
	})
	t.Run("a node that died between making and starting a container", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step().bind("a/0 a/1")
		for pod, reason := range map[string]string{"a/0": "ContainerCreating", "a/1": ""} { // the first has still to be made
			w.do(pod, func(pod *corev1.Pod) {
				testutil.Wait(pod, reason, "")
				pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
					Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "PodSandboxNotReady",
				})
			})
		}
		if w.step(); len(w.last.Delete) != 1 || w.last.Delete[0].Labels[v1alpha1.LabelTaskInstanceIndex] != "1" {
			t.Errorf("it stops %v, want a/1", w.last.Delete)
		}
	})
	t.Run("no zone", func(t *testing.T) {
		w := newWorld(t, testutil.Job("j").Zone("").Task("a")).step().do("a/0", unschedulable).step()
		if got, want := w.job.Status.Tasks[0].Message, "1 instance waits: no node fits: 0/3 nodes are available"; got != want {
			t.Errorf("message is %q, want %q", got, want)
		}
	})
	t.Run("a Pod of higher index is looked at first", func(t *testing.T) {
		var w waits
		w.add("A", "seven", 7)
		w.add("A", "two", 2)
		w.add("A", "nine", 9)
		if got, want := w.worst().message(), "3 instances wait: two"; got != want {
			t.Errorf("message is %q, want %q", got, want)
		}
	})
}

// TestWaitMessageIsKept: what the scheduler says changes all the time; only another
// count or reason is an event.
func TestWaitMessageIsKept(t *testing.T) {
	w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step()
	w.do("a/0 a/1", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "one thing") }).step()
	w.do("a/0 a/1", func(pod *corev1.Pod) { testutil.Unschedulable(pod, "another thing") })
	if p := w.compute(); p.Changed(&w.job.Status) {
		t.Errorf("other words of the scheduler change the status: %q", p.Status.Message)
	}
	w.start("a/0")
	if got, want := w.compute().Status.Tasks[0].Message, "1 instance waits: no node fits in zone zone-a: another thing"; got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"long":         strings.Repeat("x", 10_000),
		"many bytes":   strings.Repeat("é", 10_000),
		"no character": strings.Repeat("\xffx", 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Instances(2))).step()
			w.do("a/0", func(pod *corev1.Pod) { testutil.Fail(pod, "Evicted", text) })
			w.do("a/1", func(pod *corev1.Pod) { testutil.Unschedulable(pod, text) }).step()
			s := w.job.Status
			for _, m := range []string{s.Message, s.Tasks[0].Message, s.Failures[0].Message} {
				if len(m) > v1alpha1.MaxMessageSize || !utf8.ValidString(m) || !strings.HasSuffix(m, "…") {
					t.Errorf("a message has %d bytes, ends with %q, and valid is %t", len(m), m[len(m)-10:], utf8.ValidString(m))
				}
			}
		})
	}
	if got := cut("short"); got != "short" {
		t.Errorf("cut changed a short text to %q", got)
	}
	if podspec.ContainerName != "task" {
		t.Errorf("the container's name changed: running Pods have the old one, and must still be understood")
	}
}
