// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"batchcompute.dev/operator/api/v1alpha1"
)

// tale is what happened to one job, named "j", with the task "a".
type tale struct {
	Ledger
	version int
	pods    map[string]*corev1.Pod
}

const uid = types.UID("j-uid")

func (ta *tale) next() string {
	ta.version++
	return strconv.Itoa(ta.version)
}

// event enters an event of a Pod after a change to it.
func (ta *tale) event(kind watch.EventType, name string, change func(*corev1.Pod)) {
	p := ta.pods[name].DeepCopy()
	change(p)
	p.ResourceVersion = ta.next()
	ta.pods[name] = p
	ta.Pod(kind, p)
}

// made makes a Pod of a/0 that is held, as the operator makes it.
func (ta *tale) made(name string, attempt int) {
	ta.pods[name] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID(name), Finalizers: []string{v1alpha1.FinalizerTracking},
		OwnerReferences: []metav1.OwnerReference{{UID: uid, Controller: new(true)}},
		Labels: map[string]string{v1alpha1.LabelJobID: "job-1", v1alpha1.LabelTaskName: "a", v1alpha1.LabelTaskInstanceIndex: "0",
			v1alpha1.LabelAttempt: strconv.Itoa(attempt), v1alpha1.LabelRun: "0", v1alpha1.LabelTracked: "true"},
	}}
	ta.event(watch.Added, name, func(*corev1.Pod) {})
}

// ends ends a Pod's command.
func (ta *tale) ends(name string, code int32, reason string) {
	ta.event(watch.Modified, name, func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodFailed
		if code == 0 {
			p.Status.Phase = corev1.PodSucceeded
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}}}
	})
}

func (ta *tale) succeeds(name string) { ta.ends(name, 0, "Completed") }
func (ta *tale) fails(name string)    { ta.ends(name, 3, "Error") }
func (ta *tale) isLost(name string)   { ta.ends(name, 255, "Unknown") }

func (ta *tale) asked(name string) {
	ta.event(watch.Modified, name, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })
}

func (ta *tale) released(name string) {
	ta.event(watch.Modified, name, func(p *corev1.Pod) {
		p.Finalizers = nil
		delete(p.Labels, v1alpha1.LabelTracked)
	})
}

func (ta *tale) gone(name string) { ta.event(watch.Deleted, name, func(*corev1.Pod) {}) }

// job enters a status of the job.
func (ta *tale) job(state v1alpha1.JobState, task v1alpha1.TaskStatus) {
	job := &v1alpha1.BatchJob{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: uid, ResourceVersion: ta.next()}}
	task.Name = "a"
	job.Status.State, job.Status.Tasks = state, []v1alpha1.TaskStatus{task}
	if state == v1alpha1.JobSucceed || state == v1alpha1.JobFailed {
		job.Status.EndTime = &metav1.Time{}
	}
	ta.Job(watch.Modified, job)
}

func (ta *tale) succeeded() {
	ta.job(v1alpha1.JobSucceed, v1alpha1.TaskStatus{State: v1alpha1.TaskSucceed, Succeeded: "0"})
}

func (ta *tale) failed() {
	ta.job(v1alpha1.JobFailed, v1alpha1.TaskStatus{State: v1alpha1.TaskFailed, Failed: "0"})
}

var (
	wantSuccess = Want{State: v1alpha1.JobSucceed, Tasks: []WantTask{{Name: "a", State: v1alpha1.TaskSucceed, Succeeded: "0"}}}
	wantFailure = Want{State: v1alpha1.JobFailed, Tasks: []WantTask{{Name: "a", State: v1alpha1.TaskFailed, Failed: "0", Failures: map[int]int{0: 2}}}}
)

