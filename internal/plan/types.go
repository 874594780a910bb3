// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// WaveSize bounds the instances that one plan claims, so that one write covers many of
// them and no pass takes long.
const WaveSize = 200

// maxMessages bounds the tasks that carry a message, and with them the status.
const maxMessages = 20

// Observation is all that Compute looks at. It is not changed.
type Observation struct {
	// Job is the job as it is stored.
	Job *v1alpha1.BatchJob
	// Spec is what Job resolves to.
	Spec *resolve.Job
	// Pods are the Pods that Job owns and that still carry the tracking label, in any
	// order.
	Pods []*corev1.Pod
	// Pending reports whether the Pod of this name was created by this process and may
	// be missing from Pods only because the cache lags. nil means none.
	Pending func(podName string) bool
	// Live says that Job was read from the API server and not from a cache.
	Live bool
	// Refusal is why the cluster did not make the last Pod; nil when it did. It counts
	// for as long as a claim has no Pod.
	Refusal *Refusal
}

// Refusal says that the cluster refused to make a Pod of a task.
type Refusal struct {
	Task    int
	Message string
}

// Plan is what is to be done, in the order that the package comment gives.
type Plan struct {
	// NeedLive says that the Pods are ahead of Job: nothing is to be done before Job
	// has been read from the API server. All else is empty.
	NeedLive bool
	// Status is the whole next status.
	Status v1alpha1.BatchJobStatus
	// Urgent says that Status holds a claim, an outcome or an end. What else changed is
	// news for people, which may be a second late.
	Urgent bool
	// Create are the instances claimed by Status, in order of task and index.
	Create []resolve.Instance
	// Adopt are the instances claimed earlier for which no Pod is to be seen, or one that
	// has lost its finalizer, in order of task and index.
	Adopt []resolve.Instance
	// Delete are Pods to be stopped: past their timeout, or of an attempt that has been
	// counted already. By name.
	Delete []*corev1.Pod
	// Release are Pods whose outcome is in Status, or who have none to give. By name.
	Release []*corev1.Pod
	// RequeueAfter is when to look again though nothing changed; 0 means never.
	RequeueAfter time.Duration
	// Transitions are the news that Status brings.
	Transitions []Transition
}

// Transition is one piece of news, to be told once Status is stored.
type Transition struct {
	// Warning tells trouble from progress.
	Warning bool
	// Reason is one of the API's reasons, and Message its sentence.
	Reason, Message string
}
