// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of kubernetes.
const (
	maxLabels      = 64 // of labels, nodeSelector, and the resources of one kind
	maxTolerations = 32
	maxPullSecrets = 20
	maxGroups      = 64
	// maxAnnotations is the size of all keys and values. Unit: bytes.
	maxAnnotations = 64 << 10
	// maxKubernetes is the size of all of it: each of a job's Pods has a copy. Unit: bytes.
	maxKubernetes = 256 << 10
	// maxID is the highest number of a user or a group, as the API server has it.
	maxID = math.MaxInt32
)

// checkKubernetes checks what a task or a ComputeEnv wants of its Pods. The API server
// would refuse each Pod for the same; then it is too late for an answer.
func (c *checker) checkKubernetes(k *v1alpha1.KubernetesOptions, path *field.Path) {
	if k == nil {
		return
	}
	path = path.Child("kubernetes")
	if size := encodedSize(kubernetesShape, reflect.ValueOf(k).Elem()); size > maxKubernetes {
		c.wrong(path, "", "must be at most %d bytes as JSON, got %d: every Pod has all of it", maxKubernetes, size)
		return
	}
	c.checkLabels(k.NodeSelector, false, path, "nodeSelector")
	c.checkCount(len(k.Tolerations), maxTolerations, path, "tolerations")
	for i := range k.Tolerations {
		c.checkToleration(&k.Tolerations[i], path.Child("tolerations").Index(i))
	}
	if r := k.Resources; r != nil {
		c.checkResources(r, path.Child("resources"))
	}
	c.checkName(k.ServiceAccountName, path, "serviceAccountName")
	c.checkCount(len(k.ImagePullSecrets), maxPullSecrets, path, "imagePullSecrets")
	for i := range k.ImagePullSecrets {
		p := path.Child("imagePullSecrets").Index(i)
		if name := k.ImagePullSecrets[i].Name; c.required(name, p, "name") {
			c.checkName(name, p, "name")
		}
	}
	c.checkName(k.RuntimeClassName, path, "runtimeClassName")
	c.checkName(k.SchedulerName, path, "schedulerName")
	c.checkName(k.PriorityClassName, path, "priorityClassName")
	if s := k.SecurityContext; s != nil {
		c.checkSecurityContext(s, path.Child("securityContext"))
	}
	c.checkLabels(k.Labels, true, path, "labels")
	c.checkAnnotations(k.Annotations, path)
	c.checkEnv(k.Env, path)
	c.checkEnvFrom(k.EnvFrom, path)
	c.checkVolumes(k, path)
	c.checkServiceAccountToken(k.ServiceAccountToken, path)
	c.checkAffinity(k.Affinity, path)
	c.checkSpread(k.TopologySpreadConstraints, path)
	c.checkHosts(k, path)
	c.oneOfValues(k.ImagePullPolicy, pullPolicies, path, "imagePullPolicy")
	c.checkClaims(k, path)
	c.checkPolicy(k, path)
}

// wrong records a problem of the field name of the object at path.
func (c *checker) wrong(path *field.Path, name, format string, args ...any) {
	c.fail(errcode.InvalidParameterValue, path, name, format, args...)
}

// checkCount checks the length of a list or a map; false when it is too long.
func (c *checker) checkCount(n, limit int, path *field.Path, name string) bool {
	if n > limit {
		c.wrong(path, name, "must have at most %d entries, got %d", limit, n)
	}
	return n <= limit
}

// checkName checks the name of an object, which may be absent.
func (c *checker) checkName(value string, path *field.Path, name string) {
	if value != "" && !isObjectName(value) {
		c.wrong(path, name, "must be lower-case letters, digits, - and ., at most %d, got %s", maxObjectName, quote(value))
	}
}

// keyed is the path of an entry of a map. A key that does not print as itself is escaped
// there, and a long one is cut.
func keyed(path *field.Path, key string) *field.Path {
	q := quote(key)
	return path.Key(q[1 : len(q)-1])
}

