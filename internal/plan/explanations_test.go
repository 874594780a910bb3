// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/testutil"
	"batchcompute.dev/operator/internal/validation"
)

// TestHostileSentences: no text of a kubelet, a scheduler or an API server gets into status or events
// with an escape sequence or a credential in it, whichever way it takes.
func TestHostileSentences(t *testing.T) {
	for row, list := range troubles {
		for _, tc := range list {
			t.Run(row, func(t *testing.T) {
				w := newWorld(t, testutil.Job("j").Task("a", append([]testutil.TaskOption{testutil.Retries(2), testutil.ResourceRetries(2), testutil.Timeout(60)}, tc.options...)...)).step()
				tc.begin(w)
				for _, pod := range w.pods {
					w.change(pod.Name, hostile)
				}
				for i, r := range w.refusals {
					r.Message += evil
					w.refusals[i] = r
				}
				w.step().wait(2 * DefaultResourceWait).step().step()
				text, err := json.Marshal([]any{w.job.Status, w.emitted})
				if err != nil || strings.Contains(string(text), `\u001b`) || strings.Contains(string(text), "hunter2") {
					t.Errorf("%s (%v)", text, err)
				}
			})
		}
	}
}

// evil turns a terminal red, and holds a password.
const evil = "\x1b[31m https://me:hunter2@registry.example/ "

// hostile puts evil into each text that somebody else writes on a Pod.
func hostile(pod *corev1.Pod) {
	s := &pod.Status
	s.Message += evil
	if s.Reason != "" && s.Reason != "Evicted" {
		s.Reason += evil
	}
	for i := range s.Conditions {
		s.Conditions[i].Message += evil
	}
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		c.Image += evil
		if c.State.Waiting != nil {
			c.State.Waiting.Message += evil
		}
		if c.State.Terminated != nil {
			c.State.Terminated.Message += evil
		}
	}
	pod.Spec.SchedulerName += evil
	for i := range pod.Spec.SchedulingGates {
		pod.Spec.SchedulingGates[i].Name += evil
	}
}

// ugly is a message as nobody would write it: long, and full of characters that take six
// bytes as JSON.
var ugly = strings.Repeat("<\x01&\u2028\"", 500)

// An uglyWorld is a way to make a status as long as it can be made.
type uglyWorld struct {
	action v1alpha1.FailedAction
	// fan makes every task but the first depend on it.
	fan bool
	// pod is what becomes of each Pod; nil leaves it alone.
	pod func(pod *corev1.Pod, now time.Time)
	// job changes the job after the first claims.
	job func(job *v1alpha1.BatchJob)
	// refuse says that the cluster makes no Pods.
	refuse *Refusal
	// want is the state that the job comes to.
	want v1alpha1.JobState
}

var uglyWorlds = map[string]uglyWorld{
	"all wait for a node": {
		pod:  func(pod *corev1.Pod, _ time.Time) { testutil.Unschedulable(pod, ugly) },
		want: v1alpha1.JobRunnable,
	},
	"all wait for an image": {
		pod: func(pod *corev1.Pod, _ time.Time) {
			testutil.Bind(pod, longNode)
			testutil.Wait(pod, "ErrImagePull", ugly)
		},
		want: v1alpha1.JobStarting,
	},
	"all are refused": {refuse: &Refusal{Message: ugly}, want: v1alpha1.JobRunnable},
	"no quota":        {refuse: &Refusal{Message: ugly, Reason: v1alpha1.ReasonQuota, NoTimeout: true}, want: v1alpha1.JobRunnable},
	"all were evicted": {
		pod: func(pod *corev1.Pod, now time.Time) {
			testutil.Bind(pod, longNode)
			testutil.Start(pod, now)
			testutil.Disrupt(pod, "TerminationByKubelet", ugly)
			testutil.Finish(pod, -1<<31, now)
		},
		want: v1alpha1.JobFailed,
	},
	"none can start": {
		fan: true,
		pod: func(pod *corev1.Pod, now time.Time) {
			testutil.Bind(pod, longNode)
			testutil.Start(pod, now)
			testutil.Finish(pod, 1, now)
		},
		want: v1alpha1.JobFailed,
	},
	"all are interrupted": {
		action: v1alpha1.FailedActionFastInterrupt,
		pod: func(pod *corev1.Pod, now time.Time) {
			testutil.Bind(pod, longNode)
			testutil.Start(pod, now)
			testutil.Finish(pod, 1, now)
		},
		want: v1alpha1.JobFailedInterrupted,
	},
	"all are terminated": {
		pod:  func(pod *corev1.Pod, _ time.Time) { testutil.Unschedulable(pod, ugly) },
		job:  func(job *v1alpha1.BatchJob) { job.Spec.Terminate = true },
		want: v1alpha1.JobFailed,
	},
	"suspended, with a bad annotation": {
		pod: func(pod *corev1.Pod, now time.Time) {
			testutil.Bind(pod, longNode)
			testutil.Start(pod, now)
		},
		job: func(job *v1alpha1.BatchJob) {
			job.Spec.Suspend = true
			job.Annotations = map[string]string{v1alpha1.AnnotationTerminate: ugly}
		},
		want: v1alpha1.JobRunnable,
	},
}