func TestJudge(t *testing.T) {
	for name, tc := range map[string]struct {
		tale func(*tale)
		want Want
		// kinds are those of the findings, sorted, of the books and of the verdict.
		kinds []Kind
	}{
		"as it should be": {want: wantSuccess, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.succeeded()
		}},
		"a machine was lost": {want: wantSuccess, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.isLost("p")
			ta.released("p")
			ta.made("q", 1)
			ta.succeeds("q")
			ta.released("q")
			ta.succeeded()
		}},
		"retries are used up": {want: wantFailure, tale: func(ta *tale) {
			for i, p := range []string{"p", "q"} {
				ta.made(p, i)
				ta.fails(p)
				ta.released(p)
			}
			ta.failed()
		}},
		"a failure that may be the machine's": {want: wantFailure, tale: func(ta *tale) {
			for i, p := range []string{"p", "q", "r"} {
				ta.made(p, i)
				if i == 0 {
					ta.asked(p)
				}
				ta.fails(p)
				ta.released(p)
			}
			ta.failed()
		}},
		"no end": {want: wantSuccess, kinds: []Kind{Stuck}, tale: func(ta *tale) {
			ta.job(v1alpha1.JobRunning, v1alpha1.TaskStatus{})
		}},
		"a success is lost": {want: wantFailure, kinds: []Kind{Doubled, Lost}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.failed()
		}},
		"a success is invented": {want: wantSuccess, kinds: []Kind{Invented, Lost}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.fails("p")
			ta.released("p")
			ta.succeeded()
		}},
		"a machine's loss counts as success": {want: wantSuccess, kinds: []Kind{Invented}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.isLost("p")
			ta.released("p")
			ta.succeeded()
		}},
		"a machine's loss counts as failure": {want: wantFailure, kinds: []Kind{Doubled}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.isLost("p")
			ta.released("p")
			ta.made("q", 1)
			ta.fails("q")
			ta.released("q")
			ta.failed()
		}},
		"a failure is lost": {want: wantFailure, kinds: []Kind{Lost}, tale: func(ta *tale) {
			for i, p := range []string{"p", "q", "r"} {
				ta.made(p, i)
				ta.fails(p)
				ta.released(p)
			}
			ta.failed()
		}},
		"done twice": {want: wantSuccess, kinds: []Kind{Doubled}, tale: func(ta *tale) {
			for i, p := range []string{"p", "q"} {
				ta.made(p, i)
				ta.succeeds(p)
				ta.released(p)
			}
			ta.succeeded()
		}},
		"one attempt twice": {want: wantSuccess, kinds: []Kind{Doubled}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.isLost("p")
			ta.released("p")
			ta.made("q", 0)
			ta.succeeds("q")
			ta.released("q")
			ta.succeeded()
		}},
		"in both lists": {want: wantSuccess, kinds: []Kind{Differs, Doubled}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.job(v1alpha1.JobSucceed, v1alpha1.TaskStatus{State: v1alpha1.TaskSucceed, Succeeded: "0", Failed: "0"})
		}},
		"two live": {want: wantSuccess, kinds: []Kind{TwoLive}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.asked("p") // does not make it less live
			ta.made("q", 1)
			ta.isLost("p")
			ta.released("p")
			ta.succeeds("q")
			ta.released("q")
			ta.succeeded()
		}},
		"held after the end": {want: wantSuccess, kinds: []Kind{Held}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.succeeded()
		}},
		"live after the end": {want: wantSuccess, kinds: []Kind{Early}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.made("q", 1)
			ta.succeeded()
		}},
		"finalizer removed after the end": {want: wantSuccess, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.succeeded()
			ta.released("p")
		}},
		"finished after the end": {want: wantSuccess, kinds: []Kind{Early}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeded()
			ta.succeeds("p")
			ta.released("p")
		}},
		"another end": {want: wantFailure, kinds: []Kind{Differs, Differs, Doubled}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.succeeded()
		}},
		"still active": {want: wantSuccess, kinds: []Kind{Differs}, tale: func(ta *tale) {
			ta.made("p", 0)
			ta.succeeds("p")
			ta.released("p")
			ta.job(v1alpha1.JobSucceed, v1alpha1.TaskStatus{State: v1alpha1.TaskSucceed, Succeeded: "0", Retrying: "1"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ta := &tale{pods: map[string]*corev1.Pod{}}
			tc.tale(ta)
			var got []Kind
			findings := append(ta.Findings(), ta.Judge(uid, tc.want)...)
			for _, f := range findings {
				got = append(got, f.Kind)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.kinds, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s\n%v", diff, findings)
			}
		})
	}
}

func TestRemains(t *testing.T) {
	ta := &tale{pods: map[string]*corev1.Pod{}}
	for i, p := range []string{"gone", "held", "left"} {
		ta.made(p, i)
	}
	ta.gone("gone")
	ta.succeeds("left")
	ta.released("left")
	want := []Kind{Held, Left}
	var got []Kind
	for _, f := range ta.Remains(uid) {
		got = append(got, f.Kind)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestSums(t *testing.T) {
	ta := &tale{pods: map[string]*corev1.Pod{}}
	ta.made("succeeded", 0)
	ta.succeeds("succeeded")
	ta.made("failed", 1)
	ta.fails("failed")
	ta.made("asked", 2)
	ta.asked("asked")
	ta.fails("asked")
	ta.made("lost", 3)
	ta.isLost("lost")
	ta.made("gone", 4)
	ta.made("live", 5)
	ta.gone("gone")
	ta.gone("succeeded") // its outcome stays
	ta.Pod(watch.Added, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "not-ours"}})
	want := Sums{Jobs: 1, Instances: 1, Attempts: 6, Live: 1, MaxLive: 2, Succeeded: 1, Failed: 1, Disturbed: 1, MachineLost: 1, Gone: 1}
	if diff := cmp.Diff(want, ta.Sums()); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
}
