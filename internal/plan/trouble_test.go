// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/nodes"
	"batchcompute.dev/operator/internal/resolve"
	"batchcompute.dev/operator/internal/testutil"
)

// trouble is what goes wrong with the instance a/0, which has two retries in each budget.
type trouble struct {
	// options are of the task a, beside its budgets.
	options []testutil.TaskOption
	// begin brings the trouble on. end is nil where begin ends the attempt, and else what
	// ends it after the acquisition timeout, or when the node confirms.
	begin, end func(w *world)
	// state is the instance's while the trouble lasts, waits the reason it waits for, and
	// reason that of the failure.
	state         v1alpha1.TaskInstanceState
	waits, reason string
	// after is the instance's history once the attempt has ended: r1 or m1; 0 when nothing
	// was spent.
	after string
}

// pool is the ComputeEnv of that name, with size nodes of which the job may have limit.
func pool(size, limit int) map[string]EnvView {
	env := &resolve.Env{Name: "pool", ID: "env-0a1b2c3d", Data: &v1alpha1.EnvData{}, Kubernetes: &v1alpha1.KubernetesOptions{}}
	return map[string]EnvView{"pool": {Env: env, Size: size, Limit: limit}}
}

// takeName is somebody else's Pod in the place of the one of a/0.
func takeName(w *world, mayRun bool) {
	name := w.pod("a/0")
	w.vanish("a/0")
	w.taken = map[string]NameConflict{name: {Message: "the name is taken", MayRun: mayRun, Since: w.now}}
}

// notMade is a Pod that cannot be made.
func notMade(reason, message string) func(*world) {
	return func(w *world) {
		w.vanish("a/0")
		w.refusals = map[int]Refusal{0: {Reason: reason, Message: message, Since: w.now}}
	}
}

// do returns what changes the Pod of a/0.
func doA(change func(w *world, pod *corev1.Pod)) func(*world) {
	return func(w *world) { w.do("a/0", func(pod *corev1.Pod) { change(w, pod) }) }
}

// running returns what happens to the Pod of a/0 after its command has started.
func running(change func(w *world, pod *corev1.Pod)) func(*world) {
	return func(w *world) { w.start("a/0").step().wait(2 * time.Second); doA(change)(w) }
}

// timesOut waits until the acquisition timeout of an attempt without a machine is over.
func timesOut(w *world) { w.wait(DefaultResourceWait).step() }

// stopped is the node's report that a Pod that it was told to stop has ended. Of a container that has never run the
// kubelet first says that it is being created, whatever it waited for before, and then that nothing is known of it.
func stopped(w *world) {
	w.wait(time.Second).do("a/0", func(pod *corev1.Pod) {
		if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodRunning {
			return
		}
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for i := range list {
				if list[i].State.Waiting != nil {
					list[i].State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
				}
			}
		}
	}).step().wait(2 * time.Second).step()
	w.do("a/0", func(pod *corev1.Pod) {
		if pod.Spec.NodeName != "" {
			if pod.Status.Phase == corev1.PodRunning {
				testutil.Finish(pod, 143, w.now)
			}
			pod.Status.Phase = corev1.PodFailed
		}
	}).step()
}

func timesOutAndStops(w *world) { timesOut(w); stopped(w) }

