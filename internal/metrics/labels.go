// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"batchcompute.dev/operator/api/v1alpha1"
)

// The budgets that a retry may spend.
const (
	BudgetCommand = "command" // maxRetryCount
	BudgetMachine = "machine" // resourceMaxRetryCount
)

// other stands for a value that is not in its label's set: that is a mistake of ours,
// which must not make a series of its own each time.
const other = "other"

// The values of the labels, besides other.
var (
	verbs         = []string{"create", "update", "patch", "delete"}
	resources     = []string{"batchjobs", "batchjobs/status", "configmaps", "pods"}
	results       = []string{"ok", "conflict", "notfound", "exists", "refused", "throttled", "toolarge", "error"}
	budgets       = []string{BudgetCommand, BudgetMachine}
	reloadResults = []string{"ok", "error"}
	endStates     = []string{string(v1alpha1.JobSucceed), string(v1alpha1.JobFailed), string(v1alpha1.JobFailedInterrupted)}

	retryReasons = []string{
		v1alpha1.ReasonCommandFailed, v1alpha1.ReasonStartError, v1alpha1.ReasonOOMKilled, v1alpha1.ReasonTimeout,
		v1alpha1.ReasonEvicted, v1alpha1.ReasonPreempted, v1alpha1.ReasonNodeLost, v1alpha1.ReasonPodDeleted, v1alpha1.ReasonPodFailed,
		v1alpha1.ReasonMachineRefused, v1alpha1.ReasonUnschedulable, v1alpha1.ReasonImagePull, v1alpha1.ReasonContainerConfig,
		v1alpha1.ReasonCreateRefused, v1alpha1.ReasonStorageExceeded, v1alpha1.ReasonZoneNotFound, v1alpha1.ReasonHostNotFound,
		v1alpha1.ReasonMachineUnknown, v1alpha1.ReasonComputeEnvNotFound,
		v1alpha1.ReasonStageInFailed, v1alpha1.ReasonOutputFailed, v1alpha1.ReasonStoreUnknown,
	}
)

// instanceStates are the states of task instances, each with its count.
var instanceStates = []struct {
	name string
	of   func(*v1alpha1.StateMetrics) *int64
}{
	{string(v1alpha1.TaskInstancePending), func(m *v1alpha1.StateMetrics) *int64 { return &m.PendingCount }},
	{string(v1alpha1.TaskInstanceRunnable), func(m *v1alpha1.StateMetrics) *int64 { return &m.RunnableCount }},
	{string(v1alpha1.TaskInstanceStarting), func(m *v1alpha1.StateMetrics) *int64 { return &m.StartingCount }},
	{string(v1alpha1.TaskInstanceRunning), func(m *v1alpha1.StateMetrics) *int64 { return &m.RunningCount }},
	{string(v1alpha1.TaskInstanceSucceed), func(m *v1alpha1.StateMetrics) *int64 { return &m.SucceedCount }},
	{string(v1alpha1.TaskInstanceFailed), func(m *v1alpha1.StateMetrics) *int64 { return &m.FailedCount }},
	{string(v1alpha1.TaskInstanceFailedInterrupted), func(m *v1alpha1.StateMetrics) *int64 { return &m.FailedInterruptedCount }},
}

func among(values []string, v string) string {
	if slices.Contains(values, v) {
		return v
	}
	return other
}

// resultOf names what came of a write.
func resultOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case apierrors.IsConflict(err):
		return "conflict"
	case apierrors.IsNotFound(err), apierrors.IsGone(err):
		return "notfound"
	case apierrors.IsAlreadyExists(err):
		return "exists"
	case apierrors.IsTooManyRequests(err):
		return "throttled"
	case isTooLarge(err):
		return "toolarge"
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsUnauthorized(err):
		return "refused"
	}
	return "error"
}

// isTooLarge reports whether the object, or the request, was too large. Where it is etcd
// that says so, the API server only passes the words on.
func isTooLarge(err error) bool {
	if apierrors.IsRequestEntityTooLargeError(err) {
		return true
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	text := status.Status().Message
	return strings.Contains(text, "request is too large") || strings.Contains(text, "message larger than max")
}
