// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/naming"
	"batchcompute.dev/operator/internal/ranges"
	"batchcompute.dev/operator/internal/validation"
)

// Bounds of DescribeTask. Source: BatchCompute, DescribeTask.
const (
	defaultInstances = 100
	maxInstances     = 1000
)

// describeTaskRequest are the parameters of DescribeTask.
type describeTaskRequest struct {
	JobID    string `json:"JobId" params:"required"`
	TaskName string `params:"required"`
	Offset   *int64
	Limit    *int64
	Filters  []filter `params:"orItem"`
}

// taskDetails is the answer of DescribeTask.
type taskDetails struct {
	JobID                  string `json:"JobId"`
	TaskName               string
	TaskState              string
	CreateTime             string
	EndTime                *string
	TaskInstanceTotalCount int64
	TaskInstanceSet        []view.Instance
	TaskInstanceMetrics    view.Metrics
}

// describeTask lists instances of a task, by index. Only the instances of the page are looked at, unless a filter needs
// the Pods of all that are active.
func describeTask(ctx context.Context, c *call, in *describeTaskRequest) (any, error) {
	page, err := pagingOf(in.Offset, in.Limit, defaultInstances, maxInstances, errcode.InvalidParameterValue)
	if err != nil {
		return nil, err
	}
	states, err := instanceStates(in.Filters)
	if err != nil {
		return nil, err
	}
	job, task, err := c.task(ctx, in.JobID, in.TaskName)
	if err != nil {
		return nil, asNotFound(err, errcode.TaskNotFound)
	}
	var active view.Pods
	if view.NeedsPods(states) {
		if active, err = c.activePods(ctx, job, &task); err != nil {
			return nil, err
		}
	}
	chosen, err := task.Select(states, active)
	if err != nil {
		return nil, err
	}
	v := task.View()
	out := taskDetails{
		JobID: naming.JobID(job.UID), TaskName: v.TaskName, TaskState: v.TaskState, CreateTime: v.CreateTime, EndTime: v.EndTime,
		TaskInstanceTotalCount: int64(chosen.Len()),
	}
	indexes := view.Page(chosen, page.offset, page.limit)
	pods, err := c.podsOf(ctx, job, &task, indexes)
	if err != nil {
		return nil, err
	}
	if out.TaskInstanceSet, err = task.Instances(indexes, pods); err != nil {
		return nil, err
	}
	out.TaskInstanceMetrics, err = task.Metrics()
	return out, err
}

// task returns a job and one of its tasks.
func (c *call) task(ctx context.Context, id, name string) (*v1alpha1.BatchJob, view.Task, error) {
	job, err := c.Objects.Job(ctx, c.client, id)
	if err != nil {
		return nil, view.Task{}, err
	}
	task, ok := view.FindTask(job, name)
	if !ok {
		return nil, task, refusal.New(errcode.TaskNotFound, "job %s has no task %s", id, validation.Quote(name))
	}
	return job, task, nil
}

// instanceStates reads the filters of DescribeTask: the states that are asked for, nil for all. Several filters must all
// hold. The name task-instance-type is in the comments of older SDKs.
func instanceStates(filters []filter) ([]string, error) {
	state := equal(func(s string) string { return s })
	matches, err := matcherOf(filters, map[string]property[string]{"task-instance-state": state, "task-instance-type": state}, nil)
	if err != nil || len(filters) == 0 {
		return nil, err
	}
	for _, f := range filters {
		if err := checkStates(filters, f.Name); err != nil {
			return nil, err
		}
	}
	states := []string{}
	for s := range jobStates {
		if matches(s) {
			states = append(states, s)
		}
	}
	slices.Sort(states)
	return states, nil
}

// selectorOf selects the Pods of a task.
func selectorOf(job *v1alpha1.BatchJob, task *view.Task) labels.Set {
	return labels.Set{v1alpha1.LabelJobID: naming.JobID(job.UID), v1alpha1.LabelTaskName: task.Label()}
}

