// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"cmp"
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/naming"
)

// Env is where and on what the instances of a task run: what its own computeEnv says
// together with the job's placement, or a ComputeEnv. It is built once, shared, and never
// changed.
type Env struct {
	// Name and ID are those of the ComputeEnv; empty for a computeEnv.
	Name, ID string
	// Data is the machine. Never nil.
	Data *v1alpha1.EnvData
	// Mounts say where the data disks are mounted.
	Mounts []v1alpha1.MountDataDisk
	// Kubernetes are the wishes beyond the API. Never nil.
	Kubernetes *v1alpha1.KubernetesOptions
	// Zones are the availability zones that may be used; none means any.
	Zones []string
	// HostIDs and HostIPs are the hosts that may be used; none of both means any.
	HostIDs, HostIPs []string
	// InputMappings and Authentications are those of a ComputeEnv, for all tasks that name it.
	InputMappings   []v1alpha1.InputMapping
	Authentications []v1alpha1.Authentication
	// Labels and Annotations are what the Pods carry for the user: tags, project, and
	// those of Kubernetes.
	Labels, Annotations map[string]string
	// ResourceMaxRetryCount is how often an instance gets another machine. It is that of
	// a ComputeEnv; for a computeEnv the task has its own.
	ResourceMaxRetryCount int
}

// InstanceTypes returns how many machine types are tried before one machine counts as not
// acquired, 1 or more.
func (e *Env) InstanceTypes() int { return max(1, len(e.Data.InstanceTypes)) }

// EnvIDs returns what the tasks of a job name in envId, each once, in the order of the spec.
func EnvIDs(job *v1alpha1.BatchJob) []string {
	var out []string
	seen := map[string]bool{}
	for i := range job.Spec.Job.Tasks {
		if id := job.Spec.Job.Tasks[i].EnvID; id != "" && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// ComputeNodeCount returns how many nodes a ComputeEnv has. A scale may go past admission,
// so a number beyond what the API allows counts as the nearest that it does.
func ComputeNodeCount(env *v1alpha1.ComputeEnv) int {
	return int(min(max(valueOr(env.Spec.DesiredComputeNodeCount, 0), 0), v1alpha1.MaxComputeNodeCount))
}

// anonymous is the Env of a task's own computeEnv.
func anonymous(task *v1alpha1.AnonymousComputeEnv, placement *v1alpha1.Placement, tags tagSet) *Env {
	if task == nil {
		task = &v1alpha1.AnonymousComputeEnv{}
	}
	return newEnv(task.EnvData, task.MountDataDisks, task.Kubernetes, placement, tags)
}

// Named returns the Env that a ComputeEnv is for the tasks that name it of a job with these tags. Of a
// tag of both, the job's value counts.
func Named(env *v1alpha1.ComputeEnv, tags []v1alpha1.Tag) *Env {
	s := &env.Spec
	out := newEnv(s.EnvData, s.MountDataDisks, s.Kubernetes, &s.Placement, splitTags(s.Tags, tags))
	out.InputMappings, out.Authentications = s.InputMappings, s.Authentications
	out.Name, out.ID = env.Name, naming.EnvID(env.UID)
	out.Labels[v1alpha1.LabelEnvID] = out.ID
	out.ResourceMaxRetryCount = int(min(max(valueOr(s.ResourceMaxRetryCount, v1alpha1.DefaultEnvResourceMaxRetryCount), 0), v1alpha1.MaxResourceRetryCount))
	return out
}

// noOptions is what all Envs share that have no wishes beyond the API: a job may have thousands.
var noOptions = &v1alpha1.KubernetesOptions{}

func newEnv(data *v1alpha1.EnvData, mounts []v1alpha1.MountDataDisk, options *v1alpha1.KubernetesOptions, placement *v1alpha1.Placement, tags tagSet) *Env {
	e := &Env{
		Data: cmp.Or(data, &v1alpha1.EnvData{}), Mounts: mounts, Kubernetes: cmp.Or(options, noOptions),
		HostIDs: placement.HostIDs, HostIPs: placement.HostIPs,
	}
	if placement.Zone != "" {
		e.Zones = []string{placement.Zone}
	}
	if len(e.Data.Zones) > 0 {
		e.Zones = e.Data.Zones
	}
	e.Labels, e.Annotations = map[string]string{}, maps.Clone(e.Kubernetes.Annotations)
	maps.Copy(e.Labels, e.Kubernetes.Labels)
	maps.Copy(e.Labels, tags.labels)
	if placement.ProjectID != nil {
		e.Labels[v1alpha1.LabelProjectID] = strconv.FormatInt(*placement.ProjectID, 10)
	}
	if tags.others != "" {
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		e.Annotations[v1alpha1.AnnotationTags] = tags.others
	}
	return e
}

// tagSet is what tags become: labels those that can be one, and the others a JSON object.
type tagSet struct {
	labels map[string]string
	others string
}

// splitTags returns what lists of tags become. Of two with the same key the later one counts.
func splitTags(lists ...[]v1alpha1.Tag) tagSet {
	byKey := map[string]string{}
	for _, list := range lists {
		for _, t := range list {
			byKey[t.Key] = t.Value
		}
	}
	out, others := tagSet{labels: map[string]string{}}, map[string]string{}
	for k, v := range byKey {
		key := v1alpha1.LabelTagPrefix + k
		if len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(v)) == 0 {
			out.labels[key] = v
			continue
		}
		others[k] = v
	}
	if len(others) > 0 {
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(others) // texts can always be encoded
		out.others = strings.TrimSpace(text.String())
	}
	return out
}
