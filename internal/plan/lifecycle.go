// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/ranges"
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
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionFailed, v1alpha1.ConditionStalled} {
		meta.RemoveStatusCondition(&s.Conditions, kind)
	}
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

// readDoomed reads the annotation that terminates instances.
func (c *computation) readDoomed() {
	text := c.obs.Job.Annotations[v1alpha1.AnnotationTerminate]
	if text == "" {
		return
	}
	byName := make(map[string]int, len(c.tasks))
	for i := range c.tasks {
		byName[c.tasks[i].Name] = i
	}
	for part := range strings.FieldsSeq(text) {
		name, indexes, _ := strings.Cut(part, "/")
		pos, ok := byName[name]
		if !ok {
			c.complaint = cmp.Or(c.complaint, fmt.Sprintf("there is no task %q", name))
			continue
		}
		t := &c.tasks[pos]
		set, err := ranges.Parse(indexes)
		if err != nil || set.Empty() || set.Max() >= t.InstanceNum {
			c.complaint = cmp.Or(c.complaint, fmt.Sprintf("%q must be task/indexes, as in %s/0-%d", part, name, t.InstanceNum-1))
			continue
		}
		t.doomed = t.doomed.Union(set)
	}
}