// activePods reads the Pods of all active instances of a task.
func (c *call) activePods(ctx context.Context, job *v1alpha1.BatchJob, task *view.Task) (view.Pods, error) {
	terms := selectorOf(job, task)
	terms[v1alpha1.LabelTracked] = "true"
	pods, err := c.manyPods(ctx, labels.SelectorFromSet(terms), func(*corev1.Pod) bool { return true })
	return view.NewPods(pods), err
}

// podsOf reads the Pods of the instances of a task that have the indexes.
func (c *call) podsOf(ctx context.Context, job *v1alpha1.BatchJob, task *view.Task, indexes []int) (view.Pods, error) {
	if !task.MayHavePods(indexes) {
		return nil, nil
	}
	values := make([]string, len(indexes))
	for i, index := range indexes {
		values[i] = strconv.Itoa(index)
	}
	some, err := labels.NewRequirement(v1alpha1.LabelTaskInstanceIndex, selection.In, values)
	if err != nil {
		return nil, fmt.Errorf("selecting the Pods of task %s: %w", task.Name, err)
	}
	pods, err := c.fewPods(ctx, labels.SelectorFromSet(selectorOf(job, task)).Add(*some))
	return view.NewPods(pods), err
}

// terminateTaskInstanceRequest are the parameters of TerminateTaskInstance.
type terminateTaskInstanceRequest struct {
	JobID             string `json:"JobId" params:"required"`
	TaskName          string `params:"required"`
	TaskInstanceIndex *int64 `params:"required"`
}

// terminateTaskInstance ends one instance of a job that has not ended.
func terminateTaskInstance(ctx context.Context, c *call, in *terminateTaskInstanceRequest) (any, error) {
	if in.TaskInstanceIndex == nil {
		return nil, refusal.New(errcode.MissingParameter, "TaskInstanceIndex: must be given")
	}
	job, err := c.wholeJob(ctx, in.JobID)
	if err != nil {
		return nil, asNotFound(err, errcode.TaskInstanceNotFound)
	}
	task, ok := view.FindTask(job, in.TaskName)
	if index := *in.TaskInstanceIndex; !ok || index < 0 || index >= int64(task.Count()) {
		return nil, refusal.New(errcode.TaskInstanceNotFound, "job %s has no instance %d of a task %s", in.JobID, index, validation.Quote(in.TaskName))
	}
	index := int(*in.TaskInstanceIndex)
	return nil, asNotFound(c.changeJob(ctx, job.Name, job, func(now *v1alpha1.BatchJob) (map[string]any, error) {
		if now.UID != job.UID {
			return nil, refusal.New(errcode.TaskInstanceNotFound, "there is no job %s", in.JobID)
		}
		task, _ := view.FindTask(now, in.TaskName) // tasks cannot be changed
		if final, err := task.IsFinal(index); final || err != nil {
			return nil, err
		}
		text, err := addTermination(now.Annotations[v1alpha1.AnnotationTerminate], task.Name, index)
		if err != nil {
			return nil, err
		}
		return map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationTerminate: text}}}, nil
	}), errcode.TaskInstanceNotFound)
}

// addTermination adds an instance to the text of v1alpha1.AnnotationTerminate. What of it cannot be read stays as it is.
func addTermination(text, task string, index int) (string, error) {
	parts, own := strings.Fields(text), ranges.Of(index)
	kept := parts[:0]
	for _, part := range parts {
		name, indexes, _ := strings.Cut(part, "/")
		if set, err := ranges.Parse(indexes); name == task && err == nil {
			own = own.Union(set)
			continue
		}
		kept = append(kept, part)
	}
	out := strings.Join(append(kept, task+"/"+own.String()), " ")
	if len(out) > v1alpha1.MaxTerminateLength {
		return "", refusal.New(errcode.UnsupportedOperation, "too many instances of the job were terminated one by one; terminate the job")
	}
	return out, nil
}
