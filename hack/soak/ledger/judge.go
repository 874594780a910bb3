// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
)

// Want is how a job ends without faults, and so how it must end with them.
type Want struct {
	State v1alpha1.JobState
	// Run is the job's run at its end.
	Run int64
	// Tasks are all tasks, in the order of the spec.
	Tasks []WantTask
}

// WantTask is how a task ends. Each list is of indexes as ranges.
type WantTask struct {
	Name              string
	State             v1alpha1.TaskState
	Succeeded, Failed string
	// Failures says of indexes how often their command fails, over all runs, where that
	// does not depend on the machine. An index that is not named is not looked at.
	Failures map[int]int
}

// Judge compares the end of a job with how it must end and with what was seen of its
// Pods, and returns what is wrong. The Pods' watch may be behind the jobs': what is wrong
// only for that reason is not wrong any more a moment later.
func (l *Ledger) Judge(uid types.UID, want Want) []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.job(uid)
	if j.last == nil || j.ended == 0 {
		return []Finding{{Stuck, j.name, "it has not ended"}}
	}
	v := &verdict{job: j}
	v.compare(want)
	for _, t := range want.Tasks {
		v.audit(t)
	}
	for _, in := range j.sorted() {
		for _, p := range j.instances[in].sorted() {
			switch {
			case p.live:
				v.add(Early, "%s: Pod %s is live after the end", in, p.name)
			case p.held:
				v.add(Held, "%s: Pod %s is held after the end", in, p.name)
			case p.settled > j.ended:
				v.add(Early, "%s: Pod %s was live when the job ended", in, p.name)
			}
		}
	}
	return v.findings
}

// Remains returns a finding for each Pod of a job that is still there, for a job of
// which nothing may be left.
func (l *Ledger) Remains(uid types.UID) []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &verdict{job: l.job(uid)}
	for _, in := range v.job.sorted() {
		for _, p := range v.job.instances[in].sorted() {
			switch {
			case p.gone:
			case p.held:
				v.add(Held, "%s: Pod %s is held, and its job is gone", in, p.name)
			default:
				v.add(Left, "%s: Pod %s is there, and its job is gone", in, p.name)
			}
		}
	}
	return v.findings
}

// verdict collects what is wrong with one job.
type verdict struct {
	job      *job
	findings []Finding
}

func (v *verdict) add(kind Kind, format string, args ...any) {
	v.findings = append(v.findings, Finding{kind, v.job.name, fmt.Sprintf(format, args...)})
}

// compare looks at the status alone.
func (v *verdict) compare(want Want) {
	s := v.job.last.Status
	if s.State != want.State || s.Run != want.Run {
		v.add(Differs, "it is %s after run %d, want %s after run %d: %s", s.State, s.Run, want.State, want.Run, s.Message)
	}
	for _, w := range want.Tasks {
		t := v.task(w.Name)
		got := fmt.Sprintf("%s succeeded=%q failed=%q", t.State, t.Succeeded, t.Failed)
		if wanted := fmt.Sprintf("%s succeeded=%q failed=%q", w.State, w.Succeeded, w.Failed); got != wanted {
			v.add(Differs, "task %s is %s, want %s: %s%s", w.Name, got, wanted, t.Message, v.failures(w.Name))
		}
		for name, list := range map[string]string{"active": t.Active, "retrying": t.Retrying, "interrupted": t.Interrupted} {
			if list != "" {
				v.add(Differs, "task %s has ended with %s=%q", w.Name, name, list)
			}
		}
	}
}

// failures is what the status says of failed attempts of a task, for people.
func (v *verdict) failures(task string) string {
	var out strings.Builder
	for _, f := range v.job.last.Status.Failures {
		if f.TaskName == task {
			fmt.Fprintf(&out, "; %s/%d attempt %d: %s: %s", f.TaskName, f.TaskInstanceIndex, f.Attempt, f.Reason, f.Message)
		}
	}
	return out.String()
}

func (v *verdict) task(name string) v1alpha1.TaskStatus {
	for _, t := range v.job.last.Status.Tasks {
		if t.Name == name {
			return t
		}
	}
	return v1alpha1.TaskStatus{}
}

// audit compares the lists of a task with what its Pods have shown.
func (v *verdict) audit(w WantTask) {
	t := v.task(w.Name)
	succeeded, err := ranges.Parse(t.Succeeded)
	if err != nil {
		v.add(Differs, "task %s: succeeded: %v", w.Name, err)
	}
	failed, err := ranges.Parse(t.Failed)
	if err != nil {
		v.add(Differs, "task %s: failed: %v", w.Name, err)
	}
	for i := range succeeded.All() {
		in := instance{w.Name, i}
		if failed.Contains(i) {
			v.add(Doubled, "%s is in both lists", in)
		}
		if n := v.count(in); n[success]+n[disturbed] == 0 {
			v.add(Invented, "%s succeeded, and none of its Pods did%s", in, v.pods(in))
		}
	}
	for _, in := range v.job.sorted() {
		if in.task != w.Name {
			continue
		}
		n := v.count(in)
		if n[success] > 0 && !succeeded.Contains(in.index) {
			v.add(Lost, "%s: a Pod succeeded, and the status does not say so%s", in, v.pods(in))
		}
		if n[success] > 1 {
			v.add(Doubled, "%s: %d Pods succeeded%s", in, n[success], v.pods(in))
		}
		if n[failure] > 0 && n[success]+n[disturbed] == 0 && !failed.Contains(in.index) {
			v.add(Lost, "%s: its Pods failed, and the status does not say so%s", in, v.pods(in))
		}
	}
	v.auditFailures(w)
}

// auditFailures holds the budgets against the Pods. With a failure that was lost the
// command is run once too often, and with one that was counted twice, or that was the
// machine's, once too seldom.
func (v *verdict) auditFailures(w WantTask) {
	for _, i := range slices.Sorted(maps.Keys(w.Failures)) {
		in, want := instance{w.Name, i}, w.Failures[i]
		switch n := v.count(in); {
		case n[failure] > want:
			v.add(Lost, "%s: its command failed %d times, want %d%s", in, n[failure], want, v.pods(in))
		case n[failure]+n[disturbed] < want:
			v.add(Doubled, "%s: its command failed only %d times, want %d%s", in, n[failure], want, v.pods(in))
		}
	}
}

// count counts the outcomes of an instance's Pods.
func (v *verdict) count(in instance) map[outcome]int {
	n := map[outcome]int{}
	if h := v.job.instances[in]; h != nil {
		for _, p := range h.pods {
			n[p.outcome]++
		}
	}
	return n
}

// pods tells an instance's Pods, for people.
func (v *verdict) pods(in instance) string {
	h := v.job.instances[in]
	if h == nil {
		return ""
	}
	var out strings.Builder
	for _, p := range h.sorted() {
		fmt.Fprintf(&out, "; %s %s", p.name, [...]string{"(no outcome)", "succeeded", "failed", "was disturbed", "was lost"}[p.outcome])
	}
	return out.String()
}

func (j *job) sorted() []instance {
	return slices.SortedFunc(maps.Keys(j.instances), func(a, b instance) int {
		return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.index, b.index))
	})
}