var longNode = strings.Repeat("n", 253)

// TestStatusStaysWithinItsBound plays ugly worlds, and holds each status that is written to
// what admission has counted on.
func TestStatusStaysWithinItsBound(t *testing.T) {
	for name, u := range uglyWorlds {
		for _, size := range []struct{ tasks, instances int }{{1, 1}, {1, 400}, {30, 3}, {600, 1}, {v1alpha1.MaxTasks, 1}} {
			if size.tasks == v1alpha1.MaxTasks && !u.fan {
				continue // the longest, and with few passes; the others take some seconds each
			}
			t.Run(fmt.Sprintf("%s, %d tasks of %d", name, size.tasks, size.instances), func(t *testing.T) {
				t.Parallel()
				u.play(t, size.tasks, size.instances)
			})
		}
	}
}

func (u uglyWorld) play(t *testing.T, tasks, instances int) {
	b := testutil.Job(strings.Repeat("j", 200))
	nameOf := func(i int) string {
		return fmt.Sprintf("%s-%04d", strings.Repeat("n", v1alpha1.MaxTaskNameLength-5), i)
	}
	for i := range tasks {
		name := nameOf(i)
		b.Task(name, testutil.Instances(int64(instances)), func(task *v1alpha1.Task) { task.FailedAction = u.action })
		if u.fan && i > 0 {
			b.Edges(nameOf(0) + "->" + name)
		}
	}
	c, err := newCluster(b.Obj())
	if err != nil {
		t.Fatal(err)
	}
	bound := validation.WorstStatusSize(&c.job.Spec)
	most, state := 0, v1alpha1.JobState("")
	for range 6 + 2*tasks*instances/MaxBatchSize {
		obs := Observation{Job: c.job, Spec: c.spec, Pods: c.tracked(), Live: true}
		if u.refuse != nil {
			obs.Refusals = map[int]Refusal{}
			for i := range tasks {
				obs.Refusals[i] = Refusal{Message: u.refuse.Message, Reason: u.refuse.Reason, NoTimeout: u.refuse.NoTimeout, Since: c.now}
			}
		}
		p, err := Compute(obs, c.now)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p.Status)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > bound {
			t.Fatalf("a status of %d bytes, more than %d: %.3000s", len(text), bound, text)
		}
		most, state = max(most, len(text)), p.Status.State
		wantBudgetUsed(t, &p)
		u.act(t, c, &p)
	}
	if state != u.want {
		t.Errorf("the job is %s, want %s", state, u.want)
	}
	t.Logf("at most %d bytes, bound %d", most, bound)
}

// act carries a plan out, and lets become of the Pods what the world wants.
func (u uglyWorld) act(t *testing.T, c *cluster, p *Plan) {
	first := c.job.Status.State == ""
	if err := c.store(c.job.ResourceVersion, &p.Status); err != nil {
		t.Fatal(err)
	}
	if first && u.job != nil {
		c.changeJob(u.job)
	}
	if u.refuse == nil {
		for _, in := range append(p.Create, p.Adopt...) {
			c.create(in)
			if u.pod != nil {
				c.change(c.spec.PodName(in), func(pod *corev1.Pod) { u.pod(pod, c.now) })
			}
		}
	}
	for _, pod := range p.Delete {
		c.askToStop(pod)
		c.change(pod.Name, func(pod *corev1.Pod) { testutil.Finish(pod, 137, c.now) })
	}
	for _, pod := range p.RemoveFinalizers {
		c.release(pod)
	}
	c.now = c.now.Add(time.Second)
}

// wantBudgetUsed checks that what explains is there as far as the budget goes.
func wantBudgetUsed(t *testing.T, p *Plan) {
	t.Helper()
	reasons, messages, failed := 0, 0, 0
	for _, s := range p.Status.Tasks {
		if s.Reason != "" {
			reasons++
		}
		if s.Message != "" {
			messages++
		}
		if s.State == v1alpha1.TaskFailed {
			failed++
		}
	}
	if reasons > v1alpha1.MaxTaskReasons || messages > v1alpha1.MaxTaskMessages {
		t.Errorf("%d tasks have a reason and %d a message", reasons, messages)
	}
	if reasons < min(failed, v1alpha1.MaxTaskReasons) {
		t.Errorf("%d tasks failed, and only %d have a reason", failed, reasons)
	}
}
