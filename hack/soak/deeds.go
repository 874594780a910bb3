// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"batchcompute.dev/operator/api/v1alpha1"
)

// deed is something that a user does to a job.
type deed struct {
	// when says whether the moment has come.
	when func(*v1alpha1.BatchJob) bool
	// do does it and brings the job up to date. It is done again until it gives no error,
	// since the manager, and with it the webhook, may be away.
	do deedFunc
	// after is how long it is waited before that.
	after time.Duration
}

type deedFunc = func(context.Context, client.Client, *v1alpha1.BatchJob) error

func whenRunning(do deedFunc) deed {
	return deed{do: do, when: func(j *v1alpha1.BatchJob) bool { return j.Status.TaskInstanceMetrics.RunningCount > 0 }}
}

// whenRuns waits for an instance of a task to run.
func whenRuns(task string, do deedFunc) deed {
	return deed{do: do, when: func(j *v1alpha1.BatchJob) bool {
		for _, t := range j.Status.Tasks {
			if t.Name == task {
				return t.Running > 0
			}
		}
		return false
	}}
}

func whenIs(state v1alpha1.JobState, do deedFunc) deed {
	return deed{do: do, when: func(j *v1alpha1.BatchJob) bool { return j.Status.State == state }}
}

func whenSuspended(do deedFunc) deed {
	return deed{do: do, after: 3 * time.Second, when: func(j *v1alpha1.BatchJob) bool {
		return meta.IsStatusConditionTrue(j.Status.Conditions, v1alpha1.ConditionSuspended)
	}}
}

func remove(ctx context.Context, kube client.Client, job *v1alpha1.BatchJob) error {
	return client.IgnoreNotFound(kube.Delete(ctx, job, client.PropagationPolicy("Background")))
}

var (
	suspend   = patch(`{"spec":{"suspend":true}}`)
	resume    = patch(`{"spec":{"suspend":false}}`)
	terminate = patch(`{"spec":{"terminate":true}}`)
	retry     = patch(`{"spec":{"retryToken":"once-more"}}`)
)

func terminateInstance(list string) deedFunc {
	return patch(`{"metadata":{"annotations":{"` + v1alpha1.AnnotationTerminate + `":"` + list + `"}}}`)
}

func patch(text string) deedFunc {
	return func(ctx context.Context, kube client.Client, job *v1alpha1.BatchJob) error {
		return kube.Patch(ctx, job, client.RawPatch("application/merge-patch+json", []byte(text)))
	}
}
