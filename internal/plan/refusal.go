// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"regexp"
	"strings"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// reason is the reason of the task that is refused.
func (r Refusal) reason() string {
	return cmp.Or(r.Reason, v1alpha1.ReasonCreateRefused)
}

// refusalMessage is the sentence for a task whose Pods are refused: what to do, where that is known,
// and then the cluster's own words, of which the end may be cut off.
func refusalMessage(r Refusal) string {
	if r.reason() != v1alpha1.ReasonCreateRefused {
		return cut(r.Message)
	}
	words := refusedPod.ReplaceAllString(r.Message, "")
	if advice := refusalAdvice(words); advice != "" {
		words = advice + ": " + words
	}
	return cut(string(errcode.CallCvm) + ": the cluster refused to create a Pod: " + words)
}

// refusedPod is how the API server's sentence starts: the Pod's name says nothing to the user.
var refusedPod = regexp.MustCompile(`^pods? "[^"]*" is (?:forbidden|invalid): `)

// advices say how to fix a common refusal, by what the API server's sentence has. The first that
// fits counts. docs/execution.md has them as a table.
var advices = []struct {
	sentence *regexp.Regexp
	advice   string
}{
	{regexp.MustCompile(`must specify (?:limits|requests)\.`), "set what is missing in computeEnv.kubernetes.resources"},
	{regexp.MustCompile(`must be less than or equal to (\S+) limit`), "ask for less, or, if the namespace's LimitRange allows more, set computeEnv.kubernetes.resources.limits to at least the request"},
	{regexp.MustCompile(`(?:maximum|minimum) \S+ usage per|max limit to request ratio per`), "change computeEnv.kubernetes.resources or the instanceType to fit the namespace's LimitRange"},
	{regexp.MustCompile(`violates PodSecurity.*volume type`), "have the operator's catalogue name a csiDriver for nfs:// and cfs:// hosts (fileSystems), or use another namespace"},
	{regexp.MustCompile(`violates PodSecurity`), "remove what asks for more rights (dockerRunOption, computeEnv.kubernetes.securityContext), or use another namespace"},
	{regexp.MustCompile(`must specify a volume type`), "this cluster has no such volumes (image: Kubernetes 1.35); change computeEnv.kubernetes.volumes"},
	{regexp.MustCompile(`no PriorityClass with name`), "name a PriorityClass that exists in computeEnv.kubernetes.priorityClassName"},
	{regexp.MustCompile(`insufficient quota to match these scopes: .*PriorityClass`), "use another computeEnv.kubernetes.priorityClassName: this namespace has no ResourceQuota that allows this one"},
	{regexp.MustCompile(`error looking up service account|serviceaccount "[^"]*" not found`), "create the ServiceAccount, or change computeEnv.kubernetes.serviceAccountName"},
	{regexp.MustCompile(`RuntimeClass "[^"]*" not found|RuntimeClass.*not found`), "name a RuntimeClass that exists in computeEnv.kubernetes.runtimeClassName"},
	{regexp.MustCompile(`image policy webhook|ImagePolicyWebhook`), "use an image that the cluster's image policy allows (application.docker.image, imageId)"},
	{regexp.MustCompile(`conflicts with its namespace node label selector`), "change computeEnv.kubernetes.nodeSelector to fit the namespace's"},
	{regexp.MustCompile(`pod tolerations .*conflict`), "change computeEnv.kubernetes.tolerations to those that the namespace allows"},
	{regexp.MustCompile(`failed calling webhook`), "an admission webhook of the cluster does not answer; have its owner restore it"},
	{regexp.MustCompile(`error applying patch|JSON Patch: |failed to configure (?:binding|policy)|(?i:policy) '[^']*' with binding '[^']*' denied request: .*(?:resulted in error|failed to evaluate|no such key|no params found)`), "a policy of the cluster fails on this Pod; have its owner correct it"},
	{regexp.MustCompile(`admission webhook "[^"]*" denied|ValidatingAdmissionPolicy '[^']*'`), "a policy of the cluster forbids it; labels, annotations and more are set in computeEnv.kubernetes"},
}

// refusalAdvice returns how to fix a refusal, "" where that is not known.
func refusalAdvice(words string) string {
	for _, a := range advices {
		if a.sentence.MatchString(strings.ReplaceAll(words, "\n", " ")) {
			return a.advice
		}
	}
	return ""
}
