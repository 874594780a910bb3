// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/resolve"
)

// MaxBatchSize bounds the instances that one plan claims, so that one write covers many of
// them and no pass takes long.
const MaxBatchSize = 200

// Observation is all that Compute looks at: data, and nothing that asks somebody else. Two observations
// with the same content give the same plan. Compute does not change it.
type Observation struct {
	// Job is the job as it is stored.
	Job *v1alpha1.BatchJob
	// Spec is what Job resolves to.
	Spec *resolve.Job
	// Pods are the Pods that Job owns and that still carry the tracking label, in any
	// order.
	Pods []*corev1.Pod
	// Pending are the names of the Pods that this process has created, with the time, and that may
	// be missing from Pods only because the cache lags.
	Pending map[string]time.Time
	// Absent has the names of Pods for which the API server was asked after Job was read, and of
	// which it has none. nil means that it was not asked for any.
	Absent map[string]bool
	// Live says that Job was read from the API server and not from a cache.
	Live bool
	// Refusals say, by the position of the task, why the cluster does not make its Pods. One
	// counts for as long as a claim of the task has no Pod.
	Refusals map[int]Refusal
	// NameConflicts are the names of Pods of Job's that Pods of others have, as far as that was found out:
	// where Absent says that there is no such Pod, there is none any more.
	NameConflicts map[string]NameConflict
	// PodKey is the identifier of the key with which new Pods are signed; empty for none.
	PodKey string
	// Scheduled is when schedulers, by name, are known to have looked at a Pod last. It has the
	// schedulers that LookupsOf names; the others are not known.
	Scheduled map[string]time.Time
	// Envs are the ComputeEnvs that tasks name in envId, by that name. One that is not in it
	// does not exist.
	Envs map[string]EnvView
	// Delivery is what became of the events of the job's notifications. nil: none are sent.
	Delivery *Delivery
	// Terminations is what Job's annotation said when it was last read, so that it need not be read
	// again if it is the same. nil means that it was not read.
	Terminations *Terminations
	// Nodes is what the cluster's nodes have of what LookupsOf asks. nil means that they are not known.
	Nodes *Nodes
	// BatchSize is how many instances the plan may claim, at most MaxBatchSize; 0 means MaxBatchSize.
	BatchSize int
	// NoMemory says, in a sentence, why no instance may be issued though all allows it: the operator has no
	// memory for the job. Empty: it has.
	NoMemory string
	// ResourceWait is the first acquisition timeout; 0 means DefaultResourceWait.
	ResourceWait time.Duration
	// Unfinished is how many Pods there are that may still run and are not tracked any
	// more. It matters only where RetryDue.
	Unfinished int
}

// DefaultResourceWait is the acquisition timeout of the first machine of an instance.
// Source: BatchCompute, Task.ResourceMaxRetryCount.
const DefaultResourceWait = 600 * time.Second

// EnvView is a ComputeEnv, and how many of its nodes the job may have.
type EnvView struct {
	Env *resolve.Env
	// Size is how many nodes it has.
	Size int
	// Limit is how many claims the job may have in it, those that it has included.
	Limit int
	// Grant is how many of these are new. When Closed, other jobs are ahead in the queue for any
	// node that becomes free, and only Grant claims may be made.
	Grant  int
	Closed bool
}

// Nodes is what a plan has to know of the cluster's nodes.
type Nodes struct {
	// Zones are the zones that nodes are in, sorted.
	Zones []string
	// Hosts are the host names of the nodes that have an address, by the address.
	Hosts map[string][]string
}

// Refusal says that the cluster refuses to make the Pods of a task.
type Refusal struct {
	// Reason is one of the API's reasons; empty means ReasonCreateRefused.
	Reason  string
	Message string
	// NoTimeout says that the refusal passes without a change of the job, such as that of a quota: the
	// instance waits without an acquisition timeout.
	NoTimeout bool
	// Since is when the cluster first refused.
	Since time.Time
}

// NameConflict says that a Pod of somebody else has the name of one of the job's.
type NameConflict struct {
	// Message says whose the Pod is, and what to do about it.
	Message string
	// MayRun says that the Pod has not finished. It may have been the instance's once, so while it
	// may run nothing is started in its place.
	MayRun bool
	// Since is when the name was first found taken.
	Since time.Time
}

// Plan is what is to be done, in the order that the package comment gives.
type Plan struct {
	// NeedLive says that the Pods are ahead of Job: nothing is to be done before Job
	// has been read from the API server. All else is empty.
	NeedLive bool
	// Status is the whole next status.
	Status v1alpha1.BatchJobStatus
	// Write says how soon Status must be written.
	Write StatusWrite
	// Create are the instances claimed by Status, in the order in which they are to be made.
	Create []resolve.Instance
	// Adopt are the instances claimed earlier for which no Pod is to be seen, or one that
	// has lost its finalizer, in order of task and index.
	Adopt []resolve.Instance
	// Verify are instances that nothing may be made for any more and whose Pods are not to
	// be seen. The caller asks the API server for their Pods, puts back the label and
	// finalizer of those that are there, and plans again with Absent. In order of task and
	// index.
	Verify []resolve.Instance
	// Delete are Pods to be stopped: past their timeout or acquisition timeout, or of
	// instances that are terminated, suspended, or counted already. By name.
	Delete []*corev1.Pod
	// RemoveFinalizers are Pods whose outcome is in Status, or who have none to give. By name.
	RemoveFinalizers []*corev1.Pod
	// InEnv is how many claims Status has in each ComputeEnv, and Wanted how many more
	// instances could start if it had nodes for them; by the ComputeEnv's name.
	InEnv, Wanted map[string]int
	// Retries count the attempts that failed and are followed by another, by budget and
	// reason.
	Retries []Retries
	// Scheduled is when schedulers, by name, looked at Pods of the job last.
	Scheduled map[string]time.Time
	// Expire says that the job's time after its end is over: it is to be deleted.
	Expire bool
	// RequeueAfter is when to look again though nothing changed; 0 means never.
	RequeueAfter time.Duration
	// Events say what Status changes.
	Events []Event
}

// StatusWrite says how soon a status must be written, if it has changed.
type StatusWrite int

const (
	// WriteInformational is for a status that only informs people, and may be a second late. The zero value.
	WriteInformational StatusWrite = iota
	// WriteBatched is for a status that stores claims or outcomes, and may wait a moment for more to be stored
	// in the same write: no instance starts by it, or few compared with those that are active. A job
	// that has nodes of ComputeEnvs to give back is never batched.
	WriteBatched
	// WriteImmediate is for a status that stores a claim, an outcome or an end that other work waits for.
	WriteImmediate
)

// Retries counts attempts that failed and are followed by another.
type Retries struct {
	// Budget is "command" for maxRetryCount and "machine" for resourceMaxRetryCount.
	Budget string
	// Reason is why the attempts failed, one of the API's reasons.
	Reason string
	Count  int
}

// Event is a Kubernetes Event, to be emitted once Status is stored.
type Event struct {
	// Warning says that the Event has the type Warning; else it is Normal.
	Warning bool
	// Progress says that Status has the same information, so that the Event may be dropped under load.
	Progress bool
	// Reason is one of the API's reasons, and Message its sentence.
	Reason, Message string
}