// isQualifiedName is what Kubernetes calls so: a name of 63 characters at most, and before
// it, if anything, a DNS subdomain and a slash.
func isQualifiedName(s string) bool {
	return len(s) <= maxObjectName+1+maxLabelValue && len(utilvalidation.IsQualifiedName(s)) == 0
}

const sayQualifiedName = "must have keys of letters, digits, -, _ and ., with a DNS name and / before or without, such as example.com/team"

// isReserved says whether only the operator sets this label or annotation.
func isReserved(key string) bool {
	return strings.HasPrefix(key, v1alpha1.ReservedPrefix) || strings.HasPrefix(key, v1alpha1.LabelTagPrefix)
}

// checkKey checks a key of labels or annotations; ours are those that get onto a Pod.
func (c *checker) checkKey(key string, ok, ours bool, path *field.Path) {
	switch {
	case !ok:
		c.wrong(keyed(path, key), "", sayQualifiedName)
	case ours && isReserved(key):
		c.wrong(keyed(path, key), "", "must not begin with %s or %s, which are reserved for the operator", v1alpha1.ReservedPrefix, v1alpha1.LabelTagPrefix)
	}
}

// checkLabels checks labels to be set, or, if ours is not set, labels to be looked for.
func (c *checker) checkLabels(labels map[string]string, ours bool, path *field.Path, name string) {
	if !c.checkCount(len(labels), maxLabels, path, name) {
		return
	}
	path = path.Child(name)
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		c.checkKey(key, isQualifiedName(key), ours, path)
		if value := labels[key]; value != "" && !isLabelValue(value) {
			c.wrong(keyed(path, key), "", "must be at most %d letters, digits, -, _ and ., beginning and ending with a letter or a digit, got %s",
				maxLabelValue, quote(value))
		}
	}
}

func (c *checker) checkAnnotations(annotations map[string]string, path *field.Path) {
	size := 0
	for key, value := range annotations {
		size += len(key) + len(value)
	}
	if size > maxAnnotations {
		c.wrong(path, "annotations", "must be at most %d bytes together, got %d", maxAnnotations, size)
		return
	}
	path = path.Child("annotations")
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		// As the API server does it: annotations may have capitals where labels may not.
		c.checkKey(key, isQualifiedName(strings.ToLower(key)), true, path)
	}
}

var (
	tolerationOperators = []string{string(corev1.TolerationOpExists), string(corev1.TolerationOpEqual)}
	taintEffects        = []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
)

func (c *checker) checkToleration(t *corev1.Toleration, path *field.Path) {
	exists := t.Operator == corev1.TolerationOpExists
	switch {
	case t.Key == "" && !exists:
		c.wrong(path, "operator", "must be %s without a key, which stands for every taint", corev1.TolerationOpExists)
	case t.Key != "" && !isQualifiedName(t.Key):
		c.wrong(path, "key", "must be a taint's key such as example.com/dedicated, got %s", quote(t.Key))
	}
	c.oneOf(string(t.Operator), tolerationOperators, errcode.InvalidParameterValue, path, "operator")
	switch {
	case exists && t.Value != "":
		c.wrong(path, "value", "must be empty when operator is %s, got %s", corev1.TolerationOpExists, quote(t.Value))
	case t.Value != "" && !isLabelValue(t.Value):
		c.wrong(path, "value", "must be a taint's value: at most %d letters, digits, -, _ and ., got %s", maxLabelValue, quote(t.Value))
	}
	c.oneOf(string(t.Effect), taintEffects, errcode.InvalidParameterValue, path, "effect")
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		c.wrong(path, "tolerationSeconds", "must not be given unless effect is %s", corev1.TaintEffectNoExecute)
	}
}

