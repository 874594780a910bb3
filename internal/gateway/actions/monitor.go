// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package actions

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/validation"
)

// monitorMetrics are the metrics of DescribeJobMonitorData, with the resource that the cluster's metrics API measures;
// empty where it measures none. Source: BatchCompute, DescribeJobMonitorData.MetricName.
var monitorMetrics = map[string]corev1.ResourceName{
	"CpuUsage": corev1.ResourceCPU, "MemUsage": corev1.ResourceMemory,
	"LanOuttraffic": "", "LanIntraffic": "", "MaxDiskUsage": "", "TargetDiskUsage": "",
}

// monitorRequest are the parameters of DescribeJobMonitorData.
type monitorRequest struct {
	JobID             string `json:"JobId" params:"required"`
	TaskName          string `params:"required"`
	TaskInstanceIndex *int64 `params:"required"`
	MetricName        string `params:"required"`
	StartTime         string
	EndTime           string
	Dimensions        []struct{ Name, Value string }
}

// monitorData is the answer of DescribeJobMonitorData.
type monitorData struct {
	// Period is the time between two points, 0 where there are none. Unit: seconds.
	Period     int64
	DataPoints dataPoints
}

// dataPoints are the values of a metric, in percent of what the instance has, and their times in seconds since 1970.
type dataPoints struct {
	Timestamps []int64
	Values     []*float64
}

// describeJobMonitorData answers with the newest sample of the cluster's metrics API, which keeps no others. There are no
// points for a metric that it does not have, and for an instance without a Pod.
func describeJobMonitorData(ctx context.Context, c *call, in *monitorRequest) (any, error) {
	measured, from, to, err := in.read()
	if err != nil {
		return nil, err
	}
	job, task, err := c.task(ctx, in.JobID, in.TaskName)
	if err != nil {
		return nil, err
	}
	if index := *in.TaskInstanceIndex; index < 0 || index >= int64(task.Count()) {
		return nil, refusal.New(errcode.TaskInstanceNotFound, "task %s has %d instances, so no instance %d", task.Name, task.Count(), index)
	}
	out := monitorData{DataPoints: dataPoints{[]int64{}, []*float64{}}}
	if measured == "" {
		return out, nil
	}
	index := int(*in.TaskInstanceIndex)
	pods, err := c.podsOf(ctx, job, &task, []int{index})
	if err != nil || pods[index] == nil {
		return out, err
	}
	sample, err := c.client.Usage(ctx, pods[index].Name, podspec.ContainerName)
	if err != nil || sample == nil || sample.At.Before(from) || sample.At.After(to) {
		return out, err
	}
	out.Period = int64(sample.Window.Round(time.Second) / time.Second)
	out.DataPoints = dataPoints{[]int64{sample.At.Unix()}, []*float64{percentOf(pods[index], measured, sample.Resources)}}
	return out, nil
}

// read returns the resource that is asked for, and the first and the last time.
func (in *monitorRequest) read() (measured corev1.ResourceName, from, to time.Time, err error) {
	to = time.Unix(1<<40, 0)
	measured, ok := monitorMetrics[in.MetricName]
	if !ok {
		return "", from, to, refusal.New(errcode.InvalidParameterValue, "MetricName must be one of %s, got %s", metricNames(), validation.Quote(in.MetricName))
	}
	if in.TaskInstanceIndex == nil {
		return "", from, to, refusal.New(errcode.MissingParameter, "TaskInstanceIndex: must be given")
	}
	for _, field := range []struct {
		name, text string
		into       *time.Time
	}{{"StartTime", in.StartTime, &from}, {"EndTime", in.EndTime, &to}} {
		if field.text == "" {
			continue
		}
		if *field.into, err = time.Parse(time.RFC3339, field.text); err != nil {
			return "", from, to, refusal.New(errcode.InvalidParameterValue, "%s must be such as 2027-01-01T00:00:00Z, got %s", field.name, validation.Quote(field.text))
		}
	}
	if to.Before(from) {
		return "", from, to, refusal.New(errcode.InvalidParameterValue, "EndTime must not be before StartTime")
	}
	return measured, from, to, nil
}

// metricNames lists the metrics.
func metricNames() string {
	var names []string
	for name := range monitorMetrics {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// percentOf returns how much of a resource of its limit, or else of its request, an instance used; nil where it has
// neither.
func percentOf(pod *corev1.Pod, measured corev1.ResourceName, used corev1.ResourceList) *float64 {
	for i := range pod.Spec.Containers {
		s := &pod.Spec.Containers[i]
		if s.Name != podspec.ContainerName {
			continue
		}
		whole, ok := s.Resources.Limits[measured]
		if !ok {
			whole = s.Resources.Requests[measured]
		}
		part, ok := used[measured]
		if !ok || whole.Sign() <= 0 {
			return nil
		}
		return new(100 * part.AsApproximateFloat64() / whole.AsApproximateFloat64())
	}
	return nil
}
