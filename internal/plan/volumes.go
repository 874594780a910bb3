// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/agentapi"
	"batchcompute.dev/operator/internal/podspec"
	"batchcompute.dev/operator/internal/resolve"
)

// A Pod with volumes, variables or devices of the user's own waits for objects that the operator
// does not read. The sentences here say what to look at.

// schedulerAdvices say what to do when no node fits, by what the scheduler's sentence has. The first
// that fits counts. docs/execution.md has them as a table.
var schedulerAdvices = []struct {
	sentence *regexp.Regexp
	advice   string
}{
	{regexp.MustCompile(`persistentvolumeclaim "[^"]*" not found`), "create the PersistentVolumeClaim, or change computeEnv.kubernetes.volumes"},
	{regexp.MustCompile(`unbound immediate PersistentVolumeClaims`), "a claim is not bound: kubectl describe pvc says why"},
	{regexp.MustCompile(`didn't find available persistent volumes to bind|did not have enough free storage`), "no volume for a claim can be found or created there: kubectl describe pvc says why"},
	{regexp.MustCompile(`didn't match PersistentVolume's node affinity|had no available volume zone`), "the volume of a claim is elsewhere: allow its zone and nodes, or use another claim"},
	{regexp.MustCompile(`ReadWriteOncePod access mode already in-use`), "the claim is for one Pod at a time: use maxConcurrentNum 1, or another access mode"},
	{regexp.MustCompile(`persistentvolumeclaim "[^"]*" is being deleted|bound to non-existent p`), "the claim is lost: create another one"},
	{regexp.MustCompile(`resourceclaim\S* "[^"]*" not found|device class \S* does not exist|cannot allocate all claims|resourceclaim (?:in use|not available)`), "check the claims of computeEnv.kubernetes.resourceClaims: kubectl describe resourceclaims"},
	{regexp.MustCompile(`didn't match pod topology spread constraints`), "relax computeEnv.kubernetes.topologySpreadConstraints, or add nodes"},
	{regexp.MustCompile(`didn't match pod (?:anti-)?affinity rules`), "relax computeEnv.kubernetes.affinity, or add nodes"},
}

// schedulerAdvice returns what to do when no node fits, "" where that is not known.
func schedulerAdvice(message string) string {
	for _, a := range schedulerAdvices {
		if a.sentence.MatchString(message) {
			return a.advice
		}
	}
	return ""
}

// missingObject is what a kubelet says of a Secret or a ConfigMap that a variable needs.
var missingObject = regexp.MustCompile(`(?:secret|configmap) "[^"]*" not found|couldn't find key \S+ in (?:Secret|ConfigMap)`)

// configAdvice says what to do about a container that is not created; "" where that is not known.
func configAdvice(message string) string {
	if missingObject.MatchString(message) {
		return "; create what is missing, or make it optional"
	}
	return ""
}

// maxNeeds is how many objects a sentence names.
const maxNeeds = 4

// needs lists the objects and file systems without which the volumes of a Pod cannot be mounted; "" for none.
func needs(t *v1alpha1.Task, e *resolve.Env, pod *corev1.Pod) string {
	if e == nil {
		return ""
	}
	var names []string
	add := func(kind, name string, optional bool) {
		if !optional && name != "" {
			names = append(names, fmt.Sprintf("%s %q", kind, name))
		}
	}
	for i := range e.Kubernetes.Volumes {
		v := &e.Kubernetes.Volumes[i]
		if s := v.PersistentVolumeClaim; s != nil {
			add("PersistentVolumeClaim", s.ClaimName, false)
		}
		if s := v.Secret; s != nil {
			add("Secret", s.SecretName, s.Optional)
		}
		if s := v.ConfigMap; s != nil {
			add("ConfigMap", s.Name, s.Optional)
		}
		if s := v.Image; s != nil {
			add("image", s.Reference, false)
		}
		if s := v.CSI; s != nil {
			add("CSI driver", s.Driver, false)
		}
		if s := v.Projected; s != nil {
			addProjected(s, add)
		}
	}
	addData(t, e, add)
	names = append(names, keySecrets(t, e, pod)...)
	return few(names)
}

// addData adds what the data of a task are mounted from.
func addData(t *v1alpha1.Task, e *resolve.Env, add func(kind, name string, optional bool)) {
	for _, m := range slices.Concat(e.InputMappings, t.InputMappings) {
		if isFileSystem(m) {
			add("file system", m.SourcePath, false)
		}
	}
}

// keySecrets are the Secrets with the keys of a task's stores, and who names them.
func keySecrets(t *v1alpha1.Task, e *resolve.Env, pod *corev1.Pod) (names []string) {
	if !podspec.HasData(t, e) {
		return nil
	}
	add := func(field string, keys []v1alpha1.Authentication) {
		if i := podspec.Key(keys); i >= 0 {
			names = append(names, fmt.Sprintf("Secret %q with its key %s (%s[%d])", keys[i].SecretKeySecretRef.Name, agentapi.SecretKeyFile, field, i))
		}
	}
	add("authentications", t.Authentications)
	if len(t.Authentications) == 0 || len(e.InputMappings) > 0 {
		add("ComputeEnv "+e.Name+": authentications", e.Authentications)
	}
	for _, name := range podspec.CatalogSecrets(pod) {
		names = append(names, fmt.Sprintf("Secret %q (the operator's catalogue)", name))
	}
	return names
}

// isFileSystem reports whether an input is mounted, and not copied.
func isFileSystem(m v1alpha1.InputMapping) bool { return !strings.HasPrefix(m.SourcePath, "cos://") }

// mountsFileSystem reports whether a task has an input that is mounted. A kubelet waits for a file server without a limit,
// and tells nobody meanwhile.
func mountsFileSystem(t *v1alpha1.Task, e *resolve.Env) bool {
	return slices.ContainsFunc(t.InputMappings, isFileSystem) || e != nil && slices.ContainsFunc(e.InputMappings, isFileSystem)
}

func addProjected(p *v1alpha1.ProjectedVolume, add func(kind, name string, optional bool)) {
	for i := range p.Sources {
		if s := p.Sources[i].Secret; s != nil {
			add("Secret", s.Name, s.Optional)
		}
		if s := p.Sources[i].ConfigMap; s != nil {
			add("ConfigMap", s.Name, s.Optional)
		}
	}
}

// devices lists the claims of devices that must exist before a scheduler looks at a Pod; "" for none.
func devices(e *resolve.Env) string {
	if e == nil || len(e.Kubernetes.ResourceClaims) == 0 {
		return ""
	}
	var names []string
	for _, c := range e.Kubernetes.ResourceClaims {
		if c.ResourceClaimName != "" {
			names = append(names, fmt.Sprintf("ResourceClaim %q", c.ResourceClaimName))
		} else {
			names = append(names, fmt.Sprintf("ResourceClaimTemplate %q", c.ResourceClaimTemplateName))
		}
	}
	return few(names)
}

// few joins names, of which a sentence has only the first ones.
func few(names []string) string {
	if more := len(names) - maxNeeds; more > 0 {
		names = append(names[:maxNeeds], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
