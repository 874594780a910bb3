// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testutil makes objects for tests: jobs in one line, and Pods as a kubelet
// leaves them.
package testutil

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"batchcompute.dev/operator/api/v1alpha1"
)

// JobBuilder builds a BatchJob. The methods change it and return it.
type JobBuilder struct{ job v1alpha1.BatchJob }

// Job begins a valid job in namespace default and zone zone-a, without tasks. Its UID
// is a function of its name, so that what is derived from it is stable.
func Job(name string) *JobBuilder {
	b := &JobBuilder{}
	b.job.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "BatchJob"}
	b.job.Name, b.job.Namespace, b.job.UID = name, "default", types.UID("uid-of-"+name)
	b.job.Generation, b.job.ResourceVersion = 1, "1"
	b.job.Spec.Placement.Zone = "zone-a"
	return b
}

// Task adds a task that runs "true" in a computeEnv without wishes.
func (b *JobBuilder) Task(name string, options ...TaskOption) *JobBuilder {
	t := v1alpha1.Task{
		TaskName:    name,
		Application: v1alpha1.Application{DeliveryForm: v1alpha1.DeliveryFormLocal, Command: "true"},
		ComputeEnv:  &v1alpha1.AnonymousComputeEnv{EnvType: v1alpha1.EnvTypeManaged, EnvData: &v1alpha1.EnvData{}},
	}
	for _, o := range options {
		o(&t)
	}
	b.job.Spec.Job.Tasks = append(b.job.Spec.Job.Tasks, t)
	return b
}

// Edges adds dependences, as in "fetch->count count->merge".
func (b *JobBuilder) Edges(text string) *JobBuilder {
	for _, e := range strings.Fields(text) {
		from, to, _ := strings.Cut(e, "->")
		b.job.Spec.Job.Dependences = append(b.job.Spec.Job.Dependences, v1alpha1.Dependence{StartTask: from, EndTask: to})
	}
	return b
}

// DependOn sets taskExecutionDependOn.
func (b *JobBuilder) DependOn(rule v1alpha1.TaskExecutionDependOn) *JobBuilder {
	b.job.Spec.Job.TaskExecutionDependOn = rule
	return b
}

// Zone sets placement.zone.
func (b *JobBuilder) Zone(zone string) *JobBuilder {
	b.job.Spec.Placement.Zone = zone
	return b
}

// WaitForMachine sets stateIfCreateCvmFailed to RUNNABLE.
func (b *JobBuilder) WaitForMachine() *JobBuilder {
	b.job.Spec.Job.StateIfCreateCvmFailed = v1alpha1.CreateCvmFailedRunnable
	return b
}

// Priority sets the priority.
func (b *JobBuilder) Priority(n int64) *JobBuilder {
	b.job.Spec.Job.Priority = &n
	return b
}

// Suspended sets suspend.
func (b *JobBuilder) Suspended() *JobBuilder {
	b.job.Spec.Suspend = true
	return b
}

// HostIPs sets placement.hostIps.
func (b *JobBuilder) HostIPs(ips ...string) *JobBuilder {
	b.job.Spec.Placement.HostIPs = ips
	return b
}

// Token sets the client token.
func (b *JobBuilder) Token(token string) *JobBuilder {
	b.job.Spec.ClientToken = token
	return b
}

// Status sets the status.
func (b *JobBuilder) Status(s v1alpha1.BatchJobStatus) *JobBuilder {
	b.job.Status = s
	return b
}

// New returns the job as a client creates it: without what the API server sets.
func (b *JobBuilder) New(namespace string) *v1alpha1.BatchJob {
	job := b.Obj()
	job.Namespace, job.UID, job.Generation, job.ResourceVersion = namespace, "", 0, ""
	return job
}

// Obj returns the job. Later calls do not change it.
func (b *JobBuilder) Obj() *v1alpha1.BatchJob { return b.job.DeepCopy() }

// TaskOption changes a task.
type TaskOption func(*v1alpha1.Task)

// Instances sets taskInstanceNum.
func Instances(n int64) TaskOption { return func(t *v1alpha1.Task) { t.TaskInstanceNum = &n } }

// Concurrent sets maxConcurrentNum.
func Concurrent(n int64) TaskOption { return func(t *v1alpha1.Task) { t.MaxConcurrentNum = &n } }

// Retries sets maxRetryCount.
func Retries(n int64) TaskOption { return func(t *v1alpha1.Task) { t.MaxRetryCount = &n } }

// ResourceRetries sets resourceMaxRetryCount.
func ResourceRetries(n int64) TaskOption {
	return func(t *v1alpha1.Task) { t.ResourceMaxRetryCount = &n }
}

// FailedAction sets failedAction.
func FailedAction(a v1alpha1.FailedAction) TaskOption {
	return func(t *v1alpha1.Task) { t.FailedAction = a }
}

// Timeout sets timeout, in seconds.
func Timeout(seconds int64) TaskOption { return func(t *v1alpha1.Task) { t.Timeout = &seconds } }

// Command sets application.command.
func Command(command string) TaskOption {
	return func(t *v1alpha1.Task) { t.Application.Command = command }
}

// Image sets application.docker.image.
func Image(image string) TaskOption {
	return func(t *v1alpha1.Task) { t.Application.Docker = &v1alpha1.Docker{Image: image} }
}

// ImageID sets computeEnv.envData.imageId.
func ImageID(id string) TaskOption {
	return func(t *v1alpha1.Task) { t.ComputeEnv.EnvData.ImageID = id }
}

// Zones sets computeEnv.envData.zones.
func Zones(zones ...string) TaskOption {
	return func(t *v1alpha1.Task) { t.ComputeEnv.EnvData.Zones = zones }
}

// Env adds a variable.
func Env(name, value string) TaskOption {
	return func(t *v1alpha1.Task) { t.EnvVars = append(t.EnvVars, v1alpha1.EnvVar{Name: name, Value: value}) }
}

// EnvID has the task name a ComputeEnv in place of its computeEnv.
func EnvID(ref string) TaskOption {
	return func(t *v1alpha1.Task) { t.ComputeEnv, t.EnvID = nil, ref }
}

// InstanceTypes sets computeEnv.envData.instanceTypes.
func InstanceTypes(types ...string) TaskOption {
	return func(t *v1alpha1.Task) { t.ComputeEnv.EnvData.InstanceTypes = types }
}

// Inputs has the task read a remote directory.
func Inputs(from, to string) TaskOption {
	return func(t *v1alpha1.Task) {
		t.InputMappings = append(t.InputMappings, v1alpha1.InputMapping{SourcePath: from, DestinationPath: to})
	}
}

// Outputs has the task store a local directory.
func Outputs(from, to string) TaskOption {
	return func(t *v1alpha1.Task) {
		t.OutputMappings = append(t.OutputMappings, v1alpha1.OutputMapping{SourcePath: from, DestinationPath: to})
	}
}
