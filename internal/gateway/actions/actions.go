// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package actions has the actions of the gateway: each turns one request of BatchCompute's API into reads and writes of
// the cluster, as the identity of the caller's key, and the result into the API's answer.
//
// An action adds no rule about the content of a request: what a job or an environment may be is up to the operator's
// webhook, whose codes are passed on. What is checked here is what no object of the cluster shows: identifiers, filters,
// pages, and in which state an action may be asked for.
package actions

import (
	"context"
	"maps"
	"slices"
	"time"

	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/errcode"
	"batchcompute.dev/operator/internal/gateway/objects"
	"batchcompute.dev/operator/internal/gateway/refusal"
	"batchcompute.dev/operator/internal/gateway/stored"
	"batchcompute.dev/operator/internal/gateway/tenant"
	"batchcompute.dev/operator/internal/params"
)

// Backend is what the actions work with.
type Backend struct {
	// Objects finds jobs, environments and templates. Required.
	Objects *objects.Finder
	// Tenants makes the clients that act as the callers. Required.
	Tenants *tenant.Clients
	// Catalog is the catalogue of the operator. Required.
	Catalog func() *catalog.Catalog
	// Stored reads logs that were stored as objects. Required.
	Stored *stored.Reader
	// Now is the time. Required.
	Now func() time.Time
}

// call is one request of one caller.
type call struct {
	*Backend
	client *tenant.Client
	params *params.Object
}

// action answers a call: with a structure that encodes to the fields of the API's answer beside RequestId, or nil for
// none. An error that is no Refusal is one of the cluster, see refusal.From.
type action func(ctx context.Context, c *call) (any, error)

// with returns the action that decodes its parameters into a T and then does f.
func with[T any](f func(ctx context.Context, c *call, in *T) (any, error)) action {
	return func(ctx context.Context, c *call) (any, error) {
		in := new(T)
		if err := c.params.Decode(in); err != nil {
			return nil, firstProblem(err)
		}
		return f(ctx, c, in)
	}
}

// table are the actions by their names.
var table = map[string]action{
	"SubmitJob":              submitJob,
	"DescribeJob":            with(describeJob),
	"DescribeJobs":           with(describeJobs),
	"DescribeJobSubmitInfo":  with(describeJobSubmitInfo),
	"DescribeTask":           with(describeTask),
	"DescribeTaskLogs":       with(describeTaskLogs),
	"DescribeJobMonitorData": with(describeJobMonitorData),
	"TerminateJob":           with(terminateJob),
	"TerminateTaskInstance":  with(terminateTaskInstance),
	"RetryJobs":              with(retryJobs),
	"DeleteJob":              with(deleteJob),

	"CreateComputeEnv":              createComputeEnv,
	"ModifyComputeEnv":              with(modifyComputeEnv),
	"DescribeComputeEnv":            with(describeComputeEnv),
	"DescribeComputeEnvs":           with(describeComputeEnvs),
	"DescribeComputeEnvCreateInfo":  with(describeComputeEnvCreateInfo),
	"DescribeComputeEnvCreateInfos": with(describeComputeEnvCreateInfos),
	"DescribeComputeEnvActivities":  with(describeComputeEnvActivities),
	"DeleteComputeEnv":              with(deleteComputeEnv),
	"TerminateComputeNode":          with(terminateComputeNode),
	"TerminateComputeNodes":         with(terminateComputeNodes),

	"CreateTaskTemplate":    with(createTaskTemplate),
	"ModifyTaskTemplate":    with(modifyTaskTemplate),
	"DeleteTaskTemplates":   with(deleteTaskTemplates),
	"DescribeTaskTemplates": with(describeTaskTemplates),

	"DescribeAvailableCvmInstanceTypes":  with(describeAvailableCvmInstanceTypes),
	"DescribeCvmZoneInstanceConfigInfos": with(describeCvmZoneInstanceConfigInfos),
	"DescribeInstanceCategories":         with(describeInstanceCategories),

	"AttachInstances":     unsupported("a cluster has no machines that can be attached to an environment; join them to the cluster as nodes"),
	"DetachInstances":     unsupported("a cluster has no machines that were attached to an environment; drain the node and remove it from the cluster"),
	"CreateCpmComputeEnv": unsupported("there is no bare metal; create an environment with CreateComputeEnv, and choose its nodes by machine type"),
	"DescribeCpmOsInfo":   unsupported("there is no bare metal, so there are no operating systems for it"),
}

// unsupported is the action that no cluster can do.
func unsupported(why string) action {
	return func(context.Context, *call) (any, error) {
		return nil, refusal.New(errcode.UnsupportedOperation, "%s", why)
	}
}

// Names returns the names of the actions, sorted.
func Names() []string { return slices.Sorted(maps.Keys(table)) }
