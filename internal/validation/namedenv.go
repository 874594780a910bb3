// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/errcode"
)

// Limits of a ComputeEnv. Both count characters. Source: BatchCompute, NamedComputeEnv.
const (
	maxEnvName        = 60
	maxEnvDescription = 200
)

// actionsIfInactive are the values of actionIfComputeNodeInactive.
var actionsIfInactive = []string{"RECREATE"}

// ValidateComputeEnvCreate returns what is wrong with a new ComputeEnv, in the order of its
// fields; nil when nothing is. The first problem is what CreateComputeEnv would have
// answered. The rest is as for ValidateCreate.
func (v Validator) ValidateComputeEnvCreate(env *v1alpha1.ComputeEnv) []Problem {
	c := v.checker(createComputeEnv)
	c.topics = v.topics(c.offers, &env.ObjectMeta, env.Spec.Notifications)
	c.checkNamedEnv(&env.Spec, field.NewPath("spec"))
	c.checkOwnSink()
	return c.result()
}

// ValidateComputeEnvUpdate returns what is wrong with a ComputeEnv that is to be another.
// All may change, so newEnv is checked like a new one; unlike in ModifyComputeEnv, which changes
// some fields and has a code for a request that changes none. What the catalogue forbids
// since then, and oldEnv has already, may stay.
func (v Validator) ValidateComputeEnvUpdate(oldEnv, newEnv *v1alpha1.ComputeEnv) []Problem {
	return withoutOldPolicy(v.ValidateComputeEnvCreate(newEnv), func() []Problem { return v.ValidateComputeEnvCreate(oldEnv) })
}

// withoutOldPolicy removes from problems what the catalogue forbids, by its policy or its topics, and the object before
// the change had already; old validates that.
func withoutOldPolicy(problems []Problem, old func() []Problem) []Problem {
	isPolicy := func(p Problem) bool {
		return p.Code == errcode.UnauthorizedOperation || p.Code == errcode.NotificationTopicName || p.Field == ownSinkField
	}
	if !slices.ContainsFunc(problems, isPolicy) {
		return problems
	}
	before := map[string]bool{}
	for _, p := range old() {
		before[p.Error()] = true
	}
	return slices.DeleteFunc(problems, func(p Problem) bool { return isPolicy(p) && before[p.Error()] })
}

// checkNamedEnv checks the spec of a ComputeEnv.
func (c *checker) checkNamedEnv(spec *v1alpha1.ComputeEnvSpec, path *field.Path) {
	if size := envSpecSize(spec); size > MaxSpecSize {
		c.fail(errcode.LimitExceeded, path, "", "must be at most %d bytes as JSON, got %d", MaxSpecSize, size)
	}
	zones := spec.EnvData != nil && len(spec.EnvData.Zones) > 0
	c.checkPlacement(&spec.Placement, path.Child("placement"), zones, "envData.zones is")
	if c.required(spec.EnvName, path, "envName") && longerThan(spec.EnvName, maxEnvName) {
		c.fail(errcode.EnvNameTooLong, path, "envName", "must be at most %d characters, got %s", maxEnvName, quote(spec.EnvName))
	} else {
		c.checkPlainText(spec.EnvName, "", path, "envName")
	}
	if longerThan(spec.EnvDescription, maxEnvDescription) {
		c.fail(errcode.EnvDescriptionTooLong, path, "envDescription", "must be at most %d characters, got %s", maxEnvDescription, quote(spec.EnvDescription))
	} else {
		c.checkPlainText(spec.EnvDescription, descriptionSpace, path, "envDescription")
	}
	// Below zero the API server has answered already, in its own words: kubectl scale changes it.
	if n, ok := c.requiredNumber(spec.DesiredComputeNodeCount, path, "desiredComputeNodeCount"); ok {
		c.checkNodeCount(n, path, "desiredComputeNodeCount")
	}
	c.oneOf(spec.EnvType, envTypes, errcode.ComputeEnv, path, "envType")
	disks := c.checkEnvData(spec.EnvData, spec.AgentRunningMode != nil, path)
	c.checkMountDataDisks(spec.MountDataDisks, disks, path)
	if mode := spec.AgentRunningMode; mode != nil {
		c.checkAgentRunningMode(mode, path.Child("agentRunningMode"))
	}
	for i := range spec.Authentications {
		c.checkAuthentication(&spec.Authentications[i], path.Child("authentications").Index(i))
	}
	c.checkInputMappings(spec.InputMappings, path)
	c.checkNotifications(spec.Notifications, path)
	c.oneOf(spec.NotificationTarget, notificationTargets, errcode.InvalidParameterValue, path, "notificationTarget")
	c.oneOf(spec.ActionIfComputeNodeInactive, actionsIfInactive, errcode.InvalidParameterValue, path, "actionIfComputeNodeInactive")
	c.within(spec.ResourceMaxRetryCount, 0, v1alpha1.MaxResourceRetryCount, errcode.InvalidParameterValue, path, "resourceMaxRetryCount")
	c.checkTags(spec.Tags, path)
	c.checkToken(spec.ClientToken, path, "clientToken")
	c.checkKubernetes(spec.Kubernetes, path)
}

func (c *checker) checkNodeCount(n int64, path *field.Path, name string) {
	if n > v1alpha1.MaxComputeNodeCount {
		c.fail(errcode.LimitExceeded, path, name, "must be at most %d nodes, got %d", v1alpha1.MaxComputeNodeCount, n)
	}
}

// ValidateComputeEnvScale returns what is wrong with a Scale of a ComputeEnv that asks for so many
// nodes; nil when nothing is.
func (v Validator) ValidateComputeEnvScale(nodes int64) []Problem {
	c := v.checker(createComputeEnv)
	path := field.NewPath("spec")
	c.notNegative(&nodes, path, "replicas")
	c.checkNodeCount(nodes, path, "replicas")
	return c.result()
}

// ComputeEnvWarnings returns what the user of an accepted ComputeEnv should know: see
// Warnings.
func (v Validator) ComputeEnvWarnings(env *v1alpha1.ComputeEnv) []string {
	return envWarnings(env, v.offers())
}