// checkResources checks requests and limits, in the order of their names.
func (c *checker) checkResources(r *v1alpha1.ResourceRequirements, path *field.Path) {
	requests := c.checkCount(len(r.Requests), maxLabels, path, "requests")
	if limits := c.checkCount(len(r.Limits), maxLabels, path, "limits"); !requests || !limits {
		return
	}
	c.checkHugePages(r, path)
	p := path.Child("requests")
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		request := r.Requests[name]
		if !c.checkQuantity(name, request, p) {
			continue
		}
		limit, limited := r.Limits[name]
		switch {
		case isWhole(name) && (!limited || request.Cmp(limit) != 0):
			c.wrong(keyed(p, string(name)), "", "must have an equal limit: the request and the limit of this resource cannot differ")
		case limited && request.Cmp(limit) > 0:
			c.wrong(keyed(p, string(name)), "", "must not be over the limit of %s, got %s", quote(limit.String()), quote(request.String()))
		}
	}
	p = path.Child("limits")
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		c.checkQuantity(name, r.Limits[name], p)
	}
}

// checkHugePages checks that there is CPU or memory beside pages, without which the API server
// takes none.
func (c *checker) checkHugePages(r *v1alpha1.ResourceRequirements, path *field.Path) {
	pages, others := false, false
	for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
		for name := range list {
			pages = pages || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
			others = others || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		}
	}
	if pages && !others {
		c.wrong(path, "", "must have cpu or memory in addition to hugepages")
	}
}

// checkQuantity checks one amount of one resource.
func (c *checker) checkQuantity(name corev1.ResourceName, q resource.Quantity, path *field.Path) bool {
	switch {
	case !isResource(string(name)):
		c.wrong(keyed(path, string(name)), "", "must be cpu, memory, ephemeral-storage, hugepages-SIZE or an extended resource such as %s", resourceGPU)
	case q.Sign() < 0:
		c.wrong(keyed(path, string(name)), "", "must not be negative, got %s", quote(q.String()))
	case isWhole(name) && q.MilliValue()%1000 != 0:
		c.wrong(keyed(path, string(name)), "", "must be a whole number, got %s", quote(q.String()))
	case q.Value()%pageSize(name) != 0:
		c.wrong(keyed(path, string(name)), "", "must be a multiple of the size of its pages, got %s", quote(q.String()))
	default:
		return true
	}
	return false
}

// pageSize is the size of a page of hugepages-SIZE, 1 for other resources. Unit: bytes.
func pageSize(name corev1.ResourceName) int64 {
	size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
	if !ok {
		return 1
	}
	q, err := resource.ParseQuantity(size)
	if err != nil {
		return 1
	}
	return max(q.Value(), 1)
}

// isResource says whether a container can ask for a resource of this name.
func isResource(name string) bool {
	if size, ok := strings.CutPrefix(name, corev1.ResourceHugePagesPrefix); ok {
		q, err := resource.ParseQuantity(size)
		return err == nil && q.Sign() > 0
	}
	switch corev1.ResourceName(name) {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	domain, _, ok := strings.Cut(name, "/")
	return ok && isQualifiedName(name) && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix)
}

// isWhole says whether a resource comes in whole pieces, of which a container has as many
// as it asks for.
func isWhole(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func (c *checker) checkSecurityContext(s *v1alpha1.SecurityContext, path *field.Path) {
	c.within(s.RunAsUser, 0, maxID, errcode.InvalidParameterValue, path, "runAsUser")
	c.within(s.RunAsGroup, 0, maxID, errcode.InvalidParameterValue, path, "runAsGroup")
	if s.RunAsUser != nil && *s.RunAsUser == 0 && s.RunAsNonRoot != nil && *s.RunAsNonRoot {
		c.wrong(path, "runAsNonRoot", "must not be true when runAsUser is 0, which is root")
	}
	c.within(s.FSGroup, 0, maxID, errcode.InvalidParameterValue, path, "fsGroup")
	if !c.checkCount(len(s.SupplementalGroups), maxGroups, path, "supplementalGroups") {
		return
	}
	for i, group := range s.SupplementalGroups {
		if group < 0 || group > maxID {
			c.failItem(errcode.InvalidParameterValue, path, "supplementalGroups", i, "must be from 0 to %d, got %d", maxID, group)
		}
	}
}