// troubles are by the row of the table in docs/execution.md, and its number of cases.
var troubles = map[string][]trouble{
	"the command ends with another code than 0": {{
		begin:  func(w *world) { w.finish("a/0", 3) },
		reason: v1alpha1.ReasonCommandFailed, after: "r1",
	}},
	"the command, or the shell, does not exist": {{
		begin:  func(w *world) { w.finish("a/0", 127) },
		reason: v1alpha1.ReasonCommandFailed, after: "r1",
	}, {
		begin: func(w *world) {
			w.finish("a/0", 128)
			doA(func(_ *world, pod *corev1.Pod) { stateOf(pod).Terminated.Reason = "StartError" })(w)
		},
		reason: v1alpha1.ReasonStartError, after: "r1",
	}},
	"the command exceeds its memory limit": {{
		begin: func(w *world) {
			w.finish("a/0", 137)
			doA(func(_ *world, pod *corev1.Pod) { stateOf(pod).Terminated.Reason = "OOMKilled" })(w)
		},
		reason: v1alpha1.ReasonOOMKilled, after: "r1",
	}},
	"the command writes more than its disks hold": {{
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 137, w.now)
			testutil.Disrupt(pod, corev1.PodReasonTerminationByKubelet, "low on disk")
			pod.Status.Reason, pod.Status.Message = "Evicted", `Usage of EmptyDir volume "data-disk-0" exceeds the limit "10Gi".`
		}),
		reason: v1alpha1.ReasonStorageExceeded, after: "r1",
	}, {
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 137, w.now)
			pod.Status.Reason, pod.Status.Message = "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi."
		}),
		reason: v1alpha1.ReasonStorageExceeded, after: "r1",
	}},
	"the command runs longer than `timeout`": {{
		begin: func(w *world) { w.start("a/0").step().wait(61 * time.Second).step() }, end: stopped,
		state: v1alpha1.TaskInstanceRunning, reason: v1alpha1.ReasonTimeout, after: "r1",
	}},
	"the node evicts the Pod: memory, disk, shutdown": {{
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 137, w.now)
			testutil.Disrupt(pod, corev1.PodReasonTerminationByKubelet, "low on memory")
			pod.Status.Reason = "Evicted"
		}),
		reason: v1alpha1.ReasonEvicted, after: "m1",
	}, {
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 143, w.now)
			testutil.Disrupt(pod, corev1.PodReasonTerminationByKubelet, "node shutdown")
			pod.Status.Reason = "Terminated"
		}),
		reason: v1alpha1.ReasonEvicted, after: "m1",
	}},
	"`kubectl drain`, or another eviction through the API": {{
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
			testutil.AskToStop(pod, w.now)
		}), end: stopped,
		state: v1alpha1.TaskInstanceRunning, reason: v1alpha1.ReasonEvicted, after: "m1",
	}},
	"the scheduler preempts the Pod": {{
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Disrupt(pod, corev1.PodReasonPreemptionByScheduler, "preempting")
			testutil.AskToStop(pod, w.now)
		}), end: stopped,
		state: v1alpha1.TaskInstanceRunning, reason: v1alpha1.ReasonPreempted, after: "m1",
	}},
	"the node is lost: its taint evicts the Pod, or the garbage collector of Pods finds the node gone": {{
		begin: func(w *world) {
			running(func(w *world, pod *corev1.Pod) {
				testutil.Disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
				testutil.AskToStop(pod, w.now)
			})(w)
			w.step().wait(30*time.Second + confirmWait)
		}, end: stopped,
		state: v1alpha1.TaskInstanceRunning, waits: v1alpha1.ReasonNodeLost, reason: v1alpha1.ReasonNodeLost, after: "m1",
	}, {
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
			pod.Status.Phase = corev1.PodFailed
			testutil.AskToStop(pod, w.now)
		}),
		reason: v1alpha1.ReasonNodeLost, after: "m1",
	}},
	"somebody deletes the Pod": {{
		begin: running(func(w *world, pod *corev1.Pod) { testutil.AskToStop(pod, w.now) }), end: stopped,
		state: v1alpha1.TaskInstanceRunning, reason: v1alpha1.ReasonPodDeleted, after: "m1",
	}},
	"the Pod fails before its command ran: `OutOfcpu`, `OutOfmemory`, `NodeAffinity`, `UnexpectedAdmissionError`": {
		refusedByNode("OutOfcpu"), refusedByNode("OutOfmemory"), refusedByNode("NodeAffinity"), refusedByNode("UnexpectedAdmissionError"),
	},
	"the node dies and comes back, the command with it": {{
		begin: running(func(w *world, pod *corev1.Pod) {
			testutil.Finish(pod, 255, w.now)
			stateOf(pod).Terminated.Reason = "Unknown"
		}),
		reason: v1alpha1.ReasonPodFailed, after: "m1",
	}},
	"the node dies after it created the container and before it started it": {{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			testutil.Bind(pod, "node-1")
			testutil.Wait(pod, "", "")
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse})
		}), end: stopped,
		state: v1alpha1.TaskInstanceStarting, reason: v1alpha1.ReasonPodDeleted, after: "m1",
	}},
	"the node's runtime cannot start the container in time": {{
		begin: func(w *world) {
			w.finish("a/0", 128)
			doA(func(_ *world, pod *corev1.Pod) {
				stateOf(pod).Terminated.Reason, stateOf(pod).Terminated.Message = "StartError", "failed to create shim task: context canceled"
			})(w)
		},
		reason: v1alpha1.ReasonStartError, after: "m1",
	}},
	"no node fits the Pod": {{
		begin: doA(func(_ *world, pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available") }), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonUnschedulable, reason: v1alpha1.ReasonUnschedulable, after: "m1",
	}},
	"no node fits the Pod, and none is in its zone": {{
		begin: func(w *world) {
			w.nodes = &nodes.Index{}
			doA(func(_ *world, pod *corev1.Pod) { testutil.Unschedulable(pod, "0/1 nodes are available") })(w)
		}, end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonZoneNotFound, reason: v1alpha1.ReasonZoneNotFound, after: "m1",
	}},
	"no scheduler looks at the Pod: none has the name that `schedulerName` gives": {{
		begin: func(w *world) {
			doA(func(_ *world, pod *corev1.Pod) { pod.Spec.SchedulerName = "nope" })(w)
			w.wait(slowStart)
		}, end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonNoScheduler, reason: v1alpha1.ReasonNoScheduler, after: "m1",
	}},
	"the scheduler itself fails: `SchedulerError`": {{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			testutil.Unschedulable(pod, "plugin failed")
			pod.Status.Conditions[0].Reason = corev1.PodReasonSchedulerError
		}), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonUnschedulable, reason: v1alpha1.ReasonUnschedulable, after: "m1",
	}},
	"a Pod that may run, and is not or no longer the job's, has the name of the instance's Pod": {{
		begin: func(w *world) { takeName(w, true) },
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonPodNameTaken, after: "0",
	}},
	"such a Pod has finished, and still has the name": {{
		begin: func(w *world) { takeName(w, false) }, end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonPodNameTaken, reason: v1alpha1.ReasonPodNameTaken, after: "m1",
	}},
	"the Pod has scheduling gates, as Kueue gives it": {{
		begin: doA(func(_ *world, pod *corev1.Pod) { testutil.Gate(pod, "kueue.x-k8s.io/admission") }),
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonSchedulingGated, after: "0",
	}},
	"no node has an address of `hostIps`": {{
		begin: notMade(v1alpha1.ReasonHostNotFound, "no node has the address 10.0.0.1"), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonHostNotFound, reason: v1alpha1.ReasonHostNotFound, after: "m1",
	}},
	"the catalogue does not have the machine any more": {{
		begin: notMade(v1alpha1.ReasonMachineUnknown, `the operator's catalogue has no machine type "S5.SMALL1" any more`), end: timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonMachineUnknown, reason: v1alpha1.ReasonMachineUnknown, after: "m1",
	}},
	"the job is large, and other large jobs use all of the operator's memory for them (`--large-job-memory`)": {{
		begin: func(w *world) { // from before its first instance was issued
			*w = *newWorld(w.t, testutil.Job("j").Task("a", testutil.Retries(2), testutil.ResourceRetries(2)))
			w.noMemory = "the operator has no memory for it"
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step().noMemory = "" },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonOperatorMemory, after: "0",
	}},
	"all nodes of the ComputeEnv are in use or reserved for jobs ahead in the queue, or it has none": {fullEnv(1), fullEnv(0)},
	"there is no ComputeEnv of that name": {{
		options: []testutil.TaskOption{testutil.EnvID("pool")},
		begin:   func(*world) {},
		end:     func(w *world) { w.wait(1000 * DefaultResourceWait).step().envs = pool(1, 1) },
		state:   v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonComputeEnvNotFound, after: "0",
	}},
	"the image cannot be pulled": {{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			testutil.Bind(pod, "node-1")
			testutil.Wait(pod, "ImagePullBackOff", "not found")
		}), end: timesOutAndStops,
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonImagePull, reason: v1alpha1.ReasonImagePull, after: "m1",
	}},
	"the container cannot be created: a missing Secret or ConfigMap, a forbidden user": {{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			testutil.Bind(pod, "node-1")
			testutil.Wait(pod, "CreateContainerConfigError", `secret "x" not found`)
		}), end: timesOutAndStops,
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonContainerConfig, reason: v1alpha1.ReasonContainerConfig, after: "m1",
	}},
	"the cluster refuses the Pod: Pod Security, LimitRange, a missing service account, a policy's webhook": {{
		begin: func(w *world) {
			w.vanish("a/0")
			w.refusals = map[int]Refusal{0: {Message: "violates PodSecurity", Since: w.now}}
		},
		end:   func(w *world) { w.wait(DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonCreateRefused, reason: v1alpha1.ReasonCreateRefused, after: "m1",
	}},
	"an admission webhook of the cluster does not answer, or the namespace is being deleted": {{
		begin: func(w *world) {
			w.vanish("a/0")
			w.refusals = map[int]Refusal{0: {Message: "failed calling webhook", NoTimeout: true, Since: w.now}}
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonCreateRefused, after: "0",
	}},
	"the namespace's quota is used up; the API server answers 429": {{
		begin: func(w *world) {
			w.vanish("a/0")
			w.refusals = map[int]Refusal{0: {Message: "full", Reason: v1alpha1.ReasonQuota, NoTimeout: true, Since: w.now}}
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonQuota, after: "0",
	}},
	"a node takes a long time to prepare the Pod: a large image, a mount": {{
		begin: func(w *world) {
			w.bind("a/0").do("a/0", func(pod *corev1.Pod) { pod.Status.Conditions[0].LastTransitionTime.Time = w.now }).wait(slowStart)
		},
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonContainerCreating, after: "0",
	}},
	"a node does not report on the Pod": {{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			pod.Spec.NodeName = "node-1" // and nothing else
			pod.CreationTimestamp.Time = pod.CreationTimestamp.Add(-slowStart)
		}),
		end:   func(w *world) { w.wait(1000 * DefaultResourceWait).step() },
		state: v1alpha1.TaskInstanceStarting, waits: v1alpha1.ReasonContainerCreating, after: "0",
	}},
	"a Pod that was asked to stop does not end, since its node does not answer": {{
		begin: func(w *world) {
			running(func(w *world, pod *corev1.Pod) { testutil.AskToStop(pod, w.now) })(w)
			w.step().wait(30*time.Second + confirmWait)
		}, end: stopped,
		state: v1alpha1.TaskInstanceRunning, waits: v1alpha1.ReasonNodeLost, reason: v1alpha1.ReasonPodDeleted, after: "m1",
	}},
}

// fullEnv is a ComputeEnv with size nodes of which the job may have none for a long time.
func fullEnv(size int) trouble {
	return trouble{
		options: []testutil.TaskOption{testutil.EnvID("pool")},
		begin:   func(w *world) { w.envs = pool(size, 0) },
		end:     func(w *world) { w.wait(1000 * DefaultResourceWait).step().envs = pool(1, 1) },
		state:   v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonComputeEnvFull, after: "0",
	}
}

func refusedByNode(reason string) trouble {
	return trouble{
		begin: doA(func(_ *world, pod *corev1.Pod) {
			pod.Spec.NodeName = "node-1"
			testutil.Fail(pod, reason, "it says why")
		}),
		end:   timesOut,
		state: v1alpha1.TaskInstanceRunnable, waits: v1alpha1.ReasonMachineRefused, reason: v1alpha1.ReasonMachineRefused, after: "m1",
	}
}

// instanceState is the state of the only instance, as the counts have it.
func instanceState(m v1alpha1.StateMetrics) v1alpha1.TaskInstanceState {
	switch {
	case m.RunnableCount > 0:
		return v1alpha1.TaskInstanceRunnable
	case m.StartingCount > 0:
		return v1alpha1.TaskInstanceStarting
	case m.RunningCount > 0:
		return v1alpha1.TaskInstanceRunning
	}
	return ""
}

// TestTrouble holds each row of the table of docs/execution.md.
func TestTrouble(t *testing.T) {
	rows := troubleRows(t)
	for row := range troubles {
		if _, ok := rows[row]; !ok {
			t.Errorf("the page has no row %q", row)
		}
	}
	for row, cells := range rows {
		if len(troubles[row]) == 0 {
			t.Errorf("no test holds the row %q", row)
		}
		for _, tc := range troubles[row] {
			t.Run(row, func(t *testing.T) { tc.check(t, cells) })
		}
	}
}

// troubleRows reads the table: by the first cell, the others: spends, state meanwhile,
// reason, next attempt.
func troubleRows(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/execution.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	_, table, _ := strings.Cut(string(page), "| trouble |")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || strings.HasPrefix(cells[1], "---") {
			if len(out) > 0 {
				break
			}
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out[cells[1]] = cells[2:6]
	}
	if len(out) < 10 {
		t.Fatalf("the table has %d rows", len(out))
	}
	return out
}

func (tc trouble) check(t *testing.T, cells []string) {
	spends, meanwhile, reasons, next := cells[0], cells[1], cells[2], cells[3]
	options := slices.Concat([]testutil.TaskOption{testutil.Retries(2), testutil.ResourceRetries(2), testutil.Timeout(60)}, tc.options)
	job := testutil.Job("j").Task("a", options...)
	w := newWorld(t, job).step()
	tc.begin(w)
	w.step()
	if tc.end != nil {
		want := "0"
		if w.spec.Tasks[0].EnvID != "" || w.noMemory != "" {
			want = "" // nothing is claimed
		}
		if got := w.job.Status.Tasks[0].Active; got != want {
			t.Errorf("active is %q while the trouble lasts, want %q", got, want)
		}
		s := w.job.Status
		if got := instanceState(s.TaskInstanceMetrics); got != tc.state || !strings.HasPrefix(meanwhile, string(tc.state)) && !strings.HasPrefix(meanwhile, "RUNNING") && meanwhile != "" {
			t.Errorf("the instance is %s, want %s; the page says %q", got, tc.state, meanwhile)
		}
		if got := s.Tasks[0].Reason; got != tc.waits {
			t.Errorf("it waits for %q, want %q", got, tc.waits)
		}
		if wantList := tc.waits != "" && w.refusals == nil; wantList && (len(s.Waiting) != 1 || s.Waiting[0].Reason != tc.waits || s.Waiting[0].Message == "") {
			t.Errorf("waiting is %+v", s.Waiting)
		}
		tc.end(w)
		w.step()
	}
	want := map[string]string{"m1": "m1:0", "r1": "r1:0", "0": "0"}[tc.after]
	if got := w.job.Status.Tasks[0].Active; got != want {
		t.Errorf("active is %q after it, want %q", got, want)
	}
	page := map[string]string{"m1": "machine", "r1": "command", "0": "nothing"}[tc.after]
	if spends != page && spends != "as what stopped it" {
		t.Errorf("it spends %s, and the page says %q", page, spends)
	}
	switch f := w.job.Status.Failures; {
	case tc.reason == "" && len(f) > 0, tc.reason != "" && (len(f) != 1 || f[0].Reason != tc.reason || f[0].Message == ""):
		t.Errorf("failures are %+v, want the reason %q", f, tc.reason)
	}
	told := slices.ContainsFunc([]string{tc.reason, tc.waits}, func(r string) bool { return r != "" && strings.Contains(reasons, "`"+r+"`") })
	if !told {
		t.Errorf("the page says %q, and it is %q, %q", reasons, tc.waits, tc.reason)
	}
	atOnce := tc.end == nil
	if atOnce && next != "at once" && !strings.Contains(next, "is gone") || !atOnce && next == "at once" {
		t.Errorf("the page says of the next attempt %q", next)
	}
}

// TestTroubleThatIsWaitedFor: with stateIfCreateCvmFailed RUNNABLE nothing is spent on a
// machine that is not acquired, however long that takes; the instance waits, and runs in the
// end.
func TestTroubleThatIsWaitedFor(t *testing.T) {
	for row, list := range troubles {
		for _, tc := range list {
			if !slices.Contains([]string{v1alpha1.ReasonUnschedulable, v1alpha1.ReasonImagePull, v1alpha1.ReasonContainerConfig, v1alpha1.ReasonCreateRefused, v1alpha1.ReasonMachineRefused,
				v1alpha1.ReasonZoneNotFound, v1alpha1.ReasonHostNotFound, v1alpha1.ReasonMachineUnknown, v1alpha1.ReasonNoScheduler, v1alpha1.ReasonPodNameTaken}, tc.waits) {
				continue
			}
			t.Run(row, func(t *testing.T) {
				w := newWorld(t, testutil.Job("j").WaitForMachine().Task("a", tc.options...)).step()
				tc.begin(w)
				w.step()
				for range 5 {
					w.wait(2 * DefaultResourceWait).step()
				}
				if s := w.job.Status; s.Tasks[0].Active != "0" || len(s.Failures) > 0 || len(w.last.Delete) > 0 && w.last.Delete[0].Status.Phase == corev1.PodPending {
					t.Errorf("the task is %+v, failures %+v, stopped %q", s.Tasks[0], s.Failures, podNames(w.last.Delete))
				}
				w.refusals, w.taken = nil, nil
				w.finishAll().want("SUCCEED", "a SUCCEED succeeded=0")
			})
		}
	}
}

// TestAcquisitionTimeout is the table of the API's waits, and that it is scaled.
// Source: BatchCompute, Task.ResourceMaxRetryCount.
func TestAcquisitionTimeout(t *testing.T) {
	obs := Observation{Spec: &resolve.Job{}}
	timeout := func(t *resolve.Task, machines int) time.Duration {
		b := budgetOf(t, &obs)
		return b.timeout(history{machines: machines})
	}
	one := &resolve.Task{}
	for n, seconds := range map[int]int{1: 600, 3: 600, 4: 900, 10: 900, 11: 1800, 50: 1800, 51: 3600, 100: 3600, 101: 3600} {
		want := time.Duration(seconds) * time.Second
		if got := timeout(one, n-1); got != want {
			t.Errorf("the wait for machine %d is %s, want %s", n, got, want)
		}
	}
	obs.ResourceWait = 2 * time.Second
	if got := timeout(one, 19); got != 6*time.Second {
		t.Errorf("scaled, the wait for machine 20 is %s, want 6 s", got)
	}
	three := &resolve.Env{Data: &v1alpha1.EnvData{InstanceTypes: []string{"A.1", "B.1", "C.1"}}}
	if got := timeout(&resolve.Task{Env: three}, 8); got != 2*time.Second {
		t.Errorf("the wait for the last of three types, the third time, is %s, want 2 s", got)
	}
}

// TestBudgets: which failures are survived, in which order the budgets are spent, and what
// is left then.
func TestBudgets(t *testing.T) {
	command := func(w *world, attempt string) { w.finish(attempt, 1) }
	machine := func(w *world, attempt string) {
		w.start(attempt).step().wait(2*time.Second).stop(attempt).wait(2*time.Second).finish(attempt, 143)
	}
	for name, tc := range map[string]struct {
		retries, machines int64
		action            v1alpha1.FailedAction
		play              string // c: the command fails, m: the machine is lost
		want              string
	}{
		"none":                                   {0, 0, "", "c", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"none, machine":                          {0, 0, "", "m", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"each its own":                           {1, 1, "", "cm", "RUNNING a RUNNING active=r1m1:0"},
		"the other way about":                    {1, 1, "", "mc", "RUNNING a RUNNING active=r1m1:0"},
		"the command cannot spend the machine's": {0, 3, "", "c", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"the machine spends the command's last":  {1, 1, "", "mm", "RUNNING a RUNNING active=r1m1:0"},
		"and then there is none":                 {1, 1, "", "mmm", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"all of both":                            {2, 2, "", "mcmcc", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"interrupted after the last":             {1, 0, "INTERRUPT", "cc", "FAILED_INTERRUPTED a FAILED_INTERRUPTED interrupted=r1:0 (Interrupted)"},
		"interrupted after the first":            {3, 0, "FAST_INTERRUPT", "c", "FAILED_INTERRUPTED a FAILED_INTERRUPTED interrupted=0 (Interrupted)"},
		"a lost machine does not interrupt":      {0, 0, "INTERRUPT", "m", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"nor does it spend what FAST has not":    {3, 1, "FAST_INTERRUPT", "mm", "FAILED a FAILED failed=0 (TaskInstanceFailed)"},
		"interrupted after a lost machine":       {0, 1, "INTERRUPT", "mc", "FAILED_INTERRUPTED a FAILED_INTERRUPTED interrupted=m1:0 (Interrupted)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testutil.Job("j").Task("a", testutil.Retries(tc.retries), testutil.ResourceRetries(tc.machines), testutil.FailedAction(tc.action))).step()
			attempt := "a/0"
			for i, what := range tc.play {
				if i > 0 {
					attempt = "a/0/r" + string(rune('0'+i))
				}
				if what == 'c' {
					command(w, attempt)
				} else {
					machine(w, attempt)
				}
				w.step().step()
			}
			if got := strings.Join(brief(&w.job.Status), " "); got != tc.want {
				t.Errorf("the status is %q, want %q", got, tc.want)
			}
		})
	}
}
