// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/conditions"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/resolve"
)

// RetryDue reports whether the failed instances of the job are to be run again.
// Source: BatchCompute, RetryJobs.
func RetryDue(job *v1alpha1.BatchJob) bool {
	return job.Status.State == v1alpha1.JobFailed && job.DeletionTimestamp == nil && !job.Spec.Terminate &&
		job.Spec.RetryToken != job.Status.RetryToken && job.Spec.RetryToken != "" && job.Status.Reason != v1alpha1.ReasonAlreadyRan &&
		meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.ConditionAccepted)
}

// restart puts a FAILED job back to where its failed instances have not been issued yet.
// What succeeded stays, and so do the tasks in which nothing failed.
func (c *computation) restart() {
	job := c.obs.Job.DeepCopy()
	s := &job.Status
	again := s.TaskInstanceMetrics.FailedCount
	s.Run++
	s.RetryToken = job.Spec.RetryToken
	s.State, s.Reason, s.Message = v1alpha1.JobSubmitted, "", ""
	s.StartTime, s.EndTime, s.Failures, s.Waiting = nil, nil, nil, nil
	for i, t := range s.Tasks {
		if t.State == v1alpha1.TaskSucceed {
			continue
		}
		s.Tasks[i] = v1alpha1.TaskStatus{Name: t.Name, State: v1alpha1.TaskPending, Succeeded: t.Succeeded}
	}
	s.Tasks = slices.DeleteFunc(s.Tasks, func(t v1alpha1.TaskStatus) bool { return t.Succeeded == "" })
	conditions.OfBatchJob(s, job.Generation, c.now).Remove(v1alpha1.ConditionComplete, v1alpha1.ConditionFailed, v1alpha1.ConditionStalled)
	c.obs.Job = job
	c.plan.Urgent = true
	c.news(false, v1alpha1.ReasonRetried, "retryToken %q: %s run again", s.RetryToken, isOrAre(int(again), "instance"))
}

// rest is the plan for a job that has ended: nothing, until its time is over.
func (c *computation) rest() {
	job := c.obs.Job
	c.plan.Status = *job.Status.DeepCopy()
	c.plan.Status.ObservedGeneration = job.Generation
	c.dismiss(c.obs.Pods)
	switch ttl := job.Spec.TTLSecondsAfterFinished; {
	case RetryDue(job): // and Pods of an earlier run may still be at work
		c.lookAgain(confirmWait / 12)
	case ttl != nil && job.Status.EndTime != nil && len(c.obs.Pods) == 0 && job.Status.Reason != v1alpha1.ReasonAlreadyRan:
		// Half a century is as good as for ever, and does not overflow a Duration.
		left := job.Status.EndTime.Add(time.Duration(min(*ttl, 50*365*86400)) * time.Second).Sub(c.now)
		if c.plan.Expire = left <= 0; !c.plan.Expire {
			c.lookAgain(left)
		}
	}
}

// Terminations is what the annotation v1alpha1.AnnotationTerminate of a job says. It is not changed.
type Terminations struct {
	text string
	// byTask are the instances to be terminated, by the position of their task.
	byTask map[int]ranges.Set
	// complaint says what is wrong with the text, "" for nothing.
	complaint string
}

// ReadTerminations reads the text of the annotation of a job that resolves to spec. It returns known
// if that was read from the same text; known may be nil. A part that cannot be read is left out, and
// a text longer than v1alpha1.MaxTerminateLength is not read at all: users can change annotations
// whenever they like, and past admission. Cost: O(tasks + n log n) for a text of n bytes.
func ReadTerminations(spec *resolve.Job, text string, known *Terminations) *Terminations {
	if known != nil && known.text == text {
		return known
	}
	t := &Terminations{text: text}
	switch {
	case text == "":
	case len(text) > v1alpha1.MaxTerminateLength:
		t.complaint = fmt.Sprintf("must be at most %d bytes long; nothing in it is read. Write ranges, as in task/0-99, or name the instances in several steps; "+
			"spec.terminate: true ends the whole job", v1alpha1.MaxTerminateLength)
	default:
		t.read(spec)
	}
	return t
}

func (t *Terminations) read(spec *resolve.Job) {
	byName := make(map[string]int, len(spec.Tasks))
	for i := range spec.Tasks {
		byName[spec.Tasks[i].Name] = i
	}
	sets := map[int][]ranges.Set{}
	for part := range strings.FieldsSeq(t.text) {
		name, indexes, _ := strings.Cut(part, "/")
		pos, ok := byName[name]
		if !ok {
			t.complain("there is no task %q", name)
			continue
		}
		last := spec.Tasks[pos].InstanceNum - 1
		set, err := ranges.Parse(indexes)
		if err != nil || set.Empty() || set.Max() > last {
			t.complain("%q must be task/indexes, as in %s/0-%d", part, name, last)
			continue
		}
		sets[pos] = append(sets[pos], set)
	}
	t.byTask = make(map[int]ranges.Set, len(sets))
	for pos, parts := range sets {
		t.byTask[pos] = ranges.UnionAll(parts...)
	}
}

// complain keeps the first complaint.
func (t *Terminations) complain(format string, args ...any) {
	if t.complaint == "" {
		t.complaint = fmt.Sprintf(format, args...)
	}
}
