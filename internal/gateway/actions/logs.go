// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/view"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/ranges"
)

// Bounds of DescribeTaskLogs. Source: BatchCompute, DescribeTaskLogs.
const (
	defaultLogs = 5
	maxLogs     = 10
)

// podLogs is what a caller must be able to get.
var podLogs = schema.GroupResource{Resource: "pods/log"}

// describeTaskLogsRequest are the parameters of DescribeTaskLogs.
type describeTaskLogsRequest struct {
	JobID               string `json:"JobId" params:"required"`
	TaskName            string `params:"required"`
	TaskInstanceIndexes []int64
	Offset              *int64
	Limit               *int64
}

// taskLogs is the answer of DescribeTaskLogs.
type taskLogs struct {
	TotalCount         int64
	TaskInstanceLogSet []view.Log
}

// describeTaskLogs returns the ends of the streams of instances. An instance that has no log, and stores none, is left
// out. TotalCount is how many logs are returned for TaskInstanceIndexes, else how many instances there are to page
// through.
func describeTaskLogs(ctx context.Context, c *call, in *describeTaskLogsRequest) (any, error) {
	if len(in.TaskName) > v1alpha1.MaxTaskNameLength {
		return nil, refusal.New(errcode.TaskNameTooLong, "TaskName must be at most %d characters", v1alpha1.MaxTaskNameLength)
	}
	if in.TaskName == "" {
		return nil, refusal.New(errcode.TaskName, "TaskName must not be empty")
	}
	page, err := pagingOf(in.Offset, in.Limit, defaultLogs, maxLogs, errcode.InvalidParameterValue)
	if err != nil {
		return nil, err
	}
	job, task, err := c.task(ctx, in.JobID, in.TaskName)
	if err != nil {
		return nil, err
	}
	indexes, err := in.indexes(&task, page)
	if err != nil {
		return nil, err
	}
	if err := c.client.Check(ctx, "get", podLogs); err != nil {
		return nil, err
	}
	pods, err := c.podsOf(ctx, job, &task, indexes)
	if err != nil {
		return nil, err
	}
	logs, count := c.logs(ctx, job, &task, indexes, pods), int64(task.Count())
	if in.TaskInstanceIndexes != nil {
		count = int64(len(logs))
	}
	return taskLogs{count, logs}, nil
}

// indexes returns the instances that are asked for.
func (in *describeTaskLogsRequest) indexes(task *view.Task, page paging) ([]int, error) {
	list := in.TaskInstanceIndexes
	switch {
	case len(list) == 0:
		return view.Page(ranges.Span(0, task.Count()-1), page.offset, page.limit), nil
	case in.Offset != nil:
		return nil, refusal.New(errcode.InvalidParameterValue, "only one of TaskInstanceIndexes and Offset may be given")
	case len(list) > maxLogs:
		return nil, refusal.New(errcode.InvalidParameterValue, "TaskInstanceIndexes must have at most %d items, got %d", maxLogs, len(list))
	}
	var out []int
	for _, index := range list {
		switch {
		case index < 0:
			return nil, refusal.New(errcode.Negative, "TaskInstanceIndexes must be 0 or more, got %d", index)
		case index >= int64(task.Count()):
			return nil, refusal.New(errcode.TaskInstanceNotFound, "task %s has %d instances, so no instance %d", task.Name, task.Count(), index)
		}
		if i := int(index); !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out, nil
}

// logs returns the logs of instances, in the order of the indexes: of an instance with a Pod from that, else from the
// objects that it stored. A log that cannot be read, as of a node that does not answer, is left out like one that does not
// exist.
func (c *call) logs(ctx context.Context, job *v1alpha1.BatchJob, task *view.Task, indexes []int, pods view.Pods) []view.Log {
	found := make([]*view.Streams, len(indexes))
	var wg sync.WaitGroup
	var gone []int
	for i, index := range indexes {
		switch pod := pods[index]; {
		case pod != nil:
			wg.Go(func() { found[i] = c.streams(ctx, pod) })
		case task.Redirect(index) != nil && task.WasIssued(index):
			gone = append(gone, index)
		}
	}
	wg.Go(func() {
		for i, s := range c.storedStreams(ctx, job, task, gone) {
			found[slices.Index(indexes, gone[i])] = &s
		}
	})
	wg.Wait()
	out := []view.Log{}
	for i, index := range indexes {
		switch {
		case found[i] != nil:
			out = append(out, task.Log(index, *found[i]))
		case task.Redirect(index) != nil:
			out = append(out, task.Log(index, view.Streams{}))
		}
	}
	return out
}

// streams returns the ends of the streams of an instance; nil if there are none.
func (c *call) streams(ctx context.Context, pod *corev1.Pod) *view.Streams {
	if s, ok := view.Tails(pod); ok {
		return &s
	}
	if !view.HasLog(pod) {
		return nil
	}
	text, err := c.client.Log(ctx, pod.Name, podspec.ContainerName, view.MaxLog)
	if err != nil {
		log.FromContext(ctx).V(1).Info("Could not read the log of a Pod", "pod", pod.Name, "namespace", pod.Namespace, "error", err.Error())
		return nil
	}
	return &view.Streams{Stdout: text}
}
